//! The time of one image. Its work runs in a thread, which is waited for until the time is over and no longer: a pull, a
//! compile or a call that takes longer must not delay the other images, or the report.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use wasm_interp_containerd::ContainerdError;

use crate::result::{CompiledInterpreter, ImageResult, PrewarmError};

/// The longest time of one image, its pull included.
const LONGEST: Duration = Duration::from_secs(1800);

/// The time of the next of so many images.
pub(crate) fn share(left: Duration, images: usize) -> Duration {
    let images = u32::try_from(images).unwrap_or(u32::MAX);
    left.checked_div(images).unwrap_or_default().min(LONGEST)
}

/// One image's time.
#[derive(Clone, Copy)]
pub(crate) struct TimeBudget {
    pub(crate) time: Duration,
    end: Instant,
}

impl TimeBudget {
    pub(crate) fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }
}

/// What the thread of an image reports while it works. After the end of its time nothing receives it.
pub(crate) struct TurnProgress(Sender<TurnEvent>);

enum TurnEvent {
    Compiled(CompiledInterpreter),
    CleanupFailed(ContainerdError),
    Finished(Result<(), PrewarmError>),
}

impl TurnProgress {
    pub(crate) fn compiled(&self, interpreter: CompiledInterpreter) {
        let _ = self.0.send(TurnEvent::Compiled(interpreter));
    }

    pub(crate) fn cleanup_failed(&self, error: ContainerdError) {
        let _ = self.0.send(TurnEvent::CleanupFailed(error));
    }
}

/// Runs the work of one image within that time.
pub(crate) fn run(
    image: &str,
    time: Duration,
    work: impl FnOnce(TimeBudget, &TurnProgress) -> Result<(), PrewarmError> + Send + 'static,
) -> ImageResult {
    let budget = TimeBudget {
        time,
        end: Instant::now() + time,
    };
    let (sender, events) = mpsc::channel();
    let thread = thread::Builder::new().spawn(move || {
        let progress = TurnProgress(sender);
        let result = work(budget, &progress);
        let _ = progress.0.send(TurnEvent::Finished(result));
    });
    let (mut interpreters, mut cleanup_error) = (Vec::new(), None);
    let result = match thread {
        Err(error) => Err(PrewarmError::Thread(error)),
        Ok(thread) => loop {
            match events.recv_timeout(budget.left()) {
                Ok(TurnEvent::Compiled(interpreter)) => interpreters.push(interpreter),
                Ok(TurnEvent::CleanupFailed(error)) => cleanup_error = Some(error),
                Ok(TurnEvent::Finished(result)) => break result,
                Err(RecvTimeoutError::Timeout) => break Err(PrewarmError::TimedOut(time)),
                // The thread panicked: so does this one.
                Err(RecvTimeoutError::Disconnected) => match thread.join() {
                    Err(panic) => std::panic::resume_unwind(panic),
                    Ok(()) => break Err(PrewarmError::TimedOut(time)),
                },
            }
        },
    };
    ImageResult {
        image: image.to_owned(),
        interpreters,
        error: result.err(),
        cleanup_error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interpreter() -> CompiledInterpreter {
        CompiledInterpreter {
            path: "/bin/python.wasm".into(),
            key: "k".into(),
            compile_time: Some(Duration::from_secs(1)),
        }
    }

    #[test]
    fn slow_image_times_out_and_the_next_one_is_prewarmed() {
        let (_held, hold) = mpsc::channel::<()>();
        let slow = run("a", Duration::from_millis(1), move |_, progress| {
            progress.compiled(interpreter());
            let _ = hold.recv();
            Ok(())
        });
        let error = slow.error.map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.starts_with("cannot finish within 0 s")));
        let next = run("b", LONGEST, |_, progress| {
            progress.compiled(interpreter());
            Ok(())
        });
        assert!(next.error.is_none());
        assert_eq!(next.interpreters, [interpreter()]);
    }

    #[test]
    fn all_images_get_a_share_of_the_time() {
        let all = Duration::from_secs(6000);
        assert_eq!(share(all, 1), LONGEST);
        assert_eq!(share(all, 100) * 100, all);
        assert_eq!(share(Duration::ZERO, 3), Duration::ZERO);
    }
}
