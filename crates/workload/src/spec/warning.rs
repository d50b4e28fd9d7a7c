//! The warnings of [`super::parse_spec`].

use std::collections::BTreeSet;
use std::fmt;

/// At most this many warnings are kept for a spec, so that the log stays readable.
pub(super) const MOST_WARNINGS: usize = 32;
/// At most this many bytes of a name from the spec reach a log.
pub(super) const LONGEST_NAME: usize = 200;

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

/// The warnings so far, without duplicates.
#[derive(Debug, Default)]
pub(super) struct Warnings(BTreeSet<SpecWarning>);

impl Warnings {
    pub(super) fn add(&mut self, warning: SpecWarning) {
        self.0.insert(warning);
    }

    pub(super) fn into_list(self) -> Vec<SpecWarning> {
        let count = self.0.len().saturating_sub(MOST_WARNINGS);
        let mut list: Vec<_> = self.0.into_iter().take(MOST_WARNINGS).collect();
        if count > 0 {
            list.push(SpecWarning::More { count });
        }
        list
    }
}
