//! The memory of a node with pods on it, measured in three ways that must not be mixed: what the machine has
//! left, what the node's cgroup is charged, and what the pods' processes map.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::Outcome;
use crate::settings::ClusterSettings;

/// What the machine and the node's cgroup say, in KiB.
#[derive(Clone, Copy, Serialize)]
pub(super) struct NodeMemory {
    /// `MemAvailable` of /proc/meminfo.
    pub(super) available: f64,
    /// The cgroup's usage without the page cache that nothing has used of late: the kubelet's "working set".
    pub(super) working_set: f64,
    /// Of the cgroup's usage, the kernel's own: page tables, stacks, network namespaces.
    pub(super) kernel: f64,
}

impl NodeMemory {
    pub(super) fn read(settings: &ClusterSettings, name: &str) -> Outcome<Self> {
        // Of cgroup v1, as the cluster's nodes are in their other hierarchies too.
        let folder = Path::new("/sys/fs/cgroup/memory")
            .join(settings.run.name())
            .join(name);
        let number = |file: &str| -> Outcome<f64> {
            Ok(read(&folder.join(file))?.trim().parse::<f64>()? / 1024.0)
        };
        let stat = read(&folder.join("memory.stat"))?;
        let inactive = field(&stat, "total_inactive_file")? / 1024.0;
        Ok(Self {
            available: field(&fs::read_to_string("/proc/meminfo")?, "MemAvailable:")?,
            working_set: number("memory.usage_in_bytes")? - inactive,
            kernel: number("memory.kmem.usage_in_bytes")?,
        })
    }
}

/// Processes of one role, from their `smaps_rollup`; memory in KiB.
#[derive(Clone, Copy, Default, Serialize)]
pub(super) struct Share {
    pub(super) processes: f64,
    pub(super) pss: f64,
    pub(super) private_dirty: f64,
}

impl Share {
    fn add(&mut self, rollup: &str) -> Outcome {
        self.processes += 1.0;
        self.pss += field(rollup, "Pss:")?;
        self.private_dirty += field(rollup, "Private_Dirty:")?;
        Ok(())
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            processes: self.processes + other.processes,
            pss: self.pss + other.pss,
            private_dirty: self.private_dirty + other.private_dirty,
        }
    }

    pub(super) fn a_pod(self, pods: f64) -> Self {
        Self {
            processes: self.processes / pods,
            pss: self.pss / pods,
            private_dirty: self.private_dirty / pods,
        }
    }
}

/// The processes of pods, by role.
#[derive(Clone, Copy, Default, Serialize)]
pub(super) struct Processes {
    pub(super) shims: Share,
    pub(super) pauses: Share,
    pub(super) containers: Share,
}

impl Processes {
    /// Those of every shim that is not among `others`, and of all that descends from it.
    pub(super) fn read(others: &BTreeSet<i32>) -> Outcome<Self> {
        let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for pid in all() {
            if let Some(parent) = parent(pid) {
                children.entry(parent).or_default().push(pid);
            }
        }
        let mut found = Self::default();
        for (shim, sandbox) in shims() {
            if others.contains(&shim) {
                continue;
            }
            found.shims.add(&rollup(shim)?)?;
            let mut waiting = children.get(&shim).cloned().unwrap_or_default();
            while let Some(pid) = waiting.pop() {
                waiting.extend(children.get(&pid).into_iter().flatten());
                // The sandbox's container is the one that holds the pod's namespaces.
                let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
                let role = match cgroup.contains(&sandbox) {
                    true => &mut found.pauses,
                    false => &mut found.containers,
                };
                role.add(&rollup(pid)?)?;
            }
        }
        Ok(found)
    }

    /// What a pod is made of beside its container.
    pub(super) fn sandbox(&self) -> Share {
        self.shims.and(self.pauses)
    }

    pub(super) fn all(&self) -> Share {
        self.sandbox().and(self.containers)
    }
}

/// All shims that run, with the sandbox that each serves.
pub(super) fn shims() -> BTreeMap<i32, String> {
    all().filter_map(|pid| Some((pid, sandbox(pid)?))).collect()
}

/// The sandbox, if the process is a shim: containerd names it on the command line.
fn sandbox(pid: i32) -> Option<String> {
    let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = String::from_utf8_lossy(&words);
    let mut words = words.split('\0');
    let program = Path::new(words.next()?).file_name()?.to_str()?;
    if !program.starts_with("containerd-shim-") {
        return None;
    }
    words.find(|&word| word == "-id")?;
    words.next().map(str::to_owned)
}

/// Every process of the cluster, none of the machine's own.
fn all() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it is in parentheses and may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(1)?.parse().ok()
}

fn rollup(pid: i32) -> Outcome<String> {
    read(
        &Path::new("/proc")
            .join(pid.to_string())
            .join("smaps_rollup"),
    )
}

fn read(path: &Path) -> Outcome<String> {
    let text = fs::read_to_string(path);
    Ok(text.map_err(|error| format!("cannot read {}: {error}", path.display()))?)
}

/// The number that follows a word at the beginning of a line.
fn field(text: &str, word: &str) -> Outcome<f64> {
    let number = text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(word)).then(|| words.next())?
    });
    let number = number.ok_or_else(|| format!("no {word} in:\n{text}"))?;
    Ok(number.parse()?)
}
