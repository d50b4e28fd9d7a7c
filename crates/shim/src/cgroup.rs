//! The cgroup of a container: where it is, who is in it, and how to end all of them.
//!
//! Called by `launch`, `serve` and `task`; `stats` reads its files. Found by asking the kernel where the
//! init process is, so that no driver and no form of `cgroupsPath` needs to be known here.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use log::debug;
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

const MOUNTINFO: &str = "/proc/self/mountinfo";
const OWN_CGROUP: &str = "/proc/self/cgroup";
/// Stack of a thread that writes one word to one file.
const SMALL_STACK: usize = 64 << 10;

/// How often the members are killed before the kernel is said to hang.
const KILL_ROUNDS: u32 = 100;
const KILL_PAUSE: Duration = Duration::from_millis(10);

#[derive(Debug, thiserror::Error)]
pub(crate) enum CgroupError {
    #[error("read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("write {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("send signal {signal} to process {pid}: {errno}")]
    Signal { signal: i32, pid: i32, errno: Errno },
    #[error("processes {pids:?} in {path} do not end after SIGKILL")]
    Survivors { path: PathBuf, pids: Vec<i32> },
}

/// A container's cgroup, never the shim's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cgroup {
    /// One directory for each controller (`memory`, `cpuacct`, … and `name=…`).
    V1(BTreeMap<String, PathBuf>),
    /// The one directory.
    V2(PathBuf),
}

impl Cgroup {
    /// Where the kernel says the process is. `None` if it has no cgroup of its own but shares
    /// ours: then it must not be treated as a whole.
    pub(crate) fn of(pid: i32) -> Result<Option<Self>, CgroupError> {
        let theirs = read(&PathBuf::from(format!("/proc/{pid}/cgroup")))?;
        let ours = read(Path::new(OWN_CGROUP))?;
        let mounts = read(Path::new(MOUNTINFO))?;
        Ok(locate(&theirs, &ours, &Mounts::parse(&mounts)))
    }

    /// The directory in which membership is looked up.
    fn members(&self) -> Option<&Path> {
        match self {
            Cgroup::V2(path) => Some(path),
            // Any hierarchy holds all members; the first four always exist where containers run.
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
        if let Some(path) = self.members() {
            collect(path, &mut pids)?;
        }
        pids.sort_unstable();
        Ok(pids)
    }

    /// Sends a signal to every process; how many there were.
    pub(crate) fn signal_all(&self, signal: i32) -> Result<usize, CgroupError> {
        let pids = self.pids()?;
        for &pid in &pids {
            // nix knows no real-time signals, but kill(2) does.
            let result = match nix::sys::signal::Signal::try_from(signal) {
                Ok(known) => kill(Pid::from_raw(pid), known),
                Err(_) if signal == 0 => kill(Pid::from_raw(pid), None),
                Err(_) => crate::sys::pidfd_open(pid)
                    .and_then(|fd| {
                        crate::sys::pidfd_send_signal(std::os::fd::AsFd::as_fd(&fd), signal)
                    })
                    .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))),
            };
            match result {
                // It ended between the list and now.
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => return Err(CgroupError::Signal { signal, pid, errno }),
            }
        }
        Ok(pids.len())
    }

    /// Kills until nobody is left: a process may fork while it is being looked at.
    pub(crate) fn kill_all(&self) -> Result<(), CgroupError> {
        if let Cgroup::V2(path) = self {
            // Linux 5.14 does it in one go; older kernels have no such file.
            drop(fs::write(path.join("cgroup.kill"), "1"));
        }
        for _ in 0..KILL_ROUNDS {
            if self.signal_all(libc::SIGKILL)? == 0 {
                return Ok(());
            }
            thread::sleep(KILL_PAUSE);
        }
        // Zombies count as members of a v1 cgroup until they are reaped: only the living matter.
        let pids: Vec<i32> = self.pids()?.into_iter().filter(|&pid| lives(pid)).collect();
        match self.members() {
            Some(path) if !pids.is_empty() => Err(CgroupError::Survivors {
                path: path.to_owned(),
                pids,
            }),
            _ => Ok(()),
        }
    }

    /// Where the kernel counts what its OOM killer does in here.
    pub(crate) fn oom_file(&self) -> Option<PathBuf> {
        match self {
            Cgroup::V2(path) => Some(path.join("memory.events")),
            Cgroup::V1(controllers) => Some(controllers.get("memory")?.join("memory.oom_control")),
        }
    }

    /// How often the kernel's OOM killer struck in here.
    pub(crate) fn oom_kills(&self) -> u64 {
        self.oom_file()
            .and_then(|file| fs::read_to_string(file).ok())
            .and_then(|text| flat_value(&text, "oom_kill"))
            .unwrap_or(0)
    }
}

/// Tells the kernel that a process is about to be moved to another cgroup. Returns at once.
///
/// The first such move after a pause waits for a grace period of RCU, 6 to 20 ms in which nothing
/// happens (`cgroup_threadgroup_rwsem`, kernel/cgroup/cgroup.c); those that follow closely take
/// microseconds. So that this time passes beside the work before the move instead of in the middle
/// of a create, this process is "moved" to where it is. Decision 8 has the measurement.
pub(crate) fn expect_move() {
    let waiting = thread::Builder::new()
        .name("expect-move".to_owned())
        .stack_size(SMALL_STACK)
        .spawn(|| {
            if let Err(error) = move_to_own_place() {
                // Nothing but time is lost.
                debug!(error:%; "cannot prepare the kernel for a change of cgroup");
            }
        });
    if let Err(error) = waiting {
        debug!(error:%; "cannot prepare the kernel for a change of cgroup");
    }
}

fn move_to_own_place() -> Result<(), CgroupError> {
    let ours = read(Path::new(OWN_CGROUP))?;
    let mounts = read(Path::new(MOUNTINFO))?;
    let Some(directory) = any_place(&ours, &Mounts::parse(&mounts)) else {
        return Ok(());
    };
    let path = directory.join("cgroup.procs");
    // 0 stands for whoever writes.
    fs::write(&path, "0").map_err(|source| CgroupError::Write { path, source })
}

/// The directory of a process in the first hierarchy that is mounted: the lock is one for all.
fn any_place(memberships: &str, mounts: &Mounts) -> Option<PathBuf> {
    memberships.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (names, path) = (fields.next()?, fields.next()?);
        let mounted = match names.split(',').next()? {
            "" => mounts.v2.as_ref(),
            name => mounts.v1.get(name),
        };
        mounted?.path(path)
    })
}

/// The value of a key in a file of `key value` lines.
pub(crate) fn flat_value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| value.trim().parse().ok())?
    })
}

fn read(path: &Path) -> Result<String, CgroupError> {
    fs::read_to_string(path).map_err(|source| CgroupError::Read {
        path: path.to_owned(),
        source,
    })
}

fn collect(dir: &Path, pids: &mut Vec<i32>) -> Result<(), CgroupError> {
    let gone = |error: &io::Error| {
        error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
    };
    let file = dir.join("cgroup.procs");
    match fs::read_to_string(&file) {
        Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
        // Removed: nobody is in there.
        Err(error) if gone(&error) => return Ok(()),
        // A threaded cgroup says so; its members are listed above it.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
        Err(source) => return Err(CgroupError::Read { path: file, source }),
    }
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), pids)?;
        }
    }
    Ok(())
}

fn lives(pid: i32) -> bool {
    // The state follows the name in parentheses, which may hold anything.
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| {
            stat.rsplit_once(") ")
                .map(|(_, rest)| !rest.starts_with(['Z', 'X']))
        })
        .unwrap_or(false)
}

/// Where cgroup hierarchies are mounted: by controller, and the unified one.
#[derive(Debug, Default, PartialEq, Eq)]
struct Mounts {
    v1: BTreeMap<String, Mounted>,
    v2: Option<Mounted>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mounted {
    /// Directory of the hierarchy that is mounted.
    root: PathBuf,
    point: PathBuf,
}

impl Mounts {
    /// proc(5): `36 35 0:30 / /sys/fs/cgroup/memory rw,… [optional …] - cgroup cgroup rw,memory`
    fn parse(mountinfo: &str) -> Self {
        let mut mounts = Mounts::default();
        for line in mountinfo.lines() {
            let Some((front, back)) = line.split_once(" - ") else {
                continue;
            };
            let mut front = front.split(' ').skip(3);
            let (Some(root), Some(point)) = (front.next(), front.next()) else {
                continue;
            };
            let mounted = Mounted {
                root: unescape(root).into(),
                point: unescape(point).into(),
            };
            let mut back = back.split(' ');
            match (back.next(), back.nth(1)) {
                (Some("cgroup2"), _) => {
                    mounts.v2.get_or_insert(mounted);
                }
                (Some("cgroup"), Some(options)) => {
                    for option in options.split(',').filter(|o| !matches!(*o, "rw" | "ro")) {
                        mounts
                            .v1
                            .entry(option.to_owned())
                            .or_insert_with(|| mounted.clone());
                    }
                }
                _ => {}
            }
        }
        mounts
    }
}

impl Mounted {
    fn path(&self, cgroup: &str) -> Option<PathBuf> {
        let inside = Path::new(cgroup).strip_prefix(&self.root).ok()?;
        Some(self.point.join(inside))
    }
}

/// `/proc/PID/cgroup` of a process and of ourselves, and where all that is mounted.
fn locate(theirs: &str, ours: &str, mounts: &Mounts) -> Option<Cgroup> {
    let ours: Vec<&str> = ours.lines().collect();
    let mut unified = None;
    let mut controllers = BTreeMap::new();
    for line in theirs.lines().filter(|line| !ours.contains(line)) {
        // `4:cpu,cpuacct:/path`, `1:name=systemd:/path`, `0::/path`
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(names), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        if path == "/" {
            continue;
        }
        if names.is_empty() {
            unified = mounts.v2.as_ref().and_then(|mounted| mounted.path(path));
            continue;
        }
        for name in names.split(',') {
            if let Some(path) = mounts.v1.get(name).and_then(|mounted| mounted.path(path)) {
                controllers.insert(name.to_owned(), path);
            }
        }
    }
    if controllers.is_empty() {
        unified.map(Cgroup::V2)
    } else {
        Some(Cgroup::V1(controllers))
    }
}

/// proc(5) writes space, tab, newline and backslash as octal.
fn unescape(text: &str) -> String {
    let mut plain = text.to_owned();
    for (escaped, character) in [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ] {
        plain = plain.replace(escaped, character);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "\
30 24 0:26 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw
31 24 0:27 / /sys/fs/cgroup/memory rw,nosuid shared:10 - cgroup cgroup rw,memory
32 24 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:11 - cgroup cgroup rw,cpu,cpuacct
33 24 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
";
    const V2: &str =
        "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn v1_has_a_directory_for_each_controller() {
        let theirs = "3:memory:/k8s/a\n2:cpu,cpuacct:/k8s/a\n1:name=systemd:/k8s/a\n0::/\n";
        let ours = "3:memory:/\n2:cpu,cpuacct:/\n1:name=systemd:/\n0::/\n";
        let Some(Cgroup::V1(found)) = locate(theirs, ours, &Mounts::parse(V1)) else {
            panic!("v1 expected");
        };
        assert_eq!(found["memory"], Path::new("/sys/fs/cgroup/memory/k8s/a"));
        assert_eq!(
            found["cpuacct"],
            Path::new("/sys/fs/cgroup/cpu,cpuacct/k8s/a")
        );
        assert_eq!(
            found["name=systemd"],
            Path::new("/sys/fs/cgroup/systemd/k8s/a")
        );
    }

    #[test]
    fn v2_has_one() {
        let found = locate(
            "0::/k8s.slice/a.scope\n",
            "0::/system.slice\n",
            &Mounts::parse(V2),
        );
        assert_eq!(
            found,
            Some(Cgroup::V2("/sys/fs/cgroup/k8s.slice/a.scope".into()))
        );
    }

    /// To kill "all of the container" there would kill the shim.
    #[test]
    fn a_cgroup_that_is_ours_is_not_the_containers() {
        let mounts = Mounts::parse(V1);
        let ours = "3:memory:/shims\n2:cpu,cpuacct:/shims\n0::/\n";
        assert_eq!(locate(ours, ours, &mounts), None);
        assert_eq!(locate("0::/\n", "0::/x\n", &Mounts::parse(V2)), None);
        assert_eq!(locate("0::/x\n", "0::/x\n", &Mounts::parse(V2)), None);
    }

    #[test]
    fn a_mount_of_a_part_of_the_hierarchy() {
        let mounts = Mounts::parse("30 24 0:26 /docker/x /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        assert_eq!(
            locate("0::/docker/x/pod\n", "0::/docker/x\n", &mounts),
            Some(Cgroup::V2("/sys/fs/cgroup/pod".into()))
        );
        assert_eq!(locate("0::/elsewhere\n", "0::/docker/x\n", &mounts), None);
    }

    #[test]
    fn any_hierarchy_does_to_expect_a_move() {
        let ours = "9:rdma:/\n3:memory:/shims\n0::/\n";
        assert_eq!(
            any_place(ours, &Mounts::parse(V1)),
            Some("/sys/fs/cgroup/memory/shims".into())
        );
        assert_eq!(
            any_place("0::/system.slice\n", &Mounts::parse(V2)),
            Some("/sys/fs/cgroup/system.slice".into())
        );
        assert_eq!(any_place(ours, &Mounts::default()), None);
    }

    #[test]
    fn flat_files() {
        assert_eq!(flat_value("oom 1\noom_kill 3\n", "oom_kill"), Some(3));
        assert_eq!(flat_value("oom 1\n", "oom_kill"), None);
    }
}
