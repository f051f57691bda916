//! NTP timestamps (RFC 5905 §6): 32 bits of seconds since 1900, 32 bits of their fraction. Pure.

use std::time::{Duration, SystemTime};

/// Seconds from the NTP epoch (1900) to the Unix epoch (1970).
const NTP_TO_UNIX: u64 = 2_208_988_800;

/// The NTP timestamp of a wall-clock time. Era 1 (from 2036 on) wraps around, as the RFC specifies.
pub fn from_system_time(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    (since.as_secs().wrapping_add(NTP_TO_UNIX) & 0xffff_ffff) << 32 | fraction
}

/// The wall-clock time of an NTP timestamp, in the era that puts it between 1970 and 2106. For senders whose clock
/// counts from their start instead of from 1900 the result is arbitrary, which is good enough: callers only compare
/// the times of one sender with each other.
pub fn to_system_time(ntp: u64) -> SystemTime {
    let seconds = (ntp >> 32).wrapping_sub(NTP_TO_UNIX) & 0xffff_ffff;
    // Below 2^32: the sum stays below 1,000,000,000.
    let nanoseconds = ((ntp & 0xffff_ffff) * 1_000_000_000) >> 32;
    SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds as u32)
}

/// The middle 32 bits, as echoed in reception reports (RFC 3550 §6.4.1, LSR).
pub fn middle(ntp: u64) -> u32 {
    (ntp >> 16) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for (unix, ntp_seconds) in [(0, 2_208_988_800), (1_795_744_800, 4_004_733_600)] {
            let at = SystemTime::UNIX_EPOCH + Duration::new(unix, 500_000_000);
            let ntp = from_system_time(at);
            assert_eq!(ntp, ntp_seconds << 32 | 1 << 31);
            assert_eq!(to_system_time(ntp), at);
            assert_eq!(middle(ntp), (ntp_seconds as u32) << 16 | 0x8000);
        }
    }

    #[test]
    fn the_second_era_and_clocks_without_an_epoch() {
        // 2040: the seconds have wrapped.
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(2_208_988_800);
        assert_eq!(to_system_time(from_system_time(at)), at);
        // A camera that counts from its start: the interval between two reports is preserved.
        let (first, second) = (to_system_time(5 << 32), to_system_time(65 << 32));
        assert_eq!(second.duration_since(first).unwrap(), Duration::from_secs(60));
        to_system_time(u64::MAX);
    }
}
