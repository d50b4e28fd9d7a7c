//! Writes OCI images as archives that `ctr image import` reads, and reads files out of them.
//! What goes into an image is [`crate::guests`]' business.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::Outcome;

/// An image of one layer, or of one on top of another image's.
#[derive(Clone, Default)]
pub struct Image {
    base: Vec<Layer>,
    files: Vec<(String, Vec<u8>, u32)>,
    folders: Vec<(String, u32)>,
    /// Each with where it leads.
    links: Vec<(String, String)>,
    fifos: Vec<String>,
    entrypoint: Vec<String>,
    command: Vec<String>,
    env: Vec<String>,
    user: String,
    working_directory: String,
}

/// A layer as it is in an archive.
#[derive(Clone)]
struct Layer {
    media_type: String,
    blob: Vec<u8>,
    /// Of what the blob holds, uncompressed.
    diff_id: String,
}

impl Image {
    /// An image with the layers and the variables of one that `make images` wrote.
    pub fn on(archive: &Path) -> Outcome<Self> {
        let archive = WrittenArchive(archive);
        let manifest = archive.manifest()?;
        let config = archive.json(&blob_path(text(&manifest["config"]["digest"])?))?;
        let diff_ids = config["rootfs"]["diff_ids"]
            .as_array()
            .into_iter()
            .flatten();
        let base = archive.layers(&manifest)?.into_iter().zip(diff_ids);
        let base = base.map(|((media_type, blob), diff_id)| {
            Ok(Layer {
                media_type,
                blob,
                diff_id: text(diff_id)?.to_owned(),
            })
        });
        let env = config["config"]["Env"].as_array().into_iter().flatten();
        Ok(Self {
            base: base.collect::<Outcome<_>>()?,
            env: env
                .map(|one| Ok(text(one)?.to_owned()))
                .collect::<Outcome<_>>()?,
            ..Self::default()
        })
    }

    /// An image with nothing in it but a PATH.
    pub fn new() -> Self {
        Self {
            env: vec!["PATH=/usr/local/bin:/bin".to_owned()],
            ..Self::default()
        }
    }

    /// Adds a file that may be executed.
    pub fn program(self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.entry(path, content, 0o755)
    }

    /// Adds a file.
    pub fn file(self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.entry(path, content, 0o644)
    }

    fn entry(mut self, path: &str, content: impl Into<Vec<u8>>, mode: u32) -> Self {
        self.files.push((path.to_owned(), content.into(), mode));
        self
    }

    /// Adds an empty folder.
    pub fn folder(mut self, path: &str, mode: u32) -> Self {
        self.folders.push((path.to_owned(), mode));
        self
    }

    /// Adds a symlink.
    pub fn link(mut self, path: &str, target: &str) -> Self {
        self.links.push((path.to_owned(), target.to_owned()));
        self
    }

    /// Adds a FIFO.
    pub fn fifo(mut self, path: &str) -> Self {
        self.fifos.push(path.to_owned());
        self
    }

    /// Sets what runs.
    pub fn entrypoint(mut self, words: &[&str]) -> Self {
        self.entrypoint = words.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Sets the arguments of what runs, unless the container has its own.
    pub fn command(mut self, words: &[&str]) -> Self {
        self.command = words.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Adds a variable, `NAME=value`.
    pub fn env(mut self, variable: &str) -> Self {
        self.env.push(variable.to_owned());
        self
    }

    /// Sets where it runs.
    pub fn working_directory(mut self, path: &str) -> Self {
        path.clone_into(&mut self.working_directory);
        self
    }

    /// Sets as whom it runs, `uid:gid`.
    pub fn user(mut self, user: &str) -> Self {
        user.clone_into(&mut self.user);
        self
    }

    /// Writes the archive; `name` is what the import calls the image.
    pub fn write(&self, name: &str, archive: &Path) -> Outcome {
        let mut file = tar::Builder::new(File::create(archive)?);
        for (path, content) in self.members(name)? {
            append(&mut file, &path, &content, 0o644)?;
        }
        file.into_inner()?.sync_all()?;
        Ok(())
    }

    /// Writes the same as a layout, in a folder that has nothing in it yet.
    pub fn write_layout(&self, name: &str, folder: &Path) -> Outcome {
        for (path, content) in self.members(name)? {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().ok_or("no folder")?)?;
            std::fs::write(path, content)?;
        }
        Ok(())
    }

    /// The files of the layout, by path.
    fn members(&self, name: &str) -> Outcome<Vec<(String, Vec<u8>)>> {
        let layer = self.layer()?;
        let own = digest(&layer);
        let base = self.base.iter();
        let diff_ids: Vec<&String> = base.map(|layer| &layer.diff_id).chain([&own]).collect();
        let base = self.base.iter();
        let mut layers: Vec<Value> = base
            .map(|layer| descriptor(&layer.media_type, &layer.blob))
            .collect();
        layers.push(descriptor("application/vnd.oci.image.layer.v1.tar", &layer));
        let config = serde_json::to_vec(&json!({
            "architecture": if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" },
            "os": "linux",
            "config": {
                "Entrypoint": self.entrypoint,
                "Cmd": self.command,
                "Env": self.env,
                "User": self.user,
                "WorkingDir": self.working_directory,
            },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        }))?;
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": layers,
        }))?;
        let mut reference = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
        reference["annotations"] = json!({
            "io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": name,
        });
        let index = json!({ "schemaVersion": 2, "manifests": [reference] });

        let mut members = vec![
            (
                "oci-layout".to_owned(),
                br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
            ),
            ("index.json".to_owned(), serde_json::to_vec(&index)?),
        ];
        let base = self.base.iter().map(|layer| layer.blob.clone());
        for blob in base.chain([config, manifest, layer]) {
            members.push((blob_path(&digest(&blob)), blob));
        }
        Ok(members)
    }

    fn layer(&self) -> Outcome<Vec<u8>> {
        let mut layer = tar::Builder::new(Vec::new());
        let empty = |kind, mode| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(0);
            header
        };
        for (path, mode) in &self.folders {
            let mut header = empty(tar::EntryType::Directory, *mode);
            layer.append_data(&mut header, path.trim_start_matches('/'), std::io::empty())?;
        }
        for (path, target) in &self.links {
            let mut header = empty(tar::EntryType::Symlink, 0o777);
            layer.append_link(&mut header, path.trim_start_matches('/'), target)?;
        }
        for path in &self.fifos {
            let mut header = empty(tar::EntryType::Fifo, 0o666);
            layer.append_data(&mut header, path.trim_start_matches('/'), std::io::empty())?;
        }
        for (path, content, mode) in &self.files {
            append(&mut layer, path.trim_start_matches('/'), content, *mode)?;
        }
        Ok(layer.into_inner()?)
    }
}

/// Copies the archive of an image and adds what `docker load` reads: a list of its own format. `name` is what Docker
/// calls the image.
pub fn write_for_docker(archive: &Path, name: &str, to: &Path) -> Outcome {
    let mut copy = tar::Builder::new(File::create(to)?);
    for entry in tar::Archive::new(File::open(archive)?).entries()? {
        let entry = entry?;
        let mut header = entry.header().clone();
        let path = entry.path()?.into_owned();
        copy.append_data(&mut header, path, entry)?;
    }
    let manifest = WrittenArchive(archive).manifest()?;
    let blob = |descriptor: &Value| Ok(blob_path(text(&descriptor["digest"])?));
    let layers = manifest["layers"]
        .as_array()
        .ok_or("an image without layers")?;
    let list = json!([{
        "Config": blob(&manifest["config"])?,
        "RepoTags": [name],
        "Layers": layers.iter().map(blob).collect::<Outcome<Vec<_>>>()?,
    }]);
    append(
        &mut copy,
        "manifest.json",
        &serde_json::to_vec(&list)?,
        0o644,
    )?;
    copy.into_inner()?.sync_all()?;
    Ok(())
}

/// Reads the file at `path` out of the layers of an archive that `make images` wrote.
pub fn read_file(archive: &Path, path: &str) -> Outcome<Vec<u8>> {
    let archive = WrittenArchive(archive);
    for (media_type, bytes) in archive.layers(&archive.manifest()?)? {
        let reader: Box<dyn Read> = if media_type.ends_with("gzip") {
            Box::new(GzDecoder::new(&bytes[..]))
        } else {
            Box::new(&bytes[..])
        };
        for entry in tar::Archive::new(reader).entries()? {
            let mut entry = entry?;
            if entry.path()?.to_str() == Some(path.trim_start_matches('/')) {
                let mut content = Vec::new();
                entry.read_to_end(&mut content)?;
                return Ok(content);
            }
        }
    }
    Err(format!("no {path} in the layers of {}", archive.0.display()).into())
}

/// An OCI archive of one image.
struct WrittenArchive<'path>(&'path Path);

impl WrittenArchive<'_> {
    fn member(&self, name: &str) -> Outcome<Vec<u8>> {
        let path = self.0.display();
        let file = File::open(self.0)
            .map_err(|error| format!("cannot open {path}: {error}; run make images"))?;
        for entry in tar::Archive::new(file).entries()? {
            let mut entry = entry?;
            if entry.path()?.to_str() == Some(name) {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes)?;
                return Ok(bytes);
            }
        }
        Err(format!("no {name} in {path}").into())
    }

    fn json(&self, name: &str) -> Outcome<Value> {
        Ok(serde_json::from_slice(&self.member(name)?)?)
    }

    fn manifest(&self) -> Outcome<Value> {
        let index = self.json("index.json")?;
        self.json(&blob_path(text(&index["manifests"][0]["digest"])?))
    }

    /// The media type and the blob of each layer.
    fn layers(&self, manifest: &Value) -> Outcome<Vec<(String, Vec<u8>)>> {
        let layers = manifest["layers"].as_array().into_iter().flatten();
        let layers = layers.map(|layer| {
            let blob = self.member(&blob_path(text(&layer["digest"])?))?;
            Ok((text(&layer["mediaType"])?.to_owned(), blob))
        });
        layers.collect()
    }
}

fn append<W: std::io::Write>(
    archive: &mut tar::Builder<W>,
    path: &str,
    content: &[u8],
    mode: u32,
) -> Outcome {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(content.len() as u64);
    archive.append_data(&mut header, path, content)?;
    Ok(())
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len() })
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

fn text(value: &Value) -> Outcome<&str> {
    value
        .as_str()
        .ok_or_else(|| format!("no text where one should be: {value}").into())
}
