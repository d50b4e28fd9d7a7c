//! New limits for a container's cgroup while it runs (the verb `update`).
//!
//! Called by `container::update` with the container's own directories. [`v1`] and [`v2`] say which files get
//! which values; this module writes them. If one cannot be written, those before it get their old values back:
//! an update is done whole or not at all. Does not know systemd.
//!
//! A value that is missing or 0 leaves a limit as it is, and -1 removes it, as with `runc update`. Rules for
//! devices are never changed.
#![forbid(unsafe_code)]

mod change;
mod common;
mod v1;
mod v2;

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
};

use oci_spec::runtime::LinuxResources;

pub(crate) use self::change::UpdateError;
pub(super) use self::change::{CgroupFiles, set};
use self::change::{IfAbsent, LimitChange, LimitFileKind, UpdateStep};
pub(in crate::cgroup) use self::v2::bandwidth;
use super::version::Version;

/// Gives the cgroup in `directories` the limits of `resources`. What it returns can undo that.
pub(crate) fn update(
    directories: &[PathBuf],
    version: Version,
    resources: &LinuxResources,
) -> Result<UpdatedCgroup, UpdateError> {
    let files = CgroupFiles(directories);
    let steps = match version {
        Version::V1 => v1::steps(resources, &files)?,
        Version::V2 => v2::steps(resources, &files)?,
    };
    let mut written = UpdatedCgroup(Vec::new());
    for step in steps {
        if let Err(cause) = written.take(&files, step) {
            return Err(written.undo(cause));
        }
    }
    Ok(written)
}

/// What was written, with the values before that.
#[derive(Debug)]
pub(crate) struct UpdatedCgroup(Vec<(PathBuf, LimitChange)>);

impl UpdatedCgroup {
    /// Sets the old values again, because of `cause`.
    pub(crate) fn undo(self, cause: UpdateError) -> UpdateError {
        let mut left: Vec<_> = self.0;
        // A limit may have to wait for the one above it, as in a step.
        left.reverse();
        loop {
            let before = left.len();
            let mut failed = Vec::new();
            let mut reason = None;
            for (path, old) in left {
                match write(&path, &old) {
                    Ok(()) => {}
                    Err(error) => {
                        reason = Some((old.file.clone(), error.to_string()));
                        failed.push((path, old));
                    }
                }
            }
            let Some((file, reason)) = reason else {
                return cause;
            };
            if failed.len() == before {
                return UpdateError::NotUndone {
                    cause: Box::new(cause),
                    file,
                    reason,
                };
            }
            left = failed;
        }
    }

    fn take(&mut self, files: &CgroupFiles<'_>, step: UpdateStep) -> Result<(), UpdateError> {
        let mut left = step;
        loop {
            let before = left.len();
            let mut refused = Vec::new();
            let mut first = None;
            for change in left {
                match self.write(files, &change) {
                    Ok(()) => {}
                    Err(error) if is_invalid(&error) => {
                        first.get_or_insert(error);
                        refused.push(change);
                    }
                    Err(error) => return Err(error),
                }
            }
            match first {
                None => return Ok(()),
                Some(error) if refused.len() == before => return Err(error),
                Some(_) => left = refused,
            }
        }
    }

    fn write(&mut self, files: &CgroupFiles<'_>, change: &LimitChange) -> Result<(), UpdateError> {
        let Some(path) = files.find(&change.file) else {
            return match change.absent {
                IfAbsent::Skip => Ok(()),
                IfAbsent::Fail => Err(UpdateError::Absent {
                    file: change.file.clone(),
                }),
            };
        };
        // A file that cannot be read has no old value to return to.
        let old = fs::read_to_string(&path)
            .ok()
            .map(|text| old(&text, change));
        write(&path, change)?;
        self.0.extend(old.map(|old| (path, old)));
        Ok(())
    }
}

/// What has to be written to undo `change`, of a file whose text is `text`.
fn old(text: &str, change: &LimitChange) -> LimitChange {
    let value = match change.kind {
        LimitFileKind::Single => text.trim_end().to_owned(),
        LimitFileKind::Keyed { unlimited } => {
            let key = change.value.split_whitespace().next().unwrap_or_default();
            let line = text
                .lines()
                .find(|line| line.split_whitespace().next() == Some(key));
            line.map_or_else(|| format!("{key} {unlimited}"), str::to_owned)
        }
    };
    LimitChange {
        value,
        ..change.clone()
    }
}

fn is_invalid(error: &UpdateError) -> bool {
    matches!(error, UpdateError::Write { source, .. }
        if source.raw_os_error() == Some(libc::EINVAL))
}

/// Never makes a file. The kernel takes a value in one write(2).
fn write(path: &Path, change: &LimitChange) -> Result<(), UpdateError> {
    let written = File::options()
        .write(true)
        .open(path)
        .and_then(|mut file| file.write_all(change.value.as_bytes()));
    written.map_err(|source| UpdateError::Write {
        hint: hint(path, &source),
        value: change.value.clone(),
        path: path.to_owned(),
        source,
    })
}

/// What to do about an error of the kernel, for the common ones.
fn hint(path: &Path, error: &io::Error) -> String {
    let memory = path
        .file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"memory."));
    match error.raw_os_error() {
        Some(libc::EBUSY) if memory => {
            let usage = fs::read_to_string(path.with_file_name("memory.usage_in_bytes"));
            let usage = usage.unwrap_or_default();
            format!(
                "; the container uses {} bytes: ask for more, or wait until it uses less",
                usage.trim()
            )
        }
        Some(libc::EINVAL) => "; ask for a value that fits the limits of the pod's cgroup and the \
                               node"
            .to_owned(),
        _ if error.kind() == ErrorKind::NotFound => "; the container has ended".to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
