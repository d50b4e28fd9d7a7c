//! The real containerd of a node: its executable, its socket and its service. Called through
//! [`Daemon`]; decides nothing.

mod cri;
mod image;
mod rpc;
mod trial;

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::config::{ConfigError, Dump, Shim};
use crate::daemon::{Daemon, Running};
use crate::files::FileError;
use crate::host::Host;
use crate::in_use::Publisher;
use crate::job::Distribution;
use crate::layout::{Layout, Place};
use crate::names::PREWARM_UNIT;
use crate::systemd::{Systemd, SystemdError};

pub(crate) use image::{Found, ImageError, Images};

/// The longest that systemd waits for a service by default, and some.
const RESTART: Duration = Duration::from_secs(120);
/// The units of k3s and RKE2 have no limit (`TimeoutStartSec=0`): a server is up once its datastore is. A
/// job's own limit has to hold two of these.
const RESTART_OF_ALL: Duration = Duration::from_secs(300);
/// The longest that a compiler takes to be killed, and some.
const STOP: Duration = Duration::from_secs(60);

/// containerd, or its service, did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// It cannot be run.
    #[error("cannot run {binary} on the node: {source}")]
    Run {
        /// containerd.
        binary: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `config dump` failed.
    #[error("containerd does not accept {config}: {said}")]
    Rejected {
        /// The file.
        config: PathBuf,
        /// Its last words.
        said: String,
    },
    /// Nobody answers.
    #[error("containerd does not answer at {socket}: {reason}")]
    Unreachable {
        /// Its socket.
        socket: PathBuf,
        /// Why.
        reason: String,
    },
    /// It answers, without a CRI.
    #[error(
        "containerd answers at {0} but its CRI plugin does not: see why it was not loaded with \
         journalctl -u containerd, or ctr plugins ls"
    )]
    NoCri(PathBuf),
    /// It said no.
    #[error("containerd refused to {act}: {said}")]
    Refused {
        /// What was asked.
        act: &'static str,
        /// What it said.
        said: String,
    },
    /// The service did not come up.
    #[error("{unit} did not come up: it is {state} ({result}); see journalctl -u {unit}")]
    Down {
        /// The unit.
        unit: String,
        /// What it is.
        state: String,
        /// systemd's word for how it ended.
        result: String,
    },
    /// It runs, but not with the new configuration.
    #[error(
        "containerd answers, but does not say of the runtime what its configuration says, after {} s",
        .0.as_secs()
    )]
    NotTaken(Duration),
    /// There is no such service.
    #[error(
        "none of {0} runs here, so containerd cannot be restarted: start it, or restart containerd yourself and run wasm-interp node verify"
    )]
    NoUnit(String),
    /// The program did not do what it does.
    #[error(
        "the trial program ended with code {code} and printed {printed:?} instead of 42 and \
         \"wasm-interp works\"; its errors: {errors:?}"
    )]
    Trial {
        /// Its exit code.
        code: u32,
        /// Its output.
        printed: String,
        /// Its errors.
        errors: String,
    },
    /// See the error.
    #[error(transparent)]
    Systemd(#[from] SystemdError),
    /// See the error.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// See the error.
    #[error(transparent)]
    File(#[from] FileError),
    /// The conversation could not begin.
    #[error("cannot talk to containerd: {0}")]
    Runtime(#[source] io::Error),
}

/// A node's own containerd.
pub(crate) struct Live<'a> {
    host: &'a Host,
    layout: &'a Layout,
    systemd: Systemd,
}

impl<'a> Live<'a> {
    pub(crate) fn new(host: &'a Host, layout: &'a Layout) -> Self {
        Self {
            host,
            layout,
            systemd: Systemd::new(host.systemd()),
        }
    }

    /// containerd's socket, from here.
    pub(crate) fn socket(&self) -> Result<PathBuf, LiveError> {
        let socket = match &self.layout.socket {
            Some(socket) => socket.clone(),
            None => self
                .dump(&self.layout.main)?
                .socket()
                .unwrap_or_else(|| "/run/containerd/containerd.sock".into()),
        };
        Ok(self.host.at(socket))
    }

    /// The longest that the service may take to be up again.
    fn patience(&self) -> Duration {
        match self.layout.distribution {
            Distribution::K3s | Distribution::Rke2 => RESTART_OF_ALL,
            Distribution::Containerd | Distribution::K0s | Distribution::MicroK8s => RESTART,
        }
    }

    /// The host's containerd as a command, also if the host's root is not ours.
    fn command(&self) -> Command {
        if self.host.root() == Path::new("/") {
            return Command::new(&self.layout.binary);
        }
        let mut command = Command::new("chroot");
        command.arg(self.host.root()).arg(&self.layout.binary);
        command
    }
}

impl Daemon for Live<'_> {
    fn dump(&self, config: &Path) -> Result<Dump, LiveError> {
        let output = self
            .command()
            .arg("--config")
            .arg(config)
            .args(["config", "dump"])
            .output()
            .map_err(|source| LiveError::Run {
                binary: self.layout.binary.clone(),
                source,
            })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(LiveError::Rejected {
                config: config.to_owned(),
                said: match said.lines().rfind(|line| !line.trim().is_empty()) {
                    Some(line) => line.trim().to_owned(),
                    None => output.status.to_string(),
                },
            });
        }
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(Dump::parse(config, &text)?)
    }

    fn running(&self) -> Result<Running, LiveError> {
        cri::running(&self.socket()?)
    }

    fn restart(&self) -> Result<(), LiveError> {
        if matches!(self.layout.place, Place::Merged { .. }) {
            // k0s sees the change and restarts its containerd; who waits for the handler, waits for
            // that too.
            return Ok(());
        }
        for unit in self.layout.units {
            let state = self.systemd.state(unit)?;
            if state.active == "inactive" || state.load == "not-found" {
                continue;
            }
            let state = self.systemd.restart(unit, self.patience())?;
            if state.active == "active" {
                return Ok(());
            }
            return Err(LiveError::Down {
                unit: (*unit).to_owned(),
                state: format!("{} ({})", state.active, state.sub),
                result: state.result,
            });
        }
        Err(LiveError::NoUnit(self.layout.units.join(", ")))
    }

    fn trial(&self, shim: &Shim) -> Result<(), LiveError> {
        trial::run(self.host, &self.socket()?, shim)
    }

    fn kill(&self, publishers: &[Publisher]) {
        // Processes of the node that runs, not of a file system of another.
        if self.host.root() == Path::new("/") {
            publishers.iter().for_each(|publisher| publisher.kill());
        }
    }

    fn end_prewarming(&self) -> Result<(), LiveError> {
        // Without systemd there are no units.
        if !self.host.systemd().exists() {
            return Ok(());
        }
        Ok(self.systemd.stop(PREWARM_UNIT, STOP)?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::job::{Action, Choice};
    use crate::layout;
    use crate::work::Pace;

    #[test]
    fn a_server_that_starts_slowly_has_its_time_and_so_has_the_job() {
        let layouts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/layouts");
        for (name, wanted) in [
            ("k3s", 300),
            ("rke2", 300),
            ("kubeadm", 120),
            ("microk8s", 120),
        ] {
            let host = Host::new(layouts.join(name).join("before"));
            let layout = layout::find(&host, Choice::Auto).unwrap();
            let patience = Live::new(&host, &layout).patience();
            assert_eq!(patience, Duration::from_secs(wanted), "{name}");
            // A release that is tried, a restart that comes to nothing, the way back, and looks between.
            let all = 2 * (patience + Pace::default().up) + 3 * rpc::LIMIT;
            assert!(Action::Install.limit() >= all, "{name}");
        }
    }
}
