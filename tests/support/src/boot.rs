//! Boots a node: a Debian with systemd as its first process and containerd as its service, in systemd-nspawn.
//!
//! The caller lays the node's root, writes its files there, and boots it. What runs on the node, and its network,
//! is the caller's business.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Outcome;
use crate::command::{self, Finished, wait_for};
use crate::run::Run;

/// A node before it runs: what it is made of, and the folder that it lives in.
pub struct NodeRoot<'a> {
    /// A Debian with systemd; only read.
    pub distribution: &'a Path,
    /// The node's name, of which its folder in the run's folder is named.
    pub name: &'a str,
    run: &'a Run,
}

impl<'a> NodeRoot<'a> {
    /// Mounts the root of a node: the distribution below, and above it what is written here.
    pub fn lay(distribution: &'a Path, run: &'a Run, name: &'a str) -> Outcome<Self> {
        let root = Self {
            distribution,
            name,
            run,
        };
        let folder = root.folder();
        // containerd mounts layers in its folder, which an overlay does not take.
        for made in ["upper", "work", "root", "containerd"] {
            fs::create_dir_all(folder.join(made))?;
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            distribution.display(),
            folder.join("upper").display(),
            folder.join("work").display()
        );
        mount(
            Some("overlay"),
            &root.path(),
            Some("overlay"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .map_err(|error| format!("cannot mount the root of the node {name}: {error}"))?;

        root.write("etc/hostname", &format!("{name}\n"))?;
        root.write("etc/machine-id", "")?;
        // Nothing is fetched from outside in the middle of a test.
        for timer in ["apt-daily", "apt-daily-upgrade", "e2scrub_all"] {
            let unit = format!("etc/systemd/system/{timer}.timer");
            symlink("/dev/null", root.path().join(unit))?;
        }
        Ok(root)
    }

    /// Everything of the node is in there.
    pub fn folder(&self) -> PathBuf {
        self.run.folder().join(self.name)
    }

    /// The root as this process sees it.
    pub fn path(&self) -> PathBuf {
        self.folder().join("root")
    }

    /// Writes a file of the node; `path` is relative to its root.
    pub fn write(&self, path: &str, text: &str) -> Outcome {
        let path = self.made(path)?;
        fs::write(&path, text)
            .map_err(|error| format!("cannot write {}: {error}", path.display()).into())
    }

    /// Copies a file of this machine to the node.
    pub fn copy(&self, from: &Path, path: &str) -> Outcome {
        let path = self.made(path)?;
        fs::copy(from, path)
            .map(drop)
            .map_err(|error| format!("cannot copy {}: {error}", from.display()).into())
    }

    /// A file's path, in a folder that exists.
    fn made(&self, path: &str) -> io::Result<PathBuf> {
        let path = self.path().join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        Ok(path)
    }

    /// Boots the node. `add` adds options of systemd-nspawn: its network, and what it sees of this machine.
    pub fn boot(&self, add: impl FnOnce(&mut Command)) -> Outcome<BootedNode> {
        let folder = self.folder();
        let nspawn = of_the_distribution(self.distribution, "usr/bin/systemd-nspawn");
        let mut command = Command::new("sh");
        command
            .args(["-euc", ENTER_CGROUPS, "sh", self.run.name(), self.name])
            .arg(nspawn.get_program())
            .args(nspawn.get_args())
            .args(["--boot", "--quiet", "--console=pipe", "--register=no"])
            .args(["--keep-unit", "--capability=all", "--resolv-conf=off"])
            .args(["--timezone=off", "--link-journal=no", "--bind=/dev/kmsg"])
            // Without it a runtime finds no keyrings, and runc starts no container.
            .arg("--system-call-filter=@keyring")
            .arg(format!(
                "--bind={}:/var/lib/containerd",
                folder.join("containerd").display()
            ))
            .arg(format!("--machine={}", self.name))
            .arg(format!("--directory={}", self.path().display()));
        add(&mut command);
        let console = File::create(folder.join("console.log"))?;
        let nspawn = command
            .stdin(Stdio::null())
            .stdout(console.try_clone()?)
            .stderr(console)
            .spawn()?;
        let mut node = BootedNode {
            pid: 0,
            nspawn,
            root: self.path(),
        };
        node.pid = wait_for("systemd of the node", || {
            if let Some(status) = node.nspawn.try_wait()? {
                let log = fs::read_to_string(folder.join("console.log"))?;
                return Err(format!("systemd-nspawn ended with {status}:\n{log}").into());
            }
            first_process(i32::try_from(node.nspawn.id())?)
        })?;
        wait_for("systemd to answer", || {
            let target = node.run(&["systemctl", "is-active", "multi-user.target"])?;
            Ok((target.code == 0).then_some(()))
        })?;
        Ok(node)
    }
}

/// A node that runs.
pub struct BootedNode {
    /// Its first process, as this program's namespace numbers it; 0 until it is known.
    pid: i32,
    nspawn: Child,
    root: PathBuf,
}

impl BootedNode {
    /// Its first process, as this program's namespace numbers it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// A command on the node, not yet run.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.pid.to_string(), "--all", "--"])
            .args(words)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin")
            .env("LANG", "C.UTF-8")
            .current_dir("/");
        command
    }

    /// Runs a command on the node to its end.
    pub fn run(&self, words: &[&str]) -> Outcome<Finished> {
        command::run(self.command(words), None)
    }

    /// The same, and fails unless it succeeds; returns what it printed.
    pub fn must(&self, words: &[&str]) -> Outcome<String> {
        Ok(self.run(words)?.expect_code(0)?.stdout)
    }

    /// A file or folder of the node, as this program reaches it.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.pid))
    }

    /// Ends the node at once, and unmounts its root. Its cgroups and its folder stay.
    pub fn end(mut self) -> Outcome {
        // The kernel ends every process of the node with its first one; nspawn alone would leave them running.
        if self.pid != 0 {
            kill(Pid::from_raw(self.pid), Signal::SIGKILL)?;
        } else {
            self.nspawn.kill()?;
        }
        self.nspawn.wait()?;
        umount2(&self.root, MntFlags::MNT_DETACH)
            .map_err(|error| format!("cannot unmount {}: {error}", self.root.display()).into())
    }
}

/// A program of the distribution, run on this machine with the libraries and the loader of the distribution: it does
/// not matter what this machine is.
pub fn of_the_distribution(distribution: &Path, program: &str) -> Command {
    let arch = std::env::consts::ARCH;
    let loader = match arch {
        "aarch64" => "lib/ld-linux-aarch64.so.1",
        _ => "lib64/ld-linux-x86-64.so.2",
    };
    let libraries = distribution.join(format!("usr/lib/{arch}-linux-gnu"));
    let mut command = Command::new(distribution.join(loader));
    command
        .arg("--library-path")
        .arg(format!(
            "{}:{}",
            libraries.display(),
            libraries.join("systemd").display()
        ))
        .arg(distribution.join(program));
    command
}

/// The descendant of `ancestor` that is the first process of a namespace of its own.
fn first_process(ancestor: i32) -> Outcome<Option<i32>> {
    let mut waiting = vec![ancestor];
    while let Some(pid) = waiting.pop() {
        // Those that prepare come and go between two looks.
        let (Ok(status), Ok(children)) = (
            fs::read_to_string(format!("/proc/{pid}/status")),
            fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")),
        ) else {
            continue;
        };
        let first = status
            .lines()
            .find_map(|line| line.strip_prefix("NSpid:"))
            .is_some_and(|ids| {
                let ids: Vec<&str> = ids.split_whitespace().collect();
                ids.len() > 1 && ids.last() == Some(&"1")
            });
        // Before it is systemd it is still systemd-nspawn, preparing.
        if first && status.lines().next() == Some("Name:\tsystemd") {
            return Ok(Some(pid));
        }
        waiting.extend(
            children
                .split_whitespace()
                .filter_map(|pid| pid.parse::<i32>().ok()),
        );
    }
    Ok(None)
}

/// Arguments: the run's name, the node's, and the command that goes on in the cgroups. A cgroup in every hierarchy is
/// the root of what the node sees of it.
const ENTER_CGROUPS: &str = r#"
run=$1 node=$2
shift 2
for hierarchy in /sys/fs/cgroup/*; do
    [ -e "$hierarchy/cgroup.procs" ] || continue
    for folder in "$hierarchy/$run" "$hierarchy/$run/$node"; do
        mkdir -p "$folder"
        for file in cpuset.cpus cpuset.mems; do
            [ ! -e "$hierarchy/cgroup.clone_children" ] || [ ! -e "$folder/$file" ] || cat "$hierarchy/$file" >"$folder/$file"
        done
    done
    echo 0 >"$hierarchy/$run/$node/cgroup.procs"
done
exec "$@"
"#;
