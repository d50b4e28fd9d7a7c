//! Images made in memory, as OCI layouts and archives on disk.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;
use wasm_interp_image::{Archive, CacheError, Images, UnpackedImage};

/// A layer's tar archive while it is written.
pub(crate) struct Layer(Builder<Vec<u8>>);

impl Layer {
    pub(crate) fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn entry(mut self, kind: EntryType, name: &str, link: &str, mode: u32, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(1000);
        header.set_gid(50);
        header.set_mtime(1_000_000);
        header.set_size(content.len() as u64);
        // Written without the library, which refuses the names of hostile images.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_gnu_mut().unwrap().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    pub(crate) fn file(self, name: &str, content: &str) -> Self {
        self.entry(EntryType::Regular, name, "", 0o640, content.as_bytes())
    }

    pub(crate) fn directory(self, name: &str) -> Self {
        self.entry(EntryType::Directory, name, "", 0o750, b"")
    }

    pub(crate) fn link(self, name: &str, to: &str) -> Self {
        self.entry(EntryType::Symlink, name, to, 0o777, b"")
    }

    pub(crate) fn hard_link(self, name: &str, to: &str) -> Self {
        self.entry(EntryType::Link, name, to, 0o640, b"")
    }

    pub(crate) fn fifo(self, name: &str) -> Self {
        self.entry(EntryType::Fifo, name, "", 0o622, b"")
    }

    pub(crate) fn device(self, name: &str) -> Self {
        self.entry(EntryType::Char, name, "", 0o666, b"")
    }

    /// A GNU long name of so many bytes before the next entry.
    pub(crate) fn long_name(self, bytes: usize) -> Self {
        let name = vec![b'n'; bytes];
        self.entry(EntryType::GNULongName, "././@LongLink", "", 0, &name)
    }

    /// A symlink whose target is longer than a header.
    pub(crate) fn long_link(self, name: &str, to: &str) -> Self {
        let kind = EntryType::GNULongLink;
        self.entry(kind, "././@LongLink", "", 0, to.as_bytes())
            .link(name, "")
    }

    pub(crate) fn attributes(mut self, attributes: &[(&str, &str)]) -> Self {
        let attributes = attributes
            .iter()
            .map(|(key, value)| (*key, value.as_bytes()));
        self.0.append_pax_extensions(attributes).unwrap();
        self
    }

    pub(crate) fn tar(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// The encoding of a layer in the image.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// An OCI layout on disk.
pub(crate) struct Layout {
    folder: TempDir,
    manifests: Vec<Value>,
}

impl Layout {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("blobs/sha256")).unwrap();
        fs::write(
            folder.path().join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .unwrap();
        Self {
            folder,
            manifests: Vec::new(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The file of a blob.
    pub(crate) fn blob(&self, digest: &str) -> PathBuf {
        let name = digest.trim_start_matches("sha256:");
        self.path().join("blobs/sha256").join(name)
    }

    fn add(&self, kind: &str, bytes: &[u8]) -> Value {
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(bytes)));
        fs::write(self.blob(&digest), bytes).unwrap();
        json!({ "mediaType": kind, "digest": digest, "size": bytes.len() })
    }

    /// Adds an image of these layers. Returns the digest of its uppermost layer.
    pub(crate) fn image(
        &mut self,
        name: Option<&str>,
        layers: Vec<Layer>,
        packing: Packing,
    ) -> String {
        self.image_for(name, layers, packing, std::env::consts::ARCH)
    }

    pub(crate) fn image_for(
        &mut self,
        name: Option<&str>,
        layers: Vec<Layer>,
        packing: Packing,
        architecture: &str,
    ) -> String {
        let mut diff_ids = Vec::new();
        let mut descriptors = Vec::new();
        for layer in layers {
            let tar = layer.tar();
            diff_ids.push(format!("sha256:{}", hex::encode(Sha256::digest(&tar))));
            let (kind, bytes) = match packing {
                Packing::Plain => ("application/vnd.oci.image.layer.v1.tar", tar),
                Packing::Gzip => {
                    let mut encoder =
                        flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                    encoder.write_all(&tar).unwrap();
                    (
                        "application/vnd.oci.image.layer.v1.tar+gzip",
                        encoder.finish().unwrap(),
                    )
                }
                Packing::Zstd => {
                    // Two frames with a skippable frame between them, as in zstd:chunked.
                    let level = ruzstd::encoding::CompressionLevel::Fastest;
                    let (first, second) = tar.split_at(tar.len() / 2);
                    let mut bytes = ruzstd::encoding::compress_to_vec(first, level);
                    bytes.extend([0x5e, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, b'a', b'b', b'c']);
                    bytes.extend(ruzstd::encoding::compress_to_vec(second, level));
                    ("application/vnd.oci.image.layer.v1.tar+zstd", bytes)
                }
            };
            descriptors.push(self.add(kind, &bytes));
        }
        let architecture = match architecture {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let config = json!({
            "os": "linux", "architecture": architecture,
            "config": { "Entrypoint": ["/app/main.py"] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = self.add(
            "application/vnd.oci.image.config.v1+json",
            &serde_json::to_vec(&config).unwrap(),
        );
        let uppermost = descriptors.last().map_or(String::new(), |descriptor| {
            descriptor["digest"].as_str().unwrap().to_owned()
        });
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": kind,
            "config": config,
            "layers": descriptors,
        });
        let mut manifest = self.add(kind, &serde_json::to_vec(&manifest).unwrap());
        if let Some(name) = name {
            manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        }
        self.manifests.push(manifest);
        let index = json!({ "schemaVersion": 2, "manifests": self.manifests });
        fs::write(self.path().join("index.json"), index.to_string()).unwrap();
        uppermost
    }

    /// The layout as one file.
    pub(crate) fn archive(&self) -> PathBuf {
        let path = self.path().join("archive.tar");
        let mut builder = Builder::new(File::create(&path).unwrap());
        for name in ["oci-layout", "index.json"] {
            builder
                .append_path_with_name(self.path().join(name), name)
                .unwrap();
        }
        builder
            .append_dir_all("./blobs", self.path().join("blobs"))
            .unwrap();
        builder.finish().unwrap();
        path
    }
}

/// Unpacks the only image of `path` into a cache.
pub(crate) fn unpack(path: &Path, cache: &TempDir) -> Result<UnpackedImage, CacheError> {
    let archive = Archive::open(path).unwrap();
    let image = archive.image(None).unwrap();
    Images::beneath(cache.path().join("images")).get(&archive, &image, || {})
}
