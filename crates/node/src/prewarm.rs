//! A job that prewarms: finds containerd's socket, has `crates/prewarm` do the work, and reports. It changes only the
//! store, so it needs no lock and runs beside every other job.

use std::io;
use std::path::{Path, PathBuf};

use wasm_interp_artifact::compiler_beside_current_exe;
use wasm_interp_containerd::ContainerdImages;
use wasm_interp_prewarm::{CompiledInterpreter, ImageResult, prewarm};
use wasm_interp_workload::{Policy, PolicyError, policy_file, printable, shortened, with_causes};

use crate::containerd::{HostContainerd, NodeContainerdError};
use crate::distribution::DistributionChoice;
use crate::host::HostRoot;
use crate::job::{PREWARM_TIME, PrewarmRequest};
use crate::layout::{self, LayoutError};
use crate::report::{JobOutcome, JobResult, JobStep, PrewarmedImage, PrewarmedInterpreter};

/// The longest error of an image, in bytes. It goes into events and annotations, and an image says much of its text.
const LONGEST_ERROR: usize = 600;

/// No image can be prewarmed.
#[derive(Debug, thiserror::Error)]
enum PrewarmSetupError {
    #[error(
        "cannot prewarm with --root {0}: images are prewarmed only on the running node; leave \
         out --root"
    )]
    OtherRoot(PathBuf),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Containerd(#[from] NodeContainerdError),
    #[error("cannot find this executable: {0}; mount /proc")]
    Locate(#[source] io::Error),
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

/// Prewarms the images on the node of this process.
pub(crate) fn run(
    host: &HostRoot,
    distribution: DistributionChoice,
    request: &PrewarmRequest,
) -> JobResult {
    match prewarm_all(host, distribution, request) {
        Ok(results) => job_result(results),
        Err(error) => JobResult::new(JobOutcome::Failed, printable(&with_causes(&error))),
    }
}

fn prewarm_all(
    host: &HostRoot,
    distribution: DistributionChoice,
    request: &PrewarmRequest,
) -> Result<Vec<ImageResult>, PrewarmSetupError> {
    if host.root() != Path::new("/") {
        return Err(PrewarmSetupError::OtherRoot(host.root().to_owned()));
    }
    let socket = match &request.socket {
        Some(socket) => socket.clone(),
        None => HostContainerd::new(host, &layout::find(host, distribution)?).socket()?,
    };
    let compiler = compiler_beside_current_exe().map_err(PrewarmSetupError::Locate)?;
    let policy = Policy::load(&policy_file())?.cache;
    let images = ContainerdImages {
        socket,
        namespace: request.namespace.clone(),
    };
    Ok(prewarm(
        images,
        &request.images,
        compiler,
        policy,
        PREWARM_TIME,
    ))
}

fn job_result(results: Vec<ImageResult>) -> JobResult {
    let steps = results.iter().flat_map(steps).collect();
    let images: Vec<_> = results.into_iter().map(prewarmed_image).collect();
    let interpreters = images.iter().flat_map(|image| &image.interpreters);
    let compiled = interpreters
        .filter(|interpreter| interpreter.compile_seconds.is_some())
        .count();
    let all = count(images.len(), "image", "images");
    let failures: Vec<_> = images
        .iter()
        .filter_map(|image| Some(format!("{}: {}", image.image, image.error.as_ref()?)))
        .collect();
    let (outcome, message) = if !failures.is_empty() {
        let failed = failures.len();
        let message = format!("cannot prewarm {failed} of {all}: {}", failures.join("; "));
        (JobOutcome::Failed, message)
    } else {
        let outcome = JobOutcome::Done {
            changed: compiled > 0,
            restarted: false,
        };
        let what = match compiled {
            0 => "all native code was in the store".to_owned(),
            _ => format!(
                "compiled {}",
                count(compiled, "interpreter", "interpreters")
            ),
        };
        (outcome, format!("{all} prewarmed: {what}"))
    };
    JobResult {
        steps,
        images,
        ..JobResult::new(outcome, printable(&message))
    }
}

fn steps(result: &ImageResult) -> Vec<JobStep> {
    let image = &result.image;
    let compiled = |interpreter: &CompiledInterpreter| {
        let path = &interpreter.path;
        match interpreter.compile_time {
            Some(time) => JobStep::new(
                "compiled",
                &format!("{path} of {image} in {:.1} s", time.as_secs_f64()),
            ),
            None => JobStep::new("found", &format!("native code of {path} of {image}")),
        }
    };
    let mut steps: Vec<_> = result.interpreters.iter().map(compiled).collect();
    if let Some(error) = &result.error {
        let error = with_causes(error);
        steps.push(JobStep::new("failed", &format!("{image}: {error}")));
    }
    if let Some(error) = &result.cleanup_error {
        let detail = format!(
            "the snapshot that showed the files of {image}, until containerd removes it by \
             itself: {}",
            with_causes(error)
        );
        steps.push(JobStep::new("keep", &detail));
    }
    steps
}

fn prewarmed_image(result: ImageResult) -> PrewarmedImage {
    let interpreter = |interpreter: CompiledInterpreter| PrewarmedInterpreter {
        path: printable(&interpreter.path),
        key: interpreter.key,
        compile_seconds: interpreter.compile_time.map(|time| time.as_secs_f64()),
    };
    PrewarmedImage {
        image: result.image,
        interpreters: result.interpreters.into_iter().map(interpreter).collect(),
        error: result
            .error
            .map(|error| shortened(&printable(&with_causes(&error)), LONGEST_ERROR)),
    }
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wasm_interp_containerd::ContainerdError;
    use wasm_interp_prewarm::PrewarmError;

    use super::*;

    fn image(name: &str, seconds: &[Option<f64>]) -> ImageResult {
        let interpreter = |seconds: &Option<f64>| CompiledInterpreter {
            path: "/bin/python.wasm".into(),
            key: "k".into(),
            compile_time: seconds.map(Duration::from_secs_f64),
        };
        ImageResult {
            image: name.into(),
            interpreters: seconds.iter().map(interpreter).collect(),
            error: None,
            cleanup_error: None,
        }
    }

    fn failed(name: &str, reason: &str) -> ImageResult {
        ImageResult {
            error: Some(PrewarmError::Absent(reason.into())),
            ..image(name, &[Some(1.0)])
        }
    }

    #[test]
    fn second_prewarming_reports_that_all_code_was_there() {
        let first = job_result(vec![image("a", &[Some(5.94)])]);
        assert_eq!(first.message, "1 image prewarmed: compiled 1 interpreter");
        assert_eq!(first.steps[0].detail, "/bin/python.wasm of a in 5.9 s");
        let second = job_result(vec![image("a", &[None]), image("b", &[None])]);
        assert_eq!(
            second.message,
            "2 images prewarmed: all native code was in the store"
        );
        let (changed, restarted) = (false, false);
        assert_eq!(second.outcome, JobOutcome::Done { changed, restarted });
    }

    #[test]
    fn snapshot_that_stays_in_containerd_is_no_failure() {
        let mut image = image("a", &[Some(1.0)]);
        image.cleanup_error = Some(ContainerdError::NoCri("/run/c.sock".into()));
        let result = job_result(vec![image]);
        assert!(matches!(result.outcome, JobOutcome::Done { .. }));
        assert_eq!(result.steps[1].name, "keep");
    }

    #[test]
    fn every_failed_image_is_named() {
        let images = vec![
            image("a", &[Some(1.0)]),
            failed("b", "one"),
            failed("c", "two"),
        ];
        let result = job_result(images);
        assert_eq!(result.outcome, JobOutcome::Failed);
        let message = &result.message;
        assert!(
            message.starts_with(
                "cannot prewarm 2 of 3 images: b: cannot find the image in containerd's namespace \
                 one"
            ) && message.contains("; c: cannot find the image in containerd's namespace two"),
            "{message}"
        );
        let names: Vec<_> = result.steps.iter().map(|step| step.name.as_str()).collect();
        assert_eq!(
            names,
            ["compiled", "compiled", "failed", "compiled", "failed"]
        );
    }

    #[test]
    fn control_characters_of_an_image_do_not_reach_a_report() {
        let mut hostile = failed("a", "no \u{1b}[2J\n");
        hostile.interpreters[0].path = "/bin/\u{1b}c\u{202e}\u{9b}".into();
        let result = job_result(vec![hostile]);
        let details = result.steps.iter().map(|step| &step.detail);
        let errors = result
            .images
            .iter()
            .filter_map(|image| image.error.as_ref());
        let images = result.images.iter().flat_map(|image| &image.interpreters);
        let paths = images.map(|interpreter| &interpreter.path);
        for text in details.chain([&result.message]).chain(errors).chain(paths) {
            assert_eq!(&printable(text), text);
        }
    }

    #[test]
    fn long_error_of_an_image_is_shortened() {
        let result = job_result(vec![failed("a", &"ü".repeat(10_000))]);
        let error = result.images[0].error.as_ref();
        assert!(error.is_some_and(|error| error.len() <= LONGEST_ERROR && error.ends_with('…')));
    }
}
