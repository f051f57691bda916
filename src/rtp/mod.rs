//! RTP and RTCP as both `media` and `streams` need them: reading and writing packets, reordering, NTP time.
//! Pure: no sockets, no clock, no keys.

pub mod ntp;
pub mod packet;
pub mod reorder;
pub mod rtcp;
