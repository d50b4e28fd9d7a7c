//! Makes a container from an image in an OCI archive or layout: unpacks its files once, and applies its
//! configuration (image-spec, config.md).

use std::io::{self, Read};
use std::path::Path;

use oci_spec::image::Config;
use oci_spec::runtime::{Spec, User};
use thiserror::Error;
use wasm_interp_artifact::{Store, UnusableStore};
use wasm_interp_image::{Archive, ArchiveError, CacheError, UnpackedImage};
use wasm_interp_workload::{DEFAULT_PATH, RootfsView, View, ViewError};

use super::spec;
use crate::places;

/// The most bytes of a user database that are read.
const MAX_DATABASE: u64 = 4 << 20;

/// Why no container can be made from an image.
#[derive(Debug, Error)]
pub(crate) enum ImageError {
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error("cannot keep the unpacked image: {0}")]
    Unusable(UnusableStore),
    #[error("cannot find user {name:?} of the image: {reason}; give one by number with --user")]
    User { name: String, reason: String },
    #[error("cannot look up the user in the image's {file}: {source}; give a number with --user")]
    Database {
        file: &'static str,
        source: ViewError,
    },
    #[error("cannot look up the user in the image's {file}: {source}; give a number with --user")]
    DatabaseBytes {
        file: &'static str,
        source: io::Error,
    },
}

/// The spec and the files for a container of an image.
pub(super) fn open(
    path: &Path,
    name: Option<&str>,
    user_is_given: bool,
) -> Result<(Spec, UnpackedImage), ImageError> {
    let archive = Archive::open(path)?;
    let image = archive.image(name)?;
    let cache = places::cache_dir();
    // The images have the same conditions as the store, except that they may be on a noexec mount.
    match Store::open(&cache).unusable() {
        None | Some(UnusableStore::NoExec { .. }) => {}
        Some(unusable) => return Err(ImageError::Unusable(unusable.clone())),
    }
    let images = places::images(&cache);
    let unpacked = images.get(&archive, &image, || {
        eprintln!(
            "wasm-interp: unpacking {} (once on this machine)",
            path.display()
        );
    })?;
    if let Some(first) = unpacked.devices.first() {
        eprintln!(
            "wasm-interp: device nodes of the image are left out ({} in all, the first is \
             {first:?}): containers get only the devices of their spec",
            unpacked.devices.len()
        );
    }
    let config = image.configuration.config().clone().unwrap_or_default();
    let mut spec = spec::of_rootfs();
    let mut process = spec.process().clone().unwrap_or_default();
    let args = wasm_interp_image::args(&config);
    process
        .set_args((!args.is_empty()).then_some(args))
        .set_env(Some(env(&config)))
        .set_cwd(wasm_interp_image::cwd(&config).into());
    if let Some(named) = config
        .user()
        .as_deref()
        .filter(|user| !user.is_empty() && !user_is_given)
    {
        process.set_user(user(named, unpacked.rootfs())?);
    }
    spec.set_process(Some(process));
    Ok((spec, unpacked))
}

fn env(config: &Config) -> Vec<String> {
    let mut env = config.env().clone().unwrap_or_default();
    if !env.iter().any(|variable| variable.starts_with("PATH=")) {
        env.insert(0, format!("PATH={DEFAULT_PATH}"));
    }
    env
}

/// Reads USER as containerd does: user or user:group, each a number or a name in the image's databases.
/// The supplementary groups are the groups that list the user.
fn user(text: &str, rootfs: &Path) -> Result<User, ImageError> {
    let view =
        RootfsView::new(rootfs, &Spec::default()).map_err(|source| ImageError::Database {
            file: "the root directory",
            source,
        })?;
    let database = |file: &'static str| -> Result<String, ImageError> {
        let opened = match view.open(Path::new(file)) {
            Err(ViewError::NotFound { .. }) => return Ok(String::new()),
            opened => opened.map_err(|source| ImageError::Database { file, source })?,
        };
        let mut bytes = Vec::new();
        opened
            .take(MAX_DATABASE)
            .read_to_end(&mut bytes)
            .map_err(|source| ImageError::DatabaseBytes { file, source })?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    find_user(text, &database("/etc/passwd")?, &database("/etc/group")?)
}

/// [`user`] on the text of passwd(5) and group(5).
fn find_user(text: &str, passwd: &str, group: &str) -> Result<User, ImageError> {
    let absent = |name: &str, reason: &str| ImageError::User {
        name: name.to_owned(),
        reason: reason.to_owned(),
    };
    let (named, named_group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let number = named.parse::<u32>().ok();
    let entry = passwd.lines().map(fields).find(|entry| match number {
        Some(number) => entry.get(2).is_some_and(|uid| uid.parse() == Ok(number)),
        None => entry[0] == named,
    });
    let uid = match (number, &entry) {
        (Some(number), _) => number,
        (None, Some(entry)) => entry
            .get(2)
            .and_then(|uid| uid.parse().ok())
            .ok_or_else(|| absent(named, "its line in /etc/passwd has no number"))?,
        (None, None) => return Err(absent(named, "/etc/passwd has no such name")),
    };
    let primary = || entry.as_ref()?.get(3)?.parse().ok();
    let gid = match named_group {
        None => primary().unwrap_or(0),
        Some(named_group) => match named_group.parse() {
            Ok(number) => number,
            Err(_) => group
                .lines()
                .map(fields)
                .find(|entry| entry[0] == named_group)
                .and_then(|entry| entry.get(2)?.parse().ok())
                .ok_or_else(|| absent(text, "/etc/group has no such group"))?,
        },
    };
    let groups: Vec<u32> = match &entry {
        None => Vec::new(),
        Some(entry) => group
            .lines()
            .map(fields)
            .filter(|group| {
                group
                    .get(3)
                    .is_some_and(|members| members.split(',').any(|member| member == entry[0]))
            })
            .filter_map(|group| group.get(2)?.parse().ok())
            .collect(),
    };
    let mut user = User::default();
    user.set_uid(uid)
        .set_gid(gid)
        .set_additional_gids((!groups.is_empty()).then_some(groups));
    Ok(user)
}

/// Fields of a line of passwd(5) or group(5); never empty.
fn fields(line: &str) -> Vec<&str> {
    line.trim_end().split(':').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/app:\nbroken:x\n";
    const GROUP: &str = "root:x:0:\napp:x:1001:\nlogs:x:50:other,app\nwheel:x:10:root\n";

    #[test]
    fn users_are_found_as_containerd_finds_them() {
        for (text, uid, gid, groups) in [
            ("app", 1000, 1001, Some(vec![50])),
            ("1000", 1000, 1001, Some(vec![50])),
            ("app:logs", 1000, 50, Some(vec![50])),
            ("app:7", 1000, 7, Some(vec![50])),
            ("4242", 4242, 0, None),
            ("4242:4343", 4242, 4343, None),
            ("root", 0, 0, Some(vec![10])),
        ] {
            let user = find_user(text, PASSWD, GROUP).unwrap();
            assert_eq!(
                (user.uid(), user.gid(), user.additional_gids().clone()),
                (uid, gid, groups),
                "{text}"
            );
        }
    }

    #[test]
    fn unknown_users_are_refused_by_name() {
        for (text, part) in [
            ("unknown", "no such name"),
            ("app:none", "no such group"),
            ("broken", "no number"),
        ] {
            let error = find_user(text, PASSWD, GROUP).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("--user"), "{error}");
        }
    }
}
