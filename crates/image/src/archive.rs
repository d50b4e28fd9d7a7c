//! An image on disk: an OCI layout in a directory, or the same in a tar archive (image-spec, image-layout.md).
//!
//! It opens archives, finds images and verifies blobs; it unpacks nothing. [`Archive::document`] returns
//! only bytes that match their digest. A [`Blob`] is verified once all of it is read.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{self, Component, Path, PathBuf};

use oci_spec::image::{
    Arch, Descriptor, Digest, DigestAlgorithm, ImageConfiguration, ImageIndex, ImageManifest,
};
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use crate::documents::{DocumentKind, MAX_DOCUMENT, fits, fitting};
use crate::limits::{EntryLimit, HeaderLimit, Limited};

/// The list of images at the top of a layout.
const INDEX: &str = "index.json";
/// The file that makes a directory an OCI layout.
const MARKER: &str = "oci-layout";
/// The annotations in which tools record an image's name, the full name first.
const NAMES: [&str; 2] = [
    "io.containerd.image.name",
    "org.opencontainers.image.ref.name",
];
/// The most indices and manifests that the search for an image reads.
const MAX_DOCUMENTS: usize = 256;

/// Why an image cannot be read from an archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The archive, or a part of it, cannot be read.
    #[error(
        "cannot read {what} of {}: {source}; check that the archive is whole and readable",
        .archive.display()
    )]
    Read {
        /// The archive.
        archive: PathBuf,
        /// The part.
        what: String,
        /// The kernel's reason, or the tar reader's.
        source: io::Error,
    },
    /// The file is no tar archive, or a damaged one.
    #[error(
        "cannot read the table of contents of {}: {source}; if it is an image, check that it is \
         whole; a script runs in an image, as in wasm-interp run IMAGE.tar -- python main.py",
        .archive.display()
    )]
    NotTar {
        /// The file.
        archive: PathBuf,
        /// The tar reader's reason.
        source: io::Error,
    },
    /// The file is a module or a component: a program, and no image of one.
    #[error(
        "cannot use {} as an image: it is WebAssembly itself; name its directory, which becomes \
         the root of the container, and then the file there, as in wasm-interp run {} -- {}",
        .program.display(),
        .program.parent().unwrap_or(Path::new("/")).display(),
        Path::new("/").join(.program.file_name().unwrap_or_default()).display()
    )]
    Wasm {
        /// The file, absolute.
        program: PathBuf,
    },
    /// The file is compressed as a whole.
    #[error(
        "cannot use {} as an OCI archive: it is compressed; decompress it first",
        .archive.display()
    )]
    Compressed {
        /// The archive.
        archive: PathBuf,
    },
    /// There is no index.
    #[error(
        "cannot use {} as an OCI archive: it holds no index.json; make one with \
         'buildah push IMAGE oci-archive:FILE' or with 'docker save' of Docker 25 or later",
        .archive.display()
    )]
    NoIndex {
        /// The archive.
        archive: PathBuf,
    },
    /// A document cannot be understood.
    #[error("cannot understand {what} of {}: {source}; export the image again", .archive.display())]
    Document {
        /// The archive.
        archive: PathBuf,
        /// The document.
        what: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A blob does not match its digest, or cannot be verified.
    #[error("cannot use blob {digest} of {}: {reason}; export the image again", .archive.display())]
    Blob {
        /// The archive.
        archive: PathBuf,
        /// The blob.
        digest: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No image is for this machine or has the requested name.
    #[error(
        "cannot find {wanted} in {}: it holds {held}; name one of these, or build the image for \
         this machine",
        .archive.display()
    )]
    NoImage {
        /// The archive.
        archive: PathBuf,
        /// What was looked for.
        wanted: String,
        /// The images of the archive.
        held: String,
    },
    /// The archive has several images, and the caller names none.
    #[error(
        "cannot choose an image of {}: it holds {held}; choose one with --image NAME",
        .archive.display()
    )]
    Ambiguous {
        /// The archive.
        archive: PathBuf,
        /// The images of the archive.
        held: String,
    },
}

/// An open OCI archive or layout.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    members: Members,
}

#[derive(Debug)]
enum Members {
    /// Files in the directory of the layout.
    Directory,
    /// Parts of one file: name to offset and length, in bytes.
    Tar {
        file: File,
        parts: HashMap<PathBuf, (u64, u64)>,
    },
}

/// An image for this machine.
#[derive(Debug)]
pub struct ArchivedImage {
    /// Digest of the manifest: equal digests mean equal images.
    pub digest: Digest,
    /// The configuration of its containers.
    pub configuration: ImageConfiguration,
    /// The layers, the lowest first.
    pub(crate) layers: Vec<Descriptor>,
}

impl Archive {
    /// Whether this directory is an OCI layout.
    #[must_use]
    pub fn is_layout(directory: &Path) -> bool {
        directory.join(MARKER).is_file()
    }

    /// Opens an OCI layout (a directory) or an OCI archive (a tar file).
    ///
    /// # Errors
    /// If it cannot be read, or is neither.
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        let failed = |source| ArchiveError::Read {
            archive: path.to_owned(),
            what: "the table of contents".to_owned(),
            source,
        };
        let members = if path.is_dir() {
            Members::Directory
        } else {
            let file = File::open(path).map_err(failed)?;
            let mut magic = [0; 4];
            let known = file.read_at(&mut magic, 0).map_err(failed)?;
            match &magic[..known] {
                [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd] => {
                    return Err(ArchiveError::Compressed {
                        archive: path.to_owned(),
                    });
                }
                b"\0asm" => {
                    let program = path::absolute(path).map_err(failed)?;
                    return Err(ArchiveError::Wasm { program });
                }
                _ => {}
            }
            let parts = parts(&file).map_err(|source| ArchiveError::NotTar {
                archive: path.to_owned(),
                source,
            })?;
            Members::Tar { file, parts }
        };
        let archive = Self {
            path: path.to_owned(),
            members,
        };
        match archive.member(Path::new(INDEX)) {
            Ok(_) => Ok(archive),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ArchiveError::NoIndex {
                archive: archive.path,
            }),
            Err(source) => Err(ArchiveError::Read {
                archive: archive.path,
                what: INDEX.to_owned(),
                source,
            }),
        }
    }

    /// The image for this machine that has the name, or the only one.
    ///
    /// # Errors
    /// If there is none, if there are several and `name` is `None`, or if a document is broken.
    pub fn image(&self, name: Option<&str>) -> Result<ArchivedImage, ArchiveError> {
        let index: ImageIndex = self.understand(INDEX, &self.index()?)?;
        let architecture = Arch::default();
        let mut candidates = fitting(&index, &architecture);
        let held = || held(index.manifests());
        if let Some(name) = name {
            candidates.retain(|candidate| names(candidate).any(|held| held == name));
        } else if names_of(&candidates).len() > 1 {
            return Err(ArchiveError::Ambiguous {
                archive: self.path.clone(),
                held: held(),
            });
        }
        let mut candidates = VecDeque::from(candidates);
        let mut seen = HashSet::new();
        while let Some(descriptor) = candidates.pop_front() {
            let digest = descriptor.digest();
            if seen.len() == MAX_DOCUMENTS || !seen.insert(digest.to_string()) {
                continue;
            }
            match DocumentKind::of(&descriptor) {
                DocumentKind::Other => {}
                DocumentKind::Index => {
                    let index: ImageIndex =
                        self.understand(digest.as_ref(), &self.document(&descriptor)?)?;
                    // A nested index is as good a candidate as the descriptor that led to it.
                    for inner in fitting(&index, &architecture).into_iter().rev() {
                        candidates.push_front(inner);
                    }
                }
                DocumentKind::Manifest => {
                    let manifest: ImageManifest =
                        self.understand(digest.as_ref(), &self.document(&descriptor)?)?;
                    let config = manifest.config();
                    let configuration: ImageConfiguration =
                        self.understand(config.digest().as_ref(), &self.document(config)?)?;
                    if fits(&configuration, &architecture) {
                        return Ok(ArchivedImage {
                            digest: digest.clone(),
                            configuration,
                            layers: manifest.layers().clone(),
                        });
                    }
                }
            }
        }
        Err(ArchiveError::NoImage {
            archive: self.path.clone(),
            wanted: match name {
                Some(name) => format!("an image {name:?} for linux/{architecture}"),
                None => format!("an image for linux/{architecture}"),
            },
            held: held(),
        })
    }

    /// Where the archive is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes of a document, verified with its digest.
    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ArchiveError> {
        if descriptor.size() > MAX_DOCUMENT {
            return Err(self.blob_error(
                descriptor.digest(),
                format!(
                    "it has {} bytes, and documents have {MAX_DOCUMENT} at most",
                    descriptor.size()
                ),
            ));
        }
        let mut blob = self.blob(descriptor.digest())?;
        let mut bytes = Vec::new();
        (&mut blob)
            .take(MAX_DOCUMENT + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| self.read_error(descriptor.digest(), source))?;
        blob.verify()?;
        Ok(bytes)
    }

    /// A reader of a blob's bytes.
    pub(crate) fn blob(&self, digest: &Digest) -> Result<Blob<'_>, ArchiveError> {
        if *digest.algorithm() != DigestAlgorithm::Sha256 {
            let reason = format!(
                "{} is no digest that can be checked here; only sha256 is",
                digest.algorithm()
            );
            return Err(self.blob_error(digest, reason));
        }
        let name = Path::new("blobs").join("sha256").join(digest.digest());
        let member = self
            .member(&name)
            .map_err(|source| self.read_error(digest, source))?;
        Ok(Blob {
            archive: self,
            digest: digest.clone(),
            member,
            hash: Sha256::new(),
        })
    }

    fn index(&self) -> Result<Vec<u8>, ArchiveError> {
        let failed = |source| ArchiveError::Read {
            archive: self.path.clone(),
            what: INDEX.to_owned(),
            source,
        };
        let mut bytes = Vec::new();
        self.member(Path::new(INDEX))
            .and_then(|member| member.take(MAX_DOCUMENT).read_to_end(&mut bytes))
            .map_err(failed)?;
        Ok(bytes)
    }

    fn member(&self, name: &Path) -> io::Result<Member<'_>> {
        match &self.members {
            Members::Directory => File::open(self.path.join(name)).map(Member::File),
            Members::Tar { file, parts } => {
                let &(at, length) = parts.get(name).ok_or_else(|| {
                    io::Error::new(
                        io::ErrorKind::NotFound,
                        format!("it has no {}", name.display()),
                    )
                })?;
                Ok(Member::Part {
                    file,
                    at,
                    end: at.saturating_add(length),
                })
            }
        }
    }

    fn understand<T: DeserializeOwned>(&self, what: &str, bytes: &[u8]) -> Result<T, ArchiveError> {
        serde_json::from_slice(bytes).map_err(|source| ArchiveError::Document {
            archive: self.path.clone(),
            what: what.to_owned(),
            source,
        })
    }

    pub(crate) fn read_error(&self, digest: &Digest, source: io::Error) -> ArchiveError {
        ArchiveError::Read {
            archive: self.path.clone(),
            what: format!("blob {digest}"),
            source,
        }
    }

    pub(crate) fn blob_error(&self, digest: &Digest, reason: String) -> ArchiveError {
        ArchiveError::Blob {
            archive: self.path.clone(),
            digest: digest.to_string(),
            reason,
        }
    }
}

/// A blob while it is read. Its content must not be trusted before [`Blob::verify`] has succeeded.
pub(crate) struct Blob<'a> {
    archive: &'a Archive,
    digest: Digest,
    member: Member<'a>,
    hash: Sha256,
}

impl Blob<'_> {
    /// Reads the rest, and compares the whole blob with its digest.
    pub(crate) fn verify(mut self) -> Result<(), ArchiveError> {
        io::copy(&mut self, &mut io::sink())
            .map_err(|source| self.archive.read_error(&self.digest, source))?;
        let found = hex::encode(self.hash.finalize());
        if found == self.digest.digest() {
            Ok(())
        } else {
            let reason = format!("its content has the digest sha256:{found}; save the image again");
            Err(self.archive.blob_error(&self.digest, reason))
        }
    }
}

impl Read for Blob<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.member.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}

/// One file of a layout.
enum Member<'a> {
    File(File),
    Part { file: &'a File, at: u64, end: u64 },
}

impl Read for Member<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            Self::Part { file, at, end } => {
                let left = usize::try_from(*end - *at).unwrap_or(usize::MAX);
                let most = left.min(buffer.len());
                let count = file.read_at(&mut buffer[..most], *at)?;
                if count == 0 && most > 0 {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the archive is cut off",
                    ));
                }
                *at += count as u64;
                Ok(count)
            }
        }
    }
}

/// The offset and length of each file in a tar archive.
fn parts(file: &File) -> io::Result<HashMap<PathBuf, (u64, u64)>> {
    let mut parts = HashMap::new();
    let headers = HeaderLimit::default();
    let mut limit = EntryLimit::default();
    let mut archive = tar::Archive::new(Limited {
        reader: file,
        limit: headers.clone(),
    });
    let mut entries = archive.entries_with_seek()?;
    while let Some(entry) = headers.next(&mut entries) {
        let entry = entry?;
        limit.count(entry.path_bytes().len())?;
        if entry.header().entry_type().is_file() {
            let path = entry.path()?;
            let name = path.components().filter(|part| *part != Component::CurDir);
            parts.insert(name.collect(), (entry.raw_file_position(), entry.size()));
        }
    }
    Ok(parts)
}

fn names(descriptor: &Descriptor) -> impl Iterator<Item = &str> {
    let annotations = descriptor.annotations().as_ref();
    NAMES
        .into_iter()
        .filter_map(move |key| annotations?.get(key).map(String::as_str))
}

fn names_of(descriptors: &[Descriptor]) -> HashSet<Option<&str>> {
    descriptors
        .iter()
        .map(|descriptor| names(descriptor).next())
        .collect()
}

/// The images of a layout, for a person.
fn held(descriptors: &[Descriptor]) -> String {
    let described: Vec<_> = descriptors
        .iter()
        .map(|descriptor| {
            let name = names(descriptor)
                .next()
                .unwrap_or("an image without a name");
            match descriptor.platform() {
                Some(platform) => format!("{name} ({}/{})", platform.os(), platform.architecture()),
                None => name.to_owned(),
            }
        })
        .collect();
    if described.is_empty() {
        "no image".to_owned()
    } else {
        described.join(", ")
    }
}
