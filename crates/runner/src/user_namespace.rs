//! User namespaces with mappings that the host's root writes: the container's own, and those of
//! mounts that show other owners. And the mappings of existing ones.
//!
//! Called by `container::create`, `init` and `rootfs::sources` before anything else is made. A
//! short-lived process makes or joins the namespace, because a process cannot return to the user namespace that it left.
#![forbid(unsafe_code)]

use std::{
    fs::File,
    io::{Read, Write},
    os::unix::net::UnixStream,
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::wait::waitpid,
    unistd::{Gid, Pid, Uid, setresgid, setresuid},
};
use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType};

use crate::sys::{self, Parent};

/// A user namespace could not be made or read.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}: {act}: {source}")]
pub(crate) struct UserNamespaceError {
    what: String,
    act: String,
    source: std::io::Error,
}

/// The step that failed.
struct FailedStep {
    act: String,
    source: std::io::Error,
}

impl FailedStep {
    fn to(self, what: &str) -> UserNamespaceError {
        UserNamespaceError {
            what: what.to_owned(),
            act: self.act,
            source: self.source,
        }
    }
}

/// A new user namespace with these mappings, kept alive by the file.
pub(crate) fn create(
    users: &[LinuxIdMapping],
    groups: &[LinuxIdMapping],
) -> Result<File, UserNamespaceError> {
    let make = || unshare(CloneFlags::CLONE_NEWUSER);
    with_process(make, |child| {
        for (file, mappings) in [("uid_map", users), ("gid_map", groups)] {
            let text = lines(mappings);
            // In one piece, as user_namespaces(7) wants it.
            std::fs::write(format!("/proc/{child}/{file}"), &text)
                .map_err(failed(&format!("cannot write {text:?} to its {file}")))?;
        }
        File::open(format!("/proc/{child}/ns/user")).map_err(failed("cannot open it"))
    })
    .map_err(|failure| failure.to("make a user namespace"))
}

/// Makes this process, which has joined a user namespace, its root.
pub(crate) fn become_root() -> Result<(), String> {
    let (user, group) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(group, group, group)
        .and_then(|()| setresuid(user, user, user))
        .map_err(|e| format!("cannot become root of the user namespace: {e}"))
}

fn failed(act: &str) -> impl FnOnce(std::io::Error) -> FailedStep {
    let act = act.to_owned();
    move |source| FailedStep { act, source }
}

/// Runs `body` while a child process exists that has run `enter`.
fn with_process<T>(
    enter: impl FnOnce() -> nix::Result<()>,
    body: impl FnOnce(Pid) -> Result<T, FailedStep>,
) -> Result<T, FailedStep> {
    let (ours, mut theirs) = UnixStream::pair().map_err(failed("cannot make sockets"))?;
    let mut ours = Some(ours);
    let child = sys::fork(Parent::ThisProcess, || {
        // With a copy of our end the child would not notice that we close ours.
        drop(ours.take());
        let errno = enter().err().map_or(0, |errno| errno as i32);
        // A failure to send or to receive means that the waiting process has ended.
        let _ = theirs.write_all(&errno.to_ne_bytes());
        let _ = theirs.read(&mut [0]);
        0
    })
    .map_err(failed("cannot fork"))?;
    drop(theirs);
    let Some(mut ours) = ours else {
        let why = std::io::Error::other("the socket is gone");
        return Err(failed("cannot make sockets")(why));
    };
    let mut errno = [0; 4];
    let done = match ours.read_exact(&mut errno) {
        Err(source) => Err(failed("its process ended")(source)),
        Ok(()) => match i32::from_ne_bytes(errno) {
            0 => body(child),
            errno => {
                let source = std::io::Error::from_raw_os_error(errno);
                Err(failed("the kernel refused")(source))
            }
        },
    };
    drop(ours);
    waitpid(child, None).map_err(|errno| failed("cannot wait for its process")(errno.into()))?;
    done
}

/// Translates users and groups of a container to those of the host.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct IdMaps {
    users: IdMap,
    groups: IdMap,
}

#[derive(Debug, PartialEq, Eq)]
enum IdMap {
    /// The container has no user namespace of its own, so its ids are the host's.
    Same,
    Ranges(Vec<IdRange>),
}

/// A line of `/proc/PID/uid_map`.
#[derive(Debug, PartialEq, Eq)]
struct IdRange {
    inside: u32,
    outside: u32,
    size: u32,
}

impl IdMaps {
    /// The mappings of the user namespace that the spec names. The spec has those of a new one, the kernel those
    /// of an existing one.
    pub(crate) fn of(linux: Option<&Linux>) -> Result<Self, UserNamespaceError> {
        let namespaces = linux.and_then(|linux| linux.namespaces().as_deref());
        let user = namespaces
            .unwrap_or_default()
            .iter()
            .find(|namespace| namespace.typ() == LinuxNamespaceType::User);
        let (Some(linux), Some(user)) = (linux, user) else {
            return Ok(Self {
                users: IdMap::Same,
                groups: IdMap::Same,
            });
        };
        let existing = user.path().as_deref();
        match existing.filter(|path| !path.as_os_str().is_empty()) {
            Some(path) => {
                let read = File::open(path)
                    .map_err(failed("cannot open it"))
                    .and_then(|namespace| Self::of_namespace(&namespace));
                read.map_err(|failure| {
                    failure.to(&format!(
                        "read the mappings of the user namespace {}",
                        path.display()
                    ))
                })
            }
            None => Ok(Self {
                users: IdMap::of_spec(linux.uid_mappings().as_deref()),
                groups: IdMap::of_spec(linux.gid_mappings().as_deref()),
            }),
        }
    }

    fn of_namespace(namespace: &File) -> Result<Self, FailedStep> {
        let join = || setns(namespace, CloneFlags::CLONE_NEWUSER);
        with_process(join, |child| {
            // The kernel translates the outer ids to the user namespace of the reader.
            let read = |file: &str| {
                std::fs::read_to_string(format!("/proc/{child}/{file}"))
                    .and_then(|text| IdMap::parse(&text))
                    .map_err(failed(&format!("cannot read its {file}")))
            };
            Ok(Self {
                users: read("uid_map")?,
                groups: read("gid_map")?,
            })
        })
    }

    /// The host's id of this user, if it has one.
    pub(crate) fn user(&self, user: u32) -> Option<u32> {
        self.users.outside(user)
    }

    /// The host's id of this group, if it has one.
    pub(crate) fn group(&self, group: u32) -> Option<u32> {
        self.groups.outside(group)
    }
}

impl IdMap {
    fn of_spec(mappings: Option<&[LinuxIdMapping]>) -> Self {
        let range = |mapping: &LinuxIdMapping| IdRange {
            inside: mapping.container_id(),
            outside: mapping.host_id(),
            size: mapping.size(),
        };
        Self::Ranges(mappings.unwrap_or_default().iter().map(range).collect())
    }

    fn parse(text: &str) -> std::io::Result<Self> {
        let range = |line: &str| {
            let mut numbers = line.split_whitespace().map(|number| number.parse().ok());
            let mut next = || numbers.next().flatten();
            Some(IdRange {
                inside: next()?,
                outside: next()?,
                size: next()?,
            })
        };
        let ranges = text.lines().map(range).collect::<Option<_>>();
        ranges.map(Self::Ranges).ok_or_else(|| {
            let text = format!("it has a line that is no mapping: {text:?}");
            std::io::Error::new(std::io::ErrorKind::InvalidData, text)
        })
    }

    fn outside(&self, inside: u32) -> Option<u32> {
        let ranges = match self {
            Self::Same => return Some(inside),
            Self::Ranges(ranges) => ranges,
        };
        ranges.iter().find_map(|range| {
            let offset = inside.checked_sub(range.inside)?;
            (offset < range.size).then_some(range.outside.checked_add(offset)?)
        })
    }
}

/// The content of `/proc/PID/uid_map`.
fn lines(mappings: &[LinuxIdMapping]) -> String {
    let line = |mapping: &LinuxIdMapping| {
        let (inside, outside) = (mapping.container_id(), mapping.host_id());
        format!("{inside} {outside} {}\n", mapping.size())
    };
    mappings.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_is_mapped_by_the_range_that_holds_its_number() {
        let map =
            IdMap::parse("         0     100000       1000\n      1000     300000         10\n");
        let map = map.expect("two mappings");
        for (inside, outside) in [
            (0, Some(100_000)),
            (999, Some(100_999)),
            (1009, Some(300_009)),
            (1010, None),
            (u32::MAX, None),
        ] {
            assert_eq!(map.outside(inside), outside, "{inside}");
        }
        let all = IdMap::parse("0 0 4294967295\n").expect("all");
        assert_eq!(all.outside(65_534), Some(65_534));
        assert_eq!(IdMap::parse("").expect("none").outside(0), None);
        for text in ["0 1\n", "0 x 1\n", "\n"] {
            IdMap::parse(text).expect_err(text);
        }
    }
}
