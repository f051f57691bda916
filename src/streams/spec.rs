//! How a stream is to be run. Data only: `stream` runs it. Start at [`StreamSpec`].

use std::time::Duration;

use super::source::SourceSpec;

/// Bytes of the cached GOP of a source that sends a key frame when it is asked for one: browsers send one key frame
/// and then none for minutes, and nobody wants to be shown minutes.
pub const ANSWERING_GOP_CACHE: usize = 384 << 10;
/// …of a camera: 10 s of 4K, or 40 s of what a "smart codec" sends.
const CAMERA_GOP_CACHE: usize = 16 << 20;

/// How to run a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamSpec {
    /// Where it comes from.
    pub source: SourceSpec,
    /// Whether the source is stopped while nobody watches.
    pub on_demand: bool,
    /// How long after the last viewer has left it is stopped.
    pub idle_timeout: Duration,
    /// Maximum size of the cached GOP in bytes.
    pub gop_cache: usize,
    /// The source of the sub stream.
    pub sub: Option<Box<SourceSpec>>,
    /// Between two looks at a camera that nobody watches; zero for none.
    pub check_interval: Duration,
}

impl StreamSpec {
    /// With the defaults: stopped 10 s after the last viewer, a GOP of up to 16 MiB cached, of sources that answer
    /// requests for key frames 384 KiB, never looked after while nobody watches.
    pub fn new(source: SourceSpec, on_demand: bool) -> Self {
        let gop_cache = if source.answers_key_frames() { ANSWERING_GOP_CACHE } else { CAMERA_GOP_CACHE };
        let (idle_timeout, check_interval) = (Duration::from_secs(10), Duration::ZERO);
        Self { source, on_demand, idle_timeout, gop_cache, sub: None, check_interval }
    }

    /// How to run its sub stream: always on demand.
    pub fn sub(&self) -> Option<Self> {
        let source = SourceSpec::clone(self.sub.as_deref()?);
        Some(Self { source, on_demand: true, sub: None, ..self.clone() })
    }
}
