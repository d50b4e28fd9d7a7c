//! Native code before anybody asks: the interpreters of images, compiled into the node's store as the shim
//! would do it at an image's first start. Called by [`crate::job`]. Changes nothing else on the node, so it
//! works beside every other job and none waits for it; only to write its report, a unit waits for the lock.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use oci_spec::distribution::ParseError;
use oci_spec::image::Arch;
use wasm_interp_artifact::{ArtifactError, Origin, Store, StoreConfig, cache_dir};
use wasm_interp_workload::{Module, shortened, with_causes};

use crate::host::Host;
use crate::job::{Choice, PREWARM_WORK, Prewarm};
use crate::layout::{self, LayoutError};
use crate::live::{Found, ImageError, Images, Live, LiveError};
use crate::names::KUBERNETES;
use crate::oci;
use crate::report::{Outcome, Prewarmed, PrewarmedInterpreter, Step, plain};

/// An error goes into events and annotations, and much of its text may be an image's.
const LONGEST: usize = 600;
/// The longest turn of one image, pull included. With many images it is less, so that all get one.
const TURN: Duration = Duration::from_secs(1800);

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
    #[error("it is no name of an image: {0}; write it as a pod's spec has it")]
    Name(#[source] ParseError),
    #[error(
        "containerd has no such image in its namespace {0}, and pulls into {KUBERNETES} only: import or pull it \
         there first"
    )]
    Absent(String),
    #[error(
        "containerd has it without its files for linux/{}: pull or import it again",
        Arch::default()
    )]
    NotUnpacked,
    #[error(
        "it was not done within {} s, and its turn is over: what is compiled is kept, prewarm it again",
        .0.as_secs()
    )]
    Slow(Duration),
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
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
    let node = Arc::new(Node {
        images: Images {
            socket,
            namespace: wish.namespace.clone(),
        },
        store: Store::open(&cache_dir(), StoreConfig::default()),
        compiler: std::env::current_exe().map_err(NodeError::Locate)?,
    });
    let end = Instant::now() + PREWARM_WORK;
    let mut turns = Vec::new();
    for (index, image) in wish.images.iter().enumerate() {
        let time = end.saturating_duration_since(Instant::now());
        let share = share(time, wish.images.len() - index);
        let (node, name) = (Arc::clone(&node), image.clone());
        let work = move |budget, say: &Sender<News>| node.compile(&name, budget, say);
        turns.push(turn(image, share, work));
    }
    Ok(turns)
}

/// How long the next of so many images may take.
fn share(time: Duration, images: usize) -> Duration {
    let images = u32::try_from(images).unwrap_or(u32::MAX);
    time.checked_div(images).unwrap_or_default().min(TURN)
}

/// A turn's time.
#[derive(Clone, Copy)]
struct Budget {
    time: Duration,
    until: Instant,
}

impl Budget {
    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

/// What a turn tells while it lasts.
enum News {
    Interpreter(PrewarmedInterpreter),
    /// Why something of it is still in containerd.
    Left(String),
    End(Result<(), PrewarmError>),
}

/// One image's turn. Its work is in a thread of its own, which is waited for no longer than that: a pull, a
/// compile or a call that takes longer keeps no other image from its turn, and the report from nobody.
fn turn(
    image: &str,
    time: Duration,
    work: impl FnOnce(Budget, &Sender<News>) -> Result<(), PrewarmError> + Send + 'static,
) -> Turn {
    let until = Instant::now() + time;
    let budget = Budget { time, until };
    let (say, news) = mpsc::channel();
    let thread = thread::Builder::new().spawn(move || {
        let end = work(budget, &say);
        // Nobody listens when the time is over.
        let _ = say.send(News::End(end));
    });
    let (mut interpreters, mut left) = (Vec::new(), None);
    let outcome = match thread {
        Err(error) => Err(PrewarmError::Thread(error)),
        Ok(thread) => loop {
            match news.recv_timeout(budget.left()) {
                Ok(News::Interpreter(interpreter)) => interpreters.push(interpreter),
                Ok(News::Left(error)) => left = Some(error),
                Ok(News::End(outcome)) => break outcome,
                Err(RecvTimeoutError::Timeout) => break Err(PrewarmError::Slow(time)),
                // A panic in there is ours to pass on.
                Err(RecvTimeoutError::Disconnected) => match thread.join() {
                    Err(panic) => std::panic::resume_unwind(panic),
                    Ok(()) => break Err(PrewarmError::Slow(time)),
                },
            }
        },
    };
    let prewarmed = Prewarmed {
        image: image.to_owned(),
        interpreters,
        error: outcome
            .err()
            .map(|error| shortened(&plain(&with_causes(&error)), LONGEST)),
    };
    Turn { prewarmed, left }
}

/// What is needed for every image.
struct Node {
    images: Images,
    store: Store,
    compiler: PathBuf,
}

impl Node {
    fn compile(&self, image: &str, budget: Budget, say: &Sender<News>) -> Result<(), PrewarmError> {
        let full = oci::full_name(image).map_err(PrewarmError::Name)?;
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
        // Whether somebody listens is seen by the clock.
        let tell = |news| drop(say.send(news));
        if let Some(error) = &programs.left {
            tell(News::Left(with_causes(error)));
        }
        let mut failed = None;
        for module in &programs.modules {
            // Nothing new is begun in others' time.
            if budget.left().is_zero() {
                return Err(PrewarmError::Slow(budget.time));
            }
            match self.native_code(module) {
                Ok(interpreter) => tell(News::Interpreter(interpreter)),
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
    let mut images: Vec<_> = turns.into_iter().map(|turn| turn.prewarmed).collect();
    for interpreter in images.iter_mut().flat_map(|image| &mut image.interpreters) {
        interpreter.path = plain(&interpreter.path);
    }
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
    fn an_image_that_takes_too_long_keeps_no_other_from_its_turn() {
        let (_held, hold) = mpsc::channel::<()>();
        let slow = turn("a", Duration::from_millis(1), move |_, _| {
            let _ = hold.recv();
            Ok(())
        });
        let next = turn("b", TURN, |_, say| {
            let all = image("b", &[Some(1.0)], None).prewarmed.interpreters;
            for interpreter in all {
                let _ = say.send(News::Interpreter(interpreter));
            }
            Ok(())
        });
        let done = done(vec![slow, next]);
        let message = &done.message;
        assert!(
            message.starts_with("cannot prewarm 1 of 2 images: a: it was not done within 0 s"),
            "{message}"
        );
        assert_eq!(done.steps[1].detail, "/bin/python.wasm of b in 1.0 s");
    }

    #[test]
    fn all_images_get_a_share_of_the_time() {
        assert_eq!(share(PREWARM_WORK, 1), TURN);
        assert_eq!(share(PREWARM_WORK, 100) * 100, PREWARM_WORK);
        assert_eq!(share(Duration::ZERO, 3), Duration::ZERO);
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
        hostile.prewarmed.interpreters[0].path = "/bin/\u{1b}c\u{202e}\u{9b}".into();
        let done = done(vec![hostile]);
        let details = done.steps.iter().map(|step| &step.detail);
        let images = done.images.iter().flat_map(|image| &image.interpreters);
        let paths = images.map(|interpreter| &interpreter.path);
        for text in details.chain([&done.message]).chain(paths) {
            assert_eq!(&plain(text), text);
        }
    }

    #[test]
    fn an_images_own_words_do_not_fill_an_annotation() {
        let text = shortened(&"ü".repeat(10_000), LONGEST);
        assert!(text.len() <= LONGEST + 3 && text.ends_with('…'));
    }
}
