//! Images as containerd has them: found by name, and their files as a read-only snapshot. Does not mount the snapshot,
//! and does not read what is in it.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use oci_spec::image::{Arch, Descriptor, Digest, ImageConfiguration, ImageIndex, ImageManifest};
use serde::de::DeserializeOwned;
use tonic::Code;
use wasm_interp_image::{DocumentKind, MAX_DOCUMENT, chain_id, fits, fitting};
use wasm_interp_mounts::Mount;

use crate::client::{CALL_LIMIT, Client, connect, refused};
use crate::error::ContainerdError;
use crate::messages::{
    CreateLeaseRequest, DescriptorProto, Empty, GetImageResponse, IdRequest, InfoResponse,
    RemoveSnapshotRequest, ViewSnapshotRequest, ViewSnapshotResponse,
};

/// containerd removes a snapshot after this time if the process that made it was killed. Long enough for the few calls
/// and the mount; nothing is held while an interpreter is compiled.
const LEASE: Duration = Duration::from_secs(600);
/// The most documents that are read for one image.
const DOCUMENTS: usize = 64;
/// The configuration of an unpacked image holds its snapshot by a label with this prefix and the snapshotter's name.
const SNAPSHOT_LABEL: &str = "containerd.io/gc.ref.snapshot.";

/// An image cannot be found or shown.
#[derive(Debug, thiserror::Error)]
pub enum ContainerdImageError {
    /// See the error.
    #[error(transparent)]
    Containerd(#[from] ContainerdError),
    /// No manifest is for this machine.
    #[error(
        "cannot use the image: it holds nothing for linux/{}; build it for this machine",
        Arch::default()
    )]
    Platform,
    /// A document of the image is not what it should be.
    #[error("cannot read the image's {what} {digest}: {reason}; pull the image again")]
    Document {
        /// Which document.
        what: &'static str,
        /// Its digest.
        digest: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// What containerd knows under a name.
#[derive(Debug)]
pub enum ImageLookup {
    /// No image.
    Absent,
    /// An image whose files are not there.
    NotUnpacked,
    /// An image with its files.
    Unpacked(Box<ContainerdImage>),
}

/// An image whose files a snapshotter has.
#[derive(Clone, Debug)]
pub struct ContainerdImage {
    configuration: ImageConfiguration,
    snapshotter: String,
    chain_id: String,
}

impl ContainerdImage {
    /// The image's configuration, as its registry has it.
    #[must_use]
    pub fn configuration(&self) -> &ImageConfiguration {
        &self.configuration
    }
}

/// The images of one of containerd's namespaces.
#[derive(Clone, Debug)]
pub struct ContainerdImages {
    /// containerd's socket.
    pub socket: PathBuf,
    /// The namespace.
    pub namespace: String,
}

impl ContainerdImages {
    /// Looks up the names in order; the first that any image has decides.
    ///
    /// # Errors
    /// If containerd does not answer, or the image's documents cannot be read.
    pub fn find(&self, names: &[String]) -> Result<ImageLookup, ContainerdImageError> {
        connect_for_image(&self.socket, &self.namespace, async |client| {
            for name in names {
                let request = IdRequest { id: name.clone() };
                let path = "/containerd.services.images.v1.Images/Get";
                let response: Result<GetImageResponse, _> = client.call(path, request).await;
                let target = match response {
                    Ok(response) => response.image.and_then(|image| image.target),
                    Err(status) if status.code() == Code::NotFound => continue,
                    Err(status) => return Err(refused("look up an image")(status).into()),
                };
                return find_unpacked(client, descriptor(target.unwrap_or_default())?).await;
            }
            Ok(ImageLookup::Absent)
        })
    }

    /// Calls `read` with the mounts that show the image's files: a read-only snapshot, which is removed afterwards. It
    /// belongs to a lease with an end, so containerd removes it if this process is killed. Returns what `read` returns,
    /// and why the snapshot could not be removed, if so: a snapshotter may refuse while a file is open.
    ///
    /// # Errors
    /// If containerd cannot make the snapshot.
    pub fn with_snapshot<R>(
        &self,
        image: &ContainerdImage,
        read: impl FnOnce(&[Mount]) -> R,
    ) -> Result<(R, Option<ContainerdError>), ContainerdError> {
        let now = SystemTime::now().max(UNIX_EPOCH);
        let id = format!(
            "wasm-interp-prewarm-{:x}-{:x}",
            now.duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_nanos(),
            std::process::id()
        );
        let namespace = Some(self.namespace.as_str());
        connect(&self.socket, namespace, CALL_LIMIT, async |client| {
            let lease = CreateLeaseRequest {
                id: id.clone(),
                labels: HashMap::from([(
                    "containerd.io/gc.expire".to_owned(),
                    rfc3339(now + LEASE),
                )]),
            };
            let _: Empty = client
                .require(
                    "create a lease",
                    "/containerd.services.leases.v1.Leases/Create",
                    lease,
                )
                .await?;
            let result = view(client, &id, image).await.map(|mounts| read(&mounts));
            let removed = remove(client, &id, image).await;
            Ok((result?, removed.err()))
        })
    }
}

/// As [`connect`], for calls that fail in more ways.
fn connect_for_image<R>(
    socket: &Path,
    namespace: &str,
    calls: impl AsyncFnOnce(&Client) -> Result<R, ContainerdImageError>,
) -> Result<R, ContainerdImageError> {
    connect(socket, Some(namespace), CALL_LIMIT, async |client| {
        Ok(calls(client).await)
    })?
}

/// The document that containerd has under an image's name.
fn descriptor(target: DescriptorProto) -> Result<Descriptor, ContainerdImageError> {
    let digest = Digest::try_from(target.digest.as_str()).map_err(|error| {
        ContainerdImageError::Document {
            what: "target",
            digest: target.digest,
            reason: error.to_string(),
        }
    })?;
    // A negative size cannot be: it is refused as too large.
    let size = u64::try_from(target.size).unwrap_or(u64::MAX);
    Ok(Descriptor::new(
        target.media_type.as_str().into(),
        size,
        digest,
    ))
}

/// Follows an image's documents to the one for this machine whose files are there.
async fn find_unpacked(
    client: &Client,
    target: Descriptor,
) -> Result<ImageLookup, ContainerdImageError> {
    let architecture = Arch::default();
    let mut queue = VecDeque::from([target]);
    let (mut documents, mut has_platform) = (0, false);
    while let Some(descriptor) = queue.pop_front() {
        documents += 1;
        if documents > DOCUMENTS {
            break;
        }
        match DocumentKind::of(&descriptor) {
            DocumentKind::Other => {}
            DocumentKind::Index => {
                let index: Option<ImageIndex> = read_document(client, "index", &descriptor).await?;
                let Some(index) = index else {
                    return Ok(ImageLookup::NotUnpacked);
                };
                let mut first = VecDeque::from(fitting(&index, &architecture));
                first.append(&mut queue);
                queue = first;
            }
            DocumentKind::Manifest => {
                let manifest: Option<ImageManifest> =
                    read_document(client, "manifest", &descriptor).await?;
                let Some(manifest) = manifest else {
                    // It may be of another platform: containerd fetches only what it needs.
                    has_platform = true;
                    continue;
                };
                let config = manifest.config();
                let configuration: Option<ImageConfiguration> =
                    read_document(client, "configuration", config).await?;
                let Some(configuration) = configuration else {
                    has_platform = true;
                    continue;
                };
                if !fits(&configuration, &architecture) {
                    continue;
                }
                has_platform = true;
                let Some(chain_id) = chain_id(configuration.rootfs().diff_ids()) else {
                    continue;
                };
                if let Some(snapshotter) = find_snapshotter(client, config, &chain_id).await? {
                    let unpacked = ContainerdImage {
                        configuration,
                        snapshotter,
                        chain_id,
                    };
                    return Ok(ImageLookup::Unpacked(Box::new(unpacked)));
                }
            }
        }
    }
    if has_platform {
        Ok(ImageLookup::NotUnpacked)
    } else {
        Err(ContainerdImageError::Platform)
    }
}

/// One document from the content store; `None` if it is not there.
async fn read_document<T: DeserializeOwned>(
    client: &Client,
    what: &'static str,
    descriptor: &Descriptor,
) -> Result<Option<T>, ContainerdImageError> {
    let invalid = |reason: String| ContainerdImageError::Document {
        what,
        digest: descriptor.digest().to_string(),
        reason,
    };
    if descriptor.size() > MAX_DOCUMENT {
        return Err(invalid(format!("it is larger than {MAX_DOCUMENT} bytes")));
    }
    match client
        .read_content(descriptor.digest().as_ref(), MAX_DOCUMENT)
        .await
    {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| invalid(error.to_string())),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(invalid(status.message().to_owned())),
    }
}

/// The snapshotter that has the files of the image with this configuration. Any client may set labels, so one counts
/// only if its value is the chain id of the layers.
async fn find_snapshotter(
    client: &Client,
    config: &Descriptor,
    chain_id: &str,
) -> Result<Option<String>, ContainerdError> {
    let InfoResponse { info } = client
        .require(
            "read the labels of an image's configuration",
            "/containerd.services.content.v1.Content/Info",
            IdRequest {
                id: config.digest().to_string(),
            },
        )
        .await?;
    let labels = info.unwrap_or_default().labels;
    // All of them have the same files; the usual one first.
    Ok(labels
        .iter()
        .filter(|(_, snapshot)| *snapshot == chain_id)
        .filter_map(|(label, _)| label.strip_prefix(SNAPSHOT_LABEL))
        .min_by_key(|name| (*name != "overlayfs", *name))
        .map(str::to_owned))
}

/// Makes a read-only snapshot of the image's files that belongs to the lease with the same id.
async fn view(
    client: &Client,
    id: &str,
    image: &ContainerdImage,
) -> Result<Vec<Mount>, ContainerdError> {
    let request = ViewSnapshotRequest {
        snapshotter: image.snapshotter.clone(),
        key: id.to_owned(),
        parent: image.chain_id.clone(),
    };
    let ViewSnapshotResponse { mounts } = client
        .with_lease(id)?
        .require(
            "make a snapshot of an image's files",
            "/containerd.services.snapshots.v1.Snapshots/View",
            request,
        )
        .await?;
    let mount = |mount: crate::messages::MountProto| Mount {
        kind: mount.kind,
        source: mount.source,
        target: mount.target,
        options: mount.options,
    };
    Ok(mounts.into_iter().map(mount).collect())
}

async fn remove(client: &Client, id: &str, image: &ContainerdImage) -> Result<(), ContainerdError> {
    let snapshot = RemoveSnapshotRequest {
        snapshotter: image.snapshotter.clone(),
        key: id.to_owned(),
    };
    let removed = client
        .remove(
            "remove the snapshot of an image's files",
            "/containerd.services.snapshots.v1.Snapshots/Remove",
            snapshot,
        )
        .await;
    let lease = IdRequest { id: id.to_owned() };
    client
        .remove(
            "delete a lease",
            "/containerd.services.leases.v1.Leases/Delete",
            lease,
        )
        .await
        .and(removed)
}

/// A time as containerd reads it in labels.
fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_date_writes_them() {
        // date --utc --iso-8601=seconds --date=@…
        for (unix, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (1_835_359_445, "2028-02-28T14:04:05Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(unix)), text);
        }
    }
}
