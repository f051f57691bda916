//! RTCP of authenticated peers.
#![no_main]

use gatehouse::rtp::rtcp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let found = rtcp::parse(data);
    assert!(found.len() <= data.len());
});
