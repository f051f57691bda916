//! What arrives at the media port before any key is known: STUN messages, and the framing of ICE over TCP.
#![no_main]

use futures::FutureExt;
use gatehouse::media::transport::{routes, stun, tcp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    examine(data);
    let mut connection = data;
    // All bytes are there: no read waits.
    while let Some(Some(frame)) = tcp::read_frame(&mut connection).now_or_never() {
        assert!(frame.len() <= tcp::MAX_FRAME);
        examine(&frame);
    }
});

fn examine(datagram: &[u8]) {
    let _ = stun::peek_username(datagram).and_then(routes::shard_of);
    let _ = stun::peek_response(datagram);
    if let Some(message) = stun::Incoming::parse(datagram) {
        let _ = (message.kind(), message.username(), message.use_candidate(), message.is_controlled());
    }
}
