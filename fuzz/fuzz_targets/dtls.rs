//! DTLS datagrams in front of rtc's DTLS: what passes the screen holds together and stays within its bounds.
#![no_main]

use gatehouse::dtls_screen::Screen;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut screen = Screen::default();
    let mut rest = data;
    let (mut admitted, mut fragments) = (0, 0);
    // Each datagram: two bytes of length, the first bit of which says that the handshake is done; its bytes.
    while let [high, low, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([high & 0x7f, *low])).min(tail.len());
        let (datagram, behind) = tail.split_at(length);
        if high & 0x80 != 0 {
            screen.connected();
        }
        if let Some(out) = screen.admit(datagram) {
            admitted += out.len();
            fragments += count_fragments(&out);
        }
        rest = behind;
    }
    assert!(admitted <= 512 * 1024, "{admitted} bytes");
    // Only of messages that were complete before, which rtc discards.
    assert!(fragments <= 24, "{fragments} fragments");
});

/// Handshake messages in the clear that are not whole.
fn count_fragments(mut datagram: &[u8]) -> usize {
    let mut count = 0;
    while !datagram.is_empty() {
        let length = usize::from(u16::from_be_bytes([datagram[11], datagram[12]]));
        let (record, behind) = datagram.split_at(13 + length);
        datagram = behind;
        let mut messages = &record[13..];
        while record[0] == 22 && record[3..5] == [0, 0] && !messages.is_empty() {
            let size = |at: usize| u32::from_be_bytes([0, messages[at], messages[at + 1], messages[at + 2]]);
            let (whole, offset, fragment) = (size(1), size(6), size(9));
            count += usize::from((offset, fragment) != (0, whole));
            messages = &messages[12 + fragment as usize..];
        }
    }
    count
}
