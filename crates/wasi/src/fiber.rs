//! To run a guest's fiber to its end on the calling thread.
//!
//! Called by the runner, and by the tool that initializes an interpreter.
#![forbid(unsafe_code)]

use std::{
    error::Error,
    fmt,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake},
};

/// The fiber waits for an event, and nothing would bring one.
#[derive(Debug)]
pub struct NeverWoken;

impl fmt::Display for NeverWoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("its fiber waits for an event, and there are none")
    }
}

impl Error for NeverWoken {}

/// Whether the fiber has asked to be resumed.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs the future of a call into a guest to its end.
///
/// Host functions block this thread, so none of them ever waits for an event. Wasmtime itself yields between the
/// steps of a garbage collection, which also a guest has that throws exceptions: it asks to be resumed at once.
///
/// # Errors
/// If it waits and has not asked to be resumed.
pub fn complete<T>(call: impl Future<Output = T>) -> Result<T, NeverWoken> {
    let woken = Arc::new(Woken::default());
    let waker = Arc::clone(&woken).into();
    let mut call = pin!(call);
    loop {
        match call.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return Ok(value),
            Poll::Pending if woken.0.swap(false, Ordering::Relaxed) => {}
            Poll::Pending => return Err(NeverWoken),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};

    use super::*;

    #[test]
    fn call_that_yields_is_resumed_and_one_that_waits_is_an_error() {
        let mut left = 1000;
        let yields = poll_fn(|context| {
            if left == 0 {
                return Poll::Ready(7);
            }
            left -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        });
        assert_eq!(complete(yields).ok(), Some(7));
        complete(pending::<()>()).expect_err("nothing wakes it");
    }
}
