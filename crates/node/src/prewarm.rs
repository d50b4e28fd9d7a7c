//! Native code before anybody asks: the interpreters of images, compiled into the node's store as the shim
//! would do it at an image's first start. Called by [`crate::job`]. Changes nothing else on the node, so it
//! works beside every other job and none waits for it; only to write its report, a unit waits for the lock.

use std::fs::File;
use std::path::{Path, PathBuf};

use wasm_interp_artifact::{ArtifactError, Origin, Store, StoreConfig, cache_dir};
use wasm_interp_workload::{Module, with_causes};

use crate::host::Host;
use crate::job::{Choice, Prewarm};
use crate::layout::{self, LayoutError};
use crate::live::{Found, ImageError, Images, Live, LiveError};
use crate::names::KUBERNETES;
use crate::oci;
use crate::report::{Outcome, Prewarmed, PrewarmedInterpreter, Step, plain};

/// An error goes into events and annotations, and much of its text may be an image's.
const LONGEST: usize = 600;

/// Nothing can be done for any image.
#[derive(Debug, thiserror::Error)]
enum NodeError {
    #[error("images are prewarmed on the node that runs, not beneath {0}: leave out --root")]
    Elsewhere(PathBuf),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Live(#[from] LiveError),
    #[error("cannot find this executable: {0}; mount /proc")]
    Locate(#[source] std::io::Error),
}

/// Nothing can be done for one image.
#[derive(Debug, thiserror::Error)]
enum PrewarmError {
    #[error("it is no name of an image: write it as a pod's spec has it")]
    Name,
    #[error(
        "containerd has no such image in its namespace {0}, and pulls into {KUBERNETES} only: import or pull it \
         there first"
    )]
    Absent(String),
    #[error(
        "containerd has it without its files for linux/{}: pull or import it again",
        oci::architecture()
    )]
    NotUnpacked,
    #[error("{path} was compiled and not kept, so that containers compile it again: {reason}")]
    Unkept { path: String, reason: String },
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
}

/// What came of it.
pub(crate) struct Done {
    pub(crate) outcome: Outcome,
    pub(crate) message: String,
    pub(crate) steps: Vec<Step>,
    pub(crate) images: Vec<Prewarmed>,
}

/// What came of one image.
struct Turn {
    prewarmed: Prewarmed,
    /// Why something of it is still in containerd.
    left: Option<String>,
}

/// Does it, one image after another: one that fails keeps no other from its turn.
pub(crate) fn run(host: &Host, distribution: Choice, wish: &Prewarm) -> Done {
    match attempt(host, distribution, wish) {
        Ok(turns) => done(turns),
        Err(error) => Done {
            outcome: Outcome::Failed,
            message: with_causes(&error),
            steps: Vec::new(),
            images: Vec::new(),
        },
    }
}

fn attempt(host: &Host, distribution: Choice, wish: &Prewarm) -> Result<Vec<Turn>, NodeError> {
    if host.root() != Path::new("/") {
        return Err(NodeError::Elsewhere(host.root().to_owned()));
    }
    let socket = match &wish.socket {
        Some(socket) => socket.clone(),
        None => Live::new(host, &layout::find(host, distribution)?).socket()?,
    };
    let node = Node {
        images: Images {
            socket,
            namespace: wish.namespace.clone(),
        },
        store: Store::open(&cache_dir(), StoreConfig::default()),
        compiler: std::env::current_exe().map_err(NodeError::Locate)?,
    };
    Ok(wish
        .images
        .iter()
        .map(|image| node.prewarm(image))
        .collect())
}

/// What is needed for every image.
struct Node {
    images: Images,
    store: Store,
    compiler: PathBuf,
}

impl Node {
    fn prewarm(&self, image: &str) -> Turn {
        let (mut interpreters, mut left) = (Vec::new(), None);
        let outcome = self.compile(image, &mut interpreters, &mut left);
        let prewarmed = Prewarmed {
            image: image.to_owned(),
            interpreters,
            error: outcome
                .err()
                .map(|error| shortened(plain(&with_causes(&error)), LONGEST)),
        };
        Turn { prewarmed, left }
    }

    fn compile(
        &self,
        image: &str,
        done: &mut Vec<PrewarmedInterpreter>,
        left: &mut Option<String>,
    ) -> Result<(), PrewarmError> {
        let full = oci::full_name(image).ok_or(PrewarmError::Name)?;
        // What `ctr` has put there may have any name.
        let names = [full, image.to_owned()];
        let unpacked = match self.images.find(&names)? {
            Found::Unpacked(unpacked) => unpacked,
            Found::Absent if self.images.namespace != KUBERNETES => {
                return Err(PrewarmError::Absent(self.images.namespace.clone()));
            }
            Found::NotUnpacked if self.images.namespace != KUBERNETES => {
                return Err(PrewarmError::NotUnpacked);
            }
            Found::Absent | Found::NotUnpacked => {
                self.images.pull(image)?;
                match self.images.find(&names)? {
                    Found::Unpacked(unpacked) => unpacked,
                    Found::Absent | Found::NotUnpacked => return Err(PrewarmError::NotUnpacked),
                }
            }
        };
        let programs = self.images.interpreters(&unpacked)?;
        *left = programs.left.map(|error| with_causes(&error));
        let mut failed = None;
        for module in &programs.modules {
            match self.native_code(module) {
                Ok(interpreter) => done.push(interpreter),
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn native_code(&self, module: &Module<File>) -> Result<PrewarmedInterpreter, PrewarmError> {
        let Module { path, file } = module;
        let artifact = self.store.get(file, path, &self.compiler, &mut |_| {})?;
        let compile_seconds = match artifact.origin {
            Origin::Cached => None,
            Origin::Compiled { seconds } => Some(seconds),
            Origin::Uncached { reason, .. } => {
                return Err(PrewarmError::Unkept {
                    path: path.clone(),
                    reason,
                });
            }
        };
        Ok(PrewarmedInterpreter {
            path: path.clone(),
            key: artifact.key.to_string(),
            compile_seconds,
        })
    }
}

fn done(turns: Vec<Turn>) -> Done {
    let mut steps = Vec::new();
    let mut step = |name: &str, detail: String| steps.push(Step::new(name, &detail));
    for Turn { prewarmed, left } in &turns {
        let Prewarmed {
            image,
            interpreters,
            error,
        } = prewarmed;
        for PrewarmedInterpreter {
            path,
            compile_seconds,
            ..
        } in interpreters
        {
            match compile_seconds {
                Some(seconds) => step("compiled", format!("{path} of {image} in {seconds:.1} s")),
                None => step("found", format!("native code of {path} of {image}")),
            }
        }
        if let Some(error) = error {
            step("failed", format!("{image}: {error}"));
        }
        if let Some(error) = left {
            step(
                "keep",
                format!(
                    "what showed the files of {image}, until containerd removes it by itself: {error}"
                ),
            );
        }
    }
    let images: Vec<_> = turns.into_iter().map(|turn| turn.prewarmed).collect();
    let interpreters = || images.iter().flat_map(|image| &image.interpreters);
    let compiled = interpreters()
        .filter(|one| one.compile_seconds.is_some())
        .count();
    let all = count(images.len(), "image", "images");
    let failures: Vec<_> = images
        .iter()
        .filter_map(|image| Some(format!("{}: {}", image.image, image.error.as_ref()?)))
        .collect();
    let (outcome, message) = if failures.is_empty() {
        let changed = compiled > 0;
        let what = if changed {
            format!(
                "compiled {}",
                count(compiled, "interpreter", "interpreters")
            )
        } else {
            "all native code was there".to_owned()
        };
        let restarted = false;
        (
            Outcome::Done { changed, restarted },
            format!("{all} prewarmed: {what}"),
        )
    } else {
        let message = format!(
            "cannot prewarm {} of {all}: {}",
            failures.len(),
            failures.join("; ")
        );
        (Outcome::Failed, message)
    };
    Done {
        outcome,
        message: plain(&message),
        steps,
        images,
    }
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

fn shortened(mut text: String, longest: usize) -> String {
    if text.len() > longest {
        text.truncate(text.floor_char_boundary(longest));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str, seconds: &[Option<f64>], error: Option<&str>) -> Turn {
        let interpreter = |compile_seconds: &Option<f64>| PrewarmedInterpreter {
            path: "/bin/python.wasm".into(),
            key: "k".into(),
            compile_seconds: *compile_seconds,
        };
        let prewarmed = Prewarmed {
            image: name.into(),
            interpreters: seconds.iter().map(interpreter).collect(),
            error: error.map(str::to_owned),
        };
        Turn {
            prewarmed,
            left: None,
        }
    }

    #[test]
    fn a_second_time_says_that_all_was_there() {
        let first = done(vec![image("a", &[Some(5.94)], None)]);
        assert_eq!(first.message, "1 image prewarmed: compiled 1 interpreter");
        assert_eq!(first.steps[0].detail, "/bin/python.wasm of a in 5.9 s");
        let second = done(vec![image("a", &[None], None), image("b", &[None], None)]);
        assert_eq!(
            second.message,
            "2 images prewarmed: all native code was there"
        );
        let (changed, restarted) = (false, false);
        assert_eq!(second.outcome, Outcome::Done { changed, restarted });
    }

    #[test]
    fn what_is_left_in_containerd_is_no_failure() {
        let mut image = image("a", &[Some(1.0)], None);
        image.left = Some("device busy".into());
        let done = done(vec![image]);
        assert!(matches!(done.outcome, Outcome::Done { .. }));
        assert_eq!(done.steps[1].name, "keep");
    }

    #[test]
    fn each_image_that_fails_is_named() {
        let images = vec![
            image("a", &[Some(1.0)], None),
            image("b", &[], Some("no")),
            image("c", &[None], Some("never")),
        ];
        let done = done(images);
        assert_eq!(done.outcome, Outcome::Failed);
        assert_eq!(
            done.message,
            "cannot prewarm 2 of 3 images: b: no; c: never"
        );
        let names: Vec<_> = done.steps.iter().map(|step| step.name.as_str()).collect();
        assert_eq!(names, ["compiled", "failed", "found", "failed"]);
    }

    #[test]
    fn an_images_own_words_do_not_reach_a_terminal() {
        let mut hostile = image("a", &[Some(1.0)], Some("no \u{1b}[2J\n"));
        hostile.prewarmed.interpreters[0].path = "/bin/\u{1b}c".into();
        let done = done(vec![hostile]);
        let details = done.steps.iter().map(|step| &step.detail);
        for text in details.chain([&done.message]) {
            assert!(!text.contains(char::is_control), "{text:?}");
        }
    }

    #[test]
    fn an_images_own_words_do_not_fill_an_annotation() {
        let text = shortened("ü".repeat(10_000), LONGEST);
        assert!(text.len() <= LONGEST + 3 && text.ends_with('…'));
    }
}
