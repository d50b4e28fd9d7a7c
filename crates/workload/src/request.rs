//! The request of a container's spec, read once and validated. [`crate::resolve`] applies the defaults
//! and reads the files.

use std::collections::HashMap;
use std::path::PathBuf;

use oci_spec::runtime::{LinuxCapabilities, LinuxResources, Mount, Process, Spec};

use crate::annotations::{Annotations, INTERPRETER_ANNOTATION};
use crate::dev::{self, devices};
use crate::error::PlanError;
use crate::grants::NetworkRequest;
use crate::mounts::{self, MountRequest};
use crate::plan::MountAccess;

/// The parts of a container's spec that a plan depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContainerRequest {
    pub(crate) args: Vec<String>,
    /// In order, without duplicates: the last of several values counts.
    pub(crate) env: Vec<(String, String)>,
    /// Absolute.
    pub(crate) cwd: PathBuf,
    pub(crate) uid: u32,
    /// Value of the annotation [`INTERPRETER_ANNOTATION`].
    pub(crate) interpreter: Option<String>,
    pub(crate) network: NetworkRequest,
    pub(crate) root: MountAccess,
    /// In the spec's order, like the view's mount points.
    pub(crate) mounts: Vec<MountRequest>,
    /// Paths of `linux.devices`.
    pub(crate) devices: Vec<PathBuf>,
    pub(crate) capabilities: Option<LinuxCapabilities>,
    /// Memory limit of the container's cgroup in bytes.
    pub(crate) memory_limit: Option<u64>,
}

impl ContainerRequest {
    /// Reads `spec`.
    pub(crate) fn parse(spec: &Spec) -> Result<Self, PlanError> {
        let process = spec.process().as_ref().ok_or(PlanError::NoProcess)?;
        let linux = spec.linux().as_ref();
        let root = spec
            .root()
            .as_ref()
            .and_then(oci_spec::runtime::Root::readonly);
        let annotations = Annotations::of(spec);
        Ok(Self {
            args: args(process)?,
            env: env(process)?,
            cwd: cwd(process)?,
            uid: process.user().uid(),
            interpreter: annotations
                .get(INTERPRETER_ANNOTATION)
                .map(|found| without_nul("annotation", found.value).map(str::to_owned))
                .transpose()?,
            network: NetworkRequest::parse(&annotations)?,
            root: if root == Some(true) {
                MountAccess::ReadOnly
            } else {
                MountAccess::Writable
            },
            mounts: spec
                .mounts()
                .as_deref()
                .unwrap_or_default()
                .iter()
                .map(mount)
                .collect(),
            devices: devices(spec)
                .iter()
                .map(|device| device.path().clone())
                .collect(),
            capabilities: process.capabilities().clone(),
            memory_limit: linux
                .and_then(|linux| linux.resources().as_ref())
                .map_or(Ok(None), memory_limit)?,
        })
    }
}

fn args(process: &Process) -> Result<Vec<String>, PlanError> {
    let args = process.args().as_deref().unwrap_or_default();
    if args.first().is_none_or(String::is_empty) {
        return Err(PlanError::NoArguments);
    }
    args.iter()
        .map(|arg| without_nul("argument", arg).map(str::to_owned))
        .collect()
}

fn env(process: &Process) -> Result<Vec<(String, String)>, PlanError> {
    let mut env: Vec<(String, String)> = Vec::new();
    let mut places = HashMap::new();
    for entry in process.env().as_deref().unwrap_or_default() {
        without_nul("environment entry", entry)?;
        match entry.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                let place = *places.entry(name).or_insert(env.len());
                match env.get_mut(place) {
                    Some((_, known)) => value.clone_into(known),
                    None => env.push((name.to_owned(), value.to_owned())),
                }
            }
            _ => {
                return Err(PlanError::MalformedEnv {
                    entry: entry.clone(),
                });
            }
        }
    }
    Ok(env)
}

/// Sets `name`. A variable that is set already keeps its position. For a few names: each is compared with all
/// that are set.
pub(crate) fn set(env: &mut Vec<(String, String)>, name: &str, value: &str) {
    match env.iter_mut().find(|(known, _)| known == name) {
        Some((_, known)) => value.clone_into(known),
        None => env.push((name.to_owned(), value.to_owned())),
    }
}

fn cwd(process: &Process) -> Result<PathBuf, PlanError> {
    let cwd = process.cwd();
    without_nul("working directory", &cwd.to_string_lossy())?;
    if cwd.is_relative() {
        return Err(PlanError::RelativeCwd { cwd: cwd.clone() });
    }
    Ok(cwd.components().collect())
}

fn without_nul<'a>(what: &'static str, value: &'a str) -> Result<&'a str, PlanError> {
    if value.contains('\0') {
        return Err(PlanError::Nul {
            what,
            value: value.to_owned(),
        });
    }
    Ok(value)
}

fn mount(mount: &Mount) -> MountRequest {
    MountRequest {
        destination: mounts::destination(mount).components().collect(),
        access: mounts::access(mount),
        source: dev::words(mount),
    }
}

/// The smallest memory limit of all that the spec has.
fn memory_limit(resources: &LinuxResources) -> Result<Option<u64>, PlanError> {
    const MEMORY_MAX: &str = "memory.max";
    // A negative limit means unlimited.
    let classic = resources
        .memory()
        .as_ref()
        .and_then(oci_spec::runtime::LinuxMemory::limit)
        .and_then(|limit| u64::try_from(limit).ok())
        .filter(|limit| *limit > 0);
    let unified = match resources
        .unified()
        .as_ref()
        .and_then(|unified| unified.get(MEMORY_MAX))
    {
        None => None,
        Some(value) if value.trim() == "max" => None,
        Some(value) => Some(
            value
                .trim()
                .parse()
                .map_err(|_| PlanError::MalformedLimit {
                    name: MEMORY_MAX,
                    value: value.clone(),
                })?,
        ),
    };
    Ok([classic, unified].into_iter().flatten().min())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Nanoseconds that this thread has computed (`/proc/PID/schedstat`, sched-stats.rst of Linux).
    fn computed() -> u64 {
        let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        stat.split(' ').next().unwrap().parse().unwrap()
    }

    /// Guards against a comparison of each variable with all others: 5e9 of them here.
    #[test]
    fn many_variables_are_read_in_a_moment() {
        let mut process = Process::default();
        let variables = |value| (0..100_000).map(move |number| format!("V{number}={value}"));
        process.set_env(Some(variables("old").chain(variables("new")).collect()));
        let began = computed();
        let read = env(&process).unwrap();
        let took = computed() - began;
        assert_eq!(read.len(), 100_000);
        assert_eq!(read[9], ("V9".to_owned(), "new".to_owned()));
        assert!(took < 5_000_000_000, "{took} ns");
    }
}
