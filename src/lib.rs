//! Gatehouse.
pub mod ids;
pub mod media;
pub mod streams;
