//! What came of a job: one JSON document, read by the asker, printed by `--json`.
//!
//! Written by the job, read by whoever asked. Fields are only ever added.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::job::Distribution;

/// The outcome of one job, and how it came about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// Which job this is about.
    pub ticket: String,
    /// `install`, `verify`, `uninstall`, `status` or `prewarm`.
    pub action: String,
    /// Version of the release that did it.
    pub version: String,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The outcome for people: what was wrong, where, and the way out.
    pub message: String,
    /// What was done, in order.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// What holds on the node afterwards, as far as it could be found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// What came of each image that was to be prewarmed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Prewarmed>,
}

impl Report {
    /// Whether what was asked for holds now.
    #[must_use]
    pub fn holds(&self) -> bool {
        matches!(self.outcome, Outcome::Done { .. })
    }
}

/// How a job ended. Only the first kind means that what was asked for holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case",
    tag = "outcome"
)]
pub enum Outcome {
    /// It holds.
    Done {
        /// A file of the host's was changed for it.
        changed: bool,
        /// containerd was restarted for it.
        restarted: bool,
    },
    /// Nothing was changed, because it cannot work on this node as it is.
    Refused,
    /// Nothing was changed, because containers of this runtime run.
    InUse {
        /// Those containers.
        containers: Vec<Container>,
    },
    /// containerd did not come back with the new configuration, or nothing ran with the new release; the
    /// old one is in place again.
    RolledBack,
    /// Something on the node keeps changing the configuration back. Nothing was done this time.
    Reverted {
        /// How often, since it was last left alone.
        times: u32,
        /// Not to be tried again before: seconds since 1970.
        retry_after_unix: u64,
    },
    /// A step failed; the message says which and why, and the steps what was done before.
    Failed,
}

/// One step that a job took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Step {
    /// A short fixed name: `read-layout`, `try-config`, `restart` …
    pub name: String,
    /// What came of it.
    pub detail: String,
}

impl Step {
    pub(crate) fn new(name: &str, detail: &str) -> Self {
        Self {
            name: name.to_owned(),
            detail: plain(detail),
        }
    }
}

/// The text as it may reach a terminal, the journal or an event: paths and errors may hold what an image
/// says. Characters that move the cursor, end the line or turn the direction are shown, not obeyed.
pub(crate) fn plain(text: &str) -> String {
    let is_active = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if is_active(c) {
            plain.extend(c.escape_default());
        } else {
            plain.push(c);
        }
    }
    plain
}

/// What holds on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// How the node is laid out.
    pub distribution: Option<Distribution>,
    /// The file that holds, or would hold, the runtime's table.
    pub config: Option<PathBuf>,
    /// The shim that the file names.
    pub configured: Option<PathBuf>,
    /// Whether containerd's CRI answers.
    pub containerd_answers: bool,
    /// Whether that containerd, as it runs, lists the handler.
    pub handler_listed: bool,
    /// The shim that the running containerd uses.
    pub running: Option<PathBuf>,
    /// Releases on this node.
    #[serde(default)]
    pub releases: Vec<InstalledRelease>,
    /// Containers of this runtime, sandboxes of pods included.
    #[serde(default)]
    pub containers: Vec<Container>,
    /// Present while something keeps changing the file back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverts: Option<Reverts>,
}

/// An image that was to be prewarmed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Prewarmed {
    /// Its name, as it was asked for.
    pub image: String,
    /// Its Wasm programs whose native code is in the node's store now.
    pub interpreters: Vec<PrewarmedInterpreter>,
    /// Why there is nothing, or not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A Wasm program of an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PrewarmedInterpreter {
    /// Its path in the image.
    pub path: String,
    /// The entry in the node's store, as `wasm-interp cache ls` has it.
    pub key: String,
    /// What it cost; absent where it was there already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compile_seconds: Option<f64>,
}

/// A file that was changed back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reverts {
    /// How often.
    pub times: u32,
    /// When it was last noticed: seconds since 1970.
    pub last_unix: u64,
}

/// A release in its folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct InstalledRelease {
    /// The folder, a path of the host.
    pub folder: PathBuf,
    /// Whether a container or a living process uses it.
    pub in_use: bool,
    /// Processes that run from it, other than compiles. In the end those of containers are among them.
    #[serde(default)]
    pub pids: Vec<i32>,
}

/// A container of this runtime, or a pod's sandbox.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Container {
    /// containerd's namespace.
    pub namespace: String,
    /// Its id there.
    pub id: String,
    /// `NAMESPACE/NAME` of its pod, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:.13}", self.namespace, self.id)?;
        match &self.pod {
            Some(pod) => write!(f, " (pod {pod})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_image_says_is_shown_and_not_obeyed() {
        let step = Step::new("compiled", "/bin/\u{1b}[2J\u{9b}1m\u{202e}x\n\tok é \\ 漢");
        assert_eq!(step.detail, r"/bin/\u{1b}[2J\u{9b}1m\u{202e}x\n\tok é \ 漢");
        // Once is enough, and twice does no harm.
        assert_eq!(plain(&step.detail), step.detail);
    }
}
