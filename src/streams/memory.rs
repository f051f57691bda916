//! A memory bound for what a library reads without one: retina keeps an RTSP body of any announced length. The resident
//! memory of the whole process is the only thing to be seen from outside, so the bound is coarse, and a source that
//! happens to connect at the same time is stopped, too; it tries again. Linux only. Start at [`grown`].

use std::time::Duration;

/// How much the process may grow while a source connects: far more than any SDP, far less than a machine has.
pub const MAX_GROWTH: u64 = 256 * 1024 * 1024;
/// At 1 Gbit/s, 6 MB arrive in this time.
const INTERVAL: Duration = Duration::from_millis(50);

/// Returns once the process has grown by [`MAX_GROWTH`] since the call.
pub async fn grown() {
    let Some(start) = resident() else { return std::future::pending().await };
    let mut interval = tokio::time::interval(INTERVAL);
    loop {
        interval.tick().await;
        if resident().is_some_and(|now| now > start + MAX_GROWTH) {
            return;
        }
    }
}

/// Resident memory in bytes.
pub fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
