//! What the guest's process can set, and what it has used.
#![forbid(unsafe_code)]

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeVal,
};

use crate::{abi::types, errno::Result};

/// Sets the umask, and returns the one before.
pub(super) fn umask(mask: types::Mode) -> types::Mode {
    let mask = rustix::fs::Mode::from_raw_mode(mask & 0o777);
    rustix::process::umask(mask).as_raw_mode()
}

/// What has been used so far.
pub(super) fn resources(who: types::RusageWho) -> Result<types::Rusage> {
    let used = getrusage(match who {
        types::RusageWho::Process => UsageWho::RUSAGE_SELF,
        types::RusageWho::Children => UsageWho::RUSAGE_CHILDREN,
        types::RusageWho::Thread => UsageWho::RUSAGE_THREAD,
    })?;
    Ok(types::Rusage {
        utime: timespec(used.user_time()),
        stime: timespec(used.system_time()),
        maxrss: count(used.max_rss()),
        minflt: count(used.minor_page_faults()),
        majflt: count(used.major_page_faults()),
        inblock: count(used.block_reads()),
        oublock: count(used.block_writes()),
        nvcsw: count(used.voluntary_context_switches()),
        nivcsw: count(used.involuntary_context_switches()),
    })
}

fn timespec(time: TimeVal) -> types::Timespec {
    types::Timespec {
        sec: time.tv_sec(),
        // Less than a million microseconds.
        nsec: time.tv_usec() as u32 * 1000,
    }
}

/// The kernel counts up, in a signed number.
fn count(number: i64) -> u64 {
    number.cast_unsigned()
}
