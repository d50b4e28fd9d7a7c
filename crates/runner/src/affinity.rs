//! The processors that a further process of a container may run on (`process.execCPUAffinity`).
//!
//! Read by `container::exec`, set by `init::join`. The pattern of the texts is checked when the spec is
//! parsed.
#![forbid(unsafe_code)]

use nix::{
    errno::Errno,
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use oci_spec::runtime::Process;

/// A list of processors that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("process.execCPUAffinity: cannot use {list:?}: {why}; correct it")]
pub(crate) struct AffinityError {
    list: String,
    why: &'static str,
}

/// Before and after the process joins the container's cgroup.
#[derive(Debug, Default)]
pub(crate) struct ExecAffinity {
    initial: Option<CpuSet>,
    last: Option<CpuSet>,
}

impl ExecAffinity {
    pub(crate) fn of(process: Option<&Process>) -> Result<Self, AffinityError> {
        let Some(wanted) = process.and_then(|process| process.exec_cpu_affinity().as_ref()) else {
            return Ok(Self::default());
        };
        let set = |list: &Option<String>| {
            let list = list.as_deref().filter(|list| !list.is_empty());
            list.map(parse).transpose()
        };
        Ok(Self {
            initial: set(wanted.initial())?,
            last: set(wanted.cpu_affinity_final())?,
        })
    }

    /// Before the process joins the cgroup.
    pub(crate) fn set_initial(&self) -> Result<(), Errno> {
        set(self.initial.as_ref())
    }

    /// After that.
    pub(crate) fn set_final(&self) -> Result<(), Errno> {
        set(self.last.as_ref())
    }
}

fn set(processors: Option<&CpuSet>) -> Result<(), Errno> {
    processors.map_or(Ok(()), |set| sched_setaffinity(Pid::from_raw(0), set))
}

/// `0-3,7`.
fn parse(list: &str) -> Result<CpuSet, AffinityError> {
    let failed = |why| AffinityError {
        list: list.to_owned(),
        why,
    };
    let number = |text: &str| {
        let number = text
            .parse::<usize>()
            .map_err(|_| failed("a part is no number"))?;
        if number < CpuSet::count() {
            Ok(number)
        } else {
            Err(failed("no kernel numbers a processor so high"))
        }
    };
    let mut set = CpuSet::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(failed("a range ends before it begins"));
        }
        for processor in first..=last {
            set.set(processor)
                .map_err(|_| failed("no kernel numbers a processor so high"))?;
        }
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_of_processors_is_numbers_and_ranges() {
        let set = parse("0-2,5").expect("a list");
        let found: Vec<_> = (0..8).filter(|&n| set.is_set(n) == Ok(true)).collect();
        assert_eq!(found, [0, 1, 2, 5]);
        for list in ["3-1", "100000", "x", "1,,2"] {
            assert!(parse(list).is_err(), "{list}");
        }
    }
}
