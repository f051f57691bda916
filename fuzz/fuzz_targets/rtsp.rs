//! Everything that a camera sends: messages and interleaved packets in any pieces, an SDP, challenges, RTP and RTCP.
#![no_main]

use std::time::{Duration, Instant};

use bytes::BytesMut;
use gatehouse::rtsp::framing::{Item, Splitter};
use gatehouse::rtsp::login::{Challenge, Login};
use gatehouse::rtsp::repair::{Patience, Repair};
use gatehouse::rtsp::sdp::Description;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&piece, data)) = data.split_first() else { return };
    let mut splitter = Splitter::default();
    splitter.expect(0);
    splitter.expect(1);
    let now = Instant::now();
    let mut repair = Repair::new(0, 7, 96, if piece & 1 == 0 { Patience::TCP } else { Patience::UDP });
    let (mut bytes, mut out) = (BytesMut::new(), Vec::new());
    for (number, part) in data.chunks(usize::from(piece).max(1)).enumerate() {
        bytes.extend_from_slice(part);
        while let Ok(Some(item)) = splitter.next(&mut bytes) {
            match item {
                Item::Packet(0, packet) => {
                    repair.push(now + Duration::from_millis(number as u64), &packet, &mut out)
                }
                Item::Packet(_, packet) => repair.push_rtcp(&packet, &mut out),
                Item::Message(head, body) => {
                    for challenge in Challenge::all(head.all("www-authenticate")) {
                        Login::new(challenge, "c".into()).authorization("u", "p", "PLAY", "rtsp://h/");
                    }
                    Description::parse(&body);
                }
            }
        }
    }
    repair.expire(now + Duration::from_secs(60), &mut out);
    Description::parse(data);
    // What goes out is well-formed, whatever came in.
    let mut rest = &out[..];
    while !rest.is_empty() {
        assert!(rest[0] == b'$' && rest[1] <= 1 && rest[4] >> 6 == 2);
        let length = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
        rest = &rest[4 + length..];
    }
});
