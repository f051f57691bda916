//! H.264 as it must be for WebRTC: pure, without sockets, clocks or randomness.
//! `nal` names the units, `parameters` reads SPS and slice headers, `shape` turns a camera's RTP payloads into
//! ours. Not a decoder. Start reading at [`shape::Shaper`].

pub mod nal;
pub mod parameters;
pub mod shape;
