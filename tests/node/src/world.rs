//! What a trial works with: a booted node with a release in `/opt/release`, and the questions that trials ask of both.

use std::env;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use wasm_interp_test_support::boot::{BootedNode, NodeRoot};
use wasm_interp_test_support::command::{Finished, Running, wait_for};
use wasm_interp_test_support::run::Run;
use wasm_interp_test_support::{Outcome, repository};

/// containerd's configuration.
const CONFIG: &str = "/etc/containerd/config.toml";
/// Where drop-ins for it are, if it imports them.
pub(crate) const DROP_INS: &str = "/etc/containerd/conf.d";
/// The executables that the trials install, as an administrator has unpacked them.
pub(crate) const RELEASE: &str = "/opt/release";
/// The installer among them.
const INSTALLER: &str = "/opt/release/wasm-interp";

/// What the environment says, and where this run lives.
#[derive(Clone)]
pub(crate) struct NodeSettings {
    /// A Debian with systemd and containerd 1.6; only read.
    distribution: PathBuf,
    /// containerd, ctr and runc's shim of another series, if the node is to have these.
    containerd: Option<PathBuf>,
    /// Our executables.
    dist: PathBuf,
    pub(crate) run: Run,
}

impl NodeSettings {
    /// `None` unless the environment names a distribution.
    pub(crate) fn from_env() -> Option<Self> {
        let path = |variable: &str| env::var_os(variable).map(PathBuf::from);
        Some(Self {
            distribution: path("WASM_INTERP_TEST_DISTRIBUTION")?,
            containerd: path("WASM_INTERP_TEST_PROGRAMS"),
            dist: path("WASM_INTERP_TEST_DIST").unwrap_or_else(|| repository().join("dist")),
            run: Run::new(format!("wasm-interp-node-{}", std::process::id())),
        })
    }
}

/// The node that the trials share.
pub(crate) struct SharedNode {
    settings: NodeSettings,
    /// Booted for the first trial, and again after a trial that failed.
    node: Mutex<Slot>,
}

/// A node, and how many there were before it.
#[derive(Default)]
struct Slot {
    node: Option<TestNode>,
    booted: usize,
}

impl SharedNode {
    pub(crate) fn new(settings: NodeSettings) -> Self {
        Self {
            settings,
            node: Mutex::default(),
        }
    }

    /// Runs one trial. If it fails, its error says what the node has logged.
    pub(crate) fn run_trial(&self, trial: fn(&TestNode) -> Outcome) -> Outcome {
        let mut slot = self.node.lock().unwrap_or_else(PoisonError::into_inner);
        let node = match slot.node.take() {
            Some(node) => node,
            None => {
                slot.booted += 1;
                TestNode::boot(&self.settings, slot.booted)?
            }
        };
        match trial(&node) {
            Ok(()) => {
                slot.node = Some(node);
                Ok(())
            }
            Err(error) => {
                let log = node.log()?;
                node.booted.end()?;
                Err(format!("{}\n{log}", error.message().unwrap_or_default()).into())
            }
        }
    }

    /// Ends the node.
    pub(crate) fn end(&self) -> Outcome {
        let mut slot = self.node.lock().unwrap_or_else(PoisonError::into_inner);
        slot.node.take().map_or(Ok(()), |node| node.booted.end())
    }
}

/// Which containerd a node has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Containerd {
    /// The distribution's own, 1.6: it reads one configuration file.
    Distribution,
    /// A newer one, whose configuration imports drop-ins.
    WithDropIns,
}

/// A booted node.
pub(crate) struct TestNode {
    booted: BootedNode,
    pub(crate) containerd: Containerd,
    /// containerd's configuration before anything of ours was there.
    original: String,
}

impl TestNode {
    fn boot(settings: &NodeSettings, number: usize) -> Outcome<Self> {
        // Also systemd-nspawn's name for it, which has to be the only one on this machine.
        let name = format!("{}-{number}", settings.run.name());
        let root = NodeRoot::lay(&settings.distribution, &settings.run, &name)?;
        let unit = "etc/systemd/system/containerd.service.d";
        root.write(&format!("{unit}/05-cgroups.conf"), CGROUPS)?;
        let (containerd, original) = if let Some(programs) = &settings.containerd {
            for program in ["containerd", "ctr", "containerd-shim-runc-v2"] {
                root.copy(&programs.join(program), &format!("usr/local/bin/{program}"))?;
            }
            root.write(&format!("{unit}/10-newer.conf"), NEWER)?;
            (Containerd::WithDropIns, CONFIG_3)
        } else {
            (Containerd::Distribution, CONFIG_2)
        };
        root.write(CONFIG.trim_start_matches('/'), original)?;
        for program in [
            "containerd-shim-wasm-interp-v1",
            "wasm-interp-runner",
            "wasm-interp-compiler",
            "wasm-interp",
        ] {
            let target = format!("{RELEASE}/{program}");
            root.copy(&settings.dist.join(program), target.trim_start_matches('/'))
                .map_err(|error| format!("{}; run make build", error.message().unwrap_or("")))?;
        }
        let node = Self {
            booted: root.boot(|command| {
                command.arg("--private-network");
            })?,
            containerd,
            original: original.to_owned(),
        };
        node.wait_for_containerd()?;
        Ok(node)
    }

    /// Runs a command on the node to its end.
    pub(crate) fn run(&self, words: &[&str]) -> Outcome<Finished> {
        self.booted.run(words)
    }

    /// The same, and fails unless it succeeds; returns what it printed.
    pub(crate) fn must(&self, words: &[&str]) -> Outcome<String> {
        self.booted.must(words)
    }

    /// Its first process.
    pub(crate) fn pid(&self) -> i32 {
        self.booted.pid()
    }

    /// A file or folder of the node, as this program reaches it.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.booted.path(path)
    }

    /// `wasm-interp node WORDS …` of the release.
    pub(crate) fn installer(&self, words: &[&str]) -> Outcome<Finished> {
        self.run(&[&[INSTALLER, "node"], words].concat())
    }

    /// The same, without waiting for its end.
    pub(crate) fn start_installer(&self, words: &[&str]) -> Outcome<Running> {
        let words = [&[INSTALLER, "node"], words].concat();
        Running::start(self.booted.command(&words), None)
    }

    /// The same to its end, which has to be a success.
    pub(crate) fn install(&self) -> Outcome {
        self.installer(&["install"])?.expect_code(0).map(drop)
    }

    /// The report of `wasm-interp node WORDS … --json`, which has to succeed.
    pub(crate) fn report(&self, words: &[&str]) -> Outcome<Value> {
        let finished = self.installer(&[words, &["--json"]].concat())?;
        Ok(serde_json::from_str(&finished.expect_code(0)?.stdout)?)
    }

    /// The same of a command that has to fail.
    pub(crate) fn failure_report(&self, words: &[&str]) -> Outcome<Value> {
        let finished = self.installer(&[words, &["--json"]].concat())?;
        Ok(serde_json::from_str(&finished.expect_failure()?.stdout)?)
    }

    /// Removes the runtime, and fails if anything of it stays.
    pub(crate) fn uninstall(&self) -> Outcome {
        self.installer(&["uninstall"])?.expect_code(0)?;
        self.expect_nothing_left()
    }

    /// Fails unless containerd's configuration is what it was, byte for byte.
    pub(crate) fn expect_original_config(&self) -> Outcome {
        let now = fs::read_to_string(self.path(CONFIG))?;
        if now == self.original {
            return Ok(());
        }
        Err(format!("containerd's configuration was changed to:\n{now}").into())
    }

    /// Fails if there is a folder of drop-ins.
    pub(crate) fn expect_no_drop_ins(&self) -> Outcome {
        self.expect_absent(DROP_INS)
    }

    /// Fails if anything is left of a runtime that was uninstalled.
    pub(crate) fn expect_nothing_left(&self) -> Outcome {
        self.expect_original_config()?;
        self.expect_no_drop_ins()?;
        for path in [
            "/opt/wasm-interp",
            "/var/lib/wasm-interp",
            "/run/wasm-interp/node",
            "/usr/local/bin/containerd-shim-wasm-interp-v1",
        ] {
            self.expect_absent(path)?;
        }
        Ok(())
    }

    /// Fails if there is a file of that name, or a link.
    pub(crate) fn expect_absent(&self, path: &str) -> Outcome {
        match fs::symlink_metadata(self.path(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(format!("cannot look for {path}: {error}").into()),
            Ok(_) => Err(format!("{path} is there:\n{}", self.must(&["ls", "-lR", path])?).into()),
        }
    }

    /// A property of a unit, as systemd shows it.
    pub(crate) fn unit(&self, unit: &str, property: &str) -> Outcome<String> {
        let property = format!("--property={property}");
        let shown = self.must(&["systemctl", "show", "--value", &property, unit])?;
        Ok(shown.trim().to_owned())
    }

    /// Process id of containerd.
    pub(crate) fn containerd_pid(&self) -> Outcome<String> {
        self.unit("containerd", "MainPID")
    }

    /// Waits until containerd runs and answers.
    pub(crate) fn wait_for_containerd(&self) -> Outcome {
        wait_for("containerd to answer", || {
            let active = self.run(&["systemctl", "is-active", "--quiet", "containerd"])?;
            Ok((active.code == 0 && self.run(&["ctr", "version"])?.code == 0).then_some(()))
        })
    }

    /// Waits for the end of the installer's job.
    pub(crate) fn wait_for_end_of_job(&self) -> Outcome {
        wait_for("the job to end", || {
            Ok((self.unit("wasm-interp-node", "ActiveState")? == "inactive").then_some(()))
        })
    }

    /// What the installer's job and containerd have logged last.
    fn log(&self) -> Outcome<String> {
        let units = ["--unit=wasm-interp-node", "--unit=containerd"];
        self.must(&[&["journalctl", "--no-pager", "--lines=30"], &units[..]].concat())
    }
}

const CGROUPS: &str = "[Service]
ExecStartPre=/bin/sh -c 'for h in /sys/fs/cgroup/*; do \
    [ ! -e $h/cgroup.procs ] || mount -o remount,rw,bind $h; done'
RestartSec=1
";

const NEWER: &str = "[Service]
ExecStart=
ExecStart=/usr/local/bin/containerd
";

const CONFIG_2: &str = r#"# written by hand
version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    restrict_oom_score_adj = true # the test's machine
"#;

const CONFIG_3: &str = r#"# written by hand
version = 3
imports = ["/etc/containerd/conf.d/*.toml"]

[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true # the test's machine
"#;
