//! What the node's administrator decided: defaults and ceilings for every Wasm container of the
//! node. Read once by the shim and the command line, used only in [`crate::decide()`].

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

const MIB: u64 = 1 << 20;

/// Names another policy file than [`policy_file`]'s default.
const POLICY_ENV: &str = "WASM_INTERP_POLICY";

/// The node's policy file, for all who read it. It need not exist.
#[must_use]
pub fn policy_file() -> PathBuf {
    env::var_os(POLICY_ENV)
        .filter(|value| !value.is_empty())
        .map_or_else(|| "/etc/wasm-interp/policy.json".into(), PathBuf::from)
}

/// The smallest stack that runs an interpreter's start-up code.
const MIN_STACK_BYTES: u64 = 512 << 10;

/// The node's policy, `/etc/wasm-interp/policy.json`. A file may leave out what it does not change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Stack of a guest in bytes. Real recursion in CPython, Ruby and PHP needs 2 to 8 MiB.
    pub stack_bytes: u64,
    /// Memory of a guest.
    pub memory: MemoryPolicy,
    /// Whether native programs run too: sidecars and init containers of a pod often are.
    pub native: NativePolicy,
    /// Size in bytes of the `/tmp` that a container gets when its spec leaves none writable. It
    /// bounds what a container without a memory limit can take from the node that way.
    pub tmp_bytes: u64,
}

/// Whether native (ELF) programs run as containers of this runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NativePolicy {
    /// As under any other runtime: a pod of a Wasm container may have native ones too.
    #[default]
    Allow,
    /// Only Wasm runs.
    Deny,
}

/// How a guest's linear memory is bounded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryPolicy {
    /// Least distance in bytes between the guest's ceiling and its cgroup's limit. What lies
    /// between holds the runner itself: its stacks, page tables and WASI buffers, and the pages of
    /// the compiled interpreter that this cgroup happens to be charged for.
    pub headroom_bytes: u64,
    /// The same as a percentage of the cgroup's limit; the larger of the two holds.
    pub headroom_percent: u8,
    /// Ceiling for every guest in bytes, whatever its cgroup allows. Absent: Wasm's own 4 GiB.
    pub max_bytes: Option<u64>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            stack_bytes: 8 * MIB,
            memory: MemoryPolicy::default(),
            native: NativePolicy::default(),
            tmp_bytes: 64 * MIB,
        }
    }
}

impl Default for MemoryPolicy {
    fn default() -> Self {
        Self {
            headroom_bytes: 16 * MIB,
            headroom_percent: 12,
            max_bytes: None,
        }
    }
}

/// Why a policy file cannot be used.
#[derive(Debug, Error)]
pub enum PolicyError {
    /// The file is there and cannot be read.
    #[error("cannot read policy {path:?}: {source}; make it readable for root or remove it")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is not a policy.
    #[error("policy {path:?} is not valid: {source}; correct it or remove it")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Position and cause.
        source: serde_json::Error,
    },
    /// A value cannot work.
    #[error("policy {path:?}: {name} is {value}, and must be {bounds}; correct it")]
    Bounds {
        /// The file.
        path: PathBuf,
        /// The setting.
        name: &'static str,
        /// Its value.
        value: u64,
        /// What it may be.
        bounds: &'static str,
    },
}

impl Policy {
    /// Reads the policy at `path`; a missing file is the default policy.
    ///
    /// # Errors
    /// If the file is there and is unreadable, malformed, or holds a value that cannot work. A
    /// node must not fall back to defaults when its administrator's word cannot be understood.
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
        let refuse = |name, value, bounds| {
            Err(PolicyError::Bounds {
                path: path.to_owned(),
                name,
                value,
                bounds,
            })
        };
        if !(MIN_STACK_BYTES..=1024 * MIB).contains(&self.stack_bytes) {
            return refuse(
                "stack_bytes",
                self.stack_bytes,
                "from 524288 (512 KiB) to 1073741824 (1 GiB)",
            );
        }
        if self.memory.headroom_percent > 50 {
            let percent = u64::from(self.memory.headroom_percent);
            return refuse("memory.headroom_percent", percent, "at most 50");
        }
        if let Some(bytes @ 0..MIB) = self.memory.max_bytes {
            return refuse("memory.max_bytes", bytes, "at least 1048576 (1 MiB)");
        }
        if self.tmp_bytes < MIB {
            return refuse("tmp_bytes", self.tmp_bytes, "at least 1048576 (1 MiB)");
        }
        Ok(())
    }

    /// Ceiling of the linear memory of a guest whose cgroup allows `limit` bytes.
    pub(crate) fn guest_memory(&self, limit: Option<u64>) -> Option<u64> {
        const WASM_MAX: u64 = 4 << 30;
        const WASM_PAGE: u64 = 64 << 10;
        let beneath_limit = limit.map(|limit| {
            let share = limit / 100 * u64::from(self.memory.headroom_percent);
            // Never more than half: a tight limit should fail in the guest's allocator, with the
            // guest's words, rather than before it has started.
            limit - share.max(self.memory.headroom_bytes).min(limit / 2)
        });
        [beneath_limit, self.memory.max_bytes]
            .into_iter()
            .flatten()
            .min()
            .filter(|bytes| *bytes < WASM_MAX)
            .map(|bytes| bytes / WASM_PAGE * WASM_PAGE)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
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
    fn what_cannot_work_is_refused_by_name() {
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
        ] {
            let error = load(text).unwrap_err().to_string();
            assert!(error.contains(name), "{error:?} does not say {name:?}");
        }
    }

    #[test]
    fn headroom_grows_with_the_limit_and_never_takes_more_than_half() {
        let memory = |limit| Policy::default().guest_memory(Some(limit));
        assert_eq!(memory(128 * MIB), Some(112 * MIB));
        assert_eq!(memory(1000 * MIB), Some(880 * MIB));
        assert_eq!(memory(20 * MIB), Some(10 * MIB));
        assert_eq!(memory(64 << 30), None, "Wasm ends at 4 GiB by itself");
        assert_eq!(Policy::default().guest_memory(None), None);
    }

    #[test]
    fn the_ceiling_wins_over_the_limit() {
        let policy = load(r#"{"memory": {"max_bytes": 67108864}}"#).unwrap();
        assert_eq!(policy.guest_memory(Some(1 << 30)), Some(64 * MIB));
        assert_eq!(policy.guest_memory(None), Some(64 * MIB));
    }

    fn load(text: &str) -> Result<Policy, PolicyError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.json");
        fs::write(&path, text).unwrap();
        Policy::load(&path)
    }
}
