//! DTLS handshake datagrams that arrive before their address is proven. A client sends its ClientHello as soon as our
//! answer to its check arrives, often just before its own answer to ours; dropped, it would be sent again only a
//! second later (RFC 6347 §4.2.4.1). Not a queue: whoever fills it delays strangers alone. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::media::transport::path::Path;

/// An address is proven one round trip after its first check.
const MAX_AGE: Duration = Duration::from_secs(1);
/// Of all addresses.
const MAX_KEPT: usize = 64;
/// Of one address: the first flight.
const MAX_OF_ONE: usize = 2;
/// No client's first flight is longer than a datagram.
const MAX_LENGTH: usize = 2048;

/// A datagram that waits.
struct Early {
    at: Instant,
    path: Path,
    data: Vec<u8>,
}

/// See the module: one for each shard.
#[derive(Default)]
pub struct EarlyHandshakes {
    kept: VecDeque<Early>,
}

/// Whether a datagram begins with a DTLS handshake record.
pub fn is_handshake(data: &[u8]) -> bool {
    data.first() == Some(&22)
}

impl EarlyHandshakes {
    /// Keeps a datagram of an unknown address, if it may be one of a handshake's first.
    pub fn keep(&mut self, now: Instant, path: Path, data: &[u8]) {
        self.kept.retain(|early| now < early.at + MAX_AGE);
        let same = self.kept.iter().filter(|early| early.path == path).count();
        if !is_handshake(data) || data.len() > MAX_LENGTH || same >= MAX_OF_ONE {
            return;
        }
        if self.kept.len() >= MAX_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(Early { at: now, path, data: data.to_vec() });
    }

    /// What an address sent before it was proven, in order.
    pub fn take(&mut self, now: Instant, path: &Path) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        self.kept.retain_mut(|early| {
            if early.path == *path && now < early.at + MAX_AGE {
                found.push(std::mem::take(&mut early.data));
            }
            early.path != *path && now < early.at + MAX_AGE
        });
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::transport::path::Via;

    fn path(port: u16) -> Path {
        Path { remote: ([192, 0, 2, 1], port).into(), via: Via::Udp, local: None }
    }

    #[test]
    fn a_first_flight_waits_for_its_address_to_be_proven() {
        let now = Instant::now();
        let mut early = EarlyHandshakes::default();
        for data in [&[22, 1][..], &[22, 2], &[22, 3], &[20, 4], &[0x80, 5]] {
            early.keep(now, path(1), data);
        }
        early.keep(now, path(2), &[22; MAX_LENGTH + 1]);
        assert!(early.take(now, &path(2)).is_empty());
        assert_eq!(early.take(now, &path(1)), [[22, 1], [22, 2]]);
        assert!(early.take(now, &path(1)).is_empty());
    }

    #[test]
    fn what_waits_is_bounded_and_becomes_old() {
        let now = Instant::now();
        let mut early = EarlyHandshakes::default();
        for port in 1..1000 {
            early.keep(now, path(port), &[22]);
        }
        assert_eq!(early.kept.len(), MAX_KEPT);
        assert!(early.take(now, &path(1)).is_empty());
        assert_eq!(early.take(now, &path(999)).len(), 1);
        assert!(early.take(now + MAX_AGE, &path(998)).is_empty());
        assert!(early.kept.is_empty());
    }
}
