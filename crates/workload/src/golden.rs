//! Walks `tests/golden`: each folder there has a container and the decisions about it.
//!
//! | file | content |
//! |---|---|
//! | `config.json` | the OCI runtime spec |
//! | `image.json` | the container's files, see [`crate::view::fake`] |
//! | `policy.json` | the node's policy, if not the default |
//! | `plan.json`, `explain.txt`, `container.json` | the results for a Wasm guest |
//! | `native.json`, `explain.txt` | the results for a native program |
//! | `error.txt` | instead of these: the class of the error, then its text |
//! | `warnings.txt` | the warnings, one per line |
//!
//! `UPDATE_GOLDEN=1 cargo test -p wasm-interp-workload golden` rewrites the results; review the
//! difference as you would review code.

use std::fs;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use crate::view::fake::{FakeImage, FakeView};
use crate::{
    ErrorKind, PlanError, Planned, Policy, container_spec, decide, explain, explain_native,
    native_spec, parse_spec,
};

const OUTPUTS: [&str; 6] = [
    "plan.json",
    "native.json",
    "explain.txt",
    "container.json",
    "error.txt",
    "warnings.txt",
];

#[test]
fn golden() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<PathBuf> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    assert!(cases.len() > 30, "the golden cases are missing");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let differences: Vec<String> = cases
        .iter()
        .filter_map(|case| check(case, update))
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn check(case: &Path, update: bool) -> Option<String> {
    let text = fs::read(case.join("config.json")).unwrap_or_else(|e| panic!("{case:?}: {e}"));
    let outputs = match parse_spec(&text) {
        Ok((spec, warnings)) => {
            let lines: String = warnings.iter().map(|line| format!("{line}\n")).collect();
            let [plan, native, explain, container, error] = decided(case, &spec);
            let warnings = (!lines.is_empty()).then_some(lines);
            [plan, native, explain, container, error, warnings]
        }
        Err(error) => {
            let error = format!("{:?}\n{error}\n", ErrorKind::InvalidArgument);
            [None, None, None, None, Some(error), None]
        }
    };
    let mut differences = String::new();
    for (name, actual) in OUTPUTS.iter().zip(outputs) {
        let file = case.join(name);
        let expected = fs::read_to_string(&file).ok();
        if update {
            match &actual {
                Some(actual) => fs::write(&file, actual).unwrap(),
                None if expected.is_some() => fs::remove_file(&file).unwrap(),
                None => {}
            }
        } else if actual != expected {
            let show = |text: &Option<String>| text.clone().unwrap_or("(no such file)\n".into());
            differences += &format!(
                "{}\n--- expected\n{}--- actual\n{}",
                file.display(),
                show(&expected),
                show(&actual)
            );
        }
    }
    (!differences.is_empty()).then_some(differences)
}

/// The decisions about a container whose spec could be read.
fn decided(case: &Path, spec: &Spec) -> [Option<String>; 5] {
    let image: FakeImage = match fs::read(case.join("image.json")) {
        Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{case:?}: {e}")),
        Err(_) => FakeImage::default(),
    };
    let policy = Policy::load(&case.join("policy.json")).unwrap();
    let outcome = FakeView::new(&image, spec)
        .map_err(PlanError::from)
        .and_then(|view| decide(spec, &policy, &view));
    match outcome {
        Ok(Planned::Native(native)) => {
            assert_eq!(
                changes(spec, &native_spec(spec, &native)),
                "{}\n",
                "{case:?}: the spec of a native program stays"
            );
            [
                None,
                Some(json(&native)),
                Some(explain_native(&native)),
                None,
                None,
            ]
        }
        Ok(Planned::Wasm(plan, mut file)) => {
            let mut head = [0; 4];
            std::io::Read::read_exact(&mut file, &mut head).unwrap();
            assert_eq!(
                &head, b"\0asm",
                "{case:?}: the interpreter is handed on from its start"
            );
            let container = container_spec(spec, &plan);
            [
                Some(json(&plan)),
                None,
                Some(explain(&plan)),
                Some(changes(spec, &container)),
                None,
            ]
        }
        Err(error) => [
            None,
            None,
            None,
            None,
            Some(format!("{:?}\n{error}\n", error.kind())),
        ],
    }
}

/// The top-level parts of the spec that the plan changes, but for the process, which the plan repeats.
fn changes(before: &Spec, after: &Spec) -> String {
    let mut before = serde_json::to_value(before).unwrap();
    let mut after = serde_json::to_value(after).unwrap();
    let process = after["process"].take();
    assert!(
        process["env"].as_array().unwrap().iter().any(|entry| {
            entry
                .as_str()
                .unwrap()
                .strip_prefix("HOME=")
                .is_some_and(|home| !home.is_empty())
        }),
        "libcontainer is given a HOME"
    );
    let mut changed = serde_json::Map::new();
    for part in ["mounts", "linux"] {
        if before[part].take() != after[part] {
            changed.insert(part.to_owned(), after[part].take());
        }
    }
    json(&changed)
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap() + "\n"
}
