//! RTSP (RFC 2326) as cameras speak it: lenient, bounded, without I/O. What is missing, doubled or out of place is read
//! as what it was meant to be wherever that is clear. `message` reads and writes requests and answers, `framing` splits
//! a connection's bytes into messages and interleaved packets, `login` answers challenges, `sdp` finds the tracks,
//! `repair` makes RTP continuous. The connection itself is in `streams::front`. Start at [`framing::Splitter`].

pub mod framing;
pub mod login;
pub mod message;
pub mod repair;
pub mod sdp;
