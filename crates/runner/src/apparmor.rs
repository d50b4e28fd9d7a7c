//! Puts the init process under the AppArmor profile that its spec names.
//!
//! Made by `container::create` outside, entered by `executor` inside. libcontainer would name the
//! profile for the next exec, of which there is none for a guest, and would look for it in the
//! container's /proc, which a guest does not have.
#![forbid(unsafe_code)]

use std::{
    os::fd::{AsRawFd, OwnedFd, RawFd},
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open, openat},
    sys::stat::Mode,
    unistd::write,
};

/// Files by which a task changes its profile. The second is that of Linux before 5.8.
const NOW: [&str; 2] = ["self/attr/apparmor/current", "self/attr/current"];
/// The same for the profile of the program that it executes next.
const ON_EXEC: [&str; 2] = ["self/attr/apparmor/exec", "self/attr/exec"];

/// A profile could not be entered.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot enter the AppArmor profile {name:?}: {source}; load it on the node, or name another"
)]
pub(crate) struct ProfileError {
    name: String,
    source: Errno,
}

/// A profile, and a handle on the host's /proc to enter it where no /proc is mounted.
#[derive(Debug)]
pub(crate) struct Profile {
    name: String,
    proc: OwnedFd,
}

impl Profile {
    /// Opens the host's /proc.
    pub(crate) fn named(name: String) -> Result<Self, ProfileError> {
        Self::through(Path::new("/proc"), name)
    }

    fn through(proc: &Path, name: String) -> Result<Self, ProfileError> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        match open(proc, flags, Mode::empty()) {
            Ok(proc) => Ok(Self { name, proc }),
            Err(source) => Err(ProfileError { name, source }),
        }
    }

    /// The handle on the host's /proc.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.proc.as_raw_fd()
    }

    /// Confines this process from here on.
    pub(crate) fn enter(&self) -> Result<(), ProfileError> {
        self.order(NOW, "changeprofile")
    }

    /// Confines the program that this process becomes.
    pub(crate) fn enter_on_exec(&self) -> Result<(), ProfileError> {
        self.order(ON_EXEC, "exec")
    }

    fn order(&self, interfaces: [&str; 2], verb: &str) -> Result<(), ProfileError> {
        // The kernel takes the command in one write only.
        let order = format!("{verb} {}", self.name);
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let mut result = Err(Errno::ENOENT);
        for interface in interfaces {
            result = openat(&self.proc, interface, flags, Mode::empty())
                .and_then(|file| write(&file, order.as_bytes()).map(drop));
            if result != Err(Errno::ENOENT) {
                break;
            }
        }
        result.map_err(|source| ProfileError {
            name: self.name.clone(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn enter(proc: &Path) -> Result<(), Errno> {
        let profile = Profile::through(proc, "guests".into()).expect("open");
        profile.enter().map_err(|e| e.source)
    }

    #[test]
    fn the_newer_apparmor_interface_is_used_where_it_exists() {
        let proc = tempfile::tempdir().expect("directory");
        let old = proc.path().join("self/attr/current");
        let new = proc.path().join("self/attr/apparmor/current");
        fs::create_dir_all(new.parent().expect("parent")).expect("make");
        assert_eq!(enter(proc.path()), Err(Errno::ENOENT));
        fs::write(&old, "").expect("write");
        assert_eq!(enter(proc.path()), Ok(()));
        assert_eq!(
            fs::read_to_string(&old).expect("read"),
            "changeprofile guests"
        );
        fs::write(&old, "").expect("write");
        fs::write(&new, "").expect("write");
        assert_eq!(enter(proc.path()), Ok(()));
        assert_eq!(
            fs::read_to_string(&new).expect("read"),
            "changeprofile guests"
        );
        assert_eq!(fs::read_to_string(&old).expect("read"), "");

        let exec = proc.path().join("self/attr/apparmor/exec");
        fs::write(&exec, "").expect("write");
        let profile = Profile::through(proc.path(), "guests".into()).expect("open");
        profile.enter_on_exec().expect("enter");
        assert_eq!(fs::read_to_string(&exec).expect("read"), "exec guests");
    }
}
