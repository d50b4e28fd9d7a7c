//! The users of the runtime and of each release: containers by their bundles, and running processes. Called by
//! `operation` before it removes anything. Only reads, except [`CompileProcess::kill`].

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Signal, pidfd_send_signal};
use serde_json::Value;

use crate::files::FileError;
use crate::host::HostRoot;
use crate::names::{COMMAND, COMPILER, EXECUTABLES, SHIM};
use crate::release;
use crate::report::{InstalledRelease, RuntimeContainer};

/// Bundles beneath containerd's state directory: `NAMESPACE/ID`.
const BUNDLES: &str = "io.containerd.runtime.v2.task";
/// The file of a bundle that names the shim of its container, since containerd 1.6.
const SHIM_PATH: &str = "shim-binary-path";

/// The containers and processes of this runtime on a node.
#[derive(Debug, Default)]
pub(crate) struct RuntimeUsage {
    pub(crate) containers: Vec<RuntimeContainer>,
    /// The shims that bundles name, paths of the host.
    shims: Vec<PathBuf>,
    processes: Vec<RunningProcess>,
}

/// A running process.
#[derive(Debug)]
struct RunningProcess {
    pid: i32,
    /// The file that it runs. Its path may name another file in the mount namespace of a container.
    file: FileId,
    role: ProcessRole,
}

/// What a process of the command line or of the compiler does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProcessRole {
    /// It started a job and waits for the report. It needs no file of its release any more.
    Client,
    /// It compiles for the store. The container that needed the code may be gone.
    Compile,
    Other,
}

/// How long one look at all processes waits at most for those that are within their exec.
const EXEC_WAIT: Duration = Duration::from_secs(1);

/// Device and inode.
type FileId = (u64, u64);

impl RuntimeUsage {
    /// Reads the bundles beneath `state`, a path of the host, and all processes.
    pub(crate) fn find(host: &HostRoot, state: &Path) -> Result<Self, FileError> {
        let mut found = Self::default();
        // The processes first: a container that starts meanwhile has its bundle before its process.
        let own = nix::unistd::getpid().as_raw();
        let deadline = Instant::now() + EXEC_WAIT;
        let of_releases = files_of_releases(host)?;
        for process in list(&host.at("/proc"))? {
            // This process runs from the release that it removes. `self` and `thread-self` are this process too.
            let Some(pid) = name(&process).parse::<i32>().ok().filter(|&pid| pid != own) else {
                continue;
            };
            // The process may have ended, and kernel threads have no executable.
            if let Ok(file) = file_id(&process.join("exe")) {
                // Of others it does not matter.
                let role = if of_releases.contains(&file) {
                    role(&arguments(|| command_line(&process), deadline))
                } else {
                    ProcessRole::Other
                };
                found.processes.push(RunningProcess { pid, file, role });
            }
        }
        let bundles = host.at(state.join(BUNDLES));
        for namespace in list(&bundles)? {
            for bundle in list(&namespace)? {
                found.add_bundle(&namespace, &bundle);
            }
        }
        found.containers.sort();
        Ok(found)
    }

    fn add_bundle(&mut self, namespace: &Path, bundle: &Path) {
        // A bundle that is removed meanwhile does not count.
        let Ok(shim) = fs::read_to_string(bundle.join(SHIM_PATH)) else {
            return;
        };
        let shim = PathBuf::from(shim.trim());
        if shim.file_name().is_none_or(|name| name != SHIM) {
            return;
        }
        self.shims.push(shim);
        self.containers.push(RuntimeContainer {
            namespace: name(namespace),
            id: name(bundle),
            pod: pod(bundle),
        });
    }

    /// The users of the release in that folder, a path of the host.
    pub(crate) fn users(&self, host: &HostRoot, folder: &Path) -> ReleaseUsers {
        let id = |name| file_id(&host.at(folder.join(name))).ok();
        let (command, compiler, all) = (id(COMMAND), id(COMPILER), EXECUTABLES.map(id));
        // Builds without a compiler of their own compile by the command line. The runner never compiles: its arguments are
        // those of a guest, which may be any.
        let compiles = [command, compiler];
        let mut users = ReleaseUsers {
            has_containers: self.shims.iter().any(|shim| shim.starts_with(folder)),
            ..ReleaseUsers::default()
        };
        for &RunningProcess { pid, file, role } in &self.processes {
            match role {
                _ if !all.contains(&Some(file)) => {}
                ProcessRole::Client if command == Some(file) => {}
                ProcessRole::Compile if compiles.contains(&Some(file)) => {
                    users.compiles.push(CompileProcess { pid, file });
                }
                _ => users.pids.push(pid),
            }
        }
        users
    }
}

/// The users of one release.
#[derive(Debug, Default)]
pub(crate) struct ReleaseUsers {
    /// Whether the bundle of a container names its shim.
    has_containers: bool,
    /// Compiles that run from it.
    pub(crate) compiles: Vec<CompileProcess>,
    /// The other processes that run from it.
    pub(crate) pids: Vec<i32>,
}

/// A process that compiles for the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CompileProcess {
    pub(crate) pid: i32,
    file: FileId,
}

impl CompileProcess {
    /// Kills it. Does nothing if it has ended, also if another process has its number by now: the number is looked up
    /// once, the process is checked, and the signal goes to the process that was checked.
    pub(crate) fn kill(self) {
        let Ok(process) = File::open(format!("/proc/{}", self.pid)) else {
            return;
        };
        let here = PathBuf::from(format!("/proc/self/fd/{}", process.as_raw_fd()));
        let is_it = file_id(&here.join("exe")).is_ok_and(|file| file == self.file);
        let arguments = command_line(&here).unwrap_or_default();
        if is_it && role(&arguments) == ProcessRole::Compile {
            // If it survives, the caller reports it as a user of its release.
            let _ = pidfd_send_signal(&process, Signal::KILL);
        }
    }
}

/// Identifies a file. The link `/proc/PID/exe` leads to the file itself, also from another mount namespace.
fn file_id(path: &Path) -> io::Result<FileId> {
    let data = fs::metadata(path)?;
    Ok((data.dev(), data.ino()))
}

/// The executables of all releases.
fn files_of_releases(host: &HostRoot) -> Result<HashSet<FileId>, FileError> {
    let folders = list(&host.at(host.base()))?;
    let files = folders
        .iter()
        .flat_map(|folder| EXECUTABLES.map(|name| folder.join(name)));
    Ok(files.filter_map(|file| file_id(&file).ok()).collect())
}

/// The arguments of a process, each with a zero byte after it.
fn command_line(process: &Path) -> io::Result<Vec<u8>> {
    fs::read(process.join("cmdline"))
}

/// What `read` says of a process that has a file, once that is something: within its exec, a process has its file before its
/// arguments. None if it has ended; stops at the deadline, since a process may also have erased them.
fn arguments(mut read: impl FnMut() -> io::Result<Vec<u8>>, deadline: Instant) -> Vec<u8> {
    loop {
        match read() {
            Ok(arguments) if arguments.is_empty() && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            read => return read.unwrap_or_default(),
        }
    }
}

fn role(arguments: &[u8]) -> ProcessRole {
    let is_job = |word: &&[u8]| word.starts_with(b"__") || *word == b"prewarm";
    let words: Vec<_> = arguments.split(|&byte| byte == 0).skip(1).collect();
    match words.as_slice() {
        [b"publish" | b"compile-confined", ..] => ProcessRole::Compile,
        // The hidden subcommands of the command line in builds without a compiler of their own.
        [b"__publish" | b"__compile-confined", ..] => ProcessRole::Compile,
        [b"node", rest @ ..] if !rest.iter().any(is_job) => ProcessRole::Client,
        _ => ProcessRole::Other,
    }
}

/// The releases in the folder of releases. Other folders in it are not ours.
pub(crate) fn releases(
    host: &HostRoot,
    usage: &RuntimeUsage,
) -> Result<Vec<InstalledRelease>, FileError> {
    let mut releases: Vec<_> = list(&host.at(host.base()))?
        .into_iter()
        .filter(|folder| !name(folder).starts_with('.') && release::is_release(folder))
        .map(|folder| host.base().join(name(&folder)))
        .map(|folder| {
            let ReleaseUsers {
                has_containers,
                compiles,
                pids,
            } = usage.users(host, &folder);
            InstalledRelease {
                in_use: has_containers || !compiles.is_empty() || !pids.is_empty(),
                pids,
                folder,
            }
        })
        .collect();
    releases.sort_by(|one, other| one.folder.cmp(&other.folder));
    Ok(releases)
}

/// The entries of a folder; none if it does not exist.
fn list(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(entries.flatten().map(|entry| entry.path()).collect()),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
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

/// The pod that the CRI's annotations name.
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
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command, Stdio};

    use wasm_interp_test_support::executables;

    use super::*;

    #[test]
    fn users_are_found_by_bundles_and_by_the_file_of_a_process() {
        let root = tempfile::tempdir().unwrap();
        let host = HostRoot::new(root.path());
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
            r#"{"annotations":{"io.kubernetes.cri.sandbox-namespace":"default",
                "io.kubernetes.cri.sandbox-name":"web"}}"#,
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
        // The job itself by each of its names, which runs from the release that it removes, and its client.
        for own in [&std::process::id().to_string(), "self", "thread-self"] {
            process(own, &command("3"), "wasm-interp\0node\0__job\0{}\0");
        }
        process("78", &command("3"), "wasm-interp\0node\0uninstall\0");
        process("79", &command("4"), "wasm-interp\0node\0__job\0{}\0");
        let compiler = host.at("/opt/wasm-interp/4").join(COMPILER);
        process("80", &compiler, "wasm-interp-compiler\0publish\0");
        // As a build without a compiler of its own compiles.
        process("82", &command("4"), "wasm-interp\0__publish\0");
        process("83", &command("4"), "/proc/self/exe\0__compile-confined\0");
        // The guest's own arguments.
        let guest = host.at("/opt/wasm-interp/1/wasm-interp-runner");
        process("84", &guest, "x\0publish\0");
        // A file of a container with the same path is another file.
        let image = host.at("/image/opt/wasm-interp/5");
        fs::create_dir_all(&image).unwrap();
        fs::write(image.join(COMMAND), "").unwrap();
        process("81", &image.join(COMMAND), "x\0");
        // Neither of these is a release.
        fs::create_dir_all(host.at("/opt/wasm-interp/data")).unwrap();
        fs::create_dir_all(host.at("/opt/wasm-interp/6/more")).unwrap();
        fs::write(host.at("/opt/wasm-interp/6").join(COMMAND), "").unwrap();
        let found = RuntimeUsage::find(&host, Path::new("/run/c")).unwrap();
        let shown: Vec<_> = found.containers.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["k8s.io/a", "k8s.io/b (pod default/web)"]);
        let releases = releases(&host, &found).unwrap();
        let used: Vec<_> = releases.iter().map(|release| release.in_use).collect();
        assert_eq!(used, [true, true, false, true, false]);
        let compiles = |version: &str| -> Vec<i32> {
            let folder = Path::new("/opt/wasm-interp").join(version);
            let compiles = found.users(&host, &folder).compiles;
            let mut pids: Vec<_> = compiles.iter().map(|one| one.pid).collect();
            pids.sort_unstable();
            pids
        };
        assert_eq!(compiles("4"), [80, 82, 83]);
        assert_eq!(compiles("1"), [0; 0]);
        assert_eq!(compiles("2"), [0; 0]);
        let pids: Vec<_> = releases.into_iter().map(|release| release.pids).collect();
        assert_eq!(pids, [vec![84], vec![77], vec![], vec![79], vec![]]);
    }

    #[test]
    fn arguments_of_a_process_within_its_exec_are_waited_for() {
        let mut answers = [b"".as_slice(), b"", b"x\0publish\0"].into_iter();
        let read = || Ok(answers.next().unwrap().to_vec());
        let later = Instant::now() + Duration::from_secs(3600);
        assert_eq!(role(&arguments(read, later)), ProcessRole::Compile);
        // Of one that has ended, or has erased them, there are none.
        let ended = || Err(io::ErrorKind::NotFound.into());
        assert_eq!(arguments(ended, later), b"");
        assert_eq!(arguments(|| Ok(Vec::new()), Instant::now()), b"");
    }

    /// A process that runs that copy of a shell, has that argument, and waits for its input.
    fn shell(folder: &Path, word: &str) -> Child {
        fs::write(folder.join(word), "echo\nread x\n").unwrap();
        let mut shell = Command::new(folder.join(COMPILER))
            .arg(word)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Spawned is not yet past its exec.
        let mut line = [0];
        shell
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut line)
            .unwrap();
        shell
    }

    #[test]
    fn kill_ends_only_the_compile_that_was_found() {
        let base = tempfile::tempdir().unwrap();
        let host = HostRoot::new("/").with_base(base.path());
        let folder = base.path().join("1");
        fs::create_dir(&folder).unwrap();
        for name in EXECUTABLES {
            executables::copy(Path::new("/bin/sh"), &folder.join(name));
        }
        let mut compile = shell(&folder, "publish");
        let mut other = shell(&folder, "run");
        let found = RuntimeUsage::find(&host, base.path()).unwrap();
        let compiles = found.users(&host, &folder).compiles;
        assert_eq!(compiles.len(), 1);
        assert_eq!(compiles[0].pid.unsigned_abs(), compile.id());
        // Another process has the number.
        let reused = CompileProcess {
            pid: i32::try_from(other.id()).unwrap(),
            ..compiles[0]
        };
        reused.kill();
        compiles[0].kill();
        assert_eq!(compile.wait().unwrap().signal(), Some(9));
        compiles[0].kill();
        drop(other.stdin.take());
        assert_eq!(other.wait().unwrap().signal(), None);
    }
}
