//! Streams.
pub mod h264;
pub mod packet;
