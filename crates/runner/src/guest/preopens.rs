//! Which directories the guest finds open when it starts, and with which rights.
//!
//! The kernel's mount flags are the fence that holds; this is the second one, so that a guest gets
//! WASI's own errors where it may only read.
#![forbid(unsafe_code)]

use std::path::Path;

use wasm_interp_workload::{DirectoryRights, Grant, GrantKind};
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

/// One directory to open.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Preopen<'a> {
    path: &'a str,
    perms: FsPerms,
}

/// The preopens that the grants ask for, in their order.
///
/// A read-only directory is opened for writing all the same if a file beneath it was granted for
/// writing: no preopen can hold a file, so the guest reaches it through the directory, and there
/// the kernel refuses everything but that file.
///
/// There is none for the working directory: wasi-libc takes `.` and `/` for the same prefix and
/// lets the later one win, so that such a preopen would hide the root.
pub(super) fn of(grants: &[Grant]) -> Vec<Preopen<'_>> {
    grants
        .iter()
        .filter(|grant| grant.kind == GrantKind::Directory)
        .map(|grant| {
            let writable = grant.rights == DirectoryRights::ReadWrite
                || grants.iter().any(|file| {
                    file.kind == GrantKind::File
                        && file.rights == DirectoryRights::ReadWrite
                        && nearest_directory(grants, &file.path) == Some(&grant.path)
                });
            Preopen {
                path: &grant.path,
                perms: if writable {
                    FsPerms::ReadWrite
                } else {
                    FsPerms::ReadOnly
                },
            }
        })
        .collect()
}

/// The directory grant that lies closest above `path`.
fn nearest_directory<'a>(grants: &'a [Grant], path: &str) -> Option<&'a String> {
    grants
        .iter()
        .filter(|grant| {
            grant.kind == GrantKind::Directory && Path::new(path).starts_with(&grant.path)
        })
        .max_by_key(|grant| Path::new(&grant.path).components().count())
        .map(|grant| &grant.path)
}

impl Preopen<'_> {
    /// Opens the directory as the container's user.
    pub(super) fn open(&self, wasi: &mut WasiCtxBuilder) -> Result<(), String> {
        match wasi.preopened_dir(self.path, self.path, self.perms) {
            Ok(_) => Ok(()),
            // As in any container, what its user may not read is no reason not to start: the
            // guest reaches the path through the root and gets the kernel's own EACCES there.
            Err(error) if self.path != "/" && is_permission_denied(&error) => Ok(()),
            Err(error) => Err(format!(
                "open the granted directory {}: {error:#}",
                self.path
            )),
        }
    }
}

fn is_permission_denied(error: &wasmtime::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(path: &str, kind: GrantKind, rights: DirectoryRights) -> Grant {
        Grant {
            path: path.into(),
            kind,
            rights,
            source: "test".into(),
        }
    }

    fn perms(grants: &[Grant]) -> Vec<(&str, FsPerms)> {
        of(grants).into_iter().map(|p| (p.path, p.perms)).collect()
    }

    use DirectoryRights::{ReadOnly as Ro, ReadWrite as Rw};
    use GrantKind::{Directory as Dir, File};

    #[test]
    fn rights_are_those_of_the_grant() {
        let grants = [grant("/", Dir, Ro), grant("/data", Dir, Rw)];
        assert_eq!(
            perms(&grants),
            [("/", FsPerms::ReadOnly), ("/data", FsPerms::ReadWrite)]
        );
    }

    #[test]
    fn a_writable_file_opens_the_directory_right_above_it_only() {
        let grants = [
            grant("/", Dir, Ro),
            grant("/etc", Dir, Ro),
            grant("/etc/app/log", File, Rw),
        ];
        assert_eq!(
            perms(&grants),
            [("/", FsPerms::ReadOnly), ("/etc", FsPerms::ReadWrite)]
        );
    }

    #[test]
    fn a_name_that_only_starts_alike_is_not_beneath() {
        let grants = [
            grant("/", Dir, Ro),
            grant("/et", Dir, Ro),
            grant("/etc/passwd", File, Rw),
        ];
        assert_eq!(
            perms(&grants),
            [("/", FsPerms::ReadWrite), ("/et", FsPerms::ReadOnly)]
        );
    }

    #[test]
    fn a_read_only_file_changes_nothing() {
        let grants = [grant("/", Dir, Ro), grant("/etc/hosts", File, Ro)];
        assert_eq!(perms(&grants), [("/", FsPerms::ReadOnly)]);
    }
}
