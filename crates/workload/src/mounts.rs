//! Interprets an entry of the spec's `mounts`: its source, what may be done with it, and whether it is one of the
//! kernel's own file systems. The plan, the view and the container spec share this code, so that they
//! cannot interpret an entry differently.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;

use crate::plan::MountAccess;

/// The longest path that the kernel takes, with the byte that ends it (`PATH_MAX` of `linux/limits.h`).
pub(crate) const PATH_MAX: usize = 4096;

/// One of the spec's mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountRequest {
    /// Absolute, as the spec writes it.
    pub(crate) destination: PathBuf,
    pub(crate) access: MountAccess,
    /// Its source, in words.
    pub(crate) source: String,
}

/// Whether a bind mount includes the mounts beneath its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BindDepth {
    /// `bind`: without the mounts beneath the source.
    Shallow,
    /// `rbind`: with the mounts beneath the source.
    Recursive,
}

/// The source of a mount's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MountSource<'a> {
    /// A file or directory of the host.
    Bind { host: &'a Path, depth: BindDepth },
    /// A tmpfs, which is empty at first.
    Memory,
    /// One of the kernel's own file systems.
    Kernel(KernelFs),
    /// Any other file system. Its content is known only once it is mounted.
    Other(&'a str),
}

/// A file system that exposes the kernel's state rather than stored files.
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
    /// Recognizes the name that `mount` and `/proc/self/mountinfo` use.
    pub(crate) fn from_type(name: &str) -> Option<Self> {
        Some(match name {
            "proc" => Self::Proc,
            "sysfs" => Self::Sysfs,
            "cgroup" | "cgroup2" => Self::Cgroup,
            "mqueue" => Self::Mqueue,
            "devpts" => Self::Devpts,
            "debugfs" | "tracefs" | "securityfs" | "bpf" | "configfs" | "pstore" | "efivarfs"
            | "selinuxfs" | "smackfs" | "binfmt_misc" | "fusectl" | "nsfs" | "resctrl"
            | "pidfs" | "apparmorfs" | "binder" | "rpc_pipefs" | "nfsd" | "xenfs"
            | "openpromfs" | "usbdevfs" => Self::Debug,
            _ => return None,
        })
    }

    /// Recognizes the magic number that `statfs` returns (see `linux/magic.h`).
    #[must_use]
    pub fn from_magic(magic: u32) -> Option<Self> {
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
            | 0x5049_4446 // pidfs
            | 0x5a3c_69f0 // apparmorfs
            | 0x6c6f_6f70 // binderfs
            | 0x6759_6969 // rpc_pipefs
            | 0x6e66_7364 // nfsd
            | 0xabba_1974 // xenfs
            | 0x0000_9fa1 // openpromfs
            | 0x0000_9fa2 // usbdevfs
            => Self::Debug,
            _ => return None,
        })
    }

    /// Why a guest does not get this file system.
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

/// The source of `mount`.
pub(crate) fn source(mount: &Mount) -> MountSource<'_> {
    let typ = mount.typ().as_deref().unwrap_or_default();
    let has = |name: &str| options(mount).iter().any(|option| option == name);
    // The options take precedence over the type, as in runc and libcontainer.
    if has("rbind") || has("bind") || typ == "bind" {
        let depth = if has("rbind") {
            BindDepth::Recursive
        } else {
            BindDepth::Shallow
        };
        let host = mount.source().as_deref().unwrap_or(Path::new(""));
        return MountSource::Bind { host, depth };
    }
    match typ {
        "tmpfs" | "ramfs" => MountSource::Memory,
        other => KernelFs::from_type(other).map_or(MountSource::Other(other), MountSource::Kernel),
    }
}

/// What the options of `mount` allow. The last option wins.
pub(crate) fn access(mount: &Mount) -> MountAccess {
    options(mount)
        .iter()
        .rev()
        .find_map(|option| match option.as_str() {
            "ro" | "rro" => Some(MountAccess::ReadOnly),
            "rw" | "rrw" => Some(MountAccess::Writable),
            _ => None,
        })
        .unwrap_or(MountAccess::Writable)
}

/// The destination as an absolute path. The runtime spec requires one; runc accepts a relative one too.
pub(crate) fn destination(mount: &Mount) -> PathBuf {
    Path::new("/").join(mount.destination())
}

/// The mount's options.
pub(crate) fn options(mount: &Mount) -> &[String] {
    mount.options().as_deref().unwrap_or_default()
}

#[cfg(test)]
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
    fn last_of_ro_and_rw_wins() {
        for (options, expected) in [
            (&["ro"][..], MountAccess::ReadOnly),
            (&["rro"], MountAccess::ReadOnly),
            (&["ro", "rw"], MountAccess::Writable),
            (&["rw", "nosuid", "ro"], MountAccess::ReadOnly),
            (&["nosuid"], MountAccess::Writable),
        ] {
            assert_eq!(access(&mount("bind", options)), expected, "{options:?}");
        }
    }

    #[test]
    fn bind_option_overrides_the_type() {
        let host = Path::new("/s");
        assert_eq!(
            source(&mount("none", &["rbind"])),
            MountSource::Bind {
                host,
                depth: BindDepth::Recursive
            }
        );
        assert_eq!(
            source(&mount("proc", &["bind"])),
            MountSource::Bind {
                host,
                depth: BindDepth::Shallow
            }
        );
        assert_eq!(
            source(&mount("bind", &[])),
            MountSource::Bind {
                host,
                depth: BindDepth::Shallow
            }
        );
        assert_eq!(
            source(&mount("proc", &[])),
            MountSource::Kernel(KernelFs::Proc)
        );
        assert_eq!(source(&mount("ext4", &[])), MountSource::Other("ext4"));
    }
}
