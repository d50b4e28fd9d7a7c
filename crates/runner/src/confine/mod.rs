//! The fence around a guest's process that is of our own making: what it can still ask of the kernel
//! once its files are open.
//!
//! It stands behind the pod's seccomp profile and holds where a guest has broken out of its Wasm
//! sandbox. Prepared by `privileges` outside, closed by `executor` right before the guest runs. Knows
//! no spec. See decision 0028.

mod alarm;
mod landlock;
mod ports;
mod program;
mod rules;

use wasm_interp_network::NetworkNeeds;
use wasm_interp_wasi::{ModesBy, SYS_FCHMODAT2};

pub(crate) use self::alarm::Notes;
use self::ports::TcpPorts;
use crate::seccomp::{self, Loader, Question};

/// System calls that some guests need, besides those of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallGroup {
    /// Of a guest that handles signals.
    Signals,
    /// Of a guest that makes pairs of sockets.
    Pairs,
    /// What is done with sockets, whatever their family.
    Sockets,
    /// Of a component that is granted sockets of the Internet: an option that modules do not have.
    Hops,
    /// Making sockets of the Internet families.
    InternetSockets,
    /// Making Unix sockets that have paths.
    UnixSockets,
    /// Making sockets of both kinds.
    AllSockets,
}

impl CallGroup {
    /// Those that a guest needs for what it is granted of the network.
    pub(crate) fn of_network(needs: &NetworkNeeds) -> Vec<Self> {
        match (needs.internet(), needs.unix) {
            (false, false) => Vec::new(),
            (true, false) => vec![Self::Sockets, Self::InternetSockets],
            (false, true) => vec![Self::Sockets, Self::UnixSockets],
            (true, true) => vec![Self::Sockets, Self::AllSockets],
        }
    }

    fn rules(self) -> &'static [rules::Rule] {
        match self {
            Self::Signals => rules::SIGNALS,
            Self::Pairs => rules::PAIRS,
            Self::Sockets => rules::SOCKETS,
            Self::Hops => rules::HOPS,
            Self::InternetSockets => rules::INTERNET_SOCKETS,
            Self::UnixSockets => rules::UNIX_SOCKETS,
            Self::AllSockets => rules::ALL_SOCKETS,
        }
    }
}

fn modes(by: ModesBy) -> &'static [rules::Rule] {
    match by {
        ModesBy::Fchmodat2 => rules::MODES_BY_FCHMODAT2,
        ModesBy::Fchmodat => rules::MODES_BY_FCHMODAT,
    }
}

/// The fence of one guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fence {
    loader: Loader,
    landlock: landlock::LandlockLevel,
    modes_by: ModesBy,
}

/// The pod's profile forbids what a guest's process cannot do without.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "linux.seccomp: the profile refuses {needed}, and wasm-interp {purpose} with it; allow it in \
     the profile, as the container runtime's default profile does"
)]
pub(crate) struct RefusedByProfile {
    needed: &'static str,
    purpose: &'static str,
}

impl Fence {
    /// The fence that can be closed behind the pod's filter, if it has one. Returns a warning for each
    /// part that cannot.
    pub(crate) fn behind(
        profile: Option<&seccomp::Filter>,
    ) -> Result<(Self, Vec<String>), RefusedByProfile> {
        let permits = |question: Question| profile.is_none_or(|profile| profile.permits(&question));
        let loader = [Loader::Seccomp, Loader::Prctl]
            .into_iter()
            .find(|loader| permits(loader.question()))
            .ok_or(RefusedByProfile {
                needed: "seccomp(2) and prctl(2)",
                purpose: "installs the filter that every guest runs under",
            })?;
        let mut warnings = Vec::new();
        if loader == Loader::Prctl {
            warnings.push(
                "linux.seccomp: the profile refuses seccomp; the guest's own filter is loaded by \
                 prctl"
                    .to_owned(),
            );
        }
        let openat2 = Question::of("openat2", libc::SYS_openat2, [0; 6]);
        if profile.is_some_and(|profile| profile.ends_process(&openat2)) {
            return Err(RefusedByProfile {
                needed: "openat2(2) by ending the process",
                purpose: "opens the files of a guest",
            });
        }
        if !permits(openat2) {
            warnings.push(
                "linux.seccomp: the profile refuses openat2; the guest's files are opened by openat"
                    .to_owned(),
            );
        }
        let mut level = landlock::LandlockLevel::of_kernel();
        if level != landlock::LandlockLevel::Absent
            && let Some(refused) = landlock::questions().into_iter().find(|q| !permits(*q))
        {
            warnings.push(format!(
                "linux.seccomp: the profile refuses {}; the guest runs without Landlock",
                refused.name
            ));
            level = landlock::LandlockLevel::Absent;
        }
        // The answers are the same by either call, so the profile is not worth a warning.
        let modes_by = if permits(Question::of("fchmodat2", SYS_FCHMODAT2, [0; 6])) {
            ModesBy::of_kernel()
        } else {
            ModesBy::Fchmodat
        };
        let fence = Self {
            loader,
            landlock: level,
            modes_by,
        };
        Ok((fence, warnings))
    }

    /// The call by which the guest has to change modes: the fence lets no other through.
    pub(crate) fn modes_by(self) -> ModesBy {
        self.modes_by
    }

    /// Closes it around this process, for good. From here on it may neither abort nor unwind. `calls` are
    /// what this guest needs besides, and `network` is what it is granted of it.
    pub(crate) fn close(
        self,
        notes: Notes,
        calls: &[CallGroup],
        network: &NetworkNeeds,
    ) -> Result<(), String> {
        alarm::set(notes).map_err(|e| format!("cannot handle refused system calls: {e}"))?;
        landlock::restrict(self.landlock, &TcpPorts::of(network))
            .map_err(|e| format!("cannot enter Landlock's domain: {e}"))?;
        let of_network = CallGroup::of_network(network);
        // What the guest itself needs takes the place of what its network does.
        let calls = of_network.iter().chain(calls);
        let more = calls.flat_map(|group| group.rules());
        let rules = rules::RULES.iter().chain(modes(self.modes_by)).chain(more);
        let program = program::assemble(rules);
        seccomp::load(&program, self.loader)
            .map_err(|e| format!("cannot install the guest's system call filter: {e}"))
    }
}

#[cfg(test)]
mod tests;
