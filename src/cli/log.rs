//! The log as it leaves the program: to standard error, coloured on a terminal alone, with priorities for systemd's
//! journal, without what other libraries say of packets that strangers send, and never more of one kind than anybody
//! reads. Start at [`start`].

use std::collections::HashMap;
use std::fmt;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::token_bucket::TokenBucket;

/// Where the filter of the configuration cannot be read.
const DEFAULT: &str = "warn,gatehouse=info";
/// Targets that begin so belong to the WebRTC libraries: whoever sends them rubbish decides how much they write.
const SILENT: [&str; 2] = ["rtc", "webrtc"];
/// Lines of one kind (one place in the code) at once, and each second.
const AT_ONCE: u32 = 200;
const PER_SECOND: u32 = 2;

/// Starts it, with a filter of the tracing crate.
pub fn start(filter: &str) {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    // systemd.exec(5): standard error is connected to the journal, which keeps the time itself.
    if is_set("JOURNAL_STREAM") {
        return init(filter, false, Limited::new(Format::default().without_time(), true));
    }
    // no-color.org
    let colours = std::io::stderr().is_terminal() && !is_set("NO_COLOR");
    init(filter, colours, Limited::new(Format::default(), false));
}

fn init<T: FormatTime + Send + Sync + 'static>(filter: &str, colours: bool, format: Limited<T>) {
    // A second call, in tests, changes nothing.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(env_filter(filter))
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .event_format(format)
        .try_init();
}

/// The priority of a line (sd-daemon(3)), which `journalctl --priority` selects by.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// The configured filter; the WebRTC libraries say nothing unless it names them.
fn env_filter(filter: &str) -> EnvFilter {
    let silent =
        SILENT.iter().filter(|target| !filter.contains(&format!("{target}=")) && !names(filter, target));
    let quiet: Vec<String> = silent.map(|target| format!("{target}=off")).collect();
    let with = |filter: &str| {
        let all = std::iter::once(filter).chain(quiet.iter().map(String::as_str));
        EnvFilter::try_new(all.collect::<Vec<_>>().join(","))
    };
    with(filter).or_else(|_| with(DEFAULT)).unwrap_or_default()
}

/// Whether a directive is about a target, or one below it, such as `rtc_dtls=debug` for `rtc`.
fn names(filter: &str, target: &str) -> bool {
    filter.split(',').any(|directive| directive.trim().starts_with(target) && directive.contains('='))
}

/// A format that leaves out what there is too much of, and says how much that was.
struct Limited<T> {
    inner: Format<Full, T>,
    priorities: bool,
    kinds: Mutex<HashMap<Identifier, Kind>>,
}

struct Kind {
    bucket: TokenBucket,
    left_out: u64,
}

impl<T> Limited<T> {
    fn new(inner: Format<Full, T>, priorities: bool) -> Self {
        Self { inner, priorities, kinds: Mutex::default() }
    }

    /// How many lines of the kind were left out before this one; `None` if this one is, too.
    fn admit(&self, kind: Identifier, now: Instant) -> Option<u64> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        // As many as there are places in the code that log something.
        let kind = kinds.entry(kind).or_insert_with(|| Kind {
            bucket: TokenBucket::new(AT_ONCE, PER_SECOND, Duration::from_secs(1)),
            left_out: 0,
        });
        if kind.bucket.take(now) {
            return Some(std::mem::take(&mut kind.left_out));
        }
        kind.left_out += 1;
        None
    }
}

impl<S, N, T> FormatEvent<S, N> for Limited<T>
where
    T: FormatTime,
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = *event.metadata().level();
        // Whoever asks for DEBUG wants all of it.
        let left_out = match level <= Level::INFO {
            true => self.admit(event.metadata().callsite(), Instant::now()),
            false => Some(0),
        };
        let Some(left_out) = left_out else { return Ok(()) };
        let prefix = if self.priorities { format!("<{}>", priority(level)) } else { String::new() };
        write!(writer, "{prefix}")?;
        self.inner.format_event(context, writer.by_ref(), event)?;
        if left_out > 0 {
            writeln!(writer, "{prefix}  … and {left_out} more of this kind, left out")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_webrtc_libraries_are_silent_unless_named() {
        for (filter, expected) in [
            ("warn,gatehouse=info", &["rtc=off", "webrtc=off"][..]),
            ("info,rtc_dtls=debug", &["rtc_dtls=debug", "webrtc=off"]),
            ("nonsense=[", &["gatehouse=info", "rtc=off"]),
        ] {
            let text = env_filter(filter).to_string();
            assert!(expected.iter().all(|part| text.contains(part)), "{filter}: {text}");
        }
        let text = env_filter("info,rtc_dtls=debug").to_string();
        assert!(text.split(',').all(|directive| directive != "rtc=off"), "{text}");
    }

    /// Of a place in the code.
    fn identifier() -> Identifier {
        struct Place;
        impl tracing::Callsite for Place {
            fn set_interest(&self, _: tracing::subscriber::Interest) {}
            fn metadata(&self) -> &tracing::Metadata<'_> {
                unreachable!("only its address counts")
            }
        }
        static PLACE: Place = Place;
        Identifier(&PLACE)
    }

    #[test]
    fn a_flood_of_one_kind_is_left_out_and_counted() {
        let limited = Limited::new(Format::default(), false);
        let (now, identifier) = (Instant::now(), identifier());
        let admitted = (0..1000).filter(|_| limited.admit(identifier.clone(), now).is_some()).count();
        assert_eq!(admitted, AT_ONCE as usize);
        assert_eq!(limited.admit(identifier, now + Duration::from_secs(1)), Some(1000 - u64::from(AT_ONCE)));
    }
}
