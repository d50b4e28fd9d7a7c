//! Changes of limits: which file of a cgroup gets which value, and in which order.
#![forbid(unsafe_code)]

use std::{fs, io, path::PathBuf};

/// Why limits cannot be updated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpdateError {
    #[error("{0}")]
    Value(String),
    #[error(
        "the container's cgroup has no file {file}: this kernel has no such limit, or the \
         controller is off there; leave out the limit, or enable the controller"
    )]
    Absent { file: String },
    #[error("cannot write {value:?} to {path}: {source}{hint}")]
    Write {
        value: String,
        path: PathBuf,
        source: io::Error,
        hint: String,
    },
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{cause}; and the old value of {file} cannot be set again: {reason}")]
    NotUndone {
        cause: Box<UpdateError>,
        file: String,
        reason: String,
    },
}

/// What to do if a file does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IfAbsent {
    Fail,
    Skip,
}

/// What a file keeps of what is written to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LimitFileKind {
    /// One value.
    Single,
    /// A line per device or the like, which the first word names. The words after that name mean no limit.
    Keyed { unlimited: &'static str },
}

/// A value for a file of the cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LimitChange {
    pub(super) file: String,
    pub(super) value: String,
    pub(super) absent: IfAbsent,
    pub(super) kind: LimitFileKind,
}

impl LimitChange {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "mostly a number or a literal"
    )]
    pub(super) fn new(file: impl Into<String>, value: impl ToString) -> Self {
        Self {
            file: file.into(),
            value: value.to_string(),
            absent: IfAbsent::Fail,
            kind: LimitFileKind::Single,
        }
    }

    pub(super) fn or_skip(mut self) -> Self {
        self.absent = IfAbsent::Skip;
        self
    }

    pub(super) fn keyed(mut self, unlimited: &'static str) -> Self {
        self.kind = LimitFileKind::Keyed { unlimited };
        self
    }
}

/// Changes that are written in this order, unless the kernel refuses one (EINVAL) because another still has
/// its old value: the refused change is tried again after the others. So a limit and the limit above it can both go up
/// and down.
pub(super) type UpdateStep = Vec<LimitChange>;

/// The cgroup's directories: one on version 2, one per hierarchy on version 1.
pub(in crate::cgroup) struct CgroupFiles<'a>(pub(in crate::cgroup) &'a [PathBuf]);

impl CgroupFiles<'_> {
    pub(super) fn find(&self, file: &str) -> Option<PathBuf> {
        let mut paths = self.0.iter().map(|directory| directory.join(file));
        paths.find(|path| path.exists())
    }

    /// `None`: there is no such file.
    pub(in crate::cgroup) fn read(&self, file: &str) -> Result<Option<String>, UpdateError> {
        let Some(path) = self.find(file) else {
            return Ok(None);
        };
        fs::read_to_string(&path)
            .map(Some)
            .map_err(|source| UpdateError::Read { path, source })
    }
}

/// A number that is set: 0 means that it is not.
pub(in crate::cgroup) fn set<T: PartialEq + From<u8>>(value: Option<T>) -> Option<T> {
    value.filter(|value| *value != T::from(0))
}

/// A device as the kernel's files name it.
pub(super) fn device(major: i64, minor: i64) -> String {
    format!("{major}:{minor}")
}
