//! The effective configuration, as `containerd config dump` prints it.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::ConfigError;
use crate::runtime::{HANDLER, RUNTIME_TYPE, ShimLocation};
use crate::version::ConfigVersion;

/// The effective configuration of a file with everything that it imports, and containerd's defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigDump(Map<String, Value>);

impl ConfigDump {
    /// Parses the output of that command for the file at `path`.
    ///
    /// # Errors
    /// If it is not TOML.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        toml_edit::de::from_str(text)
            .map(Self)
            .map_err(|source| ConfigError::Dump {
                path: path.to_owned(),
                source: Box::new(source),
            })
    }

    /// The newest configuration version of this containerd.
    #[must_use]
    pub fn version(&self) -> Option<ConfigVersion> {
        self.0.get("version")?.as_i64().and_then(ConfigVersion::of)
    }

    /// The entry of `disabled_plugins` that disables the CRI.
    #[must_use]
    pub fn cri_disabled(&self) -> Option<&str> {
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

    /// The state directory, which has the bundles.
    #[must_use]
    pub fn state(&self) -> Option<PathBuf> {
        self.0.get("state")?.as_str().map(PathBuf::from)
    }

    /// containerd's socket. Version 4 of the configuration has it in the table of a plugin.
    #[must_use]
    pub fn socket(&self) -> Option<PathBuf> {
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

    /// The shim of our runtime; `None` if the runtime is not listed, or its name belongs to another type.
    #[must_use]
    pub fn runtime(&self) -> Option<ShimLocation> {
        let ours = self.runtimes()?.get(HANDLER)?;
        if ours.get("runtime_type")?.as_str()? != RUNTIME_TYPE {
            return None;
        }
        Some(match ours.get("runtime_path").and_then(Value::as_str) {
            Some(path) if !path.is_empty() => ShimLocation::Path(path.into()),
            _ => ShimLocation::Link,
        })
    }

    /// The runtimes that this configuration has and the other lacks, except ours. containerd 1.x drops its default runtime
    /// as soon as a file lists any.
    #[must_use]
    pub fn lost_in(&self, other: &Self) -> Map<String, Value> {
        let kept = other.runtimes().cloned().unwrap_or_default();
        self.runtimes()
            .into_iter()
            .flatten()
            .filter(|(name, _)| *name != HANDLER && !kept.contains_key(*name))
            .map(|(name, runtime)| (name.clone(), runtime.clone()))
            .collect()
    }

    fn runtimes(&self) -> Option<&Map<String, Value>> {
        [ConfigVersion::V2, ConfigVersion::V3]
            .iter()
            .find_map(|version| {
                self.0
                    .get("plugins")?
                    .get(version.plugin())?
                    .pointer("/containerd/runtimes")?
                    .as_object()
            })
    }

    /// Whether the two differ only in our runtime. The list of imports does not count, only its effect.
    #[must_use]
    pub fn differs_in_ours_only(&self, other: &Self) -> bool {
        self.rest() == other.rest()
    }

    fn rest(&self) -> Map<String, Value> {
        let mut rest = self.0.clone();
        rest.remove("imports");
        for version in [ConfigVersion::V2, ConfigVersion::V3] {
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
mod tests {
    use super::*;

    fn dump(text: &str) -> ConfigDump {
        ConfigDump::parse(Path::new("/c"), text).unwrap()
    }

    const BEFORE: &str = "version = 2\nstate = '/run/c'\ndisabled_plugins = []\n[grpc]\naddress = \
                          '/run/c.sock'\n[plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = \
                          'pause'\n\
                          [plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc]\n\
                          runtime_type = 'r'\n";
    const OURS: &str = "[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.wasm-interp]\n\
                        runtime_type = 'io.containerd.wasm-interp.v1'\nruntime_path = '/a'\n";

    #[test]
    fn lost_settings_of_a_replaced_section_are_detected() {
        let before = dump(BEFORE);
        let after = dump(&format!("imports = ['/x']\n{BEFORE}{OURS}"));
        assert!(before.differs_in_ours_only(&after));
        assert_eq!(before.runtime(), None);
        assert_eq!(after.runtime(), Some(ShimLocation::Path("/a".into())));
        // containerd 1.x: an imported file replaces the whole section of the CRI.
        let replaced = dump(&format!(
            "version = 2\nstate = '/run/c'\ndisabled_plugins = []\n[grpc]\naddress = \
             '/run/c.sock'\n{OURS}"
        ));
        assert!(!before.differs_in_ours_only(&replaced));
    }

    #[test]
    fn settings_are_read_from_every_version() {
        let before = dump(BEFORE);
        assert_eq!(before.version(), Some(ConfigVersion::V2));
        assert_eq!(before.state(), Some("/run/c".into()));
        assert_eq!(before.socket(), Some("/run/c.sock".into()));
        assert_eq!(before.cri_disabled(), None);
        let v4 = dump(
            "version = 4\ndisabled_plugins = ['cri']\n[plugins.'io.containerd.server.v1.grpc']\n\
             address = '/run/d.sock'\n",
        );
        assert_eq!(v4.socket(), Some("/run/d.sock".into()));
        assert_eq!(v4.cri_disabled(), Some("cri"));
    }
}
