//! What a further process of a running container does: its spec, and its program among the container's
//! files as they are now.
//!
//! The shim makes the spec, and the runner decides, beneath the root of the container's init process.
//! The container's mounts and devices are made by then, so the spec has none.

use oci_spec::runtime::Spec;
use serde_json::Value;
use thiserror::Error;

use crate::causes::{listed, quoted, shown, with_causes};
use crate::error::PlanError;
use crate::in_image::modules_in_image;
use crate::plan::Planned;
use crate::spec::{SpecParseError, SpecWarning, spec_of};
use crate::view::{View, ViewError};
use crate::{INTERPRETER_ANNOTATION, annotations, decide};
use wasm_interp_policy::Policy;

/// Why a further process cannot run. The words that clients act on are runc's.
#[derive(Debug, Error)]
pub enum ExecPlanError {
    /// Its program is not in the container.
    #[error("{missing}; {instead}")]
    NotFound {
        /// In runc's words.
        missing: String,
        /// What there is, and what to do.
        instead: String,
    },
    /// Its program may not be run.
    #[error(
        "exec: {program}: permission denied: {source}",
        program = quoted(program)
    )]
    NotPermitted {
        /// The first argument.
        program: String,
        /// Why not.
        source: Box<PlanError>,
    },
    /// Its working directory is not in the container. Unlike at create, it is not made.
    #[error(
        "chdir to cwd ({cwd}) set in config.json failed: no such file or directory; name one \
         that exists in the container",
        cwd = quoted(cwd)
    )]
    NoWorkingDirectory {
        /// The directory.
        cwd: String,
    },
    /// Another part of the request cannot be followed.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

/// The spec of a further process: that of its container (`config`, the text of its `config.json`) with
/// `process` in the place of the init process, and without what is made once per container. Returns
/// warnings of what the process does not get.
///
/// The annotation [`INTERPRETER_ANNOTATION`] speaks of the container's own command. It stays if the process
/// begins with the same word.
///
/// # Errors
/// If one of the texts cannot be used.
pub fn exec_spec(
    config: &[u8],
    process: &[u8],
) -> Result<(Spec, Vec<SpecWarning>), SpecParseError> {
    let mut whole: Value = serde_json::from_slice(config).map_err(SpecParseError::Json)?;
    let mut process: Value = serde_json::from_slice(process).map_err(SpecParseError::Json)?;
    if let Some(process) = process.as_object_mut() {
        process.insert("terminal".to_owned(), Value::Bool(false));
        // As runc, which takes the score of the container.
        let score = &whole["process"]["oomScoreAdj"];
        if process.get("oomScoreAdj").is_none_or(Value::is_null) && score.is_number() {
            process.insert("oomScoreAdj".to_owned(), score.clone());
        }
    }
    let same_command = first_argument(&whole["process"]) == first_argument(&process);
    if let Some(whole) = whole.as_object_mut() {
        whole.insert("process".to_owned(), process);
        for part in ["mounts", "hooks"] {
            whole.remove(part);
        }
        let annotations = whole.get_mut("annotations").and_then(Value::as_object_mut);
        if let Some(annotations) = annotations.filter(|_| !same_command) {
            annotations.retain(|key, _| !annotations::is_of(key, INTERPRETER_ANNOTATION));
        }
        if let Some(linux) = whole.get_mut("linux").and_then(Value::as_object_mut) {
            linux.remove("devices");
            linux.remove("netDevices");
        }
    }
    spec_of(whole)
}

fn first_argument(process: &Value) -> Option<&str> {
    process.get("args")?.get(0)?.as_str()
}

/// Decides what the process that [`exec_spec`] describes runs. `view` shows the files of the running
/// container.
///
/// # Errors
/// If it cannot run. The text holds runc's words for a program that is missing or not permitted, because
/// clients make exit codes of them.
pub fn decide_exec<V: View>(
    spec: &Spec,
    policy: &Policy,
    view: &V,
) -> Result<Planned<V::File>, ExecPlanError> {
    let planned = decide(spec, policy, view).map_err(|error| explained(error, spec, view))?;
    let cwd = spec.process().as_ref().map(|process| process.cwd().clone());
    let cwd = cwd.unwrap_or_default();
    match view.resolve(&cwd) {
        Err(ViewError::NotFound { .. }) => Err(ExecPlanError::NoWorkingDirectory {
            cwd: cwd.display().to_string(),
        }),
        Err(error) => Err(PlanError::from(error).into()),
        Ok(_) => Ok(planned),
    }
}

fn explained<V: View>(error: PlanError, spec: &Spec, view: &V) -> ExecPlanError {
    let process = spec.process().as_ref();
    let program = process
        .and_then(|process| process.args().as_ref()?.first().cloned())
        .unwrap_or_default();
    let missing = match &error {
        PlanError::ProgramNotFound {
            name,
            looked_for,
            search,
        } => format!(
            "exec: {}: executable file not found in $PATH: looked for {} on PATH={}",
            quoted(name),
            listed(looked_for),
            shown(search)
        ),
        PlanError::FileNotFound { path } => {
            format!(
                "exec: {}: stat {}: no such file or directory",
                quoted(&program),
                shown(&path.to_string_lossy())
            )
        }
        PlanError::NotAFile { .. } | PlanError::NativeDenied { .. } => {
            return ExecPlanError::NotPermitted {
                program,
                source: Box::new(error),
            };
        }
        _ => return error.into(),
    };
    ExecPlanError::NotFound {
        missing,
        instead: instead(&program, spec, view),
    }
}

/// What to do where the container has no `program`.
fn instead<V: View>(program: &str, spec: &Spec, view: &V) -> String {
    let advice = match program.rsplit('/').next().unwrap_or(program) {
        "tar" => {
            "`kubectl cp` and `docker cp` run tar in the container: copy a file through stdin or \
             stdout of a program that the image has, or use a volume; "
        }
        "sh" | "bash" | "ash" | "dash" => "the image has no shell; ",
        _ => "",
    };
    let there = match modules_in_image(spec, view) {
        Ok(modules) => {
            let names: Vec<_> = modules.iter().map(|m| m.path.as_str()).collect();
            format!("run what the image has: {}", listed(&names))
        }
        Err(error) => with_causes(&error),
    };
    format!("{advice}{there}")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::view::RootfsView;
    use crate::{NativePolicy, open_root};

    const CONFIG: &str = r#"{"ociVersion":"1.0.2","root":{"path":"rootfs"},
        "process":{"user":{"uid":0,"gid":0},"cwd":"/","args":["app","x"],"env":["A=1"]},
        "mounts":[{"destination":"/data","source":"/nowhere","type":"bind"}],
        "hooks":{"prestart":[{"path":"/bin/true"}]},
        "annotations":{"wasm-interp.io/interpreter":"/usr/bin/python.wasm","other":"1",
            "wasm-interp.io/interpreter.web":"/usr/bin/python.wasm",
            "io.kubernetes.cri.container-name":"web"},
        "linux":{"devices":[{"path":"/dev/x","type":"c","major":1,"minor":3}]}}"#;

    fn process(args: &[&str], cwd: &str) -> String {
        serde_json::json!({
            "user": {"uid": 0, "gid": 0}, "cwd": cwd, "args": args, "env": ["PATH=/usr/bin"],
        })
        .to_string()
    }

    fn spec(args: &[&str], cwd: &str) -> Spec {
        let (spec, warnings) =
            exec_spec(CONFIG.as_bytes(), process(args, cwd).as_bytes()).expect("a spec");
        assert_eq!(warnings, []);
        spec
    }

    fn decided(args: &[&str], cwd: &str, policy: &Policy) -> Result<String, String> {
        let root = tempfile::tempdir().expect("root");
        let bin = root.path().join("usr/bin");
        fs::create_dir_all(&bin).expect("make");
        fs::write(bin.join("python.wasm"), b"\0asm\x01\0\0\0").expect("write");
        fs::write(bin.join("tool"), b"\x7fELF\x02\x01\x01").expect("write");
        let spec = spec(args, cwd);
        let view = RootfsView::beneath(open_root(root.path()).expect("open"), &spec);
        match decide_exec(&spec, policy, &view.expect("view")) {
            Ok(Planned::Wasm(plan, _)) => Ok(plan.interpreter.path),
            Ok(Planned::Native(native)) => Ok(native.interpreter.path),
            Err(error) => Err(with_causes(&error)),
        }
    }

    #[test]
    fn exec_spec_is_the_containers_with_another_process_and_nothing_left_to_make() {
        let spec = spec(&["python", "-c", "1"], "/");
        let args = spec.process().as_ref().and_then(|p| p.args().clone());
        assert_eq!(args.expect("args"), ["python", "-c", "1"]);
        assert!(spec.mounts().as_ref().is_none_or(Vec::is_empty));
        assert!(spec.hooks().is_none());
        assert!(crate::devices(&spec).is_empty());
        let annotations = spec.annotations().clone().expect("annotations");
        let mut keys: Vec<_> = annotations.keys().collect();
        keys.sort();
        assert_eq!(keys, ["io.kubernetes.cri.container-name", "other"]);
    }

    #[test]
    fn annotated_interpreter_runs_an_exec_that_begins_with_the_containers_own_command() {
        let policy = Policy::default();
        assert_eq!(
            decided(&["app", "y"], "/", &policy),
            Ok("/usr/bin/python.wasm".to_owned())
        );
        assert_eq!(
            decided(&["tool", "y"], "/", &policy),
            Ok("/usr/bin/tool".to_owned())
        );
    }

    #[test]
    fn missing_program_is_named_in_runcs_words_with_what_there_is() {
        let policy = Policy::default();
        for (program, words) in [
            (
                "tar",
                "exec: \"tar\": executable file not found in $PATH: looked for tar, tar.wasm on \
                 PATH=/usr/bin; `kubectl cp` and `docker cp` run tar in the container: copy a file \
                 through stdin or stdout of a program that the image has, or use a volume; run \
                 what the image has: /usr/bin/python.wasm",
            ),
            (
                "sh",
                "exec: \"sh\": executable file not found in $PATH: looked for sh, sh.wasm on \
                 PATH=/usr/bin; the image has no shell; run what the image has: \
                 /usr/bin/python.wasm",
            ),
            (
                "/bin/no",
                "exec: \"/bin/no\": stat /bin/no: no such file or directory; run what the image \
                 has: /usr/bin/python.wasm",
            ),
        ] {
            assert_eq!(decided(&[program], "/", &policy), Err(words.to_owned()));
        }
    }

    #[test]
    fn what_may_not_run_is_a_permission_denied() {
        let error = decided(&["/usr"], "/", &Policy::default()).expect_err("a directory");
        assert!(
            error.starts_with("exec: \"/usr\": permission denied: "),
            "{error}"
        );
        let deny = Policy {
            native: NativePolicy::Deny,
            ..Policy::default()
        };
        let error = decided(&["tool"], "/", &deny).expect_err("native");
        assert!(
            error.starts_with("exec: \"tool\": permission denied: ")
                && error.contains("native: deny"),
            "{error}"
        );
    }

    #[test]
    fn missing_working_directory_is_not_made_for_an_exec() {
        let error = decided(&["python"], "/no", &Policy::default()).expect_err("no directory");
        assert!(
            error.starts_with(
                "chdir to cwd (\"/no\") set in config.json failed: no such file or directory"
            ),
            "{error}"
        );
    }
}
