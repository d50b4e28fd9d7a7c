//! The cache of unpacked images. Each image is unpacked once; the least recently used are removed first. Only root can
//! write to the cache; the caller has checked that.
//!
//! ```text
//! images/                    0700
//! ├── lock                   locked while an image is unpacked or removed
//! ├── <sha256>/              the digest of the manifest; mtime: last use; locked (shared) while a container uses it
//! │   ├── rootfs/            the files
//! │   └── image.json         bytes that they take
//! └── <sha256>.new           being unpacked, or left by a process that was killed
//! ```

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, OFlags, flock, syncfs};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::archive::{Archive, ArchivedImage};
use crate::unpack::{self, UnpackError};

/// The most bytes of all images together. Above it the least recently used image is removed.
const KEPT_BYTES: u64 = 4 << 30;

/// Why there is no unpacked image.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The cache cannot be used.
    #[error("cannot {act} {}: {source}{}", .path.display(), way_out(.source))]
    Io {
        /// The act that failed.
        act: &'static str,
        /// Its object.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The image cannot be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
}

fn way_out(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "; run as root",
        io::ErrorKind::StorageFull => {
            "; make room, or name a cache on another disk in WASM_INTERP_CACHE_DIR"
        }
        _ => "",
    }
}

/// Unpacked images beneath one directory.
#[derive(Debug)]
pub struct Images {
    root: PathBuf,
}

/// An unpacked image. It is not removed until this is dropped.
#[derive(Debug)]
pub struct UnpackedImage {
    rootfs: PathBuf,
    /// Device nodes of the image, which were not made. Empty unless it was unpacked just now.
    pub devices: Vec<PathBuf>,
    /// Holds the shared lock.
    _directory: File,
}

impl UnpackedImage {
    /// The image's files, with the owners of the image. Containers share them: do not write to them.
    #[must_use]
    pub fn rootfs(&self) -> &Path {
        &self.rootfs
    }
}

/// The result of [`Images::prune`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Images that were removed.
    pub removed: usize,
    /// Their files, in bytes.
    pub freed_bytes: u64,
    /// Images that could not be removed because containers use them.
    pub spared: usize,
    /// Files of the images that remain, in bytes.
    pub kept_bytes: u64,
}

/// The lock of all unpacked images.
#[derive(Debug)]
pub struct LockedImages {
    locks: Vec<File>,
}

/// The record of an unpacked image.
#[derive(Serialize, Deserialize)]
struct ImageRecord {
    bytes: u64,
}

impl Images {
    /// The images beneath `root`. The directory is made when it is first needed.
    #[must_use]
    pub fn beneath(root: PathBuf) -> Self {
        Self { root }
    }

    /// The files of `image`, which this unpacks unless they are in the cache. It calls `on_unpack` before it
    /// unpacks, which takes a while.
    ///
    /// # Errors
    /// If it cannot be unpacked. The files that were made are then removed.
    pub fn get(
        &self,
        archive: &Archive,
        image: &ArchivedImage,
        on_unpack: impl FnOnce(),
    ) -> Result<UnpackedImage, CacheError> {
        let directory = self.root.join(image.digest.digest());
        if let Some(unpacked) = used(&directory)? {
            return Ok(unpacked);
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.root)
            .map_err(failed("make", &self.root))?;
        let _lock = self.lock()?;
        // Another process may have unpacked the image while this one waited for the lock.
        if let Some(unpacked) = used(&directory)? {
            return Ok(unpacked);
        }
        on_unpack();
        self.remove_unfinished()?;
        let unfinished = directory.with_extension("new");
        let devices = match self.unpack(archive, image, &unfinished) {
            Ok(devices) => devices,
            Err(error) => {
                // The first error is the one to report; the next call tries again to remove this.
                let _ = fs::remove_dir_all(&unfinished);
                return Err(error);
            }
        };
        fs::rename(&unfinished, &directory).map_err(failed("name", &directory))?;
        let unpacked = used(&directory)?
            .ok_or_else(|| failed("open", &directory)(io::Error::from(io::ErrorKind::NotFound)))?;
        self.remove_least_used(KEPT_BYTES)?;
        Ok(UnpackedImage {
            devices,
            ..unpacked
        })
    }

    fn unpack(
        &self,
        archive: &Archive,
        image: &ArchivedImage,
        directory: &Path,
    ) -> Result<Vec<PathBuf>, CacheError> {
        let rootfs = directory.join("rootfs");
        fs::create_dir_all(&rootfs)
            // Independent of the umask, because the container's users need access.
            .and_then(|()| fs::set_permissions(&rootfs, fs::Permissions::from_mode(0o755)))
            .map_err(failed("make", &rootfs))?;
        let unpacked = unpack::unpack(archive, image, &rootfs)?;
        let record = directory.join("image.json");
        let text = serde_json::to_vec(&ImageRecord {
            bytes: unpacked.bytes,
        });
        text.map_err(io::Error::from)
            .and_then(|text| fs::write(&record, text))
            .map_err(failed("write", &record))?;
        // A directory with its final name is complete, even after a power failure.
        File::open(directory)
            .and_then(|directory| Ok(syncfs(&directory)?))
            .map_err(failed("write to disk", directory))?;
        Ok(unpacked.devices.into_iter().collect())
    }

    /// Removes unfinished directories of killed processes. The caller holds the lock.
    fn remove_unfinished(&self) -> Result<(), CacheError> {
        for (path, _) in self.entries()? {
            if path.extension().is_some_and(|extension| extension == "new") {
                fs::remove_dir_all(&path).map_err(failed("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Removes the least recently used images until the others take at most `kept` bytes. Images in use
    /// are not removed.
    ///
    /// # Errors
    /// If the cache cannot be read or an image cannot be removed.
    pub fn prune(&self, kept: u64) -> Result<Pruned, CacheError> {
        if !self.root.exists() {
            return Ok(Pruned::default());
        }
        let _lock = self.lock()?;
        self.remove_unfinished()?;
        self.remove_least_used(kept)
    }

    /// Locks all images, so that the caller can remove their directory. Processes that want an image wait
    /// until the lock is dropped. `None` if a container uses an image, or one is being unpacked.
    ///
    /// # Errors
    /// If the cache cannot be read.
    pub fn lock_unused(&self) -> Result<Option<LockedImages>, CacheError> {
        let mut locked = LockedImages { locks: Vec::new() };
        if !self.root.exists() {
            return Ok(Some(locked));
        }
        let mut lock = |file: File, path: &Path| match flock(
            &file,
            FlockOperation::NonBlockingLockExclusive,
        ) {
            Ok(()) => {
                locked.locks.push(file);
                Ok(true)
            }
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(errno) => Err(failed("lock", path)(errno)),
        };
        let (file, path) = self.open_lock()?;
        if !lock(file, &path)? {
            return Ok(None);
        }
        for (path, _) in self.entries()? {
            let directory = File::open(&path).map_err(failed("open", &path))?;
            if !lock(directory, &path)? {
                return Ok(None);
            }
        }
        Ok(Some(locked))
    }

    /// Waits for the lock of the cache.
    fn lock(&self) -> Result<File, CacheError> {
        let (lock, path) = self.open_lock()?;
        flock(&lock, FlockOperation::LockExclusive).map_err(failed("lock", &path))?;
        Ok(lock)
    }

    fn open_lock(&self) -> Result<(File, PathBuf), CacheError> {
        let path = self.root.join("lock");
        let lock = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .map_err(failed("open", &path))?;
        Ok((lock, path))
    }

    /// [`Images::prune`] for a caller that holds the lock.
    fn remove_least_used(&self, kept: u64) -> Result<Pruned, CacheError> {
        let mut images: Vec<(PathBuf, SystemTime, u64)> = self
            .entries()?
            .into_iter()
            .map(|(path, used)| {
                let bytes = bytes(&path);
                (path, used, bytes)
            })
            .collect();
        images.sort_by_key(|(_, used, _)| *used);
        let mut pruned = Pruned {
            kept_bytes: images
                .iter()
                .fold(0, |sum: u64, (_, _, bytes)| sum.saturating_add(*bytes)),
            ..Pruned::default()
        };
        for (path, _, size) in images {
            if kept > 0 && pruned.kept_bytes <= kept {
                break;
            }
            let directory = File::open(&path).map_err(failed("open", &path))?;
            if flock(&directory, FlockOperation::NonBlockingLockExclusive).is_err() {
                pruned.spared += 1;
                continue;
            }
            // Renamed first, so that a partly removed image is not taken for a complete one.
            let unfinished = path.with_extension("new");
            fs::rename(&path, &unfinished).map_err(failed("remove", &path))?;
            fs::remove_dir_all(&unfinished).map_err(failed("remove", &unfinished))?;
            pruned.removed += 1;
            pruned.freed_bytes = pruned.freed_bytes.saturating_add(size);
            pruned.kept_bytes = pruned.kept_bytes.saturating_sub(size);
        }
        Ok(pruned)
    }

    /// Directories beneath the root, and when each was last used.
    fn entries(&self) -> Result<Vec<(PathBuf, SystemTime)>, CacheError> {
        let listed = || -> io::Result<_> {
            let mut entries = Vec::new();
            for entry in fs::read_dir(&self.root)? {
                let entry = entry?;
                let about = entry.metadata()?;
                if about.is_dir() {
                    entries.push((entry.path(), about.modified()?));
                }
            }
            Ok(entries)
        };
        listed().map_err(failed("list", &self.root))
    }
}

/// Bytes that an image's files take. An image without a record counts as 0 bytes; it is removed in the usual
/// order.
fn bytes(image: &Path) -> u64 {
    fs::read(image.join("image.json"))
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .map_or(0, |record: ImageRecord| record.bytes)
}

/// The image at `directory`, locked; `None` if it is not in the cache.
fn used(directory: &Path) -> Result<Option<UnpackedImage>, CacheError> {
    let opened = match File::open(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed("open", directory))?,
    };
    flock(&opened, FlockOperation::LockShared).map_err(failed("lock", directory))?;
    // Another process may have removed it before this one got the lock.
    let identity = |of: &fs::Metadata| (of.dev(), of.ino());
    let ours = opened.metadata().map_err(failed("look at", directory))?;
    match fs::metadata(directory) {
        Ok(there) if identity(&there) == identity(&ours) => {}
        _ => return Ok(None),
    }
    let now = fs::FileTimes::new().set_modified(SystemTime::now());
    opened
        .set_times(now)
        .map_err(failed("note the use of", directory))?;
    Ok(Some(UnpackedImage {
        rootfs: directory.join("rootfs"),
        devices: Vec::new(),
        _directory: opened,
    }))
}

fn failed<E: Into<io::Error>>(act: &'static str, path: &Path) -> impl FnOnce(E) -> CacheError {
    move |error| CacheError::Io {
        act,
        path: path.to_owned(),
        source: error.into(),
    }
}
