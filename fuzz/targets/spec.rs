//! The text of a `config.json` to a plan, with files that a real image has.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wasm_interp_fuzz::{plans, planted};
use wasm_interp_workload::{
    Planned, Policy, SpecWarning, container_kind, fuzzing::decide_on_image, parse_spec,
};

const IMAGE: &str = r##"{
    "files": {
        "/usr/bin/python.wasm": "wasm", "/usr/bin/python": "native", "/opt/py.wasm": "wasm",
        "/bin/sh": "native", "/tmp": "directory", "/var/run": { "symlink": "/run" },
        "/run": "directory", "/app/main.py": { "text": "print(1)" },
        "/app/tool": { "text": "#!/usr/bin/env python\n" },
        "/etc/passwd": { "text": "root:x:0:0:root:/root:/bin/sh\n" }
    },
    "sources": {
        "/data": { "directory": { "files": { "/x.wasm": "wasm" }, "brings": { "proc": "proc" } } },
        "/srv/data": { "file": { "text": "x" } }
    }
}"##;

fuzz_target!(|text: &[u8]| {
    let (spec, warnings) = match parse_spec(text) {
        Ok(parsed) => parsed,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    assert!(
        warnings.len() <= 33
            && warnings
                .iter()
                .all(|warning| !warning.to_string().is_empty())
    );
    let has_warnings = !warnings.is_empty();
    // What is written for the container runtime means the same as what was read.
    let written = serde_json::to_vec(&spec).expect("a spec is written");
    let (read, warnings) = parse_spec(&written).expect("a written spec is read");
    let is_unknown = |warning: &SpecWarning| matches!(warning, SpecWarning::UnknownField { .. });
    assert!(!warnings.iter().any(is_unknown), "{warnings:?}");
    assert_eq!(container_kind(&read), container_kind(&spec));
    let policy = Policy::default();
    let decided = decide_on_image(&spec, &policy, IMAGE);
    if let Ok(Planned::Wasm(plan, _)) = &decided {
        planted(plan.grants.len() > 1 && has_warnings);
    }
    let again = decide_on_image(&read, &policy, IMAGE);
    plans::check(&spec, &policy, decided, again);
});
