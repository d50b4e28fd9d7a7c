//! Pauses after failures in a row, each twice as long as the one before. Used by `agent` and `prewarm`.

use std::time::{Duration, Instant};

/// The longest pause, unless the first is longer.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// The failures in a row of one task, and the end of its pause.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    failures: u32,
    paused_until: Instant,
}

impl Backoff {
    /// No failure yet, and no pause.
    pub(crate) fn new(first: Duration) -> Self {
        Self {
            first,
            failures: 0,
            paused_until: Instant::now(),
        }
    }

    /// Counts a failure. Returns the pause that it should have; [`Self::pause`] begins it.
    pub(crate) fn count_failure(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let doubled = 2u32.saturating_pow(self.failures - 1);
        let longest = LONGEST_PAUSE.max(self.first);
        self.first.saturating_mul(doubled).min(longest)
    }

    /// Begins a pause.
    pub(crate) fn pause(&mut self, pause: Duration) {
        self.paused_until = Instant::now() + pause;
    }

    /// Ends the pause, without forgetting the failures.
    pub(crate) fn end_pause(&mut self) {
        self.paused_until = Instant::now();
    }

    /// The rest of the pause.
    pub(crate) fn remaining(&self) -> Duration {
        self.paused_until.saturating_duration_since(Instant::now())
    }

    /// A success: the next failure is the first one again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut backoff = Backoff::new(Duration::from_secs(30));
        let pauses: Vec<u64> = (0..10).map(|_| backoff.count_failure().as_secs()).collect();
        assert_eq!(pauses, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]);
        backoff.failures = u32::MAX;
        assert_eq!(backoff.count_failure(), LONGEST_PAUSE);
        backoff.reset();
        assert_eq!(backoff.count_failure(), Duration::from_secs(30));
    }

    #[test]
    fn pause_is_never_shorter_than_the_first() {
        let day = Duration::from_secs(86_400);
        let mut backoff = Backoff::new(day);
        assert_eq!(backoff.count_failure(), day);
        assert_eq!(backoff.count_failure(), day);
    }

    #[test]
    fn ended_pause_keeps_the_failures() {
        let mut backoff = Backoff::new(Duration::from_secs(30));
        assert!(backoff.remaining().is_zero());
        let pause = backoff.count_failure();
        backoff.pause(pause);
        assert!(!backoff.remaining().is_zero());
        backoff.end_pause();
        assert!(backoff.remaining().is_zero());
        assert_eq!(backoff.count_failure(), Duration::from_secs(60));
    }
}
