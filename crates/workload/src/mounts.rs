//! What an entry of the spec's `mounts` means: where it comes from, with which rights, and whether
//! it is one of the kernel's own file systems. Shared by the plan, the view and the container spec,
//! so that the three cannot read an entry differently.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;

use crate::plan::DirectoryRights;

/// How deep a bind mount reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BindDepth {
    /// `bind`: mounts beneath the source stay behind.
    Shallow,
    /// `rbind`: mounts beneath the source come along.
    Recursive,
}

/// Where a mount's content comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source<'a> {
    /// A file or directory of the host.
    Bind { host: &'a Path, depth: BindDepth },
    /// Memory: empty at first.
    Memory,
    /// One of the kernel's own file systems.
    Kernel(KernelFs),
    /// Any other file system; what it holds is known only once it is mounted.
    Other(&'a str),
}

/// A file system that shows the kernel rather than files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelFs {
    /// Processes.
    Proc,
    /// Devices and drivers.
    Sysfs,
    /// Control groups, either version.
    Cgroup,
    /// POSIX message queues.
    Mqueue,
    /// Terminals.
    Devpts,
    /// Tracing, debugging, security modules, BPF and the like.
    Debug,
}

impl KernelFs {
    /// By the name that `mount` and `/proc/self/mountinfo` use.
    pub(crate) fn from_type(name: &str) -> Option<Self> {
        Some(match name {
            "proc" => Self::Proc,
            "sysfs" => Self::Sysfs,
            "cgroup" | "cgroup2" => Self::Cgroup,
            "mqueue" => Self::Mqueue,
            "devpts" => Self::Devpts,
            "debugfs" | "tracefs" | "securityfs" | "bpf" | "configfs" | "pstore" | "efivarfs"
            | "selinuxfs" | "smackfs" | "binfmt_misc" | "fusectl" | "nsfs" | "resctrl" => {
                Self::Debug
            }
            _ => return None,
        })
    }

    /// By the magic number that `statfs` answers (see `linux/magic.h`).
    pub(crate) fn from_magic(magic: u32) -> Option<Self> {
        Some(match magic {
            0x0000_9fa0 => Self::Proc,
            0x6265_6572 => Self::Sysfs,
            0x0027_e0eb | 0x6367_7270 => Self::Cgroup,
            0x1980_0202 => Self::Mqueue,
            0x0000_1cd1 => Self::Devpts,
            0x6462_6720 // debugfs
            | 0x7472_6163 // tracefs
            | 0x7363_6673 // securityfs
            | 0xcafe_4a11 // bpf
            | 0x6265_6570 // configfs
            | 0x6165_676c // pstore
            | 0xde5e_81e4 // efivarfs
            | 0xf97c_ff8c // selinuxfs
            | 0x4341_5d53 // smackfs
            | 0x4249_4e4d // binfmt_misc
            | 0x6573_5543 // fusectl
            | 0x6e73_6673 // nsfs
            | 0x0765_5821 // resctrl
            => Self::Debug,
            _ => return None,
        })
    }

    /// Why a guest does not get it.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Proc => "proc shows processes of the pod, and a Wasm guest has no use for it",
            Self::Sysfs => {
                "sysfs shows the node's hardware and kernel, and a Wasm guest has no use for it"
            }
            Self::Cgroup => {
                "cgroup shows and changes resource limits, and a Wasm guest has no use for it"
            }
            Self::Mqueue => "WASI has no message queues",
            Self::Devpts => "WASI has no terminals of its own",
            Self::Debug => "it is an interface to the kernel, not files",
        }
    }
}

/// Where `mount` comes from.
pub(crate) fn source(mount: &Mount) -> Source<'_> {
    let typ = mount.typ().as_deref().unwrap_or_default();
    let has = |name: &str| options(mount).iter().any(|option| option == name);
    // As runc and libcontainer do, the options decide before the type.
    if has("rbind") || has("bind") || typ == "bind" {
        let depth = if has("rbind") {
            BindDepth::Recursive
        } else {
            BindDepth::Shallow
        };
        let host = mount.source().as_deref().unwrap_or(Path::new(""));
        return Source::Bind { host, depth };
    }
    match typ {
        "tmpfs" | "ramfs" => Source::Memory,
        other => KernelFs::from_type(other).map_or(Source::Other(other), Source::Kernel),
    }
}

/// The rights that the options of `mount` give; the last word wins.
pub(crate) fn rights(mount: &Mount) -> DirectoryRights {
    options(mount)
        .iter()
        .rev()
        .find_map(|option| match option.as_str() {
            "ro" | "rro" => Some(DirectoryRights::ReadOnly),
            "rw" | "rrw" => Some(DirectoryRights::ReadWrite),
            _ => None,
        })
        .unwrap_or(DirectoryRights::ReadWrite)
}

/// The destination from the container's root, as the runtime spec wants it and runc tolerates it.
pub(crate) fn destination(mount: &Mount) -> PathBuf {
    Path::new("/").join(mount.destination())
}

/// The mount's options.
pub(crate) fn options(mount: &Mount) -> &[String] {
    mount.options().as_deref().unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use oci_spec::runtime::MountBuilder;

    fn mount(typ: &str, options: &[&str]) -> Mount {
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        MountBuilder::default()
            .destination("/x")
            .typ(typ)
            .source("/s")
            .options(options)
            .build()
            .unwrap()
    }

    #[test]
    fn the_last_word_on_rights_wins() {
        for (options, rights_expected) in [
            (&["ro"][..], DirectoryRights::ReadOnly),
            (&["rro"], DirectoryRights::ReadOnly),
            (&["ro", "rw"], DirectoryRights::ReadWrite),
            (&["rw", "nosuid", "ro"], DirectoryRights::ReadOnly),
            (&["nosuid"], DirectoryRights::ReadWrite),
        ] {
            assert_eq!(
                rights(&mount("bind", options)),
                rights_expected,
                "{options:?}"
            );
        }
    }

    #[test]
    fn bind_is_told_by_option_before_type() {
        let host = Path::new("/s");
        assert_eq!(
            source(&mount("none", &["rbind"])),
            Source::Bind {
                host,
                depth: BindDepth::Recursive
            }
        );
        assert_eq!(
            source(&mount("proc", &["bind"])),
            Source::Bind {
                host,
                depth: BindDepth::Shallow
            }
        );
        assert_eq!(
            source(&mount("bind", &[])),
            Source::Bind {
                host,
                depth: BindDepth::Shallow
            }
        );
        assert_eq!(source(&mount("proc", &[])), Source::Kernel(KernelFs::Proc));
        assert_eq!(source(&mount("ext4", &[])), Source::Other("ext4"));
    }
}
