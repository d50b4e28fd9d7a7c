//! Parses the text of a `config.json` into a [`Spec`], with a warning for each value that it leaves out.
//!
//! Every program that reads a bundle calls this: the shim, `wasm-interp run` and `inspect`, the runner.
//! It has no side effects. The parser's types are closed enums, while programs in Go write the spec,
//! and those may be newer than this one. One rule decides what happens to a value that the types
//! cannot represent:
//!
//! | the value | what happens | example |
//! |---|---|---|
//! | without it the container can do less | it is left out, with a [`SpecWarning`] | an unknown capability |
//! | the runtime spec says to ignore it | it is left out, with a [`SpecWarning`] | an unknown field, another platform's part |
//! | it may protect something, or the program may rely on it | [`SpecParseError`] | an unknown seccomp action, namespace or resource limit, `nonewprivileges` for `noNewPrivileges` |
//! | it is another spelling of a known value | it is read as that value, without a warning | `null` or `""` where Go leaves out a field |
#![forbid(unsafe_code)]

mod tolerate;
mod unknown;
mod zero;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

use oci_spec::runtime::{LinuxResources, Spec};
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;

use crate::causes::shortened;

/// At most this many warnings are kept for a spec, so that the log stays readable.
const MOST_WARNINGS: usize = 32;
/// At most this many bytes of a name from the spec reach a log.
const LONGEST_NAME: usize = 200;

/// Why a `config.json` cannot be used.
#[derive(Debug, Error)]
pub enum SpecParseError {
    /// The text is not JSON.
    #[error("it is not JSON: {0}; correct it")]
    Json(#[source] serde_json::Error),
    /// This version cannot honour a value.
    #[error("{field}: {problem}; correct it in the spec")]
    Value {
        /// The value's field, for example `process.rlimits[0].type`.
        field: String,
        /// What is wrong with the value.
        problem: String,
    },
}

/// A part of the spec that the container does not get.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpecWarning {
    /// A capability that this version does not know.
    UnknownCapability {
        /// Its name.
        name: String,
    },
    /// An architecture that this version does not know. The profile's rules do not filter system calls
    /// of that architecture: such a call ends the process.
    UnknownArchitecture {
        /// Its name.
        name: String,
    },
    /// Flags of the personality, for which the kernel has no interface.
    PersonalityFlags,
    /// A seccomp section that filters nothing.
    NoFilter,
    /// An annotation whose value is not a string.
    Annotation {
        /// Its name.
        name: String,
    },
    /// An annotation of ours that this version does not know.
    UnknownAnnotation {
        /// Its name.
        name: String,
    },
    /// A part for another platform.
    OtherPlatform {
        /// Name of the part.
        part: String,
    },
    /// There is no `ociVersion`.
    NoVersion,
    /// A field that this version does not know.
    UnknownField {
        /// The field; `[]` stands for every entry of a list.
        field: String,
    },
    /// More warnings than are kept.
    More {
        /// The number of warnings that are not shown.
        count: usize,
    },
}

impl fmt::Display for SpecWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownCapability { name } => write!(
                f,
                "process.capabilities: {name:?} is not a capability that this version knows; the \
                 container runs without it"
            ),
            Self::UnknownArchitecture { name } => write!(
                f,
                "linux.seccomp.architectures: {name:?} is not an architecture that this version \
                 knows; a system call of it ends the process"
            ),
            Self::PersonalityFlags => write!(
                f,
                "linux.personality.flags: flags are not supported; only the domain is set"
            ),
            Self::NoFilter => write!(
                f,
                "linux.seccomp: it names no action and no system call; the container runs without \
                 a filter"
            ),
            Self::Annotation { name } => write!(
                f,
                "annotations: the value of {name:?} is not a string; the annotation is ignored"
            ),
            Self::UnknownAnnotation { name } => write!(
                f,
                "annotations: this version does not know {name:?}; the annotation is ignored"
            ),
            Self::OtherPlatform { part } => {
                write!(f, "{part}: it is for another platform; it is ignored")
            }
            Self::NoVersion => write!(f, "ociVersion: it is missing; 1.0.0 is assumed"),
            Self::UnknownField { field } => {
                write!(
                    f,
                    "{field}: this version does not know the field; it is ignored"
                )
            }
            Self::More { count } => write!(f, "{count} more warnings of this spec are not shown"),
        }
    }
}

/// Parses the text of a `config.json`. The warnings are sorted and without duplicates.
///
/// # Errors
/// If the text is not JSON, or holds a value that must not be left out and that this version cannot honour.
pub fn parse_spec(text: &[u8]) -> Result<(Spec, Vec<SpecWarning>), SpecParseError> {
    spec_of(serde_json::from_slice(text).map_err(SpecParseError::Json)?)
}

/// As [`parse_spec`], of a text that is parsed already.
pub(crate) fn spec_of(mut value: Value) -> Result<(Spec, Vec<SpecWarning>), SpecParseError> {
    let mut warnings = Warnings::default();
    zero::remove(&mut value);
    tolerate::tolerate(&mut value, &mut warnings)?;
    let spec: Spec = read(&value)?;
    unknown::report(&value, &spec, &mut warnings)?;
    Ok((spec, warnings.into_list()))
}

/// Parses the text of a spec's `linux.resources`, as an update of a running container has it. Fields are named
/// as in the spec.
///
/// # Errors
/// Those of [`parse_spec`].
pub fn parse_resources(text: &[u8]) -> Result<(LinuxResources, Vec<SpecWarning>), SpecParseError> {
    let resources: Value = serde_json::from_slice(text).map_err(SpecParseError::Json)?;
    let spec = json!({"ociVersion": "1.0.2", "linux": {"resources": resources}});
    let (spec, warnings) = spec_of(spec)?;
    let resources = spec.linux().as_ref().and_then(|l| l.resources().clone());
    Ok((resources.unwrap_or_default(), warnings))
}

/// Deserializes. An error names its field.
fn read<'de, T: Deserialize<'de>>(value: &'de Value) -> Result<T, SpecParseError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let field = match error.path().to_string().as_str() {
            "." => "the spec".to_owned(),
            path => shortened(path, LONGEST_NAME),
        };
        SpecParseError::Value {
            field,
            problem: tolerate::in_words_of_the_spec(&error.into_inner().to_string()),
        }
    })
}

/// The warnings so far, without duplicates.
#[derive(Debug, Default)]
struct Warnings(BTreeSet<SpecWarning>);

impl Warnings {
    fn add(&mut self, warning: SpecWarning) {
        self.0.insert(warning);
    }

    fn into_list(self) -> Vec<SpecWarning> {
        let count = self.0.len().saturating_sub(MOST_WARNINGS);
        let mut list: Vec<_> = self.0.into_iter().take(MOST_WARNINGS).collect();
        if count > 0 {
            list.push(SpecWarning::More { count });
        }
        list
    }
}
