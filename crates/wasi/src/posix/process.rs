//! The guest as a process: its ids, its umask, what it has used.
#![forbid(unsafe_code)]

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeVal,
};
use rustix::process::{
    Gid, Pid, Resource, Rlimit, getegid, geteuid, getgid, getgroups, getpid, getppid, getrlimit,
    getuid,
};
use wiggle::{GuestMemory, GuestPtr};

use crate::{
    abi::types,
    errno::{Errno, Result},
};

/// Who the guest is. Read once: nothing changes it, and a running guest's filter needs no call for it.
#[derive(Clone, Debug)]
pub(crate) struct GuestIds {
    pub(super) uid: types::Uid,
    pub(super) effective_uid: types::Uid,
    pub(super) gid: types::Gid,
    pub(super) effective_gid: types::Gid,
    /// Or why they are not known: a profile may refuse to say, and few guests ask.
    groups: Result<Vec<types::Gid>>,
    pub(super) pid: types::Pid,
    /// 0 if it is outside of the container.
    pub(super) parent: types::Pid,
    /// By Linux's numbers.
    limits: [Rlimit; RESOURCES.len()],
}

/// In the order of Linux's numbers.
const RESOURCES: [Resource; 16] = [
    Resource::Cpu,
    Resource::Fsize,
    Resource::Data,
    Resource::Stack,
    Resource::Core,
    Resource::Rss,
    Resource::Nproc,
    Resource::Nofile,
    Resource::Memlock,
    Resource::As,
    Resource::Locks,
    Resource::Sigpending,
    Resource::Msgqueue,
    Resource::Nice,
    Resource::Rtprio,
    Resource::Rttime,
];

impl GuestIds {
    /// Of this process.
    pub(crate) fn of_this_process() -> Self {
        let raw = |groups: Vec<Gid>| groups.into_iter().map(Gid::as_raw).collect();
        Self {
            uid: getuid().as_raw(),
            effective_uid: geteuid().as_raw(),
            gid: getgid().as_raw(),
            effective_gid: getegid().as_raw(),
            groups: getgroups().map(raw).map_err(Errno::from),
            pid: getpid().as_raw_nonzero().get().cast_unsigned(),
            parent: Pid::as_raw(getppid()).cast_unsigned(),
            limits: RESOURCES.map(getrlimit),
        }
    }

    pub(super) fn limit(&self, resource: u32) -> Result<types::Rlimit> {
        let index = usize::try_from(resource).map_err(|_| Errno::Inval)?;
        let limit = self.limits.get(index).ok_or(Errno::Inval)?;
        Ok(types::Rlimit {
            cur: limit.current.unwrap_or(u64::MAX),
            max: limit.maximum.unwrap_or(u64::MAX),
        })
    }

    pub(super) fn write_groups(
        &self,
        memory: &mut GuestMemory<'_>,
        buffer: GuestPtr<types::Gid>,
        length: types::Size,
    ) -> Result<types::Size> {
        let groups = self.groups.as_ref().map_err(|error| *error)?;
        let count = types::Size::try_from(groups.len()).map_err(|_| Errno::Overflow)?;
        if length == 0 {
            return Ok(count);
        }
        if length < count {
            return Err(Errno::Inval);
        }
        for (place, group) in buffer.as_array(count).iter().zip(groups) {
            memory.write(place?, *group)?;
        }
        Ok(count)
    }
}

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
