//! Annotations of a pod, which its author writes: the interpreter, and what makes a sandbox.
#![no_main]

use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;
use oci_spec::runtime::Spec;
use wasm_interp_fuzz::{plans, planted};
use wasm_interp_workload::{
    CRI_CONTAINER_NAME, ContainerKind, FoundBy, INTERPRETER_ANNOTATION, PlanError, Planned, Policy,
    container_kind, fuzzing::decide_on_image,
};

const CONFIG: &str = r#"{
    "ociVersion": "1.1.0", "root": { "path": "rootfs" },
    "process": {
        "user": { "uid": 0, "gid": 0 }, "args": ["python", "main.py"], "env": ["PATH=/usr/bin"], "cwd": "/app"
    }
}"#;
const IMAGE: &str = r#"{ "files": {
    "/usr/bin/python": "wasm", "/opt/a.wasm": "wasm", "/opt/native": "native", "/opt/fifo": "fifo", "/opt/dir": "directory",
    "/opt/link": { "symlink": "../opt/a.wasm" }, "/opt/loop": { "symlink": "loop" }, "/app/main.py": { "text": "1" }
} }"#;

const STEPS: &[&str] = &[
    "opt", "usr", "bin", "a.wasm", "link", "loop", "dir", "native", "fifo", "python", "..", ".", "",
];

#[derive(Debug, arbitrary::Arbitrary)]
enum Value<'a> {
    Text(&'a str),
    /// A path of steps that lead somewhere.
    Path([u8; 2], Option<[u8; 2]>),
}

impl Value<'_> {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => (*text).to_owned(),
            Self::Path(first, more) => first
                .iter()
                .chain(more.iter().flatten())
                .map(|step| format!("/{}", STEPS[usize::from(*step) % STEPS.len()]))
                .collect(),
        }
    }
}

fuzz_target!(|annotations: (Option<Value<'_>>, Vec<(&str, &str)>)| {
    let (interpreter, others) = annotations;
    let mut map: HashMap<String, String> = others
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    if let Some(value) = interpreter {
        map.insert(INTERPRETER_ANNOTATION.to_owned(), value.text());
    }
    let own = map
        .get(CRI_CONTAINER_NAME)
        .and_then(|container| map.get(&format!("{INTERPRETER_ANNOTATION}.{container}")));
    let interpreter = own.or_else(|| map.get(INTERPRETER_ANNOTATION)).cloned();
    let is_sandbox = map
        .get("io.kubernetes.cri.container-type")
        .is_some_and(|value| value == "sandbox");
    let mut spec: Spec = serde_json::from_str(CONFIG).expect("a spec");
    spec.set_annotations(Some(map));
    let kind = container_kind(&spec);
    assert_eq!(kind == ContainerKind::Sandbox, is_sandbox);

    let policy = Policy::default();
    let decided = decide_on_image(&spec, &policy, IMAGE);
    match (&decided, &interpreter) {
        (Ok(Planned::Wasm(plan, _)), Some(value)) => {
            // What was named is what runs, and nothing but an absolute path names something.
            assert!(value.starts_with('/'), "{value:?}");
            assert_eq!(
                plan.interpreter.found,
                FoundBy::Annotation {
                    value: value.clone()
                }
            );
            assert!(["/usr/bin/python", "/opt/a.wasm"].contains(&plan.interpreter.path.as_str()));
            planted(plan.interpreter.path == "/opt/a.wasm" && value.len() > "/opt/a.wasm".len());
        }
        (Ok(Planned::Wasm(plan, _)), None) => assert_eq!(plan.interpreter.path, "/usr/bin/python"),
        (Ok(Planned::Native(plan)), _) => {
            panic!("an annotation never runs a native program: {plan:?}")
        }
        // Others than the interpreter's may be malformed too.
        (Err(PlanError::NetworkRules { .. } | PlanError::NetworkNone { .. }), _)
        | (Err(PlanError::NetworkCeiling { .. }), _) => {}
        (Err(PlanError::Nul { .. }), Some(value)) => assert!(value.contains('\0')),
        (Err(_), Some(_)) => {}
        (Err(error), None) => panic!("{error}"),
    }
    plans::check(
        &spec,
        &policy,
        decided,
        decide_on_image(&spec, &policy, IMAGE),
    );
});
