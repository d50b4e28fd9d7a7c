//! How long what fails is left alone. Called by `agent` and `prewarm`.

use std::time::Duration;

/// The longest that anything is left alone, unless it begins with more.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3600);

/// The pause after so many failures in a row: `first` after the first, then twice as long each time.
pub(crate) fn pause_after(failures: u32, first: Duration) -> Duration {
    let longer = first.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1)));
    longer.min(PATIENCE.max(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_left_alone_longer_each_time() {
        let first = Duration::from_secs(30);
        let pauses: Vec<u64> = (1..=10)
            .map(|failures| pause_after(failures, first).as_secs())
            .collect();
        assert_eq!(pauses, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]);
        assert_eq!(pause_after(u32::MAX, first), PATIENCE);
    }

    #[test]
    fn a_pause_is_never_shorter_than_the_first() {
        let day = Duration::from_secs(86_400);
        assert_eq!(pause_after(1, day), day);
        assert_eq!(pause_after(9, day), day);
    }
}
