//! RTP and RTCP for both `media` and `streams`: parsing and building packets, reordering, NTP time. Pure: no sockets,
//! no clock, no encryption keys. Start at [`packet::Rtp`] and [`rtcp::parse`].

pub mod ntp;
pub mod packet;
pub mod reorder;
pub mod rtcp;
