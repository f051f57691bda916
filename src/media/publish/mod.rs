//! A publisher's side: RTP in, ordered and with losses requested again, and the RTCP that it is sent.
//! Start at [`publisher::Publisher::rtp`].

pub mod publisher;
pub mod rtp_receiver;
pub mod twcc;
