//! Watches a container for out-of-memory kills, and writes the reason of one. Called by `container`.
#![forbid(unsafe_code)]

use log::warn;

use crate::cgroup::{Cgroup, KillChecks, MemoryShortages};

const LATE: &str =
    "cannot watch for out-of-memory kills; they are reported when the container ends";

/// Says when the number of out-of-memory kills in a cgroup may have changed.
pub(super) struct OomWatch {
    container_id: String,
    shortages: MemoryShortages,
    /// The checks that are due after the last shortage.
    checks: Option<KillChecks>,
}

impl OomWatch {
    /// Watches from now on. `None` if the cgroup cannot be watched.
    pub(super) fn of(container_id: &str, cgroup: &Cgroup) -> Option<Self> {
        match MemoryShortages::of(cgroup) {
            Ok(shortages) => Some(Self {
                container_id: container_id.to_owned(),
                shortages: shortages?,
                checks: None,
            }),
            Err(error) => {
                warn!(id = container_id, error:%; "{LATE}");
                None
            }
        }
    }

    /// Waits until the number of kills is to be read. `found` says whether the last check found a
    /// new kill. Returns false if the cgroup cannot be watched any longer.
    pub(super) async fn next_check(&mut self, found: bool) -> bool {
        if found {
            self.checks = None;
        }
        loop {
            if let Some(checks) = &mut self.checks
                && checks.next().await
            {
                return true;
            }
            if let Err(error) = self.shortages.next().await {
                warn!(id = self.container_id.as_str(), error:%; "{LATE}");
                return false;
            }
            self.checks = Some(self.shortages.checks());
        }
    }
}

/// The text for the termination log. `limit` is the container's memory limit in bytes.
pub(super) fn reason(limit: Option<i64>) -> String {
    let text =
        "killed by the kernel's OOM killer: its memory and that of its temporary files passed";
    match limit {
        Some(bytes) => format!("{text} the limit of {} MiB", bytes >> 20),
        None => format!("{text} a limit above this container's, or the node's memory"),
    }
}
