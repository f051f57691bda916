//! Integration tests: a whole server in the test process, real RTSP over sockets, real peers of the `webrtc` crate.
//! Everything is on 127.0.0.1. Tests wait for events, with time limits that only a broken server reaches.

// In tests, a failed `unwrap` is a failed test.
#![allow(clippy::unwrap_used, missing_docs)]

mod accounts;
mod acme;
mod attacker;
mod attacks;
mod backup;
mod chain;
mod command_line;
mod compat;
mod faults;
mod front;
mod gstreamer;
mod layers;
mod operations;
mod players;
mod proxies;
mod publish;
mod publisher;
mod reload;
mod routes;
mod sdp;
mod secrets;
mod signaling;
mod support;
mod tidy;
mod tls;
mod viewers;
mod whep_status;
