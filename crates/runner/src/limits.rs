//! The resource limits of the container's init process (`process.rlimits`, getrlimit(2)).
//!
//! Read by `privileges` outside, set by `executor` inside. libcontainer would set them within the user
//! namespace of the container, where no process may raise one.
#![forbid(unsafe_code)]

use oci_spec::runtime::{PosixRlimit, PosixRlimitType};
use rustix::{
    io::Errno,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

/// A limit that cannot be set.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LimitError {
    #[error(
        "process.rlimits: the soft limit of {name}, {soft}, is above its hard limit, {hard}; \
         correct it"
    )]
    SoftAboveHard { name: String, soft: u64, hard: u64 },
    #[error(
        "process.rlimits: {name} cannot be {wanted}: {source}; this process may go to {held}, and \
         beyond that only with CAP_SYS_RESOURCE (and with RLIMIT_NOFILE to the sysctl fs.nr_open): \
         ask for less, or raise the limit of containerd's service"
    )]
    Raise {
        name: String,
        wanted: String,
        held: String,
        source: Errno,
    },
}

/// Limits that this process can set.
#[derive(Debug)]
pub(crate) struct ResourceLimits(Vec<(Resource, Rlimit)>);

impl ResourceLimits {
    /// Raises the hard limits of this process to what is asked for: its children inherit them, and
    /// then only have to lower them.
    pub(crate) fn raise(limits: &[PosixRlimit]) -> Result<Self, LimitError> {
        limits
            .iter()
            .map(|limit| {
                let (soft, hard) = (limit.soft(), limit.hard());
                if soft > hard {
                    let name = limit.typ().to_string();
                    return Err(LimitError::SoftAboveHard { name, soft, hard });
                }
                let resource = resource(limit.typ());
                let wanted = Rlimit {
                    current: bounded(soft),
                    maximum: bounded(hard),
                };
                let held = getrlimit(resource);
                if is_above(wanted.maximum, held.maximum) {
                    let raised = Rlimit {
                        maximum: wanted.maximum,
                        ..held
                    };
                    setrlimit(resource, raised).map_err(|source| LimitError::Raise {
                        name: limit.typ().to_string(),
                        wanted: words(wanted.maximum),
                        held: words(held.maximum),
                        source,
                    })?;
                }
                Ok((resource, wanted))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Sets them for this process.
    pub(crate) fn set(&self) -> Result<(), Errno> {
        self.0
            .iter()
            .try_for_each(|(resource, limit)| setrlimit(*resource, *limit))
    }
}

/// No limit is `RLIM_INFINITY`, the highest number.
fn bounded(limit: u64) -> Option<u64> {
    (limit != u64::MAX).then_some(limit)
}

fn is_above(limit: Option<u64>, other: Option<u64>) -> bool {
    match (limit, other) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(limit), Some(other)) => limit > other,
    }
}

fn words(limit: Option<u64>) -> String {
    limit.map_or("unlimited".to_owned(), |limit| limit.to_string())
}

fn resource(kind: PosixRlimitType) -> Resource {
    match kind {
        PosixRlimitType::RlimitCpu => Resource::Cpu,
        PosixRlimitType::RlimitFsize => Resource::Fsize,
        PosixRlimitType::RlimitData => Resource::Data,
        PosixRlimitType::RlimitStack => Resource::Stack,
        PosixRlimitType::RlimitCore => Resource::Core,
        PosixRlimitType::RlimitRss => Resource::Rss,
        PosixRlimitType::RlimitNproc => Resource::Nproc,
        PosixRlimitType::RlimitNofile => Resource::Nofile,
        PosixRlimitType::RlimitMemlock => Resource::Memlock,
        PosixRlimitType::RlimitAs => Resource::As,
        PosixRlimitType::RlimitLocks => Resource::Locks,
        PosixRlimitType::RlimitSigpending => Resource::Sigpending,
        PosixRlimitType::RlimitMsgqueue => Resource::Msgqueue,
        PosixRlimitType::RlimitNice => Resource::Nice,
        PosixRlimitType::RlimitRtprio => Resource::Rtprio,
        PosixRlimitType::RlimitRttime => Resource::Rttime,
    }
}
