//! What a run may not leave behind: processes, mounts, cgroups, sockets, files. Records before,
//! compares after, and takes away by force what a failed or interrupted run left.
//!
//! Things of the run are told from those of the machine by the run's name, which is in the path of
//! everything that it makes and in the environment of what it starts. A process that has neither is told
//! by its executable: the runner has an empty environment, and is at first in no cgroup of the run.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::run::Run;

/// Folders outside the run's own in which containerd, the shims or runtimes make something.
const WATCHED: [&str; 10] = [
    "/run/containerd",
    "/run/containerd/fifo",
    "/run/containerd/runc",
    "/run/docker",
    "/run/wasm-interp",
    "/etc/docker",
    "/var/lib/docker",
    "/var/lib/wasm-interp",
    "/tmp",
    "/dev/shm",
];

/// How long what is only slow to go is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the hierarchies of cgroups are.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Paths at which a process listens, in the network namespace of this process (`__SO_ACCEPTON` of proc(5)).
fn listening() -> BTreeSet<PathBuf> {
    const FLAGS: usize = 3;
    const PATH: usize = 7;
    let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let lines = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines
        .filter(|fields| fields.get(FLAGS) == Some(&"00010000"))
        .filter_map(|fields| fields.get(PATH).map(PathBuf::from))
        .collect()
}

/// Where shims listen.
const SOCKETS: &str = "/run/containerd/s";

/// Where any Docker looks for plugins.
const DOCKERS_PLUGINS: &str = "/run/docker/plugins";

/// What there was before.
#[derive(Clone)]
pub struct Leftovers {
    run: String,
    files: BTreeSet<PathBuf>,
    sockets: BTreeSet<PathBuf>,
    /// What of the run was there: nothing before its begin.
    known: Vec<String>,
    scope: Scope,
}

/// Which files a look is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    All,
    /// Those with the run's name in their path.
    Named,
}

impl Leftovers {
    /// Takes stock before anything is started.
    pub fn record(run: &str) -> Self {
        Self {
            run: run.to_owned(),
            files: watched(run),
            sockets: children(SOCKETS),
            known: Vec::new(),
            scope: Scope::All,
        }
    }

    /// Takes stock in the middle of a run, when nothing else of it is under way. Of a process that is there, another
    /// one with the same command line may take the place: a daemon may start again. What does not bear the run's name is
    /// left to the look at the end: another run may be making it.
    pub fn during(run: &str) -> Self {
        let mut stock = Self::record(run);
        stock.known = stock.look();
        stock.scope = Scope::Named;
        stock
    }

    /// What is there that was not, in words. What is only slow to go is waited for.
    pub fn what_is_new(&self) -> Vec<String> {
        let began = Instant::now();
        loop {
            let mut left = self.look();
            for known in &self.known {
                let same = |line: &String| without_pid(line) == without_pid(known);
                if let Some(at) = left.iter().position(same) {
                    left.remove(at);
                }
            }
            if left.is_empty() || began.elapsed() > PATIENCE {
                return left;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn look(&self) -> Vec<String> {
        let files = watched(&self.run);
        processes(&self.run)
            .into_iter()
            .map(|(pid, what)| format!("process {pid}: {what}"))
            .chain(
                mounts(&self.run)
                    .into_iter()
                    .map(|at| format!("mount {}", at.display())),
            )
            .chain(
                cgroups(&self.run)
                    .into_iter()
                    .filter(|at| {
                        at.file_name().is_none_or(|name| {
                            name != self.run.as_str() && name != slice(&self.run).as_str()
                        })
                    })
                    .map(|at| format!("cgroup {}", at.display())),
            )
            .chain(
                self.dead_sockets()
                    .into_iter()
                    .map(|socket| format!("socket {}", socket.display())),
            )
            .chain(
                files
                    .difference(&self.files)
                    .filter(|file| {
                        self.scope == Scope::All || file.to_string_lossy().contains(&self.run)
                    })
                    .map(|file| format!("file {}", file.display())),
            )
            .collect()
    }

    /// New sockets on which no process listens, not even some seconds later: the shim of another run has a moment
    /// between bind and listen. A socket on which a process of this run listens is reported as that process.
    fn dead_sockets(&self) -> Vec<PathBuf> {
        const MOMENT: Duration = Duration::from_secs(3);
        let new = children(SOCKETS);
        let mut dead: Vec<_> = new.difference(&self.sockets).collect();
        // Not by a connection: the first one means to a shim that containerd knows of it.
        let drop_living = |sockets: &mut Vec<&PathBuf>| {
            let listening = listening();
            sockets.retain(|socket| !listening.contains(*socket));
        };
        drop_living(&mut dead);
        if !dead.is_empty() {
            thread::sleep(MOMENT);
            drop_living(&mut dead);
        }
        dead.into_iter().cloned().collect()
    }
}

/// A line of [`Leftovers::look`], for a process its command line alone.
fn without_pid(line: &str) -> &str {
    let command = line
        .strip_prefix("process ")
        .and_then(|rest| rest.split_once(": "));
    command.map_or(line, |(_, command)| command)
}

/// How much of a run there is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amounts {
    /// Processes other than this one.
    pub processes: usize,
    /// In the mount namespace of this process.
    pub mounts: usize,
    /// In all hierarchies together.
    pub cgroups: usize,
    /// Of shims, also of other runs.
    pub sockets: usize,
}

impl Amounts {
    /// Counts what is there of the run of this name.
    pub fn of(run: &str) -> Self {
        Self {
            processes: processes(run).len(),
            mounts: mounts(run).len(),
            cgroups: cgroups(run).len(),
            sockets: children(SOCKETS).len(),
        }
    }
}

/// Removes the cgroups of a run's nodes, which outlive the processes in them. One that still holds a process stays,
/// for [`Leftovers::what_is_new`] to report.
pub fn remove_cgroups(run: &Run) {
    fn remove(folder: &Path) {
        for child in children(folder) {
            if child.is_dir() {
                remove(&child);
            }
        }
        let _ = fs::remove_dir(folder);
    }
    for hierarchy in children(CGROUPS) {
        remove(&hierarchy.join(run.name()));
    }
}

/// Ends and removes everything of the run, in whatever state it is.
pub fn sweep(run: &Run, before: &Leftovers) {
    let (run, folder) = (run.name(), run.folder());
    // New ones may be made while the old ones are ended.
    for _ in 0..50 {
        let living = processes(run);
        if living.is_empty() {
            break;
        }
        for (pid, _) in living {
            // It may have ended by itself: then all is well.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        thread::sleep(Duration::from_millis(100));
    }
    for _ in 0..10 {
        let mounted = mounts(run);
        if mounted.is_empty() {
            break;
        }
        for at in mounted.iter().rev() {
            if let Err(error) = umount2(at, MntFlags::MNT_DETACH) {
                eprintln!("cannot unmount {}: {error}", at.display());
            }
        }
    }
    for socket in before.dead_sockets() {
        report("remove", &socket, fs::remove_file(&socket));
    }
    // The longest paths are the innermost.
    for cgroup in cgroups(run).iter().rev() {
        report("remove the cgroup", cgroup, fs::remove_dir(cgroup));
    }
    let runc = Path::new("/run/containerd/runc").join(run);
    for folder in [folder, runc.as_path()] {
        if folder.exists() {
            report("remove", folder, fs::remove_dir_all(folder));
        }
    }
}

fn report(act: &str, path: &Path, done: std::io::Result<()>) {
    if let Err(error) = done {
        eprintln!("cannot {act} {}: {error}", path.display());
    }
}

/// Processes of the run, other than this one, with their command lines.
fn processes(run: &str) -> Vec<(i32, String)> {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let named =
        |path: PathBuf| fs::read_link(path).is_ok_and(|to| to.to_string_lossy().contains(run));
    let says = |path: PathBuf| {
        fs::read(path).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(run))
    };
    // A person's shell has what `make cluster` prints, and with it all that is started there.
    let of_a_person =
        |entry: &[u8]| entry.starts_with(b"PATH=") || entry.starts_with(b"KUBECONFIG=");
    let environment = |path: PathBuf| {
        fs::read(path).is_ok_and(|bytes| {
            let mut entries = bytes.split(|&byte| byte == 0);
            entries.any(|entry| !of_a_person(entry) && String::from_utf8_lossy(entry).contains(run))
        })
    };
    let executables = executables(run);
    let runs_one =
        |path: PathBuf| identity(&path).is_some_and(|identity| executables.contains(&identity));
    children("/proc")
        .into_iter()
        .filter_map(|folder| {
            let pid = folder.file_name()?.to_str()?.parse().ok()?;
            // A zombie waits only for its parent to look.
            let state = fs::read_to_string(folder.join("stat")).ok()?;
            let zombie = state
                .rsplit(')')
                .next()
                .is_some_and(|rest| rest.starts_with(" Z"));
            let of_the_run = pid != own
                && !zombie
                && (named(folder.join("exe"))
                    || runs_one(folder.join("exe"))
                    || named(folder.join("cwd"))
                    || environment(folder.join("environ"))
                    || says(folder.join("cmdline"))
                    || says(folder.join("cgroup")));
            of_the_run.then(|| {
                let line = fs::read(folder.join("cmdline")).unwrap_or_default();
                (pid, String::from_utf8_lossy(&line).replace('\0', " "))
            })
        })
        .collect()
}

/// The executables of a run that has put its own into the folder `bin`.
fn executables(run: &str) -> BTreeSet<(u64, u64)> {
    let folder = env::temp_dir().join(run).join("bin");
    children(folder)
        .iter()
        .filter_map(|file| identity(file))
        .collect()
}

/// Device and number of a file.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

fn mounts(run: &str) -> Vec<PathBuf> {
    fs::read_to_string("/proc/self/mountinfo")
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|path| path.contains(run))
        .map(PathBuf::from)
        .collect()
}

/// A slice of the run's own, for containers whose cgroup a driver of systemd's form names. Without
/// dashes: each of them would put it beneath another slice.
pub fn slice(run: &str) -> String {
    format!("{}.slice", run.replace('-', "_"))
}

/// Cgroups of the run. The one that has the run's own name is containerd's namespace, and its slice is
/// no container's either: every runtime leaves these, and so they are removed here.
fn cgroups(run: &str) -> BTreeSet<PathBuf> {
    fn search(folder: &Path, names: &[&str], found: &mut BTreeSet<PathBuf>) {
        for child in children(folder)
            .into_iter()
            .filter(|child| child.is_dir() && !child.is_symlink())
        {
            let path = child.to_string_lossy();
            if names.iter().any(|name| path.contains(name)) {
                found.insert(child.clone());
            }
            search(&child, names, found);
        }
    }
    let mut found = BTreeSet::new();
    search(Path::new(CGROUPS), &[run, &slice(run)], &mut found);
    found
}

fn watched(run: &str) -> BTreeSet<PathBuf> {
    let mut files: BTreeSet<PathBuf> = WATCHED.iter().flat_map(children).collect();
    // Other programs work in /tmp too: only what bears our names is ours.
    files.retain(|file| {
        !file.starts_with("/tmp") && !file.starts_with("/dev/shm")
            || file.to_string_lossy().contains("wasm-interp")
                && !file.to_string_lossy().contains(run)
    });
    // runc's root of a namespace stays, as its cgroup does; what is inside it may not.
    let namespace = Path::new("/run/containerd/runc").join(run);
    files.remove(&namespace);
    files.extend(children(namespace));
    // Folders that any containerd or Docker makes for itself.
    files.retain(|file| {
        let made_by_daemons = [SOCKETS, DOCKERS_PLUGINS];
        let is = |folder: &&str| Path::new(*folder) == file;
        !WATCHED.iter().any(&is) && !made_by_daemons.iter().any(is)
    });
    files
}

fn children(folder: impl AsRef<Path>) -> BTreeSet<PathBuf> {
    fs::read_dir(folder)
        .map(|entries| {
            entries
                .filter_map(|entry| Some(entry.ok()?.path()))
                .collect()
        })
        .unwrap_or_default()
}
