//! Mounts the root filesystem that containerd's snapshotter describes, and unmounts it.
//!
//! Called by the shim for a container and by `crates/node` to look into an image. A crate of its own
//! because those two share nothing else: the one speaks ttrpc and the other gRPC. The runner and its client
//! change attributes of mounts with it. The option names are those
//! of containerd's `core/mount`; what is no flag goes to the file system as data.
#![deny(unsafe_code)]

mod attributes;
pub mod mountinfo;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

pub use attributes::{Depth, set_attributes};

/// mount(2) takes one page of data, the terminating zero included. Where pages are larger, this is
/// still a limit that works.
const DATA_MAX: usize = 4096;
const LOWERDIR: &str = "lowerdir=";

/// A busy mount is tried again this often, then detached.
const BUSY_TRIES: u32 = 25;
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// One mount, as `containerd.types.Mount` describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// Type of the file system, `overlay` or `bind` mostly.
    pub kind: String,
    /// What is mounted.
    pub source: String,
    /// Where beneath the root filesystem; empty for the root itself.
    pub target: String,
    /// As fstab(5) has them.
    pub options: Vec<String>,
}

/// A root filesystem cannot be mounted or unmounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// There is no directory to mount on.
    #[error("cannot make the mount point {path}: {source}; check that its file system is writable")]
    MountPoint {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// mount(2) failed.
    #[error(
        "cannot mount {kind} {source_name:?} on {target} with {options:?}: {errno}; check that \
         the node has this file system"
    )]
    Mount {
        /// Type of the file system.
        kind: String,
        /// What was to be mounted.
        source_name: String,
        /// Where.
        target: PathBuf,
        /// Its options.
        options: String,
        /// The cause.
        errno: Errno,
    },
    /// umount(2) failed.
    #[error("cannot unmount {target}: {errno}; end what uses it")]
    Unmount {
        /// Where.
        target: PathBuf,
        /// The cause.
        errno: Errno,
    },
    /// Too many layers.
    #[error(
        "cannot mount the overlay on {target}: its options take {length} bytes, and the kernel \
         takes {DATA_MAX}; use an image with fewer layers"
    )]
    TooLong {
        /// Where.
        target: PathBuf,
        /// How long.
        length: usize,
    },
    /// Something that this version cannot do.
    #[error(
        "cannot mount with option {0:?} of the snapshotter: it is not supported; use the overlayfs \
         or native snapshotter"
    )]
    Unsupported(String),
    /// No thread.
    #[error("cannot start a thread for a mount: {0}; raise the limit of processes")]
    Thread(#[source] io::Error),
}

impl MountError {
    /// Whether it is a matter of what is supported, not of this node.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::Unsupported(_))
    }
}

/// Mounts all on `rootfs`, in order; the directory is made if there is none. On an error nothing stays mounted.
///
/// # Errors
/// If one cannot be mounted.
pub fn mount_all(mounts: &[Mount], rootfs: &Path) -> Result<(), MountError> {
    if mounts.is_empty() {
        return Ok(());
    }
    match fs::create_dir(rootfs) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(MountError::MountPoint {
                path: rootfs.to_owned(),
                source: error,
            });
        }
        _ => {}
    }
    for one in mounts {
        if let Err(error) = mount_one(one, rootfs) {
            // The first error is the one to tell; what was mounted before goes.
            drop(unmount_all(rootfs));
            return Err(error);
        }
    }
    Ok(())
}

/// Removes every mount on `rootfs`. None there: done.
///
/// # Errors
/// If one stays.
pub fn unmount_all(rootfs: &Path) -> Result<(), MountError> {
    let mut busy = 0;
    loop {
        let flags = if busy < BUSY_TRIES {
            MntFlags::UMOUNT_NOFOLLOW
        } else {
            MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH
        };
        match umount2(rootfs, flags) {
            Ok(()) => {}
            // Not a mount point (any more), or not there.
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(Errno::EBUSY) if busy < BUSY_TRIES => {
                busy += 1;
                thread::sleep(BUSY_PAUSE);
            }
            Err(errno) => {
                return Err(MountError::Unmount {
                    target: rootfs.to_owned(),
                    errno,
                });
            }
        }
    }
}

fn mount_one(one: &Mount, rootfs: &Path) -> Result<(), MountError> {
    if !one.target.trim_matches('/').is_empty() {
        return Err(MountError::Unsupported(format!("target={}", one.target)));
    }
    let options = SnapshotOptions::parse(&one.options)?;
    let failed = |errno| MountError::Mount {
        kind: one.kind.clone(),
        source_name: one.source.clone(),
        target: rootfs.to_owned(),
        options: one.options.join(","),
        errno,
    };
    let data = options.data.join(",");
    if data.len() < DATA_MAX {
        call(one, rootfs, options.flags, &data).map_err(failed)?;
    } else {
        let (dir, data) = options.compact();
        if data.len() >= DATA_MAX {
            return Err(MountError::TooLong {
                target: rootfs.to_owned(),
                length: data.len(),
            });
        }
        in_directory(&dir, || call(one, rootfs, options.flags, &data))?.map_err(failed)?;
    }
    // The kernel ignores other flags in the call that makes a bind mount.
    let bind_flags = options.flags - MsFlags::MS_BIND - MsFlags::MS_REC;
    if options.flags.contains(MsFlags::MS_BIND) && !bind_flags.is_empty() {
        let flags = options.flags | MsFlags::MS_REMOUNT;
        let none: Option<&str> = None;
        mount(none, rootfs, none, flags, none).map_err(failed)?;
    }
    if !options.propagation.is_empty() {
        let none: Option<&str> = None;
        mount(none, rootfs, none, options.propagation, none).map_err(failed)?;
    }
    Ok(())
}

fn call(one: &Mount, rootfs: &Path, flags: MsFlags, data: &str) -> nix::Result<()> {
    let data = Some(data).filter(|data| !data.is_empty());
    mount(
        Some(one.source.as_str()),
        rootfs,
        Some(one.kind.as_str()),
        flags,
        data,
    )
}

/// Runs `act` in a directory, without a trace in this process: the thread that changes its working
/// directory has one of its own and ends.
fn in_directory<T: Send>(
    dir: &Path,
    act: impl FnOnce() -> nix::Result<T> + Send,
) -> Result<nix::Result<T>, MountError> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .spawn_scoped(scope, || {
                unshare(CloneFlags::CLONE_FS)?;
                nix::unistd::chdir(dir)?;
                act()
            })
            .map_err(MountError::Thread)?;
        // A panic in there is ours to pass on.
        Ok(thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// A snapshotter's options, sorted.
#[derive(Debug)]
struct SnapshotOptions<'a> {
    flags: MsFlags,
    propagation: MsFlags,
    data: Vec<&'a str>,
}

impl<'a> SnapshotOptions<'a> {
    fn parse(options: &'a [String]) -> Result<Self, MountError> {
        let mut parsed = SnapshotOptions {
            flags: MsFlags::empty(),
            propagation: MsFlags::empty(),
            data: Vec::new(),
        };
        for option in options {
            let (set, flag) = match option.as_str() {
                "async" => (false, MsFlags::MS_SYNCHRONOUS),
                "atime" => (false, MsFlags::MS_NOATIME),
                "bind" => (true, MsFlags::MS_BIND),
                "defaults" => (true, MsFlags::empty()),
                "dev" => (false, MsFlags::MS_NODEV),
                "diratime" => (false, MsFlags::MS_NODIRATIME),
                "dirsync" => (true, MsFlags::MS_DIRSYNC),
                "exec" => (false, MsFlags::MS_NOEXEC),
                "mand" => (true, MsFlags::MS_MANDLOCK),
                "noatime" => (true, MsFlags::MS_NOATIME),
                "nodev" => (true, MsFlags::MS_NODEV),
                "nodiratime" => (true, MsFlags::MS_NODIRATIME),
                "noexec" => (true, MsFlags::MS_NOEXEC),
                "nomand" => (false, MsFlags::MS_MANDLOCK),
                "norelatime" => (false, MsFlags::MS_RELATIME),
                "nostrictatime" => (false, MsFlags::MS_STRICTATIME),
                "nosuid" => (true, MsFlags::MS_NOSUID),
                "rbind" => (true, MsFlags::MS_BIND | MsFlags::MS_REC),
                "relatime" => (true, MsFlags::MS_RELATIME),
                "remount" => (true, MsFlags::MS_REMOUNT),
                "ro" => (true, MsFlags::MS_RDONLY),
                "rw" => (false, MsFlags::MS_RDONLY),
                "strictatime" => (true, MsFlags::MS_STRICTATIME),
                "suid" => (false, MsFlags::MS_NOSUID),
                "sync" => (true, MsFlags::MS_SYNCHRONOUS),
                propagation @ ("private" | "rprivate" | "shared" | "rshared" | "slave"
                | "rslave" | "unbindable" | "runbindable") => {
                    parsed.propagation = propagation_flag(propagation);
                    continue;
                }
                "loop" => return Err(MountError::Unsupported(option.clone())),
                data => {
                    parsed.data.push(data);
                    continue;
                }
            };
            if set {
                parsed.flags |= flag;
            } else {
                parsed.flags -= flag;
            }
        }
        Ok(parsed)
    }

    /// An image with many layers has longer options than the kernel takes. The lower directories
    /// share their beginning: names relative to it are short.
    fn compact(&self) -> (PathBuf, String) {
        let lower = self
            .data
            .iter()
            .find_map(|option| option.strip_prefix(LOWERDIR))
            .unwrap_or_default();
        let prefix = common_directory(lower);
        let data: Vec<String> = self
            .data
            .iter()
            .map(|option| match option.strip_prefix(LOWERDIR) {
                Some(lower) => {
                    let short: Vec<&str> = lower
                        .split(':')
                        .map(|dir| dir.strip_prefix(prefix).unwrap_or(dir))
                        .collect();
                    format!("{LOWERDIR}{}", short.join(":"))
                }
                None => (*option).to_owned(),
            })
            .collect();
        (PathBuf::from(prefix), data.join(","))
    }
}

/// The longest directory, with its slash, that all of `a:b:c` begin with; `/` at least.
fn common_directory(list: &str) -> &str {
    let first = list.split(':').next().unwrap_or_default();
    let mut prefix = first;
    for dir in list.split(':') {
        let common = prefix
            .bytes()
            .zip(dir.bytes())
            .take_while(|(a, b)| a == b)
            .count();
        prefix = &first[..common.min(prefix.len())];
        prefix = &prefix[..prefix.rfind('/').map_or(0, |slash| slash + 1)];
    }
    if prefix.is_empty() { "/" } else { prefix }
}

fn propagation_flag(name: &str) -> MsFlags {
    let (recursive, name) = match name.strip_prefix('r') {
        Some(name) => (MsFlags::MS_REC, name),
        None => (MsFlags::empty(), name),
    };
    recursive
        | match name {
            "shared" => MsFlags::MS_SHARED,
            "slave" => MsFlags::MS_SLAVE,
            "unbindable" => MsFlags::MS_UNBINDABLE,
            _ => MsFlags::MS_PRIVATE,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(options: &[&str]) -> Vec<String> {
        options.iter().map(|&option| option.to_owned()).collect()
    }

    #[test]
    fn flags_are_separated_from_data() {
        let options = strings(&["ro", "rbind", "nodev", "dev", "lowerdir=/a:/b", "rslave"]);
        let parsed = SnapshotOptions::parse(&options).expect("parse");
        assert_eq!(
            parsed.flags,
            MsFlags::MS_RDONLY | MsFlags::MS_BIND | MsFlags::MS_REC
        );
        assert_eq!(parsed.propagation, MsFlags::MS_SLAVE | MsFlags::MS_REC);
        assert_eq!(parsed.data, ["lowerdir=/a:/b"]);
        let error = SnapshotOptions::parse(&strings(&["loop"])).expect_err("not supported");
        assert!(error.is_unsupported());
    }

    #[test]
    fn many_layers_are_named_from_their_common_directory() {
        let options = strings(&[
            "lowerdir=/x/s/12/fs:/x/s/1/fs:/x/s/130/fs",
            "upperdir=/x/s/9/fs",
        ]);
        let (dir, data) = SnapshotOptions::parse(&options).expect("parse").compact();
        assert_eq!(dir, PathBuf::from("/x/s/"));
        assert_eq!(data, "lowerdir=12/fs:1/fs:130/fs,upperdir=/x/s/9/fs");
        assert_eq!(common_directory("/a/b:/c"), "/");
        assert_eq!(common_directory("/a/bc/d:/a/bd/d"), "/a/");
    }

    /// Sixty layers with long names are more than a page of options. Needs root.
    #[test]
    fn overlay_of_many_layers_is_mounted_and_unmounted() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let dir = tempfile::tempdir().expect("tempdir");
        let make = |name: String| {
            let path = dir.path().join("l".repeat(80)).join(name);
            fs::create_dir_all(&path).expect("mkdir");
            path
        };
        let lower: Vec<String> = (0..60)
            .map(|n| {
                let path = make(format!("{n}"));
                fs::write(path.join(format!("file{n}")), "").expect("write");
                path.display().to_string()
            })
            .collect();
        let rootfs = dir.path().join("rootfs");
        let overlay = Mount {
            kind: "overlay".into(),
            source: "overlay".into(),
            options: vec![format!("lowerdir={}", lower.join(":"))],
            ..Mount::default()
        };
        let before = std::env::current_dir().expect("cwd");
        mount_all(&[overlay], &rootfs).expect("mount");
        assert_eq!(std::env::current_dir().expect("cwd"), before);
        assert!(rootfs.join("file0").exists() && rootfs.join("file59").exists());
        unmount_all(&rootfs).expect("unmount");
        unmount_all(&rootfs).expect("unmount again");
        assert!(!rootfs.join("file0").exists());
    }

    #[test]
    fn failed_mount_is_named_and_leaves_nothing() {
        let dir = tempfile::tempdir().expect("tempdir");
        let wrong = Mount {
            kind: "bind".into(),
            source: "/nonexistent/source".into(),
            options: strings(&["rbind"]),
            ..Mount::default()
        };
        let error = mount_all(&[wrong], &dir.path().join("rootfs")).expect_err("no such source");
        assert!(error.to_string().contains("/nonexistent/source"), "{error}");
    }
}
