//! Offer/answer negotiation: SDP, codecs, candidates. Pure, except for the lookup of our own addresses.
//! Start at [`negotiate::watch`] and [`negotiate::publish`].

pub mod answer;
pub mod candidates;
pub mod negotiate;
pub mod sdp;
