//! status: what holds, as far as it can be found out. Never fails: what cannot be found out is left
//! out.

use std::path::Path;

use super::Work;
use super::install::DEFAULT_STATE;
use crate::config::Shim;
use crate::host::Host;
use crate::in_use::{self, InUse};
use crate::record::Record;
use crate::report::Status;

impl Work<'_> {
    /// Of a node that cannot be served, and that no job has changed.
    pub(crate) fn status_unconfigured(host: &Host) -> Status {
        let in_use = InUse::find(host, Path::new(DEFAULT_STATE)).unwrap_or_default();
        Status {
            releases: in_use::releases(host, &in_use).unwrap_or_default(),
            containers: in_use.containers,
            ..Status::default()
        }
    }

    pub(crate) fn status(&self) -> Status {
        let running = self.daemon.running();
        let (config, configured) = self.node().configured().unwrap_or_default();
        let in_use = InUse::find(self.host, &self.state()).unwrap_or_default();
        let releases = in_use::releases(self.host, &in_use).unwrap_or_default();
        Status {
            distribution: Some(self.layout.distribution),
            config: (!config.as_os_str().is_empty()).then_some(config),
            configured: configured.map(|shim| match shim {
                Shim::Path(path) => path,
                Shim::Link => "containerd-shim-wasm-interp-v1".into(),
            }),
            containerd_answers: running.is_ok(),
            handler_listed: running
                .as_ref()
                .is_ok_and(|running| running.runtime.is_some()),
            running: running.ok().and_then(|running| running.shim()),
            releases,
            containers: in_use.containers,
            reverts: Record::load(self.host)
                .ok()
                .and_then(|record| record.reverts),
        }
    }
}
