//! Receiving from publishers: RTP is reordered and lost packets are requested again; RTCP reports and feedback go back.
//! Start at [`publisher::Publisher::rtp`].

pub mod publisher;
pub mod rtp_receiver;
pub mod twcc;
