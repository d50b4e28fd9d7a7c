//! The whole configuration as containerd itself reads it: what `containerd config dump` prints.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{ConfigError, Shim, Version};
use crate::names::{HANDLER, RUNTIME_TYPE};

/// What containerd makes of a file and all that it imports.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Dump(Map<String, Value>);

impl Dump {
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        toml_edit::de::from_str(text)
            .map(Self)
            .map_err(|source| ConfigError::Dump {
                path: path.to_owned(),
                source: Box::new(source),
            })
    }

    /// The newest version that this containerd writes.
    pub(crate) fn version(&self) -> Option<Version> {
        self.0.get("version")?.as_i64().and_then(Version::of)
    }

    /// The entry that takes the CRI out of service, if there is one.
    pub(crate) fn cri_disabled(&self) -> Option<&str> {
        const NAMES: [&str; 4] = [
            "cri",
            "io.containerd.grpc.v1.cri",
            "io.containerd.cri.v1.runtime",
            "io.containerd.cri.v1.images",
        ];
        let disabled = self.0.get("disabled_plugins")?.as_array()?;
        disabled
            .iter()
            .filter_map(Value::as_str)
            .find(|name| NAMES.contains(name))
    }

    /// Where bundles are.
    pub(crate) fn state(&self) -> Option<PathBuf> {
        self.0.get("state")?.as_str().map(PathBuf::from)
    }

    /// containerd's socket. Version 4 has it with its plugin.
    pub(crate) fn socket(&self) -> Option<PathBuf> {
        let server = self
            .0
            .get("plugins")
            .and_then(|plugins| plugins.get("io.containerd.server.v1.grpc"));
        server
            .or_else(|| self.0.get("grpc"))?
            .get("address")?
            .as_str()
            .filter(|address| !address.is_empty())
            .map(PathBuf::from)
    }

    /// How our runtime's shim is found, if the runtime is listed as ours.
    pub(crate) fn runtime(&self) -> Option<Shim> {
        let ours = self.runtimes()?.get(HANDLER)?;
        if ours.get("runtime_type")?.as_str()? != RUNTIME_TYPE {
            return None;
        }
        Some(match ours.get("runtime_path").and_then(Value::as_str) {
            Some(path) if !path.is_empty() => Shim::Path(path.into()),
            _ => Shim::Link,
        })
    }

    /// Runtimes that this lists and the other does not, other than ours: containerd 1.x drops its
    /// default as soon as a file lists any.
    pub(crate) fn lost_in(&self, other: &Self) -> Map<String, Value> {
        let kept = other.runtimes().cloned().unwrap_or_default();
        self.runtimes()
            .into_iter()
            .flatten()
            .filter(|(name, _)| *name != HANDLER && !kept.contains_key(*name))
            .map(|(name, runtime)| (name.clone(), runtime.clone()))
            .collect()
    }

    fn runtimes(&self) -> Option<&Map<String, Value>> {
        [Version::V2, Version::V3].iter().find_map(|version| {
            self.0
                .get("plugins")?
                .get(version.plugin())?
                .pointer("/containerd/runtimes")?
                .as_object()
        })
    }

    /// Whether the two differ in our runtime and nothing else. What is imported from where does not
    /// count, only what comes of it.
    pub(crate) fn differs_in_ours_only(&self, other: &Self) -> bool {
        self.rest() == other.rest()
    }

    fn rest(&self) -> Map<String, Value> {
        let mut rest = self.0.clone();
        rest.remove("imports");
        for version in [Version::V2, Version::V3] {
            let runtimes = rest
                .get_mut("plugins")
                .and_then(|plugins| plugins.get_mut(version.plugin()))
                .and_then(|plugin| plugin.pointer_mut("/containerd/runtimes"))
                .and_then(Value::as_object_mut);
            if let Some(runtimes) = runtimes {
                runtimes.remove(HANDLER);
            }
        }
        rest
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn dump(text: &str) -> Dump {
        Dump::parse(Path::new("/c"), text).unwrap()
    }

    const BEFORE: &str = "version = 2\nstate = '/run/c'\ndisabled_plugins = []\n[grpc]\naddress = '/run/c.sock'\n[plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = 'pause'\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc]\nruntime_type = 'r'\n";
    const OURS: &str = "[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.wasm-interp]\nruntime_type = 'io.containerd.wasm-interp.v1'\nruntime_path = '/a'\n";

    #[test]
    fn what_a_replaced_section_loses_is_seen() {
        let before = dump(BEFORE);
        let after = dump(&format!("imports = ['/x']\n{BEFORE}{OURS}"));
        assert!(before.differs_in_ours_only(&after));
        assert_eq!(before.runtime(), None);
        assert_eq!(after.runtime(), Some(Shim::Path("/a".into())));
        // containerd 1.x: an imported file replaces the whole section of the CRI.
        let replaced = dump(&format!(
            "version = 2\nstate = '/run/c'\ndisabled_plugins = []\n[grpc]\naddress = '/run/c.sock'\n{OURS}"
        ));
        assert!(!before.differs_in_ours_only(&replaced));
    }

    #[test]
    fn facts() {
        let before = dump(BEFORE);
        assert_eq!(before.version(), Some(Version::V2));
        assert_eq!(before.state(), Some("/run/c".into()));
        assert_eq!(before.socket(), Some("/run/c.sock".into()));
        assert_eq!(before.cri_disabled(), None);
        let v4 = dump(
            "version = 4\ndisabled_plugins = ['cri']\n[plugins.'io.containerd.server.v1.grpc']\naddress = '/run/d.sock'\n",
        );
        assert_eq!(v4.socket(), Some("/run/d.sock".into()));
        assert_eq!(v4.cri_disabled(), Some("cri"));
    }
}
