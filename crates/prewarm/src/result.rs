//! The outcome of one image.

use std::io;
use std::time::Duration;

use nix::errno::Errno;
use oci_spec::distribution::ParseError;
use oci_spec::image::Arch;
use wasm_interp_artifact::ArtifactError;
use wasm_interp_containerd::{ContainerdError, ContainerdImageError};
use wasm_interp_mounts::MountError;
use wasm_interp_workload::{ImageModulesError, ViewError};

/// containerd's namespace of Kubernetes: that of the images that its CRI pulls, and of the pods.
pub const KUBERNETES_NAMESPACE: &str = "k8s.io";

/// The outcome of one image.
#[derive(Debug)]
pub struct ImageResult {
    /// Its name, as it was requested.
    pub image: String,
    /// Its Wasm programs whose native code is in the store now.
    pub interpreters: Vec<CompiledInterpreter>,
    /// Why there is none, or why some are missing.
    pub error: Option<PrewarmError>,
    /// Why the snapshot that showed its files is still in containerd.
    pub cleanup_error: Option<ContainerdError>,
}

/// A Wasm program whose native code is in the store.
#[derive(Clone, Debug, PartialEq)]
pub struct CompiledInterpreter {
    /// Its path in the image.
    pub path: String,
    /// The entry in the store.
    pub key: String,
    /// How long the compile took; `None` if the code was there before.
    pub compile_time: Option<Duration>,
}

/// An image cannot be prewarmed.
#[derive(Debug, thiserror::Error)]
pub enum PrewarmError {
    /// The name is none.
    #[error("cannot parse the image's name: {0}; write it as in a pod's spec")]
    Name(#[source] ParseError),
    /// No image has the name, and it cannot be pulled.
    #[error(
        "cannot find the image in containerd's namespace {0}: images are pulled into \
         {KUBERNETES_NAMESPACE} only; import or pull it there first"
    )]
    Absent(String),
    /// containerd has the image without its files.
    #[error(
        "cannot use the image: containerd does not have its files for linux/{}; pull or import it \
         again",
        Arch::default()
    )]
    NotUnpacked,
    /// The CRI is needed for a pull.
    #[error(
        "cannot pull the image: containerd runs without its CRI plugin; import the image, or \
         run ctr plugins ls to see why the plugin is not loaded"
    )]
    NoCri,
    /// The time was over.
    #[error(
        "cannot finish within {} s; what is compiled is kept, so prewarm the image again",
        .0.as_secs()
    )]
    TimedOut(Duration),
    /// No thread.
    #[error("cannot start a thread: {0}; raise the limit of processes")]
    Thread(#[source] io::Error),
    /// The mount namespace of the thread that reads the image.
    #[error("cannot make a mount namespace to read the image's files: {0}; run as root")]
    Namespace(#[source] Errno),
    /// This program's own folder, over which the files are mounted.
    #[error("cannot find this executable: {0}; mount /proc")]
    Locate(#[source] io::Error),
    /// The files cannot be mounted.
    #[error("cannot read the image's files: {0}; pull the image again")]
    Mount(#[from] MountError),
    /// The files cannot be read.
    #[error("cannot read the image's files: {0}; pull the image again")]
    View(#[from] ViewError),
    /// The image's configuration makes no OCI spec.
    #[error("cannot describe a container of the image: {0}; report this")]
    Spec(#[source] serde_json::Error),
    /// The store could not keep the code.
    #[error(
        "cannot keep the native code of {path} in the store: {reason}; until this is mended, each \
         container compiles it again"
    )]
    NotStored {
        /// The program's path in the image.
        path: String,
        /// Why.
        reason: String,
    },
    /// See the error.
    #[error(transparent)]
    Containerd(#[from] ContainerdError),
    /// See the error.
    #[error(transparent)]
    Image(#[from] ContainerdImageError),
    /// See the error.
    #[error(transparent)]
    Modules(#[from] ImageModulesError),
    /// See the error.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
}
