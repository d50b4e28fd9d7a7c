//! The init process of a running container, by which another process finds the container: its namespaces,
//! files and cgroup.
//!
//! Used by `container::plan` and `container::exec`. Reads the host's /proc.
#![forbid(unsafe_code)]

use std::{
    fs::File,
    io::{Error, ErrorKind, Result},
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    path::PathBuf,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, setns},
};
use wasm_interp_mounts::mountinfo;
use wasm_interp_runner_client::InitRuns;
use wasm_interp_workload::open_root;

use crate::{cgroup, rootfs::Arrivals};

/// The namespaces of a process, as /proc names them.
const NAMESPACES: [(&str, libc::c_int); 8] = [
    ("user", libc::CLONE_NEWUSER),
    ("mnt", libc::CLONE_NEWNS),
    ("pid", libc::CLONE_NEWPID),
    ("net", libc::CLONE_NEWNET),
    ("ipc", libc::CLONE_NEWIPC),
    ("uts", libc::CLONE_NEWUTS),
    ("cgroup", libc::CLONE_NEWCGROUP),
    ("time", libc::CLONE_NEWTIME),
];

/// The init process of a running container.
#[derive(Debug)]
pub(crate) struct Target {
    pid: i32,
    pidfd: File,
}

/// What a process has to do to be in a container, looked up while the init process lives.
#[derive(Debug)]
pub(crate) struct Whereabouts {
    /// The namespaces that are not those of this process.
    namespaces: CloneFlags,
    /// Its cgroup in every hierarchy.
    pub(crate) cgroup: Vec<PathBuf>,
    /// Whether something can be mounted there.
    pub(crate) arrivals: Arrivals,
}

impl Target {
    /// The process `pid`, of which `pidfd` is the descriptor.
    pub(crate) fn new(pid: i32, pidfd: File) -> Self {
        Self { pid, pidfd }
    }

    /// The number of the pidfd.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.pidfd.as_raw_fd()
    }

    /// Its root directory, open.
    pub(crate) fn root(&self) -> Result<OwnedFd> {
        let root = open_root(self.proc("root").as_path()).map_err(Error::other);
        self.if_alive(root)
    }

    /// Looks up what [`Self::enter`] and the caller need. `runs`: what it is.
    pub(crate) fn whereabouts(&self, runs: InitRuns) -> Result<Whereabouts> {
        let looked = || -> Result<Whereabouts> {
            Ok(Whereabouts {
                namespaces: self.namespaces()?,
                cgroup: cgroup::directories(self.pid)?,
                arrivals: match runs {
                    InitRuns::Guest => Arrivals::of(&mountinfo::read(&self.proc("mountinfo"))?)?,
                    // A native program of the container may mount something.
                    InitRuns::Other => Arrivals::Possible,
                },
            })
        };
        self.if_alive(looked())
    }

    /// Joins its namespaces, all at once. Of a pid namespace only children will be.
    pub(crate) fn enter(&self, whereabouts: &Whereabouts) -> Result<()> {
        if whereabouts.namespaces.is_empty() {
            return Ok(());
        }
        match setns(&self.pidfd, whereabouts.namespaces) {
            Err(nix::errno::Errno::ESRCH) => Err(ended()),
            entered => Ok(entered?),
        }
    }

    fn namespaces(&self) -> Result<CloneFlags> {
        let mut differing = CloneFlags::empty();
        for (name, flag) in NAMESPACES {
            let own = match std::fs::read_link(format!("/proc/self/ns/{name}")) {
                // The kernel does not have this kind.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                own => own?,
            };
            if own != std::fs::read_link(self.proc(&format!("ns/{name}")))? {
                differing |= CloneFlags::from_bits_retain(flag);
            }
        }
        Ok(differing)
    }

    fn proc(&self, file: &str) -> PathBuf {
        format!("/proc/{}/{file}", self.pid).into()
    }

    /// `found`, if the process still lives: then no other had its number when /proc was looked at.
    fn if_alive<T>(&self, found: Result<T>) -> Result<T> {
        let mut ended_now = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ended_now, PollTimeout::ZERO)? > 0 {
            return Err(ended());
        }
        found
    }
}

impl Whereabouts {
    /// Whether [`Target::enter`] changes the user namespace.
    pub(crate) fn has_user_namespace(&self) -> bool {
        self.namespaces.contains(CloneFlags::CLONE_NEWUSER)
    }
}

fn ended() -> Error {
    Error::other("its init process has ended")
}
