//! Compiles the interpreters of images into the node's store, as the shim would at an image's first start. Called by
//! `crates/node` in a job of its own.
//!
//! A crate of its own because of what it trusts: it is the only part of the installer that reads what an image says.
//! Everything that an image says may be in [`ImageResult`], paths and errors included; the caller escapes it before it
//! reaches a terminal. It changes nothing on the node but the store.
#![forbid(unsafe_code)]

mod programs;
mod result;
mod turn;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wasm_interp_artifact::{CodeRequest, Origin, Store, cache_dir};
use wasm_interp_containerd::{
    ContainerdError, ContainerdImage, ContainerdImages, ImageLookup, cri_pull,
};
use wasm_interp_image::full_name;
use wasm_interp_workload::{CachePolicy, ImageModule};

pub use result::{CompiledInterpreter, ImageResult, KUBERNETES_NAMESPACE, PrewarmError};
use turn::{TimeBudget, TurnProgress};

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
