//! Gatehouse.
pub mod ids;
pub mod streams;
