//! Compiles the interpreters of images into the node's store, as the shim would at an image's first start. Called by
//! `crates/node` in a job of its own.
//!
//! A crate of its own because of what it trusts: it is the only part of the installer that reads what an image says.
//! Everything that an image says may be in [`ImageResult`], paths and errors included; the caller escapes it before it
//! reaches a terminal. It changes nothing on the node but the store.
#![forbid(unsafe_code)]

mod programs;
mod turn;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use oci_spec::distribution::ParseError;
use oci_spec::image::Arch;
use wasm_interp_artifact::{ArtifactError, CodeRequest, Origin, Store, cache_dir};
use wasm_interp_containerd::{
    ContainerdError, ContainerdImage, ContainerdImageError, ContainerdImages, ImageLookup, cri_pull,
};
use wasm_interp_image::full_name;
use wasm_interp_mounts::MountError;
use wasm_interp_workload::{CachePolicy, ImageModule, ImageModulesError, ViewError};

use turn::{TimeBudget, TurnProgress};

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
        "cannot pull the image: containerd runs without its CRI plugin; import the image, or see \
         why the plugin was not loaded with ctr plugins ls"
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

/// Prewarms the images one after another, each in its share of `time`. An image that fails, or does not finish in its
/// share, does not affect the others. `compiler` is the executable that compiles for the store.
#[must_use]
pub fn prewarm(
    images: ContainerdImages,
    names: &[String],
    compiler: PathBuf,
    policy: CachePolicy,
    time: Duration,
) -> Vec<ImageResult> {
    let prewarmer = Arc::new(Prewarmer {
        images,
        store: Store::open(&cache_dir()),
        compiler,
        policy,
    });
    let end = Instant::now() + time;
    let mut results = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let left = end.saturating_duration_since(Instant::now());
        let share = turn::share(left, names.len() - index);
        let (prewarmer, image) = (Arc::clone(&prewarmer), name.clone());
        let work =
            move |budget, progress: &TurnProgress| prewarmer.prewarm(&image, budget, progress);
        results.push(turn::run(name, share, work));
    }
    results
}

/// What every image needs.
struct Prewarmer {
    images: ContainerdImages,
    store: Store,
    compiler: PathBuf,
    policy: CachePolicy,
}

impl Prewarmer {
    fn prewarm(
        &self,
        name: &str,
        budget: TimeBudget,
        progress: &TurnProgress,
    ) -> Result<(), PrewarmError> {
        let image = self.find_or_pull(name)?;
        let (modules, cleanup_error) = self.images.with_snapshot(&image, |mounts| {
            programs::find(mounts, image.configuration())
        })?;
        if let Some(error) = cleanup_error {
            progress.cleanup_failed(error);
        }
        let mut first_error = None;
        for module in &modules? {
            // A compile that begins now would run in the next image's time.
            if budget.left().is_zero() {
                return Err(PrewarmError::TimedOut(budget.time));
            }
            match self.compile(module) {
                Ok(interpreter) => progress.compiled(interpreter),
                Err(error) => drop(first_error.get_or_insert(error)),
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    fn find_or_pull(&self, name: &str) -> Result<ContainerdImage, PrewarmError> {
        let full = full_name(name).map_err(PrewarmError::Name)?;
        // An image that `ctr` imported may have any name.
        let names = [full, name.to_owned()];
        let can_pull = self.images.namespace == KUBERNETES_NAMESPACE;
        match self.images.find(&names)? {
            ImageLookup::Unpacked(image) => return Ok(*image),
            ImageLookup::Absent if !can_pull => {
                return Err(PrewarmError::Absent(self.images.namespace.clone()));
            }
            ImageLookup::NotUnpacked if !can_pull => return Err(PrewarmError::NotUnpacked),
            ImageLookup::Absent | ImageLookup::NotUnpacked => {}
        }
        cri_pull(&self.images.socket, name).map_err(|error| match error {
            ContainerdError::NoCri(_) => PrewarmError::NoCri,
            error => error.into(),
        })?;
        match self.images.find(&names)? {
            ImageLookup::Unpacked(image) => Ok(*image),
            ImageLookup::Absent | ImageLookup::NotUnpacked => Err(PrewarmError::NotUnpacked),
        }
    }

    fn compile(&self, module: &ImageModule<File>) -> Result<CompiledInterpreter, PrewarmError> {
        let ImageModule { path, file } = module;
        let request = CodeRequest {
            wasm: file,
            name: path,
            compiler: &self.compiler,
            policy: self.policy,
        };
        let artifact = self.store.get(&request, &mut |_| {})?;
        let compile_time = match artifact.origin {
            Origin::Cached => None,
            Origin::Compiled { seconds } => Some(Duration::from_secs_f64(seconds)),
            Origin::Uncached { reason, .. } => {
                return Err(PrewarmError::NotStored {
                    path: path.clone(),
                    reason,
                });
            }
        };
        Ok(CompiledInterpreter {
            path: path.clone(),
            key: artifact.key.to_string(),
            compile_time,
        })
    }
}
