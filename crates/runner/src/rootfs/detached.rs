//! Mounts that are attached nowhere yet: copies of existing ones, and new file systems. And the step
//! that attaches one.
//!
//! Called by the modules around it. Knows nothing of the spec's mounts and of the container's root.
#![forbid(unsafe_code)]

use std::{
    io::Error,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::CWD,
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
        fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
    },
};

use super::{
    attributes,
    options::{Depth, MountOptions},
};

/// File systems that have no disk below them.
const OF_THE_KERNEL: [&str; 7] = [
    "proc", "sysfs", "cgroup", "cgroup2", "mqueue", "devpts", "tmpfs",
];

/// A copy of what is mounted at the host's `path`.
pub(super) fn copy_at(path: &Path, depth: Depth) -> std::io::Result<OwnedFd> {
    copy(CWD, path, depth, OpenTreeFlags::empty())
}

/// A copy of the mount that `place` is a handle on.
pub(super) fn copy_of(place: impl AsFd, depth: Depth) -> std::io::Result<OwnedFd> {
    copy(place, Path::new(""), depth, OpenTreeFlags::AT_EMPTY_PATH)
}

fn copy(
    directory: impl AsFd,
    path: &Path,
    depth: Depth,
    flags: OpenTreeFlags,
) -> std::io::Result<OwnedFd> {
    let mut flags = flags | OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if depth == Depth::Recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(directory, path, flags)?)
}

/// Attaches a mount that is attached nowhere yet.
pub(super) fn attach(mount: &OwnedFd, place: &OwnedFd) -> std::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", place, "", flags)?)
}

/// A new mount of a new file system, attached nowhere, whose files all have the SELinux context `label`.
pub(super) fn new_filesystem(
    kind: &str,
    from: Option<&Path>,
    options: &MountOptions,
    label: Option<&str>,
) -> std::io::Result<OwnedFd> {
    let fs = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    let explain = |option: &str| {
        let fs = fs.as_fd();
        let option = option.to_owned();
        move |errno: Errno| explained(errno, &option, fs)
    };
    let source = from.filter(|from| !from.as_os_str().is_empty());
    fsconfig_set_string(&fs, "source", source.unwrap_or(Path::new(kind)))
        .map_err(explain("source"))?;
    for flag in &options.filesystem {
        fsconfig_set_flag(&fs, *flag).map_err(explain(flag))?;
    }
    if options.is_read_only() && !OF_THE_KERNEL.contains(&kind) {
        // A disk must not be written to even to repair it.
        fsconfig_set_flag(&fs, "ro").map_err(explain("ro"))?;
    }
    for (key, value) in parameters(options, label) {
        let (set, option) = match value {
            Some(value) => (
                fsconfig_set_string(&fs, key, value),
                format!("{key}={value}"),
            ),
            None => (fsconfig_set_flag(&fs, key), key.to_owned()),
        };
        set.map_err(explain(&option))?;
    }
    fsconfig_create(&fs).map_err(explain(""))?;
    let new = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, options.attributes.set)?;
    attributes::change(&new, options.recursive, Depth::Recursive)?;
    Ok(new)
}

/// MountOptions that are SELinux contexts, which may have commas: between two categories.
const CONTEXTS: [&str; 4] = ["context", "fscontext", "defcontext", "rootcontext"];

/// Keys and values for a new file system.
fn parameters<'a>(
    options: &'a MountOptions,
    label: Option<&'a str>,
) -> impl Iterator<Item = (&'a str, Option<&'a str>)> {
    let said = options
        .data
        .iter()
        .flat_map(|data| split(data))
        .map(|option| match option.split_once('=') {
            Some((key, value)) if CONTEXTS.contains(&key) => (key, Some(value.trim_matches('"'))),
            Some((key, value)) => (key, Some(value)),
            None => (option, None),
        });
    said.chain(label.map(|label| ("context", Some(label))))
}

/// MountOptions that stand in one string, as mount(8) has them; a comma after a backslash belongs to one, and so
/// does one in a quoted SELinux context.
fn split(data: &str) -> impl Iterator<Item = &str> {
    let mut rest = data;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let quoted = quoted(rest);
        let end = rest
            .match_indices(',')
            .map(|(at, _)| at)
            .skip_while(|&at| at < quoted)
            .find(|&at| !rest[..at].ends_with('\\'))
            .unwrap_or(rest.len());
        let option = &rest[..end];
        rest = rest.get(end + 1..).unwrap_or_default();
        Some(option)
    })
    .filter(|option| !option.is_empty())
}

/// The length of the quoted context with which `data` begins.
fn quoted(data: &str) -> usize {
    match data.split_once("=\"") {
        Some((key, value)) if CONTEXTS.contains(&key) => value
            .find('"')
            .map_or(0, |end| key.len() + "=\"".len() + end),
        _ => 0,
    }
}

/// `errno` with the option that it is about and with the message of the file system.
fn explained(errno: Errno, option: &str, fs: impl AsFd) -> Error {
    let mut log = [0; 1024];
    let said = match rustix::io::read(fs, &mut log) {
        Ok(length) => String::from_utf8_lossy(&log[..length]).trim().to_owned(),
        // It says nothing.
        Err(_) => String::new(),
    };
    let error = Error::from(errno);
    let mut text = error.to_string();
    if !option.is_empty() {
        text = format!("option {option:?}: {text}");
    }
    if !said.is_empty() {
        text = format!("{text}: {said}");
    }
    Error::new(error.kind(), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_in_one_string_are_split_at_commas_as_mount_does() {
        let parts: Vec<_> = split("mode=755,size=64k,,newinstance").collect();
        assert_eq!(parts, ["mode=755", "size=64k", "newinstance"]);
        let parts: Vec<_> = split("lowerdir=/a\\,b,upperdir=/c").collect();
        assert_eq!(parts, ["lowerdir=/a\\,b", "upperdir=/c"]);
    }

    #[test]
    fn selinux_context_keeps_its_comma() {
        let label = "system_u:object_r:container_file_t:s0:c123,c456";
        let mut options = MountOptions {
            data: vec!["size=64k,nr_inodes=8".to_owned()],
            ..MountOptions::default()
        };
        let told = |options: &MountOptions, label| -> Vec<_> {
            let told = parameters(options, label);
            told.map(|(key, value)| (key.to_owned(), value.map(str::to_owned)))
                .collect()
        };
        let expected = |key: &str, value: &str| (key.to_owned(), Some(value.to_owned()));
        let size = [expected("size", "64k"), expected("nr_inodes", "8")];
        let mut all = size.to_vec();
        all.push(expected("context", label));
        assert_eq!(told(&options, Some(label)), all);
        assert_eq!(told(&options, None), size);

        options.data = vec![format!("rootcontext=\"{label}\",size=64k,name=\"a,b\"")];
        let all = [
            expected("rootcontext", label),
            expected("size", "64k"),
            expected("name", "\"a"),
            ("b\"".to_owned(), None),
        ];
        assert_eq!(told(&options, None), all);
    }
}
