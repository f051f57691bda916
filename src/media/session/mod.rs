//! What an offer and our answer agree on: SDP, codecs, candidates. Pure, but for the lookup of our own addresses.
//! Start at [`negotiate::watch`] and [`negotiate::publish`].

pub mod answer;
pub mod candidates;
pub mod negotiate;
pub mod sdp;
