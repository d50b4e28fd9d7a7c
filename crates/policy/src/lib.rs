//! What the node's administrator decides for every container of the node, and the grammar of sizes.
//!
//! The shim, the command line and prewarming read the file for each container; planning
//! (`crates/workload`) and the artifact store (`crates/artifact`) use it. There is one module per group of
//! settings (memory, network, cache, native); the two single sizes are in this file.
//! This is a crate of its own because the compiler's executable needs the settings of the store but not
//! the code that plans containers.
#![forbid(unsafe_code)]

mod bound;
mod cache;
mod memory;
mod native;
mod network;
mod size;

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use wasm_interp_network::CeilingError;

pub use cache::CachePolicy;
pub use memory::MemoryPolicy;
pub use native::NativePolicy;
pub use network::GuestNetworkPolicy;
pub use size::{ParseSizeError, parse_size};

use bound::{Bound, MIB};

/// The environment variable that names another policy file than [`policy_file`]'s default.
const POLICY_ENV: &str = "WASM_INTERP_POLICY";

/// The path of the node's policy file. The file need not exist.
#[must_use]
pub fn policy_file() -> PathBuf {
    env::var_os(POLICY_ENV)
        .filter(|value| !value.is_empty())
        .map_or_else(|| "/etc/wasm-interp/policy.json".into(), PathBuf::from)
}

/// The smallest stack that runs an interpreter's start-up code.
const MIN_STACK_BYTES: u64 = 512 << 10;

/// The node's policy, `/etc/wasm-interp/policy.json`. A file may leave out settings; they have their defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Stack of a guest in bytes. Real recursion in CPython, Ruby and PHP needs 2 to 8 MiB.
    #[serde(deserialize_with = "crate::size::deserialize")]
    pub stack_bytes: u64,
    /// Memory of a guest.
    pub memory: MemoryPolicy,
    /// Whether native programs run too. Sidecars and init containers of a pod often are native.
    pub native: NativePolicy,
    /// Size in bytes of the `/tmp` that a container gets if it has no writable one. It bounds the memory
    /// that a container without a memory limit can take from the node in this way.
    #[serde(deserialize_with = "crate::size::deserialize")]
    pub tmp_bytes: u64,
    /// What guests may be granted of the network.
    pub network: GuestNetworkPolicy,
    /// The node's cache of native code.
    pub cache: CachePolicy,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            stack_bytes: 8 * MIB,
            memory: MemoryPolicy::default(),
            native: NativePolicy::default(),
            tmp_bytes: 64 * MIB,
            network: GuestNetworkPolicy::default(),
            cache: CachePolicy::default(),
        }
    }
}

/// Why a policy file cannot be used.
#[derive(Debug, Error)]
pub enum PolicyError {
    /// The file exists but cannot be read.
    #[error("cannot read policy {path:?}: {source}; make it readable for root or remove it")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is not a policy.
    #[error("cannot parse policy {path:?}: {source}; correct it or remove it")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Position and cause.
        source: serde_json::Error,
    },
    /// A value is out of its range.
    #[error("cannot use policy {path:?}: {name} is {value}, but must be {bounds}; correct it")]
    Bounds {
        /// The file.
        path: PathBuf,
        /// The setting.
        name: &'static str,
        /// Its value.
        value: u64,
        /// Its range.
        bounds: &'static str,
    },
    /// The default of the network exceeds the ceiling.
    #[error(
        "cannot use policy {path:?}: network.default.{} holds {:?}, and network.ceiling allows \
         only {}; correct one of them",
        source.setting, source.what, source.allowed
    )]
    Ceiling {
        /// The file.
        path: PathBuf,
        /// What exceeds it.
        source: CeilingError,
    },
}

impl Policy {
    /// Reads the policy at `path`; a missing file is the default policy.
    ///
    /// # Errors
    /// If the file exists and is unreadable, malformed, or holds a value out of its range. A node must
    /// not fall back to defaults when it cannot understand its administrator's settings.
    pub fn load(path: &Path) -> Result<Self, PolicyError> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => {
                return Err(PolicyError::Read {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        let policy: Self = serde_json::from_slice(&text).map_err(|source| PolicyError::Parse {
            path: path.to_owned(),
            source,
        })?;
        policy.check(path)?;
        Ok(policy)
    }

    fn check(&self, path: &Path) -> Result<(), PolicyError> {
        let memory_max = self.memory.max_bytes.map(|value| Bound {
            name: "memory.max_bytes",
            value,
            range: MIB..=u64::MAX,
            words: "at least 1048576 (1 MiB)",
        });
        let guest = [
            Bound {
                name: "stack_bytes",
                value: self.stack_bytes,
                range: MIN_STACK_BYTES..=1024 * MIB,
                words: "from 524288 (512 KiB) to 1073741824 (1 GiB)",
            },
            Bound {
                name: "memory.headroom_percent",
                value: u64::from(self.memory.headroom_percent),
                range: 0..=50,
                words: "at most 50",
            },
            Bound {
                name: "tmp_bytes",
                value: self.tmp_bytes,
                range: MIB..=u64::MAX,
                words: "at least 1048576 (1 MiB)",
            },
        ];
        let bounds = guest
            .into_iter()
            .chain(memory_max)
            .chain(self.cache.bounds());
        for bound in bounds {
            if !bound.range.contains(&bound.value) {
                return Err(PolicyError::Bounds {
                    path: path.to_owned(),
                    name: bound.name,
                    value: bound.value,
                    bounds: bound.words,
                });
            }
        }
        self.network.check().map_err(|source| PolicyError::Ceiling {
            path: path.to_owned(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_the_default() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(
            Policy::load(&folder.path().join("policy.json")).unwrap(),
            Policy::default()
        );
    }

    #[test]
    fn a_file_changes_only_what_it_names() {
        let policy = load(r#"{"memory": {"max_bytes": 1073741824}}"#).unwrap();
        assert_eq!(policy.memory.max_bytes, Some(1 << 30));
        assert_eq!(policy.stack_bytes, Policy::default().stack_bytes);
    }

    #[test]
    fn every_size_may_be_a_number_or_a_text() {
        let policy = load(
            r#"{"stack_bytes": "4MiB", "tmp_bytes": "1G",
                "memory": {"headroom_bytes": "32M", "max_bytes": "512Mi"},
                "cache": {"max_bytes": "500MiB", "max_module_bytes": "64m",
                          "compile_memory_bytes": "1GiB"}}"#,
        )
        .unwrap();
        assert_eq!(policy.stack_bytes, 4 * MIB);
        assert_eq!(policy.tmp_bytes, 1024 * MIB);
        assert_eq!(policy.memory.headroom_bytes, 32 * MIB);
        assert_eq!(policy.memory.max_bytes, Some(512 * MIB));
        let cache = CachePolicy {
            max_bytes: 500 * MIB,
            max_module_bytes: 64 * MIB,
            compile_memory_bytes: 1024 * MIB,
            ..CachePolicy::default()
        };
        assert_eq!(policy.cache, cache);
        let null = load(r#"{"memory": {"max_bytes": null}}"#).unwrap();
        assert_eq!(null, Policy::default());
    }

    /// Who writes a ceiling does not want to know what was in it before.
    #[test]
    fn a_ceiling_of_the_file_replaces_the_default_one_as_a_whole() {
        let policy = load(r#"{"network": {"ceiling": {"connect": "dns, tcp:*:443"}}}"#).unwrap();
        let ceiling = &policy.network.ceiling;
        assert_eq!(ceiling.connect.len(), 2);
        assert_eq!(ceiling.mode, wasm_interp_network::NetworkMode::None);
        assert!(ceiling.listen.is_empty());
    }

    /// The documentation shows every setting with its default.
    #[test]
    fn documented_defaults_are_the_defaults() {
        let text = include_str!("../../../docs/reference/policy.md");
        let (_, json) = text.split_once("```json\n").unwrap();
        let (json, _) = json.split_once("```").unwrap();
        let documented: serde_json::Value = serde_json::from_str(json).unwrap();
        let defaults = serde_json::to_value(Policy::default()).unwrap();
        assert_eq!(documented, defaults);
    }

    #[test]
    fn setting_that_cannot_work_is_refused_by_name() {
        for (text, name) in [
            (r#"{"stack": 1}"#, "unknown field `stack`"),
            (r#"{"stack_bytes": 1}"#, "stack_bytes is 1"),
            (
                r#"{"memory": {"headroom_percent": 90}}"#,
                "headroom_percent is 90",
            ),
            (r#"{"memory": {"max_bytes": 0}}"#, "max_bytes is 0"),
            (r#"{"tmp_bytes": 0}"#, "tmp_bytes is 0"),
            (r#"{"native": "no"}"#, "expected `allow` or `deny`"),
            (r#"{"cache": {"size": 1}}"#, "unknown field `size`"),
            (
                r#"{"cache": {"max_module_bytes": "1K"}}"#,
                "cache.max_module_bytes is 1024",
            ),
            (r#"{"cache": {"compile_slots": 0}}"#, "compile_slots is 0"),
            (
                r#"{"cache": {"compile_memory_bytes": 0}}"#,
                "compile_memory_bytes is 0",
            ),
            (
                r#"{"cache": {"compile_seconds": 0}}"#,
                "compile_seconds is 0",
            ),
            (
                r#"{"cache": {"max_bytes": "4 GB"}}"#,
                r#"cannot parse "4 GB" as a size"#,
            ),
            (r#"{"stack_bytes": -1}"#, "expected a size"),
            (
                r#"{"network": {"ceiling": {"connect": "tcp:db.prod"}}}"#,
                "rule \"tcp:db.prod\" names no port; write tcp:db.prod:443, for example",
            ),
            (
                r#"{"network": {"default": {"mode": "host"}}}"#,
                "expected `none` or `pod`",
            ),
            (
                r#"{"network": {"default": {"listen": ["tcp:80"]},
                                "ceiling": {"listen": ["tcp:1024-65535"]}}}"#,
                "network.default.listen holds \"tcp:80\", and network.ceiling allows only \
                 tcp:1024-65535; correct one of them",
            ),
        ] {
            let error = load(text).unwrap_err().to_string();
            assert!(error.contains(name), "{error:?} does not say {name:?}");
        }
    }

    fn load(text: &str) -> Result<Policy, PolicyError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.json");
        fs::write(&path, text).unwrap();
        Policy::load(&path)
    }
}
