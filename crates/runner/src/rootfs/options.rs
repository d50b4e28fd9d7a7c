//! What the options of a spec's mount mean: runc's table of flags, propagation, recursive attributes
//! and extensions; every other option is data for the file system.
//!
//! Pure. Called by `sources` for each mount. Knows no system call.
#![forbid(unsafe_code)]

use rustix::mount::{MountAttrFlags as Attr, MountPropagationFlags};
pub(crate) use wasm_interp_mounts::Depth;

/// One mount's options. Of several for one flag the last applies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MountOptions {
    /// `bind` or `rbind`.
    pub(crate) bind: Option<Depth>,
    /// Attributes of the mount itself.
    pub(crate) attributes: AttributeChange,
    /// Attributes of the mount and of those beneath it.
    pub(crate) recursive: AttributeChange,
    /// Changes of the propagation, to be made one after the other.
    pub(crate) propagation: Vec<Propagation>,
    /// Flags of a new file system, by the names that fsconfig(2) has for them.
    pub(crate) filesystem: Vec<&'static str>,
    /// `idmap` or `ridmap`.
    pub(crate) mapped: Option<Depth>,
    /// `tmpcopyup`.
    pub(crate) copy_up: bool,
    /// `remount`.
    pub(crate) remount: bool,
    /// What only the file system understands.
    pub(crate) data: Vec<String>,
}

/// Attributes to set and to clear, as mount_setattr(2) takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AttributeChange {
    pub(crate) set: Attr,
    pub(crate) clear: Attr,
}

impl Default for AttributeChange {
    fn default() -> Self {
        Self {
            set: Attr::empty(),
            clear: Attr::empty(),
        }
    }
}

/// A change of the propagation of a mount, or of a whole tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Propagation {
    pub(crate) to: MountPropagationFlags,
    pub(crate) depth: Depth,
}

/// What is done with an attribute.
#[derive(Clone, Copy)]
enum Switch {
    On,
    Off,
}

impl AttributeChange {
    pub(crate) const READ_ONLY: Self = Self {
        set: Attr::MOUNT_ATTR_RDONLY,
        clear: Attr::empty(),
    };

    /// No device on it can be opened.
    pub(crate) const NO_DEVICES: Self = Self {
        set: Attr::MOUNT_ATTR_NODEV,
        clear: Attr::empty(),
    };

    pub(crate) fn is_empty(self) -> bool {
        self == Self::default()
    }

    fn switch(&mut self, attribute: Attr, switch: Switch) {
        match switch {
            Switch::On => {
                self.set |= attribute;
                self.clear -= attribute;
            }
            Switch::Off => {
                self.set -= attribute;
                self.clear |= attribute;
            }
        }
    }

    /// Access times are one value of several bits: it is set as a whole, and every bit of it has to
    /// be cleared for that.
    fn access_times(&mut self, value: Attr) {
        self.set -= Attr::MOUNT_ATTR__ATIME;
        self.set |= value;
        self.clear |= Attr::MOUNT_ATTR__ATIME;
    }

    /// Takes back `value`, if that is what was asked for; the default is `relatime`, as mount(8) has
    /// it. `otherwise` says what happens if it was not.
    fn no_access_times(&mut self, value: Attr, otherwise: Switch) {
        if self.set.contains(value) || matches!(otherwise, Switch::Off) {
            self.access_times(Attr::MOUNT_ATTR_RELATIME);
        }
    }
}

/// The propagation that `name` stands for, which `rootfsPropagation` uses too.
pub(crate) fn propagation(name: &str) -> Option<Propagation> {
    let (depth, kind) = match name.strip_prefix('r') {
        Some(kind) => (Depth::Recursive, kind),
        None => (Depth::Shallow, name),
    };
    let to = match kind {
        "private" => MountPropagationFlags::PRIVATE,
        "slave" => MountPropagationFlags::DOWNSTREAM,
        "shared" => MountPropagationFlags::SHARED,
        "unbindable" => MountPropagationFlags::UNBINDABLE,
        _ => return None,
    };
    Some(Propagation { to, depth })
}

impl MountOptions {
    /// Reads the options of a mount.
    pub(crate) fn parse(options: &[String]) -> Self {
        let mut parsed = Self::default();
        for option in options {
            if !parsed.is_known(option) {
                parsed.data.push(option.clone());
            }
        }
        parsed
    }

    /// `ro`.
    pub(crate) fn is_read_only(&self) -> bool {
        self.attributes.set.contains(Attr::MOUNT_ATTR_RDONLY)
    }

    /// Notes an option. Whether it has a meaning here, and is not for the file system.
    fn is_known(&mut self, option: &str) -> bool {
        if let Some(propagation) = propagation(option) {
            self.propagation.push(propagation);
            return true;
        }
        if attribute(&mut self.attributes, option) {
            return true;
        }
        if let Some(name) = option.strip_prefix('r')
            && (attribute(&mut self.recursive, name))
        {
            return true;
        }
        match option {
            "defaults" => {}
            "bind" => self.bind = self.bind.or(Some(Depth::Shallow)),
            "rbind" => self.bind = Some(Depth::Recursive),
            "idmap" => self.mapped = Some(Depth::Shallow),
            "ridmap" => self.mapped = Some(Depth::Recursive),
            "tmpcopyup" => self.copy_up = true,
            "remount" => self.remount = true,
            "sync" => self.filesystem("sync", "async"),
            "async" => self.filesystem("async", "sync"),
            "dirsync" => self.filesystem("dirsync", ""),
            "mand" => self.filesystem("mand", "nomand"),
            "nomand" => self.filesystem("nomand", "mand"),
            "lazytime" => self.filesystem("lazytime", "nolazytime"),
            "nolazytime" => self.filesystem("nolazytime", "lazytime"),
            // Whether the kernel logs about a mount, and whether the inode's version counts, which
            // every file system that can decides itself: fsconfig(2) has no names for them, and
            // without them no file is less protected.
            "silent" | "loud" | "iversion" | "noiversion" => {}
            _ => return false,
        }
        true
    }

    fn filesystem(&mut self, flag: &'static str, opposite: &str) {
        self.filesystem
            .retain(|other| *other != flag && *other != opposite);
        self.filesystem.push(flag);
    }
}

/// Whether `option` names an attribute, which is then noted in `change`.
fn attribute(change: &mut AttributeChange, option: &str) -> bool {
    use Switch::{Off, On};
    let (attribute, switch) = match option {
        "ro" => (Attr::MOUNT_ATTR_RDONLY, On),
        "rw" => (Attr::MOUNT_ATTR_RDONLY, Off),
        "nosuid" => (Attr::MOUNT_ATTR_NOSUID, On),
        "suid" => (Attr::MOUNT_ATTR_NOSUID, Off),
        "nodev" => (Attr::MOUNT_ATTR_NODEV, On),
        "dev" => (Attr::MOUNT_ATTR_NODEV, Off),
        "noexec" => (Attr::MOUNT_ATTR_NOEXEC, On),
        "exec" => (Attr::MOUNT_ATTR_NOEXEC, Off),
        "nodiratime" => (Attr::MOUNT_ATTR_NODIRATIME, On),
        "diratime" => (Attr::MOUNT_ATTR_NODIRATIME, Off),
        "nosymfollow" => (Attr::MOUNT_ATTR_NOSYMFOLLOW, On),
        "symfollow" => (Attr::MOUNT_ATTR_NOSYMFOLLOW, Off),
        "noatime" => {
            change.access_times(Attr::MOUNT_ATTR_NOATIME);
            return true;
        }
        "strictatime" => {
            change.access_times(Attr::MOUNT_ATTR_STRICTATIME);
            return true;
        }
        "relatime" => {
            change.access_times(Attr::MOUNT_ATTR_RELATIME);
            return true;
        }
        "atime" => {
            change.no_access_times(Attr::MOUNT_ATTR_NOATIME, Off);
            return true;
        }
        "nostrictatime" => {
            change.no_access_times(Attr::MOUNT_ATTR_STRICTATIME, On);
            return true;
        }
        // Where nothing else is said it is the default all the same.
        "norelatime" => return true,
        _ => return false,
    };
    change.switch(attribute, switch);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every option that runc 1.4 knows (libcontainer/specconv), but for `acl`, which is data there too.
    const RUNC: [&str; 65] = [
        "async",
        "atime",
        "bind",
        "defaults",
        "dev",
        "diratime",
        "dirsync",
        "exec",
        "iversion",
        "lazytime",
        "loud",
        "mand",
        "noatime",
        "nodev",
        "nodiratime",
        "noexec",
        "noiversion",
        "nolazytime",
        "nomand",
        "norelatime",
        "nostrictatime",
        "nosuid",
        "nosymfollow",
        "rbind",
        "relatime",
        "remount",
        "ro",
        "rw",
        "silent",
        "strictatime",
        "suid",
        "symfollow",
        "sync",
        "rprivate",
        "private",
        "rslave",
        "slave",
        "rshared",
        "shared",
        "runbindable",
        "unbindable",
        "rro",
        "rrw",
        "rnosuid",
        "rsuid",
        "rnodev",
        "rdev",
        "rnoexec",
        "rexec",
        "rnodiratime",
        "rdiratime",
        "rrelatime",
        "rnorelatime",
        "rnoatime",
        "ratime",
        "rstrictatime",
        "rnostrictatime",
        "rnosymfollow",
        "rsymfollow",
        "tmpcopyup",
        "idmap",
        "ridmap",
        // Written twice, so that the count is checked against a change of either list.
        "ro",
        "nosuid",
        "rro",
    ];

    fn parse(options: &[&str]) -> MountOptions {
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        MountOptions::parse(&options)
    }

    #[test]
    fn every_option_of_runc_is_known_and_no_other() {
        assert_eq!(parse(&RUNC).data, Vec::<String>::new());
        let data = [
            "size=64k",
            "mode=755",
            "newinstance",
            "acl",
            "rsize=8",
            "rnothing",
        ];
        assert_eq!(parse(&data).data, data);
    }

    #[test]
    fn the_last_option_for_an_attribute_applies() {
        let options = parse(&["ro", "nosuid", "nodev", "rw"]);
        assert_eq!(
            options.attributes.set,
            Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NODEV
        );
        assert_eq!(options.attributes.clear, Attr::MOUNT_ATTR_RDONLY);
        let options = parse(&["rrw", "rro", "rnosymfollow"]);
        assert_eq!(
            options.recursive.set,
            Attr::MOUNT_ATTR_RDONLY | Attr::MOUNT_ATTR_NOSYMFOLLOW
        );
        assert_eq!(options.recursive.clear, Attr::empty());
        assert!(options.attributes.is_empty());
    }

    #[test]
    fn options_for_access_times_replace_each_other() {
        for (words, set, clear) in [
            (
                &["noatime"][..],
                Attr::MOUNT_ATTR_NOATIME,
                Attr::MOUNT_ATTR__ATIME,
            ),
            (
                &["noatime", "strictatime"],
                Attr::MOUNT_ATTR_STRICTATIME,
                Attr::MOUNT_ATTR__ATIME,
            ),
            (
                &["noatime", "atime"],
                Attr::empty(),
                Attr::MOUNT_ATTR__ATIME,
            ),
            (&["nostrictatime"], Attr::empty(), Attr::empty()),
            (&["norelatime"], Attr::empty(), Attr::empty()),
        ] {
            let change = parse(words).attributes;
            assert_eq!((change.set, change.clear), (set, clear), "{words:?}");
        }
    }

    #[test]
    fn propagation_keeps_its_order_and_depth() {
        let options = parse(&["rslave", "shared"]);
        let (slave, shared) = (
            MountPropagationFlags::DOWNSTREAM,
            MountPropagationFlags::SHARED,
        );
        let propagation: Vec<_> = options
            .propagation
            .iter()
            .map(|p| (p.to, p.depth))
            .collect();
        assert_eq!(
            propagation,
            [(slave, Depth::Recursive), (shared, Depth::Shallow)]
        );
        assert_eq!(super::propagation("rbind"), None);
    }

    #[test]
    fn flags_of_a_file_system_replace_their_opposites() {
        assert_eq!(
            parse(&["sync", "dirsync", "async", "lazytime"]).filesystem,
            ["dirsync", "async", "lazytime"]
        );
        assert_eq!(
            parse(&["silent", "loud", "iversion"]),
            MountOptions::default()
        );
    }

    #[test]
    fn bind_after_rbind_keeps_the_bind_recursive() {
        assert_eq!(parse(&["rbind", "bind"]).bind, Some(Depth::Recursive));
        assert_eq!(parse(&["bind"]).bind, Some(Depth::Shallow));
    }
}
