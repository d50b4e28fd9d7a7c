//! The containerd that is installed on the host.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use wasm_interp_containerd::cri_config;

use super::{NodeContainerd, NodeContainerdError, self_test};
use crate::distribution::Distribution;
use crate::host::HostRoot;
use crate::layout::{ConfigLocation, NodeLayout};
use crate::names::{DEFAULT_CONTAINERD_SOCKET, HANDLER, PREWARM_UNIT, RUNTIME_TYPE};
use crate::systemd::Systemd;
use crate::usage::CompileProcess;
use wasm_interp_containerd_config::{ConfigDump, ShimLocation};

/// More than systemd's default limit for the start of a service.
const RESTART_LIMIT: Duration = Duration::from_secs(120);
/// The units of k3s and RKE2 have no limit (`TimeoutStartSec=0`): a server waits for its datastore. The limit of a job
/// covers two of these.
const SERVER_RESTART_LIMIT: Duration = Duration::from_secs(300);
/// More than a compiler needs to end after a signal.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// The containerd of a host with that layout.
pub(crate) struct HostContainerd<'a> {
    host: &'a HostRoot,
    layout: &'a NodeLayout,
    systemd: Systemd,
}

impl<'a> HostContainerd<'a> {
    pub(crate) fn new(host: &'a HostRoot, layout: &'a NodeLayout) -> Self {
        Self {
            host,
            layout,
            systemd: Systemd::new(host.systemd()),
        }
    }

    /// containerd's socket, a path from here.
    pub(crate) fn socket(&self) -> Result<PathBuf, NodeContainerdError> {
        let main = &self.layout.main;
        let socket = match &self.layout.socket {
            Some(socket) => Some(socket.clone()),
            None if self.host.at(main).exists() => self.dump(main)?.socket(),
            None => None,
        };
        let socket = socket.unwrap_or_else(|| DEFAULT_CONTAINERD_SOCKET.into());
        Ok(self.host.at(socket))
    }

    /// How long a restart of the service may take.
    pub(crate) fn restart_limit(&self) -> Duration {
        match self.layout.distribution {
            Distribution::K3s | Distribution::Rke2 => SERVER_RESTART_LIMIT,
            Distribution::Containerd | Distribution::K0s | Distribution::MicroK8s => RESTART_LIMIT,
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

impl NodeContainerd for HostContainerd<'_> {
    fn dump(&self, config: &Path) -> Result<ConfigDump, NodeContainerdError> {
        let output = self
            .command()
            .arg("--config")
            .arg(config)
            .args(["config", "dump"])
            .output()
            .map_err(|source| NodeContainerdError::Run {
                binary: self.layout.binary.clone(),
                source,
            })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(NodeContainerdError::Rejected {
                config: config.to_owned(),
                reason: match said.lines().rfind(|line| !line.trim().is_empty()) {
                    Some(line) => line.trim().to_owned(),
                    None => output.status.to_string(),
                },
            });
        }
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(ConfigDump::parse(config, &text)?)
    }

    fn running_shim(&self) -> Result<Option<ShimLocation>, NodeContainerdError> {
        Ok(shim_of(&cri_config(&self.socket()?)?))
    }

    fn restart(&self) -> Result<(), NodeContainerdError> {
        if matches!(self.layout.location, ConfigLocation::Merged { .. }) {
            // k0s notices the change and restarts its containerd. The caller waits for the handler.
            return Ok(());
        }
        for unit in self.layout.units {
            let state = self.systemd.state(unit)?;
            if state.active == "inactive" || state.load == "not-found" {
                continue;
            }
            let state = self.systemd.restart(unit, self.restart_limit())?;
            if state.active == "active" {
                return Ok(());
            }
            return Err(NodeContainerdError::Down {
                unit: (*unit).to_owned(),
                state: format!("{} ({})", state.active, state.sub),
                result: state.result,
            });
        }
        Err(NodeContainerdError::NoUnit(self.layout.units.join(", ")))
    }

    fn self_test(&self, shim: &ShimLocation) -> Result<(), NodeContainerdError> {
        self_test::run(self.host, &self.socket()?, shim)
    }

    fn kill(&self, compiles: &[CompileProcess]) {
        // With another root, the processes are not those of this machine.
        if self.host.root() == Path::new("/") {
            compiles.iter().for_each(|compile| compile.kill());
        }
    }

    fn stop_prewarming(&self) -> Result<(), NodeContainerdError> {
        // Without systemd there are no units.
        if !self.host.systemd().exists() {
            return Ok(());
        }
        Ok(self.systemd.stop(PREWARM_UNIT, STOP_LIMIT)?)
    }
}

/// The shim of our handler in the CRI's configuration. A handler of our name with another type is not ours.
fn shim_of(cri_config: &Value) -> Option<ShimLocation> {
    let ours = cri_config
        .pointer("/containerd/runtimes")?
        .get(HANDLER)
        .filter(|ours| ours.get("runtimeType").and_then(Value::as_str) == Some(RUNTIME_TYPE))?;
    Some(match ours.get("runtimePath").and_then(Value::as_str) {
        Some(path) if !path.is_empty() => ShimLocation::Path(path.into()),
        _ => ShimLocation::Link,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::distribution::DistributionChoice;
    use crate::layout;

    #[test]
    fn containerd_without_a_configuration_has_the_default_socket() {
        let root = tempfile::tempdir().unwrap();
        let host = HostRoot::new(root.path());
        let binary = host.at("/usr/bin/containerd");
        std::fs::create_dir_all(binary.parent().unwrap()).unwrap();
        // It cannot be run, so a dump would fail.
        std::fs::write(&binary, "").unwrap();
        let layout = layout::find(&host, DistributionChoice::Auto).unwrap();
        let socket = HostContainerd::new(&host, &layout).socket().unwrap();
        assert_eq!(socket, host.at("/run/containerd/containerd.sock"));
    }

    #[test]
    fn handler_is_ours_only_with_our_type() {
        let config = |runtime_type: &str, path: &str| {
            let ours = json!({ "runtimeType": runtime_type, "runtimePath": path });
            json!({ "containerd": { "runtimes": { "wasm-interp": ours } } })
        };
        let ours = "io.containerd.wasm-interp.v1";
        let by_path = Some(ShimLocation::Path("/a".into()));
        assert_eq!(shim_of(&config(ours, "/a")), by_path);
        assert_eq!(shim_of(&config(ours, "")), Some(ShimLocation::Link));
        assert_eq!(shim_of(&config("io.containerd.runc.v2", "")), None);
        assert_eq!(shim_of(&json!({})), None);
    }
}
