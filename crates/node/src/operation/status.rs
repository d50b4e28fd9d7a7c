//! status: the state of a node. It never fails: what cannot be found out is left out.

use std::path::Path;

use super::Operation;
use crate::host::HostRoot;
use crate::names::{DEFAULT_CONTAINERD_STATE, SHIM};
use crate::record::NodeRecord;
use crate::report::NodeStatus;
use crate::usage::{self, RuntimeUsage};
use wasm_interp_containerd_config::ShimLocation;

impl Operation<'_> {
    pub(crate) fn status(&self) -> NodeStatus {
        let running = self.containerd.running_shim();
        let (config, configured) = self.planner().configured().unwrap_or_default();
        let usage = RuntimeUsage::find(self.host, &self.containerd_state()).unwrap_or_default();
        let releases = usage::releases(self.host, &usage).unwrap_or_default();
        let record = NodeRecord::load(self.host).ok();
        NodeStatus {
            distribution: Some(self.layout.distribution),
            config: (!config.as_os_str().is_empty()).then_some(config),
            configured: configured.map(|shim| match shim {
                ShimLocation::Path(path) => path,
                ShimLocation::Link => SHIM.into(),
            }),
            containerd_answers: running.is_ok(),
            handler_listed: matches!(running, Ok(Some(_))),
            running: match running {
                Ok(Some(ShimLocation::Path(path))) => Some(path),
                _ => None,
            },
            releases,
            containers: usage.containers,
            reverts: record.and_then(|record| record.reverts),
        }
    }
}

/// The state of a node that is not supported, and on which nothing was configured.
pub(crate) fn status_without_layout(host: &HostRoot) -> NodeStatus {
    let usage = RuntimeUsage::find(host, Path::new(DEFAULT_CONTAINERD_STATE)).unwrap_or_default();
    NodeStatus {
        releases: usage::releases(host, &usage).unwrap_or_default(),
        containers: usage.containers,
        ..NodeStatus::default()
    }
}
