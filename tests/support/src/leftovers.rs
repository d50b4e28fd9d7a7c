//! What a run may not leave behind: processes, mounts, cgroups, sockets, files. Records before,
//! compares after, and takes away by force what a failed or interrupted run left.
//!
//! Things of the run are told from those of the machine by the run's name, which is in the path of
//! everything that it makes and in the environment of what it starts.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::run::Run;

/// Folders outside the run's own in which containerd, the shims or runtimes make something.
const WATCHED: [&str; 7] = [
    "/run/containerd",
    "/run/containerd/fifo",
    "/run/containerd/runc",
    "/run/wasm-interp",
    "/var/lib/wasm-interp",
    "/tmp",
    "/dev/shm",
];

/// Where the hierarchies of cgroups are.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Where shims listen.
const SOCKETS: &str = "/run/containerd/s";

/// What there was before.
#[derive(Clone)]
pub struct Leftovers {
    run: String,
    files: BTreeSet<PathBuf>,
    sockets: BTreeSet<PathBuf>,
}

impl Leftovers {
    /// Takes stock before anything is started.
    pub fn record(run: &str) -> Self {
        Self {
            run: run.to_owned(),
            files: watched(run),
            sockets: children(SOCKETS),
        }
    }

    /// What is there that was not, in words. What is only slow to go is waited for.
    pub fn what_is_new(&self) -> Vec<String> {
        let mut left = Vec::new();
        for _ in 0..600 {
            left = self.look();
            if left.is_empty() {
                break;
            }
            thread::sleep(Duration::from_millis(100));
        }
        left
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
                    .map(|file| format!("file {}", file.display())),
            )
            .collect()
    }

    /// New sockets on which no process listens, not even some seconds later: the shim of another run has a moment
    /// between bind and listen. A socket on which a process of this run listens is reported as that process.
    fn dead_sockets(&self) -> Vec<PathBuf> {
        const MOMENT: Duration = Duration::from_secs(3);
        let new = children(SOCKETS);
        let is_dead = |socket: &&PathBuf| UnixStream::connect(socket).is_err();
        let mut dead: Vec<_> = new.difference(&self.sockets).filter(is_dead).collect();
        if !dead.is_empty() {
            thread::sleep(MOMENT);
            dead.retain(is_dead);
        }
        dead.into_iter().cloned().collect()
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
    // Folders that any containerd makes for itself.
    files.retain(|file| {
        !WATCHED.iter().any(|folder| Path::new(folder) == file) && file != Path::new(SOCKETS)
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
