//! Unpacks the layers of an image into a directory (image-spec, layer.md).
//!
//! The names and links in a layer are not trusted. A thread with the destination as its root directory
//! unpacks them, so that the kernel resolves each of them beneath it, as in a container.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Component, Path, PathBuf};
use std::{fs, thread};

use nix::sched::{CloneFlags, unshare};
use oci_spec::image::{Descriptor, MediaType, ToDockerV2S2};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, mknodat, utimensat,
};
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use sha2::{Digest as _, Sha256};
use tar::{Entry, EntryType};

use wasm_interp_workload::{MAX_LINKS, WalkStep, push_steps, with_causes};

use crate::archive::{Archive, ArchiveError, ArchivedImage, Blob};
use crate::limits::{EntryLimit, HeaderLimit, Limited, MAX_DEPTH, MAX_IMAGE};
use crate::names::LayerNames;

/// A name with this prefix hides a file of a lower layer.
const WHITEOUT: &[u8] = b".wh.";
/// This name hides all files of lower layers in its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Names with this prefix belong to AUFS and mean nothing here.
const AUFS: &[u8] = b".wh..wh.";
/// Extended attributes in a tar archive.
const XATTR: &str = "SCHILY.xattr.";

/// Why an image was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The archive is broken.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A layer cannot be unpacked.
    #[error(
        "cannot unpack layer {layer} of {}: {source}; check the space there, or build the image \
         again",
        .archive.display()
    )]
    Layer {
        /// The archive.
        archive: PathBuf,
        /// Its digest.
        layer: String,
        /// The entry, and the kernel's reason.
        source: io::Error,
    },
    /// A layer is not a tar archive.
    #[error(
        "cannot unpack layer {layer} of {}: {kind} is not a tar archive; build the image with \
         ordinary layers",
        .archive.display()
    )]
    Kind {
        /// The archive.
        archive: PathBuf,
        /// Its digest.
        layer: String,
        /// Its media type.
        kind: String,
    },
    /// The configuration and the manifest have different numbers of layers.
    #[error(
        "cannot unpack {}: its manifest has {layers} layers, its configuration {diff_ids}",
        .archive.display()
    )]
    Count {
        /// The archive.
        archive: PathBuf,
        /// Layers of the manifest.
        layers: usize,
        /// Layers of the configuration.
        diff_ids: usize,
    },
    /// The thread that unpacks cannot confine itself to the destination.
    #[error("cannot confine the unpacking to {}: {source}; run as root", .destination.display())]
    Confine {
        /// The destination.
        destination: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
}

/// Facts about an unpacked image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// Bytes of all layers, uncompressed. The files on disk take at most this much.
    pub(crate) bytes: u64,
    /// Device nodes of the image, which are not made.
    pub(crate) devices: BTreeSet<PathBuf>,
    limit: EntryLimit,
}

/// Unpacks `image` into `destination`, an empty directory.
pub(crate) fn unpack(
    archive: &Archive,
    image: &ArchivedImage,
    destination: &Path,
) -> Result<Unpacked, UnpackError> {
    let diff_ids = image.configuration.rootfs().diff_ids();
    if diff_ids.len() != image.layers.len() {
        return Err(UnpackError::Count {
            archive: archive.path().to_owned(),
            layers: image.layers.len(),
            diff_ids: diff_ids.len(),
        });
    }
    // Opened before the thread changes its root directory, because the archive is outside it.
    let layers = image
        .layers
        .iter()
        .zip(diff_ids)
        .map(|(descriptor, diff_id)| PackedLayer::open(archive, descriptor, diff_id))
        .collect::<Result<Vec<_>, _>>()?;
    thread::scope(|scope| {
        let unpacking = thread::Builder::new().spawn_scoped(scope, || {
            confine(destination).map_err(|source| UnpackError::Confine {
                destination: destination.to_owned(),
                source,
            })?;
            let mut unpacked = Unpacked::default();
            for layer in layers {
                layer.apply(&mut unpacked)?;
            }
            Ok(unpacked)
        });
        let unpacking = unpacking.map_err(|source| UnpackError::Confine {
            destination: destination.to_owned(),
            source,
        })?;
        unpacking
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Makes `directory` the root directory of this thread alone, and its umask the usual one.
pub(crate) fn confine(directory: &Path) -> io::Result<()> {
    unshare(CloneFlags::CLONE_FS)?;
    // Directories that no entry describes have the mode that containerd gives them.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::process::chroot(directory)?;
    rustix::process::chdir("/")?;
    Ok(())
}

/// A layer before it is unpacked.
struct PackedLayer<'a> {
    archive: &'a Archive,
    descriptor: &'a Descriptor,
    /// Digest of the uncompressed layer.
    diff_id: &'a str,
    blob: Blob<'a>,
}

impl<'a> PackedLayer<'a> {
    fn open(
        archive: &'a Archive,
        descriptor: &'a Descriptor,
        diff_id: &'a str,
    ) -> Result<Self, UnpackError> {
        if !is_tar(descriptor.media_type()) {
            return Err(UnpackError::Kind {
                archive: archive.path().to_owned(),
                layer: descriptor.digest().to_string(),
                kind: descriptor.media_type().to_string(),
            });
        }
        Ok(Self {
            archive,
            descriptor,
            diff_id,
            blob: archive.blob(descriptor.digest())?,
        })
    }

    /// Unpacks the layer into the root directory.
    fn apply(mut self, unpacked: &mut Unpacked) -> Result<(), UnpackError> {
        let layer = self.descriptor.digest();
        let failed = |source| UnpackError::Layer {
            archive: self.archive.path().to_owned(),
            layer: layer.to_string(),
            source,
        };
        let found = apply_compressed(&mut self.blob, unpacked).map_err(failed)?;
        self.blob.verify()?;
        if found != self.diff_id {
            let reason = format!(
                "uncompressed it has the digest {found}, and the image's configuration says {}",
                self.diff_id
            );
            return Err(self.archive.blob_error(layer, reason).into());
        }
        Ok(())
    }
}

/// Unpacks a layer into the root directory. Returns the digest of the uncompressed layer.
pub(crate) fn apply_compressed(blob: impl Read, unpacked: &mut Unpacked) -> io::Result<String> {
    let mut plain = Plain {
        reader: decompressed(BufReader::with_capacity(1 << 16, blob))?,
        hash: Sha256::new(),
        bytes: unpacked.bytes,
    };
    let applied = apply(&mut plain, unpacked);
    unpacked.bytes = plain.bytes;
    applied?;
    // The end of the archive may be followed by padding.
    io::copy(&mut plain, &mut io::sink())?;
    unpacked.bytes = plain.bytes;
    Ok(format!("sha256:{}", hex::encode(plain.hash.finalize())))
}

fn is_tar(kind: &MediaType) -> bool {
    let tars = [
        MediaType::ImageLayer,
        MediaType::ImageLayerGzip,
        MediaType::ImageLayerZstd,
        MediaType::ImageLayerNonDistributable,
        MediaType::ImageLayerNonDistributableGzip,
        MediaType::ImageLayerNonDistributableZstd,
    ];
    tars.iter().any(|tar| {
        tar == kind
            || tar
                .to_docker_v2s2()
                .is_ok_and(|docker| kind.as_ref() == docker)
    }) || kind.as_ref() == "application/vnd.docker.image.rootfs.diff.tar"
}

/// The bytes of a layer's tar archive, hashed and counted while they are read.
struct Plain<R> {
    reader: R,
    hash: Sha256,
    /// Bytes read so far, including the lower layers.
    bytes: u64,
}

impl<R: Read> Read for Plain<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.bytes = self.bytes.saturating_add(count as u64);
        if self.bytes > MAX_IMAGE {
            return Err(io::Error::other(format!(
                "the image is larger than {MAX_IMAGE} bytes; make a smaller one"
            )));
        }
        Ok(count)
    }
}

/// Decompresses if the first bytes are those of a compressed format. Media types are not reliable.
fn decompressed<'a>(mut reader: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match reader.fill_buf()? {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Box::new(Zstd {
            reader,
            decoder: FrameDecoder::new(),
            within: false,
        }),
        _ => Box::new(reader),
    })
}

/// zstd frames one after another (RFC 8878, section 3.1).
struct Zstd<R> {
    reader: R,
    decoder: FrameDecoder,
    /// Whether a frame has begun.
    within: bool,
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.within && self.decoder.can_collect() > 0 {
                return self.decoder.read(buffer);
            }
            if self.within && !self.decoder.is_finished() {
                let most = BlockDecodingStrategy::UptoBytes(buffer.len());
                self.decoder
                    .decode_blocks(&mut self.reader, most)
                    .map_err(io::Error::other)?;
                continue;
            }
            self.within = false;
            if self.reader.fill_buf()?.is_empty() {
                return Ok(0);
            }
            match self.decoder.init(&mut self.reader) {
                Ok(()) => self.within = true,
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    io::copy(&mut (&mut self.reader).take(length.into()), &mut io::sink())?;
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }
}

/// Unpacks a layer's entries into the root directory.
fn apply(layer: impl Read, unpacked: &mut Unpacked) -> io::Result<()> {
    let headers = HeaderLimit::default();
    let mut archive = tar::Archive::new(Limited {
        reader: layer,
        limit: headers.clone(),
    });
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(true);
    archive.set_preserve_mtime(false);
    // The files of this layer. Its own whiteouts do not hide them.
    let mut own = LayerNames::default();
    // Directories' times are set last, because each new name in a directory changes them.
    let mut directory_times = Vec::new();
    let mut entries = archive.entries()?;
    while let Some(entry) = headers.next(&mut entries) {
        let mut entry = entry?;
        let name = entry.path()?.into_owned();
        unpacked.limit.count(name.as_os_str().len())?;
        let explained = |source: io::Error| {
            let reason = with_causes(&source);
            io::Error::new(source.kind(), format!("entry {name:?}: {reason}"))
        };
        let path = beneath_root(&name).map_err(explained)?;
        let mut made = None;
        match hidden(&path) {
            Some(Hidden::Nothing) => {}
            Some(Hidden::Children(directory)) => {
                remove_lower(&directory, &mut own).map_err(explained)?;
            }
            Some(Hidden::File(path)) => remove(&path).map_err(explained)?,
            None => {
                lay(&mut entry, &path, unpacked).map_err(explained)?;
                own.add(&path).map_err(explained)?;
                made = Some(path);
            }
        }
        // Skips the rest of the data, so that it is not counted as headers of the next entry.
        io::copy(&mut entry, &mut io::sink()).map_err(explained)?;
        let Some(path) = made else { continue };
        let modified = entry.header().mtime()?;
        if entry.header().entry_type().is_dir() {
            directory_times.push((path.clone(), modified));
        } else {
            set_modified(&path, modified).map_err(explained)?;
        }
    }
    for (path, modified) in directory_times {
        set_modified(&path, modified)?;
    }
    Ok(())
}

/// The target of a whiteout.
enum Hidden {
    Nothing,
    File(PathBuf),
    Children(PathBuf),
}

fn hidden(path: &Path) -> Option<Hidden> {
    let name = path.file_name()?.as_bytes();
    let parent = path.parent()?;
    if name == OPAQUE {
        Some(Hidden::Children(parent.to_owned()))
    } else if name.starts_with(AUFS) {
        Some(Hidden::Nothing)
    } else {
        let hidden = OsStr::from_bytes(name.strip_prefix(WHITEOUT)?);
        Some(match hidden.as_bytes() {
            b"" | b"." | b".." => Hidden::Nothing,
            _ => Hidden::File(parent.join(hidden)),
        })
    }
}

/// The entry's name as an absolute path.
fn beneath_root(name: &Path) -> io::Result<PathBuf> {
    let mut path = PathBuf::from("/");
    for part in name.components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::Error::other("its name climbs with .."));
            }
        }
    }
    Ok(path)
}

/// Makes the file of an entry, and replaces the file of a lower layer at its path.
fn lay<R: Read>(entry: &mut Entry<'_, R>, path: &Path, unpacked: &mut Unpacked) -> io::Result<()> {
    let kind = entry.header().entry_type();
    let root = path == Path::new("/");
    if let Ok(there) = fs::symlink_metadata(path)
        && !(there.is_dir() && (kind.is_dir() || root))
    {
        remove(path)?;
    }
    let attributes = attributes(entry)?;
    let parent = path.parent().unwrap_or(path);
    match kind {
        EntryType::Block | EntryType::Char => {
            unpacked.devices.insert(path.to_owned());
            return Ok(());
        }
        EntryType::Fifo => {
            make_parents(parent)?;
            mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
            own(entry, path)?;
        }
        // The tar library leaves the root directory as it is.
        EntryType::Directory if root => own(entry, path)?,
        EntryType::Link if is_link_to_device(entry, unpacked)? => {
            unpacked.devices.insert(path.to_owned());
            return Ok(());
        }
        EntryType::Directory => {
            check_depth(make_directories(parent)? + 1)?;
            entry.unpack_in("/")?;
        }
        _ => {
            make_parents(parent)?;
            entry.unpack_in("/")?;
        }
    }
    for (name, value) in attributes {
        rustix::fs::lsetxattr(path, name.as_str(), &value, XattrFlags::empty())?;
    }
    Ok(())
}

/// Whether an entry is a hard link to a device that was not made.
fn is_link_to_device<R: Read>(entry: &Entry<'_, R>, unpacked: &Unpacked) -> io::Result<bool> {
    let Some(target) = entry.link_name()? else {
        return Ok(false);
    };
    Ok(unpacked.devices.contains(&beneath_root(&target)?))
}

/// [`make_directories`], which is not needed where the directory exists.
fn make_parents(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => make_directories(path).map(drop),
        found => found.map(drop),
    }
}

/// Makes a directory and its missing parents, also if a symlink leads to a missing directory. Returns how many
/// directories are above it and itself, the root not counted.
///
/// It walks the path name by name, and does not call itself: a layer decides how many names there are.
fn make_directories(path: &Path) -> io::Result<usize> {
    let mut at = PathBuf::from("/");
    let mut depth = 0_usize;
    let mut links = 0;
    // The steps that are left, the next one last.
    let mut ahead = Vec::new();
    push_steps(&mut ahead, path);
    while let Some(step) = ahead.pop() {
        let name = match step {
            WalkStep::Root => {
                (at, depth) = (PathBuf::from("/"), 0);
                continue;
            }
            WalkStep::Up => {
                at.pop();
                depth = depth.saturating_sub(1);
                continue;
            }
            WalkStep::Down(name) => name,
        };
        let next = at.join(name);
        match fs::symlink_metadata(&next) {
            Ok(there) if there.is_symlink() => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(io::Error::other("too many links"));
                }
                push_steps(&mut ahead, &fs::read_link(&next)?);
                continue;
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                check_depth(depth + 1)?;
                fs::create_dir(&next)?;
            }
            Err(error) => return Err(error),
        }
        (at, depth) = (next, depth + 1);
    }
    Ok(depth)
}

/// Refuses a directory with more directories above it than can be removed with the usual limit of open files.
fn check_depth(depth: usize) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other(format!(
            "it lies in more than {MAX_DEPTH} directories"
        )));
    }
    Ok(())
}

fn own<R: Read>(entry: &Entry<'_, R>, path: &Path) -> io::Result<()> {
    let header = entry.header();
    let number = |number: u64| u32::try_from(number).map_err(io::Error::other);
    chown(
        path,
        Some(number(header.uid()?)?),
        Some(number(header.gid()?)?),
    )?;
    fs::set_permissions(path, fs::Permissions::from_mode(header.mode()?))
}

/// The extended attributes that a container may have: user attributes and file capabilities. Others
/// (`trusted.overlay.…`) would control the host's kernel.
fn attributes<R: Read>(entry: &mut Entry<'_, R>) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut attributes = Vec::new();
    for extension in entry.pax_extensions()?.into_iter().flatten() {
        let extension = extension?;
        let Some(name) = extension.key().ok().and_then(|key| key.strip_prefix(XATTR)) else {
            continue;
        };
        if name.starts_with("user.") || name == "security.capability" {
            attributes.push((name.to_owned(), extension.value_bytes().to_owned()));
        }
    }
    Ok(attributes)
}

/// Removes the file or directory at `path`, if it exists.
fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(there) if there.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Removes all files beneath `directory` that are not of this layer. Looks at each directory once in a layer, however
/// many opaque whiteouts it has: once they are removed, no file of a lower layer comes back.
fn remove_lower(directory: &Path, own: &mut LayerNames) -> io::Result<()> {
    if !own.make_opaque(directory)? {
        return Ok(());
    }
    let mut directories = vec![(directory.to_owned(), own.own(directory))];
    while let Some((directory, name)) = directories.pop() {
        let children = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            children => children?,
        };
        for child in children {
            let child = child?;
            let path = child.path();
            match name.and_then(|name| own.own_child(name, &child.file_name())) {
                None => remove(&path)?,
                Some(name) if child.file_type()?.is_dir() && !own.is_opaque(name) => {
                    directories.push((path, Some(name)));
                }
                Some(_) => {}
            }
        }
    }
    Ok(())
}

/// Sets the time of the last change, in seconds since 1970, and of the last access.
fn set_modified(path: &Path, seconds: u64) -> io::Result<()> {
    let time = Timespec {
        tv_sec: i64::try_from(seconds).map_err(io::Error::other)?,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    match utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW) {
        // The entry is a device that was not made, or a directory that was hidden later.
        Err(rustix::io::Errno::NOENT) => Ok(()),
        done => Ok(done?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_ENTRIES;

    /// The layers of an image share the limit.
    #[test]
    fn entries_of_all_layers_are_counted() {
        let mut layer = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        // It stands for no file.
        layer
            .append_data(&mut header, ".wh..wh.plnk", io::empty())
            .unwrap();
        let layer = layer.into_inner().unwrap();
        let mut unpacked = Unpacked::default();
        for _ in 1..MAX_ENTRIES {
            unpacked.limit.count(0).unwrap();
        }
        apply(layer.as_slice(), &mut unpacked).unwrap();
        let error = apply(layer.as_slice(), &mut unpacked).unwrap_err();
        assert!(error.to_string().contains("entries"), "{error}");
    }
}
