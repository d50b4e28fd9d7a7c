//! How the spec is read, where the golden cases do not show it: they show warnings, errors and plans.
#![allow(clippy::unwrap_used)]

use oci_spec::runtime::{LinuxSchedulerFlag, Spec};
use serde_json::{Value, json};

use super::warning::MOST_WARNINGS;
use super::{SpecWarning, parse_resources, parse_spec};

/// A spec that contains this.
fn spec(part: Value) -> Value {
    let mut spec = json!({ "ociVersion": "1.2.0", "process": { "cwd": "/" }, "linux": {} });
    merge(&mut spec, part);
    spec
}

fn merge(into: &mut Value, part: Value) {
    match part {
        Value::Object(members) if into.is_object() => {
            for (name, value) in members {
                merge(&mut into[name], value);
            }
        }
        part => *into = part,
    }
}

/// Reads the spec, and checks that there is no warning.
fn read(part: Value) -> Spec {
    let (spec, warnings) = parse_spec(spec(part).to_string().as_bytes()).unwrap();
    assert_eq!(warnings, []);
    spec
}

#[test]
fn every_scheduler_flag_of_the_runtime_spec_is_known() {
    let flags = [
        "SCHED_FLAG_RESET_ON_FORK",
        "SCHED_FLAG_RECLAIM",
        "SCHED_FLAG_DL_OVERRUN",
        "SCHED_FLAG_KEEP_POLICY",
        "SCHED_FLAG_KEEP_PARAMS",
        "SCHED_FLAG_UTIL_CLAMP_MIN",
        "SCHED_FLAG_UTIL_CLAMP_MAX",
    ];
    let scheduler = json!({ "policy": "SCHED_DEADLINE", "flags": flags });
    let spec = read(json!({ "process": { "scheduler": scheduler } }));
    let process = spec.process().as_ref().unwrap();
    assert_eq!(
        process.scheduler().as_ref().unwrap().flags().as_deref(),
        Some(
            [
                LinuxSchedulerFlag::SchedResetOnFork,
                LinuxSchedulerFlag::SchedFlagReclaim,
                LinuxSchedulerFlag::SchedFlagDLOverrun,
                LinuxSchedulerFlag::SchedFlagKeepPolicy,
                LinuxSchedulerFlag::SchedFlagKeepParams,
                LinuxSchedulerFlag::SchedFlagUtilClampMin,
                LinuxSchedulerFlag::SchedFlagUtilClampMax,
            ]
            .as_slice()
        )
    );
}

#[test]
fn numbers_that_go_writes_for_unset_and_unlimited_are_read_so() {
    let spec = read(json!({ "linux": { "resources": {
        "memory": { "swappiness": u64::MAX, "limit": -1, "swap": -1 },
        "cpu": { "quota": -1 },
        "hugepageLimits": [{ "pageSize": "2MB", "limit": u64::MAX }],
    } } }));
    let resources = spec.linux().as_ref().unwrap().resources().as_ref().unwrap();
    let memory = resources.memory().unwrap();
    assert_eq!(memory.swappiness(), None);
    assert_eq!((memory.limit(), memory.swap()), (Some(-1), Some(-1)));
    let huge = resources.hugepage_limits().as_ref().unwrap();
    assert_eq!(huge[0].limit(), i64::MAX);
}

#[test]
fn an_empty_string_is_a_value_where_the_spec_names_the_members() {
    let spec = read(json!({
        "annotations": { "a": "", "b": null },
        "linux": { "sysctl": { "net.ipv4.x": "" }, "resources": { "unified": { "cpu.x": "" } } },
    }));
    let annotations = spec.annotations().as_ref().unwrap();
    assert_eq!(
        (annotations["a"].as_str(), annotations["b"].as_str()),
        ("", "")
    );
    let linux = spec.linux().as_ref().unwrap();
    assert_eq!(linux.sysctl().as_ref().unwrap()["net.ipv4.x"], "");
    let resources = linux.resources().as_ref().unwrap();
    assert_eq!(resources.unified().as_ref().unwrap()["cpu.x"], "");
}

#[test]
fn empty_string_counts_as_absent_elsewhere() {
    let spec = read(json!({
        "hostname": "", "process": { "apparmorProfile": "", "args": ["", "x"] },
        "linux": { "mountLabel": "", "namespaces": [{ "type": "user", "path": "" }] },
    }));
    assert_eq!(spec.hostname(), &None);
    let process = spec.process().as_ref().unwrap();
    assert_eq!(process.apparmor_profile(), &None);
    assert_eq!(process.args().as_ref().unwrap()[0], "", "entries count");
    let linux = spec.linux().as_ref().unwrap();
    assert_eq!(linux.mount_label(), &None);
    assert_eq!(linux.namespaces().as_ref().unwrap()[0].path(), &None);
}

#[test]
fn processors_are_listed_as_go_reads_them() {
    let affinity = json!({ "initial": " 0-3, 5,,", "final": "" });
    let spec = read(json!({ "process": { "execCPUAffinity": affinity } }));
    let process = spec.process().as_ref().unwrap();
    let affinity = process.exec_cpu_affinity().as_ref().unwrap();
    assert_eq!(affinity.initial().as_deref(), Some("0-3,5"));
    assert_eq!(affinity.cpu_affinity_final(), &None);
    // Digits of other scripts are none.
    for list in ["0-\u{663}", "0-", "a"] {
        let text = self::spec(json!({ "process": { "execCPUAffinity": { "initial": list } } }));
        assert!(parse_spec(text.to_string().as_bytes()).is_err(), "{list}");
    }
}

#[test]
fn spec_is_the_same_after_it_is_written_and_parsed() {
    let scheduler = json!({ "policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_DL_OVERRUN"] });
    let spec = read(json!({ "process": { "scheduler": scheduler } }));
    let text = serde_json::to_vec(&spec).unwrap();
    assert_eq!(parse_spec(&text).unwrap(), (spec, Vec::new()));
}

#[test]
fn each_name_is_warned_of_once_and_warnings_are_limited() {
    let capabilities = json!({ "bounding": ["CAP_X", "CAP_X"], "effective": ["CAP_X"] });
    let text = spec(json!({ "process": { "capabilities": capabilities } })).to_string();
    let (_, warnings) = parse_spec(text.as_bytes()).unwrap();
    let name = "CAP_X".to_owned();
    assert_eq!(warnings, [SpecWarning::UnknownCapability { name }]);

    let mut flood = spec(json!({}));
    for n in 0..100 {
        flood[format!("x{n}{}", "y".repeat(10_000))] = json!(1);
    }
    let (_, warnings) = parse_spec(flood.to_string().as_bytes()).unwrap();
    assert_eq!(warnings.len(), MOST_WARNINGS + 1);
    assert_eq!(
        warnings.last(),
        Some(&SpecWarning::More {
            count: 100 - MOST_WARNINGS
        })
    );
    assert!(warnings.iter().all(|w| w.to_string().len() < 400));
}

/// runc reads fields in any case, so such a spec was protected by it.
#[test]
fn field_that_is_known_but_for_its_case_is_refused() {
    for (part, words) in [
        (
            json!({ "process": { "nonewprivileges": true } }),
            "process.nonewprivileges: the field is written noNewPrivileges; correct it in the spec",
        ),
        (
            json!({ "linux": { "MaskedPaths": ["/proc/kcore"] } }),
            "linux.MaskedPaths: the field is written maskedPaths; correct it in the spec",
        ),
        (
            json!({ "process": { "noNewPrivileges": true, "noNewprivileges": false } }),
            "process.noNewprivileges: the field is written noNewPrivileges; correct it in the spec",
        ),
    ] {
        let error = parse_spec(spec(part).to_string().as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), words);
    }
}

#[test]
fn list_is_not_an_object() {
    let refusal = |text: &Value| match parse_spec(text.to_string().as_bytes()) {
        Ok(parsed) => panic!("{parsed:?}"),
        Err(error) => error.to_string(),
    };
    assert_eq!(
        refusal(&json!(["python"])),
        "the spec: it is a list, not an object; correct it in the spec"
    );
    assert_eq!(
        refusal(&spec(json!({ "root": ["rootfs", false] }))),
        "root: it is a list, not an object; correct it in the spec"
    );
}

#[test]
fn resources_of_an_update_are_read_as_those_of_a_spec() {
    let text = br#"{"memory": {"limit": 4096}, "pids": null, "later": 1}"#;
    let (resources, warnings) = parse_resources(text).unwrap();
    assert_eq!(resources.memory().unwrap().limit(), Some(4096));
    assert_eq!(*resources.pids(), None);
    let field = "linux.resources.later".to_owned();
    assert_eq!(warnings, [SpecWarning::UnknownField { field }]);
    let error = parse_resources(br#"{"cpu": {"shares": "all"}}"#).unwrap_err();
    assert!(
        error.to_string().starts_with("linux.resources.cpu.shares"),
        "{error}"
    );
    assert!(parse_resources(b"").is_err());
    assert_eq!(parse_resources(b"null").unwrap().0, Default::default());
}
