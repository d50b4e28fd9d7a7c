//! What a container's spec asks for, read once and checked for sense. No defaults and no looks at
//! files: those are [`crate::resolve`]'s.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxResources, Mount, Process, Spec};

use crate::INTERPRETER_ANNOTATION;
use crate::error::PlanError;
use crate::mounts::{self, Source};
use crate::plan::DirectoryRights;

/// A container's spec as far as a plan depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) args: Vec<String>,
    /// In order, without duplicates: of several values the last holds.
    pub(crate) env: Vec<(String, String)>,
    /// Absolute.
    pub(crate) cwd: PathBuf,
    pub(crate) uid: u32,
    /// Value of the annotation [`INTERPRETER_ANNOTATION`].
    pub(crate) interpreter: Option<String>,
    pub(crate) root: DirectoryRights,
    /// In the spec's order; the view's mount points go with them.
    pub(crate) mounts: Vec<MountRequest>,
    /// Paths of `linux.devices`.
    pub(crate) devices: Vec<PathBuf>,
    /// Memory limit of the container's cgroup in bytes.
    pub(crate) memory_limit: Option<u64>,
}

/// One of the spec's mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountRequest {
    /// Absolute, as the spec writes it.
    pub(crate) destination: PathBuf,
    pub(crate) rights: DirectoryRights,
    /// Where it comes from, in words.
    pub(crate) source: String,
}

impl Request {
    /// Reads `spec`.
    pub(crate) fn parse(spec: &Spec) -> Result<Self, PlanError> {
        let process = spec.process().as_ref().ok_or(PlanError::NoProcess)?;
        if process.terminal() == Some(true) {
            return Err(PlanError::Terminal);
        }
        let linux = spec.linux().as_ref();
        let root = spec
            .root()
            .as_ref()
            .and_then(oci_spec::runtime::Root::readonly);
        let devices = linux
            .and_then(|linux| linux.devices().as_deref())
            .unwrap_or_default();
        let annotations = spec.annotations().as_ref();
        Ok(Self {
            args: args(process)?,
            env: env(process)?,
            cwd: cwd(process)?,
            uid: process.user().uid(),
            interpreter: annotations
                .and_then(|annotations| annotations.get(INTERPRETER_ANNOTATION))
                .map(|value| without_nul("annotation", value).map(str::to_owned))
                .transpose()?,
            root: if root == Some(true) {
                DirectoryRights::ReadOnly
            } else {
                DirectoryRights::ReadWrite
            },
            mounts: spec
                .mounts()
                .as_deref()
                .unwrap_or_default()
                .iter()
                .map(mount)
                .collect(),
            devices: devices.iter().map(|device| device.path().clone()).collect(),
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
    let mut env = Vec::new();
    for entry in process.env().as_deref().unwrap_or_default() {
        without_nul("environment entry", entry)?;
        match entry.split_once('=') {
            Some((name, value)) if !name.is_empty() => set(&mut env, name, value),
            _ => {
                return Err(PlanError::MalformedEnv {
                    entry: entry.clone(),
                });
            }
        }
    }
    Ok(env)
}

/// Sets `name`, in the place that it already has if it has one.
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
    let source = match mounts::source(mount) {
        Source::Bind { host, .. } => format!("bind {}", host.display()),
        Source::Memory => "tmpfs".to_owned(),
        Source::Kernel(_) | Source::Other(_) => {
            let typ = mount.typ().as_deref().unwrap_or("mount");
            match mount.source() {
                Some(source) => format!("{typ} {}", source.display()),
                None => typ.to_owned(),
            }
        }
    };
    MountRequest {
        destination: mounts::destination(mount).components().collect(),
        rights: mounts::rights(mount),
        source,
    }
}

/// The memory limit, wherever the spec says it; the smallest holds.
fn memory_limit(resources: &LinuxResources) -> Result<Option<u64>, PlanError> {
    const MEMORY_MAX: &str = "memory.max";
    // A negative limit means none.
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
