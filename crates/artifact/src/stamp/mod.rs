//! Identifies the state of a file without reading it.
//!
//! A [`Stamp`] names one state of one inode: the kernel's handle of it, its size and its times,
//! within one boot. `docs/internals/decisions/0002-identify-a-file-without-reading-it.md` explains why
//! an equal stamp means equal content, and when a stamp must not be taken. This module implements it.

mod handle;

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::statfs::{self, FsType};

pub(crate) use handle::has_writer;
use handle::{Handle, handle_of};

/// A file whose inode changed more recently than this may change again within the granularity of
/// the file system's clock without showing it.
const RACY: Duration = Duration::from_secs(2);

/// One state of one inode. Equal stamps mean equal content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    text: String,
    changed: Duration,
}

impl Stamp {
    /// Takes the stamp of an open file; `None` if the kernel or the file system cannot give a reliable
    /// one.
    pub(crate) fn of(file: &File) -> io::Result<Option<Self>> {
        let Some(boot) = boot_id() else {
            return Ok(None);
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(None);
        }
        let kind = statfs::fstatfs(file)?.filesystem_type();
        let Some(handle) = handle_of(file)? else {
            return Ok(None);
        };
        let Some(identity) = identity(kind, metadata.dev(), &handle) else {
            return Ok(None);
        };
        let changed = Duration::new(
            u64::try_from(metadata.ctime()).unwrap_or(u64::MAX),
            u32::try_from(metadata.ctime_nsec()).unwrap_or(0),
        );
        let text = format!(
            "boot={boot} {identity} size={} mtime={}.{:09} ctime={}.{:09}",
            metadata.size(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.ctime(),
            metadata.ctime_nsec(),
        );
        Ok(Some(Self { text, changed }))
    }

    /// Whether the last change is so old at `now` that a later change must show in the ctime.
    pub(crate) fn settled(&self, now: SystemTime) -> bool {
        now.duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|now| now.checked_sub(self.changed))
            .is_some_and(|age| age >= RACY)
    }

    /// The stamp as text, one line.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

/// Stamps are valid within one boot: they do not show changes to a disk while the machine is off, nor
/// writes that a power loss undoes.
pub(crate) fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let id = id.trim();
    (!id.is_empty()).then(|| id.to_owned())
}

/// What identifies the inode among all that this kernel has mounted; `None` if another party than
/// this kernel chooses handles (FUSE, network file systems, images whose author wrote the inode
/// numbers).
fn identity(kind: FsType, device: u64, handle: &Handle) -> Option<String> {
    // Local file systems that give a reused inode number a new generation.
    const LOCAL: [FsType; 4] = [
        statfs::EXT4_SUPER_MAGIC,
        statfs::XFS_SUPER_MAGIC,
        statfs::BTRFS_SUPER_MAGIC,
        statfs::TMPFS_MAGIC,
    ];
    if LOCAL.contains(&kind) {
        return Some(format!("device={device:x} handle={handle}"));
    }
    // Every overlay mount has a device number of its own; the handle of the real inode in the
    // layer beneath is what all containers of an image share.
    if kind == statfs::OVERLAYFS_SUPER_MAGIC && overlay_is_local(handle) {
        return Some(format!("overlay handle={handle}"));
    }
    None
}

/// Whether an overlay's handle is that of a layer on a local disk file system.
///
/// Layout (`struct ovl_fh` in the kernel's `fs/overlayfs/overlayfs.h`): 3 bytes of padding, version,
/// magic, length, flags, type of the real handle, UUID of the real file system (16), real handle.
fn overlay_is_local(handle: &Handle) -> bool {
    const OVERLAY: i32 = 0xf8; // OVL_FILEID_V1
    const INODE_GENERATION: u8 = 1; // FILEID_INO32_GEN: ext4, and XFS while inode numbers are short
    const BTRFS: u8 = 0x4d; // FILEID_BTRFS_WITHOUT_PARENT
    let [0, 0, 0, 0, 0xfb, _, _, kind, rest @ ..] = handle.bytes.as_slice() else {
        return false;
    };
    let Some(real) = rest.get(16..) else {
        return false;
    };
    // A generation of zero is what squashfs and ISO images have. 64-bit inode numbers with a
    // generation are refused as well: XFS writes them as EROFS and FUSE do, whose numbers come
    // from an image or a daemon.
    handle.kind == OVERLAY
        && match *kind {
            INODE_GENERATION => real.len() == 8 && real[4..] != [0; 4],
            BTRFS => real.len() == 20,
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn overlay(kind: u8, real: &[u8]) -> Handle {
        let mut bytes = vec![0, 0, 0, 0, 0xfb, 29, 0, kind];
        bytes.extend([9; 16]);
        bytes.extend(real);
        Handle { kind: 0xf8, bytes }
    }

    #[test]
    fn a_write_changes_the_stamp() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"one").unwrap();
        let Some(before) = Stamp::of(&file).unwrap() else {
            eprintln!("no handles on this file system: nothing to hold");
            return;
        };
        assert_eq!(Stamp::of(&file).unwrap().as_ref(), Some(&before));
        std::thread::sleep(Duration::from_millis(20));
        std::os::unix::fs::FileExt::write_all_at(&file, b"two", 0).unwrap();
        assert_ne!(Stamp::of(&file).unwrap(), Some(before));
    }

    #[test]
    fn a_fresh_file_has_not_settled_and_an_old_one_has() {
        let file = tempfile::tempfile().unwrap();
        let Some(stamp) = Stamp::of(&file).unwrap() else {
            return;
        };
        let now = UNIX_EPOCH + stamp.changed;
        assert!(!stamp.settled(now));
        assert!(stamp.settled(now + Duration::from_secs(3)));
        // The clock was set back, so the file is from the future.
        assert!(!stamp.settled(now - Duration::from_secs(3600)));
    }

    #[test]
    fn handles_that_an_image_or_a_daemon_chooses_are_not_trusted() {
        assert!(
            overlay_is_local(&overlay(1, &[1, 0, 0, 0, 7, 0, 0, 0])),
            "ext4"
        );
        assert!(overlay_is_local(&overlay(0x4d, &[1; 20])), "btrfs");
        assert!(
            !overlay_is_local(&overlay(1, &[1, 0, 0, 0, 0, 0, 0, 0])),
            "squashfs"
        );
        assert!(
            !overlay_is_local(&overlay(0x81, &[1; 12])),
            "erofs and fuse"
        );
        assert!(!overlay_is_local(&overlay(1, &[1; 12])), "iso9660");
        assert!(
            !overlay_is_local(&Handle {
                kind: 1,
                bytes: vec![1; 8]
            }),
            "not an overlay"
        );
        let fuse = FsType(0x6573_5546);
        assert_eq!(
            identity(
                fuse,
                1,
                &Handle {
                    kind: 0x81,
                    bytes: vec![1; 12]
                }
            ),
            None
        );
    }

    #[test]
    fn open_writer_is_detected() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let reader = File::open(file.path()).unwrap();
        assert!(
            has_writer(&reader),
            "the temporary file is open for writing"
        );
        let path = file.into_temp_path();
        assert!(!has_writer(&reader));
        drop(path);
    }

    /// Every container has an overlay mount of its own; the layer's file beneath is one.
    #[test]
    fn file_of_a_shared_layer_has_one_stamp_until_it_is_copied_up() {
        use nix::mount::{MsFlags, mount};
        use nix::sched::{CloneFlags, unshare};

        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let temp = tempfile::tempdir_in("/var/tmp").unwrap();
        let root = temp.path().to_owned();
        for name in ["lower", "up1", "work1", "one", "up2", "work2", "two"] {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        std::fs::write(root.join("lower/f"), "module").unwrap();
        let overlay_mount = |number: &str, target: &str| {
            let at = |name: &str| root.join(name).display().to_string();
            let options = format!(
                "lowerdir={},upperdir={},workdir={}",
                at("lower"),
                at(&format!("up{number}")),
                at(&format!("work{number}"))
            );
            let target = root.join(target);
            mount(
                Some("overlay"),
                &target,
                Some("overlay"),
                MsFlags::empty(),
                Some(&*options),
            )
        };
        // Only this thread has these mounts, and they end with it.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNS).unwrap();
                let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
                mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
                if overlay_mount("1", "one").is_err() {
                    eprintln!("no overlay on this machine: nothing to hold");
                    return;
                }
                overlay_mount("2", "two").unwrap();
                let open = |name: &str| File::open(root.join(name).join("f")).unwrap();
                let stamp = |file: &File| Stamp::of(file).unwrap();
                let Some(one) = stamp(&open("one")) else {
                    eprintln!("no handles on overlays of this kernel or disk: nothing to hold");
                    return;
                };
                assert!(
                    !has_writer(&open("one")),
                    "no leases: it would be read every time"
                );
                assert_eq!(stamp(&open("two")), Some(one.clone()));
                let mut writer = File::options()
                    .append(true)
                    .open(root.join("two/f"))
                    .unwrap();
                writer.write_all(b"!").unwrap();
                assert!(has_writer(&open("two")));
                assert_ne!(stamp(&open("two")), Some(one.clone()));
                assert_eq!(stamp(&open("one")), Some(one));
            });
        });
    }
}
