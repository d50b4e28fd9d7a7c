//! A container's cgroup with all cgroups that it made inside: whether it is free, the end of every process in it, and
//! its removal.
//!
//! Called by `container` through `cgroup`, with directories that are the container's own. Does not know how they were
//! found. Each directory is opened from the one above it, without following a link and without crossing a mount, so
//! that nothing outside the given directories is reached. One descriptor is open at a time: a container may nest its
//! cgroups deeper than this process may open files.
#![forbid(unsafe_code)]

use std::{
    ffi::{CStr, CString},
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    dir::{Dir, Type},
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2},
    sys::stat::fstat,
    unistd::{UnlinkatFlags, unlinkat},
};
use rustix::process::{
    Pid, PidfdFlags, Resource, Signal, getrlimit, pidfd_open, pidfd_send_signal,
};

/// How long killed processes may take to leave a cgroup, and systemd to remove one.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(2);

/// How many processes at least are looked at, and so how many descriptors are open, at a time.
const AT_ONCE: usize = 64;

/// How often the members of a cgroup are listed at most to kill them, if enough files may be open.
const LISTS: usize = 16;

/// A cgroup cannot be used, emptied or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TreeError {
    #[error("cannot use cgroup {path}: it holds {content}; name another cgroupsPath, or remove it")]
    Used {
        path: PathBuf,
        content: CgroupContent,
    },
    #[error("cannot remove cgroup {path}: it still holds {content} after a SIGKILL to all in it")]
    Left {
        path: PathBuf,
        content: CgroupContent,
    },
    #[error("cannot {act} cgroup {path}: {source}")]
    Access {
        act: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

/// What is in a cgroup.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct CgroupContent {
    /// Processes in it and beneath it.
    processes: Vec<i32>,
    /// How many cgroups are beneath it.
    cgroups: usize,
}

impl CgroupContent {
    fn of(path: &Path) -> io::Result<Self> {
        let mut content = Self::default();
        let mut entered = 0_usize;
        walk(
            path,
            &mut |cgroup| {
                entered += 1;
                content.processes.extend(members(cgroup)?);
                Ok(())
            },
            &mut |_, _| Ok(()),
        )?;
        content.cgroups = entered.saturating_sub(1);
        Ok(content)
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl std::fmt::Display for CgroupContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const SHOWN: usize = 8;
        let shown = &self.processes[..self.processes.len().min(SHOWN)];
        write!(f, "{} process(es) {shown:?}", self.processes.len())?;
        write!(f, " and {} cgroup(s)", self.cgroups)
    }
}

/// Fails if one of the directories exists and holds a process or another cgroup. All that is in a container's cgroup
/// is killed and removed with the container, so it must be empty before.
pub(crate) fn refuse_used(directories: &[PathBuf]) -> Result<(), TreeError> {
    directories.iter().try_for_each(|path| {
        let content = CgroupContent::of(path).map_err(access("look into", path))?;
        if content.is_empty() {
            return Ok(());
        }
        Err(TreeError::Used {
            path: path.clone(),
            content,
        })
    })
}

/// Sends SIGKILL to every process in the directories and beneath them.
pub(crate) fn kill_in(directories: &[PathBuf]) -> Result<(), TreeError> {
    directories
        .iter()
        .try_for_each(|path| kill_all(path).map_err(access("end the processes of", path)))
}

/// Removes the directories with all cgroups beneath them, killing what is left in there. A directory that is not there
/// is removed.
pub(crate) fn remove(directories: &[PathBuf]) -> Result<(), TreeError> {
    let end = Instant::now() + PATIENCE;
    let mut left: Vec<&PathBuf> = directories.iter().collect();
    loop {
        // Mostly all is over, and a call per hierarchy does it.
        let mut busy = Vec::new();
        for path in left {
            match std::fs::remove_dir(path) {
                Ok(()) => {}
                Err(error) if is_gone(&error) => {}
                Err(error) if is_busy(&error) => busy.push(path),
                Err(error) => return Err(access("remove", path)(error)),
            }
        }
        left = busy;
        let Some(&first) = left.first() else {
            return Ok(());
        };
        if Instant::now() > end {
            return Err(TreeError::Left {
                path: first.clone(),
                content: CgroupContent::of(first).map_err(access("look into", first))?,
            });
        }
        for path in &left {
            kill_all(path).map_err(access("end the processes of", path))?;
            remove_beneath(path).map_err(access("remove what is in", path))?;
        }
        // Version 1 does not notify when the last process has left.
        std::thread::sleep(PAUSE);
    }
}

/// Waits, for a limited time, until systemd has removed `directories`: it answers before it has done that.
pub(crate) fn wait_until_gone(directories: &[PathBuf]) {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end && directories.iter().any(|directory| directory.exists()) {
        std::thread::sleep(PAUSE);
    }
}

/// Sends SIGKILL to every process in `top` and beneath it.
fn kill_all(top: &Path) -> io::Result<()> {
    let Some(cgroup) = open_top(top)? else {
        return Ok(());
    };
    // Linux 5.14 on version 2 kills the whole tree at once.
    if write(cgroup.as_fd(), c"cgroup.kill", "1")? {
        return Ok(());
    }
    // Otherwise a process might fork faster than the others are killed.
    write(cgroup.as_fd(), c"pids.max", "0")?;
    walk(
        top,
        &mut |cgroup| {
            // Version 1: a frozen process does not even end by SIGKILL.
            write(cgroup, c"freezer.state", "THAWED")?;
            let pids = members(cgroup)?;
            pids.chunks(at_once(pids.len(), getrlimit(Resource::Nofile).current))
                .try_for_each(|pids| kill_members(cgroup, pids))
        },
        &mut |_, _| Ok(()),
    )
}

/// How many of `members` processes are looked at together where so many files may be open. For each lot all are listed
/// again, so the lots grow with the number.
fn at_once(members: usize, open_files: Option<u64>) -> usize {
    // The other half is for what is open already.
    let most = open_files.map_or(usize::MAX, |files| {
        usize::try_from(files / 2).unwrap_or(usize::MAX)
    });
    members.div_ceil(LISTS).min(most).max(AT_ONCE)
}

/// Kills those of `pids` that are in the cgroup. A number may belong to another process by now: the signal goes to
/// the process that was looked up, if it is a member after that.
fn kill_members(cgroup: BorrowedFd<'_>, pids: &[i32]) -> io::Result<()> {
    let mut processes = Vec::new();
    for &pid in pids {
        let Some(number) = Pid::from_raw(pid) else {
            continue;
        };
        match pidfd_open(number, PidfdFlags::empty()) {
            Ok(process) => processes.push((pid, process)),
            // It has ended, or it is a thread that ends with its process.
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut now = members(cgroup)?;
    now.sort_unstable();
    for (pid, process) in processes {
        if now.binary_search(&pid).is_err() {
            continue;
        }
        match pidfd_send_signal(process, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Removes every cgroup beneath `top` that is empty.
fn remove_beneath(top: &Path) -> io::Result<()> {
    walk(top, &mut |_| Ok(()), &mut |above, name| match unlinkat(
        above,
        name,
        UnlinkatFlags::RemoveDir,
    ) {
        Ok(()) => Ok(()),
        Err(errno) => {
            let error = io::Error::from(errno);
            if is_gone(&error) || is_busy(&error) {
                Ok(())
            } else {
                Err(error)
            }
        }
    })
}

/// Processes in the cgroup itself, as far as this process can see them: others have the number 0.
fn members(cgroup: BorrowedFd<'_>) -> io::Result<Vec<i32>> {
    let read = |name| -> io::Result<String> {
        let Some(mut file) = open(cgroup, name, OFlag::O_RDONLY)?.map(File::from) else {
            return Ok(String::new());
        };
        let mut text = String::new();
        match file.read_to_string(&mut text) {
            Err(error) if is_gone(&error) => Ok(String::new()),
            read => read.map(|_| text),
        }
    };
    let text = match read(c"cgroup.procs") {
        // A threaded cgroup of version 2 lists threads alone.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => read(c"cgroup.threads"),
        text => text,
    }?;
    Ok(text
        .lines()
        .filter_map(|line| line.parse().ok())
        .filter(|&pid| pid > 0)
        .collect())
}

/// Writes to a file of the cgroup; whether it has one and takes that.
fn write(cgroup: BorrowedFd<'_>, name: &CStr, value: &str) -> io::Result<bool> {
    let Some(mut file) = open(cgroup, name, OFlag::O_WRONLY)?.map(File::from) else {
        return Ok(false);
    };
    match file.write_all(value.as_bytes()) {
        Ok(()) => Ok(true),
        // As for its members: a threaded cgroup cannot be killed at once.
        Err(error) if is_gone(&error) || error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// One cgroup on the way from the top to where [`walk`] is.
struct Level {
    name: CString,
    /// Device and inode.
    identity: (u64, u64),
    /// Names of those beneath that were not visited yet.
    children: Vec<CString>,
}

impl Level {
    fn of(cgroup: BorrowedFd<'_>, name: CString) -> io::Result<Self> {
        Ok(Self {
            name,
            identity: identity(cgroup)?,
            children: children(cgroup)?,
        })
    }
}

/// Visits `top` and all beneath it: `enter` gets each cgroup, and after all beneath it `leave` gets the one above it
/// with its name, but not for `top`. Cgroups that vanish meanwhile are left out.
fn walk(
    top: &Path,
    enter: &mut dyn FnMut(BorrowedFd<'_>) -> io::Result<()>,
    leave: &mut dyn FnMut(BorrowedFd<'_>, &CStr) -> io::Result<()>,
) -> io::Result<()> {
    let Some(mut current) = open_top(top)? else {
        return Ok(());
    };
    enter(current.as_fd())?;
    let mut levels = vec![Level::of(current.as_fd(), CString::default())?];
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.children.pop() {
            let Some(child) = open(current.as_fd(), &name, OFlag::O_DIRECTORY)? else {
                continue;
            };
            enter(child.as_fd())?;
            levels.push(Level::of(child.as_fd(), name)?);
            current = child;
            continue;
        }
        let name = std::mem::take(&mut level.name);
        levels.pop();
        let Some(level) = levels.last() else { break };
        let up = how(OFlag::O_DIRECTORY, ResolveFlag::empty());
        let Some(above) = found(openat2(&current, c"..", up))? else {
            return Ok(());
        };
        if identity(above.as_fd())? != level.identity {
            return Err(io::Error::other("it was moved while it was looked at"));
        }
        leave(above.as_fd(), &name)?;
        current = above;
    }
    Ok(())
}

fn children(cgroup: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    let Some(cgroup) = open(cgroup, c".", OFlag::O_DIRECTORY)? else {
        return Ok(names);
    };
    for entry in Dir::from_fd(cgroup)?.iter() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(Errno::ENOENT | Errno::ENODEV) => break,
            Err(errno) => return Err(errno.into()),
        };
        let name = entry.file_name();
        if entry.file_type() == Some(Type::Directory) && name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn identity(cgroup: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    let stat = fstat(cgroup)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// `None`: it is not there.
fn open_top(path: &Path) -> io::Result<Option<OwnedFd>> {
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    found(openat2(AT_FDCWD, path, how))
}

/// A file or directory right beneath. `None`: it is not there.
fn open(cgroup: BorrowedFd<'_>, name: &CStr, flags: OFlag) -> io::Result<Option<OwnedFd>> {
    found(openat2(
        cgroup,
        name,
        how(flags, ResolveFlag::RESOLVE_BENEATH),
    ))
}

fn how(flags: OFlag, resolve: ResolveFlag) -> OpenHow {
    let within = ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV;
    OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(resolve | within)
}

fn found(opened: nix::Result<OwnedFd>) -> io::Result<Option<OwnedFd>> {
    match opened {
        Ok(opened) => Ok(Some(opened)),
        Err(Errno::ENOENT | Errno::ENODEV) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

/// A cgroup with a process or another cgroup in it; a directory that is no cgroup says the second.
fn is_busy(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::ENOTEMPTY))
}

fn access(act: &'static str, path: &Path) -> impl Fn(io::Error) -> TreeError {
    move |source| TreeError::Access {
        act,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
