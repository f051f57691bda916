//! Normalizes H.264 for WebRTC: pure, without sockets, clocks or randomness.
//! `nal` identifies NAL units, `parameters` parses SPS and slice headers, `shape` turns a camera's RTP payloads into
//! normalized ones. Not a decoder. Start reading at [`shape::Shaper`].

pub mod nal;
pub mod parameters;
pub mod shape;
