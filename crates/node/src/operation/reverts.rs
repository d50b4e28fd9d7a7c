//! Another program on the node that changes the file back. Writing it again each time would restart containerd in a
//! loop, so the pauses become longer.

use super::{Operation, OperationError};
use crate::record::NodeRecord;
use crate::report::Reverts;

/// The pause before the file is written for the second time, in seconds. It doubles each time.
const FIRST_PAUSE: u64 = 60;
/// The longest pause, in seconds.
const LONGEST_PAUSE: u64 = 3600;
/// If the file was unchanged for this many seconds, the count starts again.
const FORGIVEN_AFTER: u64 = 24 * 3600;

impl Operation<'_> {
    /// Whether our table is gone from the file that has it by the record, and how often that has happened.
    ///
    /// # Errors
    /// [`OperationError::Reverted`] if the pause is not over yet.
    pub(super) fn check_reverts(&self) -> Result<Option<Reverts>, OperationError> {
        let record = NodeRecord::load(self.host)?;
        let Some(edit) = record.edits.last() else {
            return Ok(None);
        };
        if self.planner().configured()?.1.is_some() {
            return Ok(record.reverts);
        }
        // The clock was ahead if the time is in the future: then it counts as long ago.
        let applied_unix = Some(edit.applied_unix).filter(|&unix| unix <= self.now_unix);
        let applied_unix = applied_unix.unwrap_or_default();
        let unchanged_for = self.now_unix - applied_unix;
        let before = record.reverts.as_ref().map_or(0, |reverts| reverts.times);
        let times = if unchanged_for > FORGIVEN_AFTER {
            1
        } else {
            before + 1
        };
        let pause = match times {
            1 => 0,
            more => (FIRST_PAUSE << (more - 2).min(10)).min(LONGEST_PAUSE),
        };
        let retry_after_unix = applied_unix + pause;
        if self.now_unix < retry_after_unix {
            return Err(OperationError::Reverted {
                path: edit.path.clone(),
                times,
                since: unchanged_for,
                wait: retry_after_unix - self.now_unix,
                retry_after_unix,
            });
        }
        Ok(Some(Reverts {
            times,
            last_unix: self.now_unix,
        }))
    }

    pub(super) fn record_reverts(&self, reverts: Option<Reverts>) -> Result<(), OperationError> {
        let mut record = NodeRecord::load(self.host)?;
        if record.reverts != reverts {
            record.reverts = reverts;
            record.store(self.host)?;
        }
        Ok(())
    }
}
