//! Signaling frames of a client.
#![no_main]

use gatehouse::signaling::message;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = message::parse(text);
});
