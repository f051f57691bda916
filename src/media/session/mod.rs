//! Offer/answer negotiation: SDP, codecs, candidates. Pure, except for the lookup of our own addresses.
//! Start at [`negotiate::watch`] and [`negotiate::publish`].

pub mod answer;
mod bundle;
pub mod candidates;
mod codecs;
pub mod negotiate;
#[cfg(test)]
mod offers_tests;
pub mod sdp;
