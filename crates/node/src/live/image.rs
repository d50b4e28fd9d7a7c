//! Images as containerd has them: found by name, pulled through its CRI, and their files shown for a while.
//! Called by `prewarm`; decides nothing about what is in them.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use oci_spec::image::{Arch, Descriptor, Digest, ImageConfiguration, ImageIndex, ImageManifest};
use serde::de::DeserializeOwned;
use serde_json::json;
use tonic::Code;
use wasm_interp_snapshot::{Mount, MountError, mount_all};
use wasm_interp_workload::{InterpretersError, Module, RootfsView, ViewError, interpreters};

use super::LiveError;
use super::rpc::{
    self, Anything, Containerd, CreateLeaseRequest, GetImageResponse, Id, ImageSpec, InfoResponse,
    PullImageRequest, RemoveSnapshotRequest, ViewSnapshotRequest, ViewSnapshotResponse,
};
use crate::oci::{self, Kind, MAX_DOCUMENT};

/// A pull of some hundred megabytes over a slow line.
const PULL: Duration = Duration::from_secs(900);
/// After this containerd takes away what a job has left that was killed while it looked at the files: longer
/// than the few calls and the mount take. Nothing is held while their interpreters are compiled.
const LEASE: Duration = Duration::from_secs(600);
/// So many documents of one image are read.
const DOCUMENTS: usize = 64;
/// The label by which the configuration of an unpacked image holds its snapshot: then the snapshotter's name.
const SNAPSHOT: &str = "containerd.io/gc.ref.snapshot.";

/// An image's files cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageError {
    #[error(transparent)]
    Live(#[from] LiveError),
    #[error(
        "containerd has no such image and, without its CRI plugin, nothing to pull it with: import the image, or \
         see why the plugin was not loaded with ctr plugins ls"
    )]
    NoCri,
    #[error("containerd cannot pull it: {0}")]
    Pull(String),
    #[error("it holds nothing for linux/{}", Arch::default())]
    Platform,
    #[error("its {what} {digest} is no such document: {reason}")]
    Document {
        what: &'static str,
        digest: String,
        reason: String,
    },
    #[error("cannot look at its files apart from the host's mounts: {0}; this needs root")]
    Namespace(#[source] Errno),
    #[error("cannot look at its files: {0}")]
    Mount(#[from] MountError),
    #[error("cannot look at its files: {0}")]
    View(#[from] ViewError),
    #[error("cannot describe its container: {0}")]
    Spec(#[source] serde_json::Error),
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
    #[error(transparent)]
    Interpreters(#[from] InterpretersError),
}

/// What is known of a name.
pub(crate) enum Found {
    /// No image has it.
    Absent,
    /// It is known, and its files are not there.
    NotUnpacked,
    Unpacked(Box<Unpacked>),
}

/// An image whose files a snapshotter has.
pub(crate) struct Unpacked {
    image: ImageConfiguration,
    snapshotter: String,
    chain_id: String,
}

/// An image's Wasm programs.
pub(crate) struct Programs {
    /// Open, though their files are shown no longer.
    pub(crate) modules: Vec<Module<File>>,
    /// Why something of the look is still in containerd.
    pub(crate) left: Option<LiveError>,
}

/// One containerd, one of its namespaces.
pub(crate) struct Images {
    pub(crate) socket: PathBuf,
    pub(crate) namespace: String,
}

impl Images {
    /// The image that has the first of these names that any has.
    pub(crate) fn find(&self, names: &[String]) -> Result<Found, ImageError> {
        self.talk(async |containerd| {
            for name in names {
                let question = Id { id: name.clone() };
                let path = "/containerd.services.images.v1.Images/Get";
                let answer: Result<GetImageResponse, _> = containerd.call(path, question).await;
                let target = match answer {
                    Ok(answer) => answer.image.and_then(|image| image.target),
                    Err(status) if status.code() == Code::NotFound => continue,
                    Err(status) => return Err(rpc::refused("look for an image")(status).into()),
                };
                return unpacked(containerd, described(target.unwrap_or_default())?).await;
            }
            Ok(Found::Absent)
        })
    }

    /// Has the CRI pull it, as the kubelet would without credentials. It is in the namespace `k8s.io` then.
    pub(crate) fn pull(&self, name: &str) -> Result<(), ImageError> {
        let image = Some(ImageSpec { image: name.into() });
        let pulled = rpc::talk(&self.socket, None, PULL, async |containerd| {
            let path = "/runtime.v1.ImageService/PullImage";
            let answer: Result<Anything, _> =
                containerd.call(path, PullImageRequest { image }).await;
            Ok(answer.map_err(|status| match status.code() {
                Code::Unimplemented => ImageError::NoCri,
                _ => ImageError::Pull(status.message().to_owned()),
            }))
        });
        pulled?.map(drop)
    }

    /// Finds the image's Wasm programs. Nothing is left of it: the snapshot that shows the files goes with the
    /// lease that it belongs to, also if this process does not come to an end.
    pub(crate) fn interpreters(&self, unpacked: &Unpacked) -> Result<Programs, ImageError> {
        let now = SystemTime::now().max(UNIX_EPOCH);
        let id = format!(
            "wasm-interp-prewarm-{:x}-{:x}",
            now.duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_nanos(),
            std::process::id()
        );
        self.talk(async |containerd| {
            let lease = CreateLeaseRequest {
                id: id.clone(),
                labels: HashMap::from([(
                    "containerd.io/gc.expire".to_owned(),
                    rfc3339(now + LEASE),
                )]),
            };
            let _: Anything = containerd
                .must(
                    "make a lease",
                    "/containerd.services.leases.v1.Leases/Create",
                    lease,
                )
                .await?;
            let found = match view(containerd, &id, unpacked).await {
                Ok(mounts) => look(&mounts, &unpacked.image),
                Err(error) => Err(error.into()),
            };
            // Before anything is compiled: whatever becomes of this job or of containerd then, nothing is left.
            // A snapshotter whose device is busy while a program is open may refuse.
            let left = clear(containerd, &id, unpacked).await.err();
            let modules = found?;
            Ok(Programs { modules, left })
        })
    }

    fn talk<R>(
        &self,
        conversation: impl AsyncFnOnce(&Containerd) -> Result<R, ImageError>,
    ) -> Result<R, ImageError> {
        rpc::talk(
            &self.socket,
            Some(&self.namespace),
            rpc::LIMIT,
            async |containerd| Ok(conversation(containerd).await),
        )?
    }
}

/// The document that containerd has under an image's name.
fn described(target: rpc::Descriptor) -> Result<Descriptor, ImageError> {
    let digest =
        Digest::try_from(target.digest.as_str()).map_err(|error| ImageError::Document {
            what: "target",
            digest: target.digest,
            reason: error.to_string(),
        })?;
    // Of no size that could be: refused as too large, should anything ever say so.
    let size = u64::try_from(target.size).unwrap_or(u64::MAX);
    Ok(Descriptor::new(
        target.media_type.as_str().into(),
        size,
        digest,
    ))
}

/// Follows an image's documents to the one for this machine whose files are there.
async fn unpacked(containerd: &Containerd, target: Descriptor) -> Result<Found, ImageError> {
    let architecture = Arch::default();
    let mut ahead = VecDeque::from([target]);
    let (mut looks, mut fits) = (0, false);
    while let Some(descriptor) = ahead.pop_front() {
        looks += 1;
        if looks > DOCUMENTS {
            break;
        }
        match Kind::of(&descriptor) {
            Kind::Other => {}
            Kind::Index => {
                let index: Option<ImageIndex> = document(containerd, "index", &descriptor).await?;
                let Some(index) = index else {
                    return Ok(Found::NotUnpacked);
                };
                let mut first = VecDeque::from(oci::fitting(&index, &architecture));
                first.append(&mut ahead);
                ahead = first;
            }
            Kind::Manifest => {
                let manifest: Option<ImageManifest> =
                    document(containerd, "manifest", &descriptor).await?;
                let Some(manifest) = manifest else {
                    // Of another platform, perhaps: only what is needed is fetched.
                    fits = true;
                    continue;
                };
                let config = manifest.config();
                let image: Option<ImageConfiguration> =
                    document(containerd, "configuration", config).await?;
                let Some(image) = image else {
                    fits = true;
                    continue;
                };
                if !oci::fits(&image, &architecture) {
                    continue;
                }
                fits = true;
                let Some(chain_id) = oci::chain_id(image.rootfs().diff_ids()) else {
                    continue;
                };
                if let Some(snapshotter) = snapshotter(containerd, config, &chain_id).await? {
                    let unpacked = Unpacked {
                        image,
                        snapshotter,
                        chain_id,
                    };
                    return Ok(Found::Unpacked(Box::new(unpacked)));
                }
            }
        }
    }
    if fits {
        Ok(Found::NotUnpacked)
    } else {
        Err(ImageError::Platform)
    }
}

/// One document out of the content store; `None` if it is not there.
async fn document<T: DeserializeOwned>(
    containerd: &Containerd,
    what: &'static str,
    descriptor: &Descriptor,
) -> Result<Option<T>, ImageError> {
    let unfit = |reason: String| ImageError::Document {
        what,
        digest: descriptor.digest().to_string(),
        reason,
    };
    if descriptor.size() > MAX_DOCUMENT {
        return Err(unfit(format!("it is larger than {MAX_DOCUMENT} bytes")));
    }
    match containerd
        .read(descriptor.digest().as_ref(), MAX_DOCUMENT)
        .await
    {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| unfit(error.to_string())),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(unfit(status.message().to_owned())),
    }
}

/// Who has unpacked the image with this configuration.
async fn snapshotter(
    containerd: &Containerd,
    config: &Descriptor,
    chain_id: &str,
) -> Result<Option<String>, LiveError> {
    let InfoResponse { info } = containerd
        .must(
            "tell of an image's configuration",
            "/containerd.services.content.v1.Content/Info",
            Id {
                id: config.digest().to_string(),
            },
        )
        .await?;
    let labels = info.unwrap_or_default().labels;
    // All of them have the same files; the usual one first.
    Ok(labels
        .iter()
        .filter(|(_, snapshot)| *snapshot == chain_id)
        .filter_map(|(label, _)| label.strip_prefix(SNAPSHOT))
        .min_by_key(|name| (*name != "overlayfs", *name))
        .map(str::to_owned))
}

/// A read-only snapshot of the image's files that belongs to the lease of the same id.
async fn view(
    containerd: &Containerd,
    id: &str,
    unpacked: &Unpacked,
) -> Result<Vec<Mount>, LiveError> {
    let question = ViewSnapshotRequest {
        snapshotter: unpacked.snapshotter.clone(),
        key: id.to_owned(),
        parent: unpacked.chain_id.clone(),
    };
    let ViewSnapshotResponse { mounts } = containerd
        .with_lease(id)?
        .must(
            "show an image's files",
            "/containerd.services.snapshots.v1.Snapshots/View",
            question,
        )
        .await?;
    Ok(mounts.into_iter().map(harmless).collect())
}

/// The mount, of which nothing can be executed and no device opened.
fn harmless(mount: rpc::Mount) -> Mount {
    let mut options = mount.options;
    options.extend(["ro", "nodev", "noexec", "nosuid"].map(str::to_owned));
    Mount {
        kind: mount.kind,
        source: mount.source,
        target: mount.target,
        options,
    }
}

async fn clear(containerd: &Containerd, id: &str, unpacked: &Unpacked) -> Result<(), LiveError> {
    let snapshot = RemoveSnapshotRequest {
        snapshotter: unpacked.snapshotter.clone(),
        key: id.to_owned(),
    };
    let removed = containerd
        .clear(
            "remove the snapshot that showed an image's files",
            "/containerd.services.snapshots.v1.Snapshots/Remove",
            snapshot,
        )
        .await;
    let lease = Id { id: id.to_owned() };
    containerd
        .clear(
            "delete a lease",
            "/containerd.services.leases.v1.Leases/Delete",
            lease,
        )
        .await
        .and(removed)
}

/// Looks for the image's Wasm programs. What was opened stays open when the mounts are gone.
fn look(mounts: &[Mount], image: &ImageConfiguration) -> Result<Vec<Module<File>>, ImageError> {
    let own = std::env::current_exe().map_err(ImageError::Thread)?;
    // A directory that is there for certain, and is not missed.
    let place = own.parent().unwrap_or(Path::new("/"));
    apart(mounts, place, || find(image, place))
}

/// Has `act` look at the mounts where nobody else sees them: in a mount namespace of a thread of our own.
fn apart<R: Send>(
    mounts: &[Mount],
    place: &Path,
    act: impl FnOnce() -> Result<R, ImageError> + Send,
) -> Result<R, ImageError> {
    let mounted = || {
        unshare(CloneFlags::CLONE_NEWNS).map_err(ImageError::Namespace)?;
        let none: Option<&str> = None;
        // What the host unmounts is unmounted here too; what is mounted here is nobody's business.
        mount(none, "/", none, MsFlags::MS_SLAVE | MsFlags::MS_REC, none)
            .map_err(ImageError::Namespace)?;
        mount_all(mounts, place)?;
        let found = act();
        // The end of this thread would do it too, a moment after somebody has waited for that.
        umount2(place, MntFlags::MNT_DETACH).map_err(ImageError::Namespace)?;
        found
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .spawn_scoped(scope, mounted)
            .map_err(ImageError::Thread)?;
        // A panic in there is ours to pass on.
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn find(image: &ImageConfiguration, place: &Path) -> Result<Vec<Module<File>>, ImageError> {
    let config = image.config().clone().unwrap_or_default();
    let spec = json!({
        "ociVersion": "1.1.0",
        "process": {
            "args": oci::args(&config),
            "env": config.env().as_deref().unwrap_or_default(),
            "cwd": oci::cwd(&config),
            "user": { "uid": 0, "gid": 0 },
        },
        "root": { "path": place, "readonly": true },
    });
    let spec = serde_json::from_value(spec).map_err(ImageError::Spec)?;
    let view = RootfsView::new(place, &spec)?;
    Ok(interpreters(&spec, &view)?)
}

/// A time as containerd reads it in labels.
fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
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

    #[test]
    fn the_host_does_not_see_the_mount_while_it_is_looked_at() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let files = tempfile::tempdir().unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(files.path().join("of-the-image"), "").unwrap();
        let shown = Mount {
            kind: "bind".into(),
            source: files.path().display().to_string(),
            target: String::new(),
            options: vec!["rbind".into(), "ro".into()],
        };
        let place = folder.path().canonicalize().unwrap();
        // `self` is the process, whose namespace is the host's.
        let sees = |who: &str| {
            let mounts = std::fs::read_to_string(format!("/proc/{who}/mountinfo")).unwrap();
            mounts.contains(&format!(" {} ", place.display()))
        };
        apart(&[shown], &place, || {
            assert!(place.join("of-the-image").exists());
            assert!(sees("thread-self"));
            assert!(!sees("self"));
            Ok(())
        })
        .unwrap();
        assert!(!place.join("of-the-image").exists());
    }

    #[test]
    fn nothing_of_an_image_can_be_executed_where_it_is_shown() {
        let mount = harmless(rpc::Mount {
            kind: "overlay".into(),
            source: "overlay".into(),
            target: String::new(),
            options: vec!["lowerdir=/a:/b".into()],
        });
        assert_eq!(
            mount.options,
            ["lowerdir=/a:/b", "ro", "nodev", "noexec", "nosuid"]
        );
    }
}
