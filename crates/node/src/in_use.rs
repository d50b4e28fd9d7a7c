//! Who uses a release, or this runtime at all: containers by their bundles, and living processes.
//! Called by the job before anything is taken away. Only reads, but for [`Publisher::kill`].

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::{Signal, pidfd_send_signal};
use serde_json::Value;

use crate::files::FileError;
use crate::host::Host;
use crate::names::{COMMAND, EXECUTABLES, SHIM};
use crate::release;
use crate::report::{Container, InstalledRelease};

/// Bundles beneath containerd's state directory: `NAMESPACE/ID`.
const BUNDLES: &str = "io.containerd.runtime.v2.task";
/// In a bundle, since containerd 1.6: the shim that its container was started with.
const SHIM_PATH: &str = "shim-binary-path";

/// What of this runtime is in use.
#[derive(Debug, Default)]
pub(crate) struct InUse {
    pub(crate) containers: Vec<Container>,
    /// Shims that bundles name: paths of the host.
    shims: Vec<PathBuf>,
    processes: Vec<Process>,
}

/// A living process.
#[derive(Debug)]
struct Process {
    pid: i32,
    /// What it runs. Not by its path: that is another file's in a container's mount namespace.
    file: FileId,
    role: Role,
}

/// What a process is about, should it run the command line of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// It started a job and waits for the report: it needs nothing more of its release.
    Asks,
    /// It compiles for the store, for a container that may be gone by now.
    Publishes,
    Other,
}

/// Device and inode.
type FileId = (u64, u64);

impl InUse {
    /// Looks at the bundles beneath `state` and at all processes.
    pub(crate) fn find(host: &Host, state: &Path) -> Result<Self, FileError> {
        let mut found = Self::default();
        // Processes first: what starts meanwhile has its bundle before its process.
        let own = nix::unistd::getpid().as_raw();
        for process in list(&host.at("/proc"))? {
            // `self` and `thread-self` are this one, which runs from the release that it takes away.
            let Some(pid) = name(&process).parse::<i32>().ok().filter(|&pid| pid != own) else {
                continue;
            };
            // Processes end while we look, and kernel threads have no executable.
            if let Ok(file) = file_id(&process.join("exe")) {
                found.processes.push(Process {
                    pid,
                    file,
                    role: role(&process),
                });
            }
        }
        let bundles = host.at(state.join(BUNDLES));
        for namespace in list(&bundles)? {
            for bundle in list(&namespace)? {
                found.look_at(&namespace, &bundle);
            }
        }
        found.containers.sort();
        Ok(found)
    }

    fn look_at(&mut self, namespace: &Path, bundle: &Path) {
        // A bundle that vanishes meanwhile is of no more interest.
        let Ok(shim) = fs::read_to_string(bundle.join(SHIM_PATH)) else {
            return;
        };
        let shim = PathBuf::from(shim.trim());
        if shim.file_name().is_none_or(|name| name != SHIM) {
            return;
        }
        self.shims.push(shim);
        self.containers.push(Container {
            namespace: name(namespace),
            id: name(bundle),
            pod: pod(bundle),
        });
    }

    /// Who uses the release in that folder, a path of the host.
    pub(crate) fn users(&self, host: &Host, folder: &Path) -> Users {
        let id = |name| file_id(&host.at(folder.join(name))).ok();
        let (command, all) = (id(COMMAND), EXECUTABLES.map(id));
        let mut users = Users {
            named: self.shims.iter().any(|shim| shim.starts_with(folder)),
            ..Users::default()
        };
        for &Process { pid, file, role } in &self.processes {
            match role {
                _ if !all.contains(&Some(file)) => {}
                Role::Asks if command == Some(file) => {}
                Role::Publishes if command == Some(file) => {
                    users.publishers.push(Publisher { pid, file });
                }
                _ => users.pids.push(pid),
            }
        }
        users
    }
}

/// Who uses one release.
#[derive(Debug, Default)]
pub(crate) struct Users {
    /// A container's bundle names its shim.
    named: bool,
    /// Processes of it which only fill the store.
    pub(crate) publishers: Vec<Publisher>,
    /// The other processes that run from it.
    pub(crate) pids: Vec<i32>,
}

/// A process that fills the store for a container that may be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Publisher {
    pub(crate) pid: i32,
    file: FileId,
}

impl Publisher {
    /// Kills it, and nobody who has its number by now or in another pid namespace: the number is looked up once, and
    /// the kernel is told the process by what was found there. That it has ended is no error.
    pub(crate) fn kill(self) {
        let Ok(process) = File::open(format!("/proc/{}", self.pid)) else {
            return;
        };
        let here = PathBuf::from(format!("/proc/self/fd/{}", process.as_raw_fd()));
        let is_it = file_id(&here.join("exe")).is_ok_and(|file| file == self.file);
        if is_it && role(&here) == Role::Publishes {
            // What is left of it is told as a user of its release.
            let _ = pidfd_send_signal(&process, Signal::KILL);
        }
    }
}

/// Follows the link of a process to the file itself, also out of another mount namespace.
fn file_id(path: &Path) -> std::io::Result<FileId> {
    let data = fs::metadata(path)?;
    Ok((data.dev(), data.ino()))
}

fn role(process: &Path) -> Role {
    let works = |word: &&[u8]| word.starts_with(b"__") || *word == b"prewarm";
    let words = fs::read(process.join("cmdline")).unwrap_or_default();
    let words: Vec<_> = words.split(|&byte| byte == 0).skip(1).collect();
    match words.as_slice() {
        [b"__publish" | b"__compile-confined", ..] => Role::Publishes,
        // A job itself is no asker, in a unit of its own or not.
        [b"node", rest @ ..] if !rest.iter().any(works) => Role::Asks,
        _ => Role::Other,
    }
}

/// Releases beneath the base. Whatever else is there is somebody else's.
pub(crate) fn releases(host: &Host, in_use: &InUse) -> Result<Vec<InstalledRelease>, FileError> {
    let mut releases: Vec<_> = list(&host.at(host.base()))?
        .into_iter()
        .filter(|folder| !name(folder).starts_with('.') && release::is_release(folder))
        .map(|folder| host.base().join(name(&folder)))
        .map(|folder| {
            let Users {
                named,
                publishers,
                pids,
            } = in_use.users(host, &folder);
            InstalledRelease {
                in_use: named || !publishers.is_empty() || !pids.is_empty(),
                pids,
                folder,
            }
        })
        .collect();
    releases.sort_by(|one, other| one.folder.cmp(&other.folder));
    Ok(releases)
}

/// What is in a folder; a folder that is not there is empty.
fn list(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(entries.flatten().map(|entry| entry.path()).collect()),
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(Vec::new())
        }
        Err(error) => Err(FileError::new("list", folder)(error)),
    }
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// The pod that CRI's annotations name.
fn pod(bundle: &Path) -> Option<String> {
    let spec: Value = serde_json::from_slice(&fs::read(bundle.join("config.json")).ok()?).ok()?;
    let annotation = |key: &str| spec.get("annotations")?.get(key)?.as_str();
    Some(format!(
        "{}/{}",
        annotation("io.kubernetes.cri.sandbox-namespace")?,
        annotation("io.kubernetes.cri.sandbox-name")?
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command, Stdio};

    use super::*;

    #[test]
    fn bundles_and_processes_count() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path());
        let bundle = |id: &str, shim: &str, spec: &str| {
            let folder = host
                .at("/run/c/io.containerd.runtime.v2.task/k8s.io")
                .join(id);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(SHIM_PATH), shim).unwrap();
            fs::write(folder.join("config.json"), spec).unwrap();
        };
        bundle(
            "a",
            "/opt/wasm-interp/1/containerd-shim-wasm-interp-v1",
            "{}",
        );
        bundle(
            "b",
            "/usr/local/bin/containerd-shim-wasm-interp-v1",
            r#"{"annotations":{"io.kubernetes.cri.sandbox-namespace":"default","io.kubernetes.cri.sandbox-name":"web"}}"#,
        );
        bundle("c", "/usr/bin/containerd-shim-runc-v2", "{}");
        for version in ["1", "2", "3", "4", "5", ".copying-x"] {
            let folder = host.at("/opt/wasm-interp").join(version);
            fs::create_dir_all(&folder).unwrap();
            for name in EXECUTABLES {
                fs::write(folder.join(name), version).unwrap();
            }
        }
        let process = |pid: &str, executable: &Path, words: &str| {
            let folder = host.at("/proc").join(pid);
            fs::create_dir_all(&folder).unwrap();
            symlink(executable, folder.join("exe")).unwrap();
            fs::write(folder.join("cmdline"), words).unwrap();
        };
        let command = |version: &str| host.at("/opt/wasm-interp").join(version).join(COMMAND);
        let runner = host.at("/opt/wasm-interp/2/wasm-interp-runner");
        process("77", &runner, "x\0node\0");
        // The job itself, which runs from what it takes away, by each of its names, and who waits for it.
        for own in [&std::process::id().to_string(), "self", "thread-self"] {
            process(own, &command("3"), "wasm-interp\0node\0__job\0{}\0");
        }
        process("78", &command("3"), "wasm-interp\0node\0uninstall\0");
        process("79", &command("4"), "wasm-interp\0node\0__job\0{}\0");
        process("80", &command("4"), "wasm-interp\0__publish\0");
        // What is called the same in a container is another file.
        let image = host.at("/image/opt/wasm-interp/5");
        fs::create_dir_all(&image).unwrap();
        fs::write(image.join(COMMAND), "").unwrap();
        process("81", &image.join(COMMAND), "x\0");
        // Neither is a release.
        fs::create_dir_all(host.at("/opt/wasm-interp/data")).unwrap();
        fs::create_dir_all(host.at("/opt/wasm-interp/6/more")).unwrap();
        fs::write(host.at("/opt/wasm-interp/6").join(COMMAND), "").unwrap();
        let found = InUse::find(&host, Path::new("/run/c")).unwrap();
        let shown: Vec<_> = found.containers.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["k8s.io/a", "k8s.io/b (pod default/web)"]);
        let releases = releases(&host, &found).unwrap();
        let used: Vec<_> = releases.iter().map(|release| release.in_use).collect();
        assert_eq!(used, [true, true, false, true, false]);
        let publishers = |version: &str| -> Vec<i32> {
            let folder = Path::new("/opt/wasm-interp").join(version);
            let publishers = found.users(&host, &folder).publishers;
            publishers.iter().map(|one| one.pid).collect()
        };
        assert_eq!(publishers("4"), [80]);
        assert_eq!(publishers("2"), [0; 0]);
        let pids: Vec<_> = releases.into_iter().map(|release| release.pids).collect();
        assert_eq!(pids, [vec![], vec![77], vec![], vec![79], vec![]]);
    }

    /// A process that sleeps, runs that copy of a shell, and was started with that word.
    fn shell(folder: &Path, word: &str) -> Child {
        fs::write(folder.join(word), "read x\n").unwrap();
        Command::new(folder.join(COMMAND))
            .arg(word)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap()
    }

    #[test]
    fn only_a_publisher_of_the_release_is_killed() {
        let base = tempfile::tempdir().unwrap();
        let host = Host::new("/").with_base(base.path());
        let folder = base.path().join("1");
        fs::create_dir(&folder).unwrap();
        for name in EXECUTABLES {
            fs::copy("/bin/sh", folder.join(name)).unwrap();
        }
        let mut publisher = shell(&folder, "__publish");
        let mut other = shell(&folder, "run");
        let found = InUse::find(&host, base.path()).unwrap();
        let publishers = found.users(&host, &folder).publishers;
        assert_eq!(publishers.len(), 1);
        assert_eq!(publishers[0].pid.unsigned_abs(), publisher.id());
        // Who has that number now is somebody else.
        let reused = Publisher {
            pid: i32::try_from(other.id()).unwrap(),
            ..publishers[0]
        };
        reused.kill();
        publishers[0].kill();
        assert_eq!(publisher.wait().unwrap().signal(), Some(9));
        publishers[0].kill();
        drop(other.stdin.take());
        assert_eq!(other.wait().unwrap().signal(), None);
    }
}
