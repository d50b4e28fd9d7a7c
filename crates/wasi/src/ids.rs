//! What the guest's process is, and nothing changes: its ids, its groups, its limits.
#![forbid(unsafe_code)]

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
    pub(crate) uid: types::Uid,
    pub(crate) effective_uid: types::Uid,
    pub(crate) gid: types::Gid,
    pub(crate) effective_gid: types::Gid,
    /// Or why they are not known: a profile may refuse to say, and few guests ask.
    groups: Result<Vec<types::Gid>>,
    pub(crate) pid: types::Pid,
    /// 0 if it is outside of the container.
    pub(crate) parent: types::Pid,
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

    pub(crate) fn limit(&self, resource: u32) -> Result<types::Rlimit> {
        let index = usize::try_from(resource).map_err(|_| Errno::Inval)?;
        let limit = self.limits.get(index).ok_or(Errno::Inval)?;
        Ok(types::Rlimit {
            cur: limit.current.unwrap_or(u64::MAX),
            max: limit.maximum.unwrap_or(u64::MAX),
        })
    }

    pub(crate) fn write_groups(
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
