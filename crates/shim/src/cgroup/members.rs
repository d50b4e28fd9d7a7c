//! The processes in a cgroup: lists, signals and kills them.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::error::{CgroupError, is_gone};
use super::location::{Cgroup, Memberships};
use crate::sys::{pidfd_open, pidfd_send_signal};

/// How many processes are open at a time whose membership only a list of all members tells.
const BATCH: usize = 64;

/// How often the members are killed before this fails.
const KILL_ROUNDS: u32 = 100;
const KILL_PAUSE: Duration = Duration::from_millis(10);

impl Cgroup {
    /// The directory that lists the members.
    fn members_directory(&self) -> Option<&Path> {
        match self {
            Cgroup::V2(path) => Some(path),
            // Every hierarchy has all members. Where containers run, the first four exist.
            Cgroup::V1(controllers) => ["devices", "pids", "memory", "cpuacct"]
                .iter()
                .find_map(|name| controllers.get(*name))
                .or_else(|| controllers.values().next())
                .map(PathBuf::as_path),
        }
    }

    /// All processes in it and below it, in ascending order.
    pub(crate) fn pids(&self) -> Result<Vec<i32>, CgroupError> {
        let mut pids = Vec::new();
        if let Some(path) = self.members_directory() {
            collect_pids(path, &mut pids)?;
        }
        pids.sort_unstable();
        Ok(pids)
    }

    /// Sends a signal to every process. Returns how many got it.
    pub(crate) fn signal_all(&self, signal: i32) -> Result<usize, CgroupError> {
        let Some(directory) = self.members_directory() else {
            return Ok(0);
        };
        let memberships = Memberships::of_mounted()?;
        signal_members(
            &self.pids()?,
            &|pid| memberships.is_surely_in(pid, directory),
            &mut || self.pids(),
            signal,
        )
    }

    /// Kills until no process is left: one may fork while the members are listed.
    pub(crate) fn kill_all(&self) -> Result<(), CgroupError> {
        if let Cgroup::V2(path) = self {
            // Linux 5.14 kills all members at once. Older kernels have no such file.
            drop(fs::write(path.join("cgroup.kill"), "1"));
        }
        for _ in 0..KILL_ROUNDS {
            let signalled = self.signal_all(libc::SIGKILL)?;
            // On version 1 a frozen process ends when it is thawed.
            self.thaw()?;
            if signalled == 0 {
                return Ok(());
            }
            thread::sleep(KILL_PAUSE);
        }
        // A zombie is a member of a v1 cgroup until it is reaped. Only living processes count here.
        let pids: Vec<i32> = self.pids()?.into_iter().filter(|&pid| lives(pid)).collect();
        match self.members_directory() {
            Some(path) if !pids.is_empty() => Err(CgroupError::Survivors {
                path: path.to_owned(),
                pids,
            }),
            _ => Ok(()),
        }
    }
}

/// Adds the processes of a cgroup and of all beneath it. One directory is open at a time, because a container may nest
/// cgroups deeper than the shim may open files.
fn collect_pids(top: &Path, pids: &mut Vec<i32>) -> Result<(), CgroupError> {
    let mut left = vec![top.to_owned()];
    while let Some(directory) = left.pop() {
        let file = directory.join("cgroup.procs");
        match fs::read_to_string(&file) {
            // A process outside this pid namespace has the number 0, which kill(2) takes for our group.
            Ok(text) => pids.extend(
                text.lines()
                    .filter_map(|line| line.parse::<i32>().ok())
                    .filter(|&pid| pid > 0),
            ),
            // The cgroup is removed, so it has no members.
            Err(error) if is_gone(&error) => continue,
            // The cgroup is threaded. Its members are listed above it.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
            Err(source) => return Err(CgroupError::Read { path: file, source }),
        }
        match cgroups_in(&directory) {
            Ok(inside) => left.extend(inside),
            Err(error) if is_gone(&error) => {}
            Err(source) => {
                let path = directory;
                return Err(CgroupError::Read { path, source });
            }
        }
    }
    Ok(())
}

/// The cgroups that are in this one.
pub(super) fn cgroups_in(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut inside = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            inside.push(entry.path());
        }
    }
    Ok(inside)
}

/// Sends a signal to those of `pids` that are still members. `is_surely_member` looks at one process, and `members` lists
/// all members in ascending order.
///
/// The kernel may give the number of a member that has ended to any process of the host. So each
/// process is opened before its membership is looked at: while that process lives, no other has its
/// number. A list takes as long as there are members, so it is made only for what one look does not tell.
fn signal_members(
    pids: &[i32],
    is_surely_member: &dyn Fn(i32) -> bool,
    members: &mut dyn FnMut() -> Result<Vec<i32>, CgroupError>,
    signal: i32,
) -> Result<usize, CgroupError> {
    let mut signalled = 0;
    let mut others = Vec::new();
    for &pid in pids {
        let Some(process) = open(pid)? else {
            continue;
        };
        if is_surely_member(pid) {
            send(pid, &process, signal)?;
            signalled += 1;
            continue;
        }
        others.push((pid, process));
        if others.len() == BATCH {
            signalled += signal_listed(&mut others, &members()?, signal)?;
        }
    }
    if !others.is_empty() {
        signalled += signal_listed(&mut others, &members()?, signal)?;
    }
    Ok(signalled)
}

/// Sends a signal to those of the open `processes` that `members` has, and closes all. Returns how many got it.
fn signal_listed(
    processes: &mut Vec<(i32, OwnedFd)>,
    members: &[i32],
    signal: i32,
) -> Result<usize, CgroupError> {
    let mut signalled = 0;
    for (pid, process) in processes.drain(..) {
        if members.binary_search(&pid).is_ok() {
            send(pid, &process, signal)?;
            signalled += 1;
        }
    }
    Ok(signalled)
}

fn send(pid: i32, process: &OwnedFd, signal: i32) -> Result<(), CgroupError> {
    match pidfd_send_signal(process.as_fd(), signal) {
        // It ended after its membership was looked at.
        Err(source) if source.raw_os_error() != Some(libc::ESRCH) => Err(CgroupError::Signal {
            signal,
            pid,
            source,
        }),
        _ => Ok(()),
    }
}

/// Opens the process that has this number now, if there is one.
fn open(pid: i32) -> Result<Option<OwnedFd>, CgroupError> {
    match pidfd_open(pid) {
        Ok(process) => Ok(Some(process)),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(source) => Err(CgroupError::Open { pid, source }),
    }
}

fn lives(pid: i32) -> bool {
    // The state follows the name in parentheses, which the process sets to any bytes.
    let Ok(stat) = fs::read(format!("/proc/{pid}/stat")) else {
        return false;
    };
    let end = stat.windows(2).rposition(|bytes| bytes == b") ");
    end.is_some_and(|end| !matches!(stat.get(end + 2), None | Some(b'Z' | b'X')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_outside_the_pid_namespace_are_left_out() {
        let directory = tempfile::tempdir().expect("directory");
        fs::create_dir(directory.path().join("inside")).expect("create");
        fs::write(directory.path().join("cgroup.procs"), "0\n7\n").expect("write");
        fs::write(directory.path().join("inside/cgroup.procs"), "0\n5\n").expect("write");
        let cgroup = Cgroup::V2(directory.path().to_owned());
        assert_eq!(cgroup.pids().expect("read"), [5, 7]);
    }

    /// Guards against a process that hides by a name that is no text, or looks like a state.
    #[test]
    fn process_lives_whatever_its_name() {
        let _alone = crate::reaper::tests::ALONE.lock();
        for name in [r"\377", ") Z 1 (", ") X"] {
            let named = format!("printf '{name}' > /proc/self/comm && echo named && read end");
            let mut shell = std::process::Command::new("sh")
                .args(["-c", &named])
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .expect("spawn");
            let mut line = String::new();
            let mut output = std::io::BufReader::new(shell.stdout.take().expect("a pipe"));
            std::io::BufRead::read_line(&mut output, &mut line).expect("read");
            assert_eq!(line, "named\n");
            let pid = shell.id().cast_signed();
            assert!(lives(pid), "{name}");
            shell.kill().expect("kill");
            // Not reaped yet.
            let exited = nix::sys::wait::WaitPidFlag::WEXITED;
            let unreaped = exited | nix::sys::wait::WaitPidFlag::WNOWAIT;
            let id = nix::sys::wait::Id::Pid(nix::unistd::Pid::from_raw(pid));
            nix::sys::wait::waitid(id, unreaped).expect("wait");
            assert!(!lives(pid), "{name}");
            shell.wait().expect("reap");
            assert!(!lives(pid), "{name}");
        }
    }

    /// Each of these directories were open at once, if the deepest were reached by a call for each above it.
    #[test]
    fn members_of_cgroups_nested_deeper_than_files_may_be_open_are_found() {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};

        // A path has at most 4,096 bytes, two of them for each cgroup.
        const DEPTH: i32 = 1900;
        let directory = tempfile::tempdir().expect("directory");
        let mut path = directory.path().to_owned();
        path.extend((0..DEPTH).map(|_| "c"));
        fs::create_dir_all(&path).expect("create");
        for (path, pid) in path.ancestors().zip(1..=DEPTH + 1) {
            fs::write(path.join("cgroup.procs"), format!("{pid}\n")).expect("write");
        }
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("the limit of open files");
        let limit =
            |soft| setrlimit(Resource::RLIMIT_NOFILE, soft, hard).expect("limit open files");
        limit(soft.min(1024));
        let found = Cgroup::V2(directory.path().to_owned()).pids();
        limit(soft);
        assert_eq!(found.expect("read"), Vec::from_iter(1..=DEPTH + 1));
    }

    /// Its number may be another process's by now.
    #[test]
    fn process_that_is_no_member_any_more_gets_no_signal() {
        let _alone = crate::reaper::tests::ALONE.lock();
        let (input, _open) = std::io::pipe().expect("pipe");
        let cat = std::process::Command::new("cat").stdin(input).spawn();
        let mut cat = cat.expect("spawn");
        let pid = cat.id().cast_signed();
        let signal = |members: &[i32], signal| {
            signal_members(&[pid], &|_| false, &mut || Ok(members.to_vec()), signal)
                .expect("signal")
        };
        assert_eq!(signal(&[], libc::SIGKILL), 0);
        assert_eq!(signal(&[pid - 1, pid], libc::SIGTERM), 1);
        let status = cat.wait().expect("wait");
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&status),
            Some(libc::SIGTERM)
        );
        assert_eq!(signal(&[pid], libc::SIGKILL), 0, "it has ended");
    }

    /// A container may have hundreds of thousands.
    #[test]
    fn members_are_not_listed_again_for_each_few_of_them() {
        let own = std::process::id().cast_signed();
        // The signal 0 only asks whether there is a process.
        let signal = |sure: bool| {
            let mut lists = 0;
            let mut list = || {
                lists += 1;
                Ok(vec![own])
            };
            let signalled = signal_members(&[own; 1000], &|_| sure, &mut list, 0);
            (signalled.expect("signal"), lists)
        };
        assert_eq!(signal(true), (1000, 0));
        assert_eq!(signal(false), (1000, 1000_usize.div_ceil(BATCH)));
    }
}
