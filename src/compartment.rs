//! Compartments: what panics inside one is ended alone, and reported once with its place. A camera's source, a
//! request, a peer of a shard, a job of the database each run in one. It hides no bug: each is an error in the log.
//! Start at [`run`].

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::pin::pin;
use std::task::Poll;

thread_local! {
    /// How many compartments this thread is in.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// Where the last panic of this thread was.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// What panicked, for the log: place and message.
#[derive(Clone, Debug)]
pub struct Panicked(String);

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Has panics outside of compartments logged like everything else; those inside are reported by whoever ends what
/// has panicked. Called once by the program; without it, the standard library prints all of them.
pub fn install_hook() {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        if DEPTH.get() == 0 {
            let text = text_of(info.payload());
            tracing::error!(code = "internal", "panicked at {place}: {text}");
        }
        PLACE.with_borrow_mut(|last| *last = Some(place));
    }));
}

/// Runs something that may panic. Whatever it has borrowed mutably may be half changed afterwards: the caller ends
/// it or puts it right.
///
/// # Errors
/// It has panicked.
pub fn run<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    DEPTH.set(DEPTH.get() + 1);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    DEPTH.set(DEPTH.get() - 1);
    result.map_err(|payload| {
        let place = PLACE.take().map_or_else(String::new, |place| format!(" at {place}"));
        Panicked(format!("panicked{place}: {}", text_of(&*payload)))
    })
}

/// Drives a future that may panic; afterwards it is not polled again.
///
/// # Errors
/// It has panicked.
pub async fn run_async<T>(future: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| match run(|| future.as_mut().poll(context)) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
        Err(panicked) => Poll::Ready(Err(panicked)),
    })
    .await
}

fn text_of(payload: &(dyn std::any::Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_stays_inside() {
        assert_eq!(run(|| 5).unwrap(), 5);
        let panicked = run(|| panic!("sunk {}", 1)).unwrap_err();
        assert!(panicked.to_string().ends_with("sunk 1"), "{panicked}");
        assert_eq!(run_async(async { 6 }).await.unwrap(), 6);
        let late = async {
            tokio::task::yield_now().await;
            panic!("sunk later")
        };
        let panicked = run_async::<()>(late).await.unwrap_err();
        assert!(panicked.to_string().ends_with("sunk later"), "{panicked}");
        assert_eq!(DEPTH.get(), 0);
    }
}
