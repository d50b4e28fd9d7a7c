//! What holds for whatever is decided on a container.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Component, Path};

use oci_spec::runtime::Spec;
use wasm_interp_workload::{
    GrantKind, NativePlan, Plan, PlanError, Planned, Policy, Withholding, container_spec, explain,
    explain_native, native_spec, printable, sandbox_spec, with_causes,
};

use crate::container::SECRET;

/// The longest text of an error, in bytes, whatever a spec and an image say.
const MOST_OF_AN_ERROR: usize = 4096;

/// Checks what was decided twice on equal inputs.
pub fn check<F: Read>(
    spec: &Spec,
    policy: &Policy,
    decided: Result<Planned<F>, PlanError>,
    again: Result<Planned<F>, PlanError>,
) {
    check_env(&sandbox_spec(spec));
    match (decided, again) {
        (Ok(Planned::Wasm(plan, mut module)), Ok(Planned::Wasm(second, _))) => {
            assert_eq!(plan, second, "equal inputs give equal plans");
            let mut head = [0; 4];
            module.read_exact(&mut head).expect("a module");
            assert_eq!(
                &head, b"\0asm",
                "what is handed on is a module, from its start"
            );
            check_plan(spec, policy, &plan);
        }
        (Ok(Planned::Native(plan)), Ok(Planned::Native(second))) => {
            assert_eq!(plan, second, "equal inputs give equal plans");
            check_native(spec, &plan);
        }
        (Err(error), Err(second)) => {
            let text = error.to_string();
            assert!(!text.is_empty() && !text.ends_with('.'), "{text:?}");
            assert_eq!(text, second.to_string(), "equal inputs give equal errors");
            assert_eq!(error.kind(), second.kind());
            let shown = with_causes(&error);
            assert!(shown.len() <= MOST_OF_AN_ERROR, "{} bytes", shown.len());
            check_shown(&shown);
        }
        _ => panic!("equal inputs were decided differently"),
    }
}

/// Absolute, and without symlinks' leftovers: no `.`, no `..`.
pub fn is_plain(path: &Path) -> bool {
    path.is_absolute()
        && path
            .components()
            .all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
        && path
            .components()
            .collect::<std::path::PathBuf>()
            .as_os_str()
            == path.as_os_str()
}

fn check_plan(spec: &Spec, policy: &Policy, plan: &Plan) {
    let text = serde_json::to_string(plan).expect("a plan is written");
    let read: Plan = serde_json::from_str(&text).expect("a written plan is read");
    assert_eq!(&read, plan, "a plan is read as it was written");

    assert!(
        is_plain(Path::new(&plan.interpreter.path)),
        "{:?}",
        plan.interpreter
    );
    check_words(&plan.argv, &plan.env);
    assert!(Path::new(&plan.cwd).is_absolute(), "{}", plan.cwd);

    let mounts = spec.mounts().as_deref().unwrap_or_default();
    assert_eq!(
        plan.grants[0].path, "/",
        "the root filesystem is the first grant"
    );
    let mut granted = BTreeSet::new();
    for grant in &plan.grants {
        assert!(is_plain(Path::new(&grant.path)), "{grant:?}");
        assert!(granted.insert(&grant.path), "{grant:?} is granted twice");
        let is_other_root = grant.kind == GrantKind::Directory && grant.path == "/";
        assert!(
            !is_other_root || grant.source == "root filesystem",
            "{grant:?}"
        );
    }
    let mut left_out = BTreeSet::new();
    for withheld in &plan.withheld {
        match withheld.by {
            Withholding::Unmounted { mount } => {
                assert!(
                    mount < mounts.len() && left_out.insert(mount),
                    "{withheld:?}"
                );
            }
            Withholding::Masked => assert!(is_plain(Path::new(&withheld.path)), "{withheld:?}"),
            Withholding::NoDevice | Withholding::Capabilities | Withholding::Network => {}
        }
        assert!(!withheld.reason.is_empty());
    }
    let ceiling = plan.network.ceiling();
    assert!(
        [
            &policy.network.ceiling,
            &policy.network.host_network_ceiling
        ]
        .contains(&ceiling),
        "the ceiling is one of the policy's"
    );
    assert_eq!(
        plan.network.granted().check(ceiling),
        Ok(()),
        "no grant exceeds the ceiling"
    );
    if let Some(tmp) = &plan.tmp {
        assert!(plan.grants.iter().any(|grant| grant.path == tmp.path));
        assert_eq!(tmp.bytes, policy.tmp_bytes);
    }
    check_memory(spec, policy, plan.limits.memory_bytes);

    let container = container_spec(spec, plan);
    check_env(&container);
    let process = container.process().as_ref().expect("a process");
    assert_eq!(process.args().as_ref(), Some(&plan.argv));
    let made = container.mounts().as_deref().unwrap_or_default();
    let tmp = usize::from(plan.tmp.is_some());
    assert_eq!(made.len(), mounts.len() - left_out.len() + tmp);
    let linux = container.linux().as_ref();
    let masked = linux
        .and_then(|linux| linux.masked_paths().as_deref())
        .unwrap_or_default();
    for withheld in plan
        .withheld
        .iter()
        .filter(|withheld| withheld.by == Withholding::Masked)
    {
        assert!(
            linux.is_none() || masked.contains(&withheld.path),
            "{withheld:?} is masked"
        );
    }
    let shown = explain(plan);
    assert!(
        !shown.contains(SECRET),
        "values of the environment are not shown"
    );
    check_shown(&shown);
}

/// Nothing acts on the terminal that it is shown on.
fn check_shown(text: &str) {
    for line in text.lines() {
        assert_eq!(line, printable(line), "names are escaped");
    }
}

fn check_native(spec: &Spec, plan: &NativePlan) {
    let text = serde_json::to_string(plan).expect("a plan is written");
    let read: NativePlan = serde_json::from_str(&text).expect("a written plan is read");
    assert_eq!(&read, plan, "a plan is read as it was written");
    assert!(
        is_plain(Path::new(&plan.interpreter.path)),
        "{:?}",
        plan.interpreter
    );
    check_words(&plan.argv, &plan.env);
    let container = native_spec(spec, plan);
    check_env(&container);
    assert_eq!(
        container.mounts(),
        spec.mounts(),
        "the spec of a native program stays"
    );
    assert_eq!(
        container.linux(),
        spec.linux(),
        "the spec of a native program stays"
    );
    let shown = explain_native(plan);
    assert!(
        !shown.contains(SECRET),
        "values of the environment are not shown"
    );
    check_shown(&shown);
}

/// What execve(2) takes.
fn check_words(argv: &[String], env: &[(String, String)]) {
    assert!(
        !argv.is_empty() && argv.iter().all(|arg| !arg.contains('\0')),
        "{argv:?}"
    );
    let names: BTreeSet<_> = env.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), env.len(), "no variable is set twice: {env:?}");
    for (name, value) in env {
        assert!(!name.is_empty() && !name.contains(['=', '\0']), "{env:?}");
        assert!(!value.contains('\0'), "{env:?}");
    }
}

/// Without a HOME libcontainer asks the image's NSS modules for one.
fn check_env(spec: &Spec) {
    let Some(process) = spec.process() else {
        return;
    };
    let env = process.env().as_deref().unwrap_or_default();
    let mut homes = env.iter().filter_map(|entry| entry.strip_prefix("HOME="));
    assert!(homes.next().is_some_and(|home| !home.is_empty()), "{env:?}");
    assert_eq!(homes.next(), None, "{env:?}");
}

fn check_memory(spec: &Spec, policy: &Policy, memory: Option<u64>) {
    let limit = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.resources().as_ref())
        .and_then(|resources| resources.memory().as_ref())
        .and_then(|memory| memory.limit())
        .and_then(|limit| u64::try_from(limit).ok())
        .filter(|limit| *limit > 0);
    let most = [limit, policy.memory.max_bytes, Some(4 << 30)]
        .into_iter()
        .flatten()
        .min();
    assert!(
        memory.unwrap_or(4 << 30) <= most.unwrap_or(u64::MAX),
        "{memory:?} of {most:?}"
    );
}
