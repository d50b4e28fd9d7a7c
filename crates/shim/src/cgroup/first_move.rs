//! Makes the first move of a process into a cgroup fast. Called by `serve` and `launch`.
//!
//! The first such move after a pause waits for a grace period of RCU, 6 to 20 ms in which nothing
//! happens (`cgroup_threadgroup_rwsem`, kernel/cgroup/cgroup.c). Moves that follow soon take
//! microseconds. Decision 8 has the measurement.
#![forbid(unsafe_code)]

use std::fmt::Display;
use std::fs;
use std::thread;

use log::debug;

use super::error::CgroupError;
use super::location;

/// Stack of a thread that writes one word to one file.
const SMALL_STACK: usize = 64 << 10;

/// "Moves" this process to the cgroup that it is in, so that the wait passes beside other work and not
/// within a create. Returns at once.
pub(crate) fn prepare_first_move() {
    let moving = thread::Builder::new()
        .name("first-move".to_owned())
        .stack_size(SMALL_STACK)
        .spawn(|| {
            if let Err(error) = move_to_own_cgroup() {
                report(&error);
            }
        });
    if let Err(error) = moving {
        report(&error);
    }
}

/// The create then takes longer, and nothing else is lost.
fn report(error: &dyn Display) {
    debug!(error:%; "cannot move to the shim's own cgroup in advance; the first create is slower");
}

fn move_to_own_cgroup() -> Result<(), CgroupError> {
    let Some(directory) = location::own_directory()? else {
        return Ok(());
    };
    let path = directory.join("cgroup.procs");
    // 0 stands for the writing process.
    fs::write(&path, "0").map_err(CgroupError::write(path))
}
