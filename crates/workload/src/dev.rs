//! Checks that a container's /dev is its own. The runtime makes devices and links there, and removes
//! files, so nothing that outlives the container may be mounted there. The checks compare paths
//! without symlinks and `..`, because a spec can spell `/dev` in many ways.
//!
//! [`crate::decide`] calls this for the mounts of the request, and the runner calls it for the mounts
//! that it is about to make.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, Mount, Spec};
use thiserror::Error;

use crate::causes::{quoted, shown};
use crate::mounts::{self, MountSource};

/// Where devices are.
const DEV: &str = "/dev";

/// Why the runtime would make devices in files that are not the container's own.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DevMountError {
    /// Something other than a new tmpfs is mounted on /dev.
    #[error(
        "cannot mount {what} on {destination}: it is mounted on /dev, where devices are made and \
         files removed; mount it elsewhere, or each of its files beneath /dev",
        destination = quoted(destination),
        what = shown(what)
    )]
    Mounted {
        /// What is mounted, in words.
        what: String,
        /// The spec's name for the place.
        destination: PathBuf,
    },
    /// The directory of a device is a mount.
    #[error(
        "cannot make the device {device}: it would be made in {what}, which is mounted on \
         {destination}; leave one of them out",
        device = quoted(device),
        destination = quoted(destination),
        what = shown(what)
    )]
    InMount {
        /// The device.
        device: PathBuf,
        /// What is mounted, in words.
        what: String,
        /// The spec's name for the place.
        destination: PathBuf,
    },
    /// A device outside /dev.
    #[error(
        "cannot make the device {device}: it is not beneath /dev; correct its path",
        device = quoted(device)
    )]
    Elsewhere {
        /// The device.
        device: PathBuf,
    },
}

/// Checks `mounts`, each with the place where it lands (see [`crate::mount_places`]), and the
/// `devices` that are made.
///
/// # Errors
/// [`DevMountError`] if a device, or a link that every /dev has, would be made in one of the mounts.
pub fn check_dev<'a>(
    mounts: impl IntoIterator<Item = (&'a Mount, &'a Path)>,
    devices: &[LinuxDevice],
) -> Result<(), DevMountError> {
    let foreign: Vec<_> = mounts
        .into_iter()
        .filter(|(mount, _)| mounts::source(mount) != MountSource::Memory)
        .collect();
    if let Some((mount, _)) = foreign.iter().find(|(_, place)| *place == Path::new(DEV)) {
        return Err(DevMountError::Mounted {
            what: words(mount),
            destination: mount.destination().clone(),
        });
    }
    for device in devices.iter().map(LinuxDevice::path) {
        if !is_beneath_dev(device) {
            return Err(DevMountError::Elsewhere {
                device: device.clone(),
            });
        }
        if let Some((mount, _)) = foreign.iter().find(|(_, place)| device.starts_with(place)) {
            return Err(DevMountError::InMount {
                device: device.clone(),
                what: words(mount),
                destination: mount.destination().clone(),
            });
        }
    }
    Ok(())
}

fn is_beneath_dev(device: &Path) -> bool {
    device.strip_prefix(DEV).is_ok_and(|beneath| {
        let mut names = beneath.components().peekable();
        names.peek().is_some() && names.all(|name| matches!(name, Component::Normal(_)))
    })
}

/// What is mounted: `bind /srv/data`, `proc`.
pub(crate) fn words(mount: &Mount) -> String {
    match mounts::source(mount) {
        MountSource::Bind { host, .. } => format!("bind {}", host.display()),
        MountSource::Memory => "tmpfs".to_owned(),
        MountSource::Kernel(_) | MountSource::Other(_) => {
            let typ = mount.typ().as_deref().unwrap_or("mount");
            match mount.source() {
                Some(source) => format!("{typ} {}", source.display()),
                None => typ.to_owned(),
            }
        }
    }
}

/// `linux.devices`.
#[must_use]
pub fn devices(spec: &Spec) -> &[LinuxDevice] {
    let linux = spec.linux().as_ref();
    linux
        .and_then(|linux| linux.devices().as_deref())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{LinuxDeviceBuilder, MountBuilder};

    use super::*;

    fn mount(typ: &str, options: &[&str]) -> Mount {
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        MountBuilder::default()
            .destination("as/spelled")
            .typ(typ)
            .source("/s")
            .options(options)
            .build()
            .unwrap()
    }

    fn check(mount: &Mount, place: &str, device: &str) -> Result<(), DevMountError> {
        let device = LinuxDeviceBuilder::default().path(device).build().unwrap();
        check_dev([(mount, Path::new(place))], &[device])
    }

    #[test]
    fn only_a_new_tmpfs_is_allowed_on_dev_or_above_a_device() {
        for (typ, options) in [
            ("bind", &["rbind"][..]),
            ("tmpfs", &["rbind"]),
            ("tmpfs", &["nosuid", "bind"]),
            ("", &[]),
            ("ext4", &[]),
            ("proc", &[]),
            ("devtmpfs", &[]),
        ] {
            let mount = mount(typ, options);
            let what = format!("{typ} {options:?}");
            let on_dev = check(&mount, "/dev", "/dev/null");
            assert!(
                matches!(on_dev, Err(DevMountError::Mounted { .. })),
                "{what}"
            );
            for place in ["/dev/net", "/dev/net/tun"] {
                let in_mount = check(&mount, place, "/dev/net/tun");
                assert!(
                    matches!(in_mount, Err(DevMountError::InMount { .. })),
                    "{what}"
                );
            }
            for place in ["/dev/shm", "/dev/network", "/data/dev", "/dev/null2"] {
                assert_eq!(check(&mount, place, "/dev/net/tun"), Ok(()), "{what}");
            }
        }
        for typ in ["tmpfs", "ramfs"] {
            for place in ["/dev", "/dev/net"] {
                let own = mount(typ, &["nosuid"]);
                assert_eq!(check(&own, place, "/dev/net/tun"), Ok(()), "{typ}");
            }
        }
    }

    #[test]
    fn device_outside_dev_is_refused() {
        let own = mount("tmpfs", &[]);
        for device in ["/dev", "/etc/x", "dev/x", "/dev/../etc/x", "/dev/a/../../x"] {
            let elsewhere = check(&own, "/dev", device);
            let expected = matches!(elsewhere, Err(DevMountError::Elsewhere { .. }));
            assert!(expected, "{device}");
        }
    }
}
