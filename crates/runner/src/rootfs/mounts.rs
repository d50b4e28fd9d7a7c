//! Attaches the prepared mounts beneath the container's root.
//!
//! Called by the init process for each mount, in the order of the spec, and by `cgroup` for the parts
//! of a cgroup mount.
#![forbid(unsafe_code)]

use std::{
    io::Error,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FileType, PROC_SUPER_MAGIC, fstat, fstatfs},
    io::Errno,
    mount::MountAttrFlags,
};

use super::{
    attributes, copy, detached,
    error::SpecMountError,
    nodes::DeviceSet,
    options::{AttributeChange, Depth, MountOptions},
    sources::{PreparedMount, PreparedSource},
};
use crate::container_root::{ContainerRoot, Symlinks, normal};

/// Files of /proc over which a single file may be mounted, as under runc: LXCFS does.
const IN_PROC: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

const INSIDE_PROC: &str = "it is inside of /proc; mount it elsewhere";

/// The root directory of every proc file system (`PROC_ROOT_INO`).
const PROC_ROOT: u64 = 1;

/// What mounting has to know of the container.
#[derive(Debug)]
pub(super) struct Mounter<'a> {
    pub(super) root: &'a ContainerRoot,
    /// SELinux context of new file systems.
    pub(super) label: Option<&'a str>,
    pub(super) devices: DeviceSet,
}

/// Where a mount goes.
#[derive(Debug)]
pub(super) struct MountPlace {
    pub(super) handle: OwnedFd,
    /// Whether it was there, and not made for the mount.
    existed: bool,
}

impl Mounter<'_> {
    /// Attaches the copy `tree` of files of the host.
    pub(super) fn attach(
        &self,
        mount: &PreparedMount,
        tree: &OwnedFd,
    ) -> Result<(), SpecMountError> {
        let kind = fstat(tree)
            .map(|stat| FileType::from_raw_mode(stat.st_mode))
            .map_err(mount.failed("look at it"))?;
        let place = self.place(mount, kind == FileType::Directory)?;
        // A device that is mounted by itself is one of the five: the plan refuses others.
        if self.devices == DeviceSet::Guest && kind != FileType::CharacterDevice {
            attributes::change(tree, AttributeChange::NO_DEVICES, Depth::Recursive)
                .map_err(mount.failed("forbid devices in it"))?;
        }
        detached::attach(tree, &place.handle).map_err(mount.failed("attach it"))?;
        propagate(tree, &mount.options).map_err(mount.failed("set its propagation"))
    }

    /// Mounts a new file system of type `kind`. Returns the mount if it has to become read-only later,
    /// once everything in it is made.
    pub(super) fn make(
        &self,
        mount: &PreparedMount,
        kind: &str,
        from: Option<&Path>,
    ) -> Result<Option<OwnedFd>, SpecMountError> {
        let place = self.place(mount, true)?;
        let mut options = mount.options.clone();
        if self.devices == DeviceSet::Guest && normal(&mount.destination) != Path::new("/dev") {
            options.attributes.set |= AttributeChange::NO_DEVICES.set;
        }
        let read_only_later = is_filled(mount, kind) && options.is_read_only();
        if read_only_later {
            options.attributes.set -= MountAttrFlags::MOUNT_ATTR_RDONLY;
        }
        if kind == "tmpfs" && place.existed {
            // The mode of what it hides, unless the spec says another.
            let stat = fstat(&place.handle).map_err(mount.failed("look at its place"))?;
            let mode = stat.st_mode & 0o7777;
            options.data.insert(0, format!("mode={mode:o}"));
        }
        let label = self.label.filter(|_| takes_label(kind));
        let new = detached::new_filesystem(kind, from, &options, label)
            .map_err(mount.failed("make it"))?;
        if kind == "tmpfs" && options.copy_up && place.existed {
            copy::tree(&place.handle, &new).map_err(mount.failed("copy what it hides"))?;
        }
        detached::attach(&new, &place.handle).map_err(mount.failed("attach it"))?;
        propagate(&new, &options).map_err(mount.failed("set its propagation"))?;
        Ok(read_only_later.then_some(new))
    }

    /// Finds the place of `mount`, or makes it as a directory or as a file.
    pub(super) fn place(
        &self,
        mount: &PreparedMount,
        directory: bool,
    ) -> Result<MountPlace, SpecMountError> {
        let destination = &mount.destination;
        let failed = |errno: Errno| mount.failed("find or make its place")(errno);
        let made = |made: Result<OwnedFd, Errno>| {
            made.map(|handle| MountPlace {
                handle,
                existed: false,
            })
        };
        let place = match self.root.find(destination) {
            Err(Errno::NOENT) if directory => {
                let directory = self.root.make_directories(destination, Symlinks::Refused);
                made(directory.map_err(Errno::from))
            }
            Err(Errno::NOENT) => made(self.root.make_file(destination)),
            found => found.map(|handle| MountPlace {
                handle,
                existed: true,
            }),
        }
        .map_err(|errno| match errno {
            Errno::LOOP => mount.refused(why_no_symlink(mount)),
            errno => failed(errno),
        })?;
        let stat = fstat(&place.handle).map_err(failed)?;
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if directory && !is_directory {
            return Err(mount.refused("what is there is not a directory; mount it elsewhere"));
        }
        let root = fstat(self.root).map_err(failed)?;
        if (stat.st_dev, stat.st_ino) == (root.st_dev, root.st_ino) {
            return Err(mount.refused("it would hide the whole root file system; mount it beneath"));
        }
        check_proc(mount, &place.handle, stat.st_ino)?;
        Ok(place)
    }
}

/// Whether something is put into the mount after it is made: other mounts into a tmpfs, devices into
/// /dev.
fn is_filled(mount: &PreparedMount, kind: &str) -> bool {
    kind == "tmpfs" || normal(&mount.destination) == Path::new("/dev")
}

/// Why a symlink on the way to the place of `mount` is refused.
fn why_no_symlink(mount: &PreparedMount) -> &'static str {
    match &mount.source {
        PreparedSource::New { kind, .. } if kind == "proc" || kind == "sysfs" => {
            "a symlink is on the way there, which is not followed for proc and sysfs; remove it \
             from the image"
        }
        _ if normal(&mount.destination).starts_with("/proc") => INSIDE_PROC,
        // The destination was resolved and checked before anything was mounted. A symlink that is
        // there now was not there then: another container of a shared volume may have made it.
        _ => {
            "a symlink is on the way there that was not there when the spec was checked; mount it \
             where no other mount brings a symlink"
        }
    }
}

/// Only a proc file system may be at /proc: programs trust what they find there.
fn check_proc(mount: &PreparedMount, place: &OwnedFd, inode: u64) -> Result<(), SpecMountError> {
    let on_proc =
        |fd: &OwnedFd| fstatfs(fd).is_ok_and(|fs| fs.f_type as u64 == PROC_SUPER_MAGIC as u64);
    let is_proc = match &mount.source {
        PreparedSource::New { kind, .. } => kind == "proc",
        PreparedSource::Tree { tree, .. } => on_proc(tree),
        PreparedSource::Cgroup => false,
    };
    let path = normal(&mount.destination);
    let beneath = on_proc(place) && inode != PROC_ROOT;
    if beneath && !IN_PROC.iter().any(|file| path == Path::new(file)) {
        return Err(mount.refused(INSIDE_PROC));
    }
    let over = path == Path::new("/proc") || (on_proc(place) && !beneath);
    if over && !is_proc {
        let why = "only a proc file system may be mounted there; mount it elsewhere";
        return Err(mount.refused(why));
    }
    Ok(())
}

/// Whether the SELinux policy lets all files of such a file system have one context.
fn takes_label(kind: &str) -> bool {
    !matches!(kind, "proc" | "sysfs" | "mqueue" | "cgroup" | "cgroup2")
}

fn propagate(mount: &OwnedFd, options: &MountOptions) -> Result<(), Error> {
    options
        .propagation
        .iter()
        .try_for_each(|propagation| attributes::propagate(mount, *propagation))
}

/// The place of a directory that was just made in the mount at `destination`.
pub(super) fn beneath(destination: &Path, name: &str) -> PathBuf {
    normal(destination).join(name)
}
