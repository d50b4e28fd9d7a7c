//! What is left of the OCI spec for the container runtime once a plan is made: the same spec with
//! the plan's decisions written over it. Pure; called by whoever writes the runtime's config.json.

use std::path::Path;

use oci_spec::runtime::{Linux, Mount, Process, Spec};

use crate::grants::is_common_device;
use crate::mounts::{self, Source};
use crate::plan::{DirectoryRights, Native, Plan, Tmp, Withholding};

/// The spec of the Wasm container that `plan`, made from `spec`, describes.
#[must_use]
pub fn container_spec(spec: &Spec, plan: &Plan) -> Spec {
    let mut spec = spec.clone();
    let process = spec
        .process()
        .clone()
        .map(|process| self::process(process, plan));
    spec.set_process(process);
    let mounts = spec.mounts().clone().unwrap_or_default();
    spec.set_mounts(Some(self::mounts(mounts, plan)));
    let linux = spec.linux().clone().map(|linux| self::linux(linux, plan));
    spec.set_linux(linux);
    spec
}

/// The spec of the pod sandbox container that `spec` describes: as it is, but with a HOME, for
/// want of which libcontainer would ask the image's NSS modules.
#[must_use]
pub fn sandbox_spec(spec: &Spec) -> Spec {
    let mut env = spec
        .process()
        .as_ref()
        .and_then(|process| process.env().clone())
        .unwrap_or_default();
    if !env.iter().any(|entry| {
        entry
            .strip_prefix("HOME=")
            .is_some_and(|home| !home.is_empty())
    }) {
        env.retain(|entry| !entry.starts_with("HOME="));
        env.push("HOME=/".to_owned());
    }
    with_env(spec, env)
}

/// The spec of the container of a native program that `spec` describes: as it is, but with a HOME.
#[must_use]
pub fn native_spec(spec: &Spec, native: &Native) -> Spec {
    with_env(spec, entries(&native.env))
}

fn with_env(spec: &Spec, env: Vec<String>) -> Spec {
    let mut spec = spec.clone();
    if let Some(mut process) = spec.process().clone() {
        process.set_env(Some(env));
        spec.set_process(Some(process));
    }
    spec
}

fn entries(env: &[(String, String)]) -> Vec<String> {
    env.iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

fn process(mut process: Process, plan: &Plan) -> Process {
    process.set_args(Some(plan.argv.clone()));
    process.set_env(Some(entries(&plan.env)));
    process.set_cwd(plan.cwd.clone().into());
    process
}

fn mounts(mounts: Vec<Mount>, plan: &Plan) -> Vec<Mount> {
    let unmounted = |index| {
        plan.withheld
            .iter()
            .any(|withheld| withheld.by == Withholding::Unmounted { mount: index })
    };
    mounts
        .into_iter()
        .enumerate()
        .filter(|(index, _)| !unmounted(*index))
        .map(|(_, mount)| read_only_throughout(mount))
        .chain(plan.tmp.as_ref().map(tmpfs))
        .collect()
}

/// A read-only bind mount, made read-only in the mounts beneath it too: through a preopen a guest
/// reaches them as well, and the spec's `ro` is about the uppermost alone.
fn read_only_throughout(mut mount: Mount) -> Mount {
    let is_bind = matches!(mounts::source(&mount), Source::Bind { .. });
    let mut options = mounts::options(&mount).to_vec();
    if is_bind
        && mounts::rights(&mount) == DirectoryRights::ReadOnly
        && !options.iter().any(|option| option == "rro")
    {
        options.push("rro".to_owned());
        mount.set_options(Some(options));
    }
    mount
}

fn tmpfs(tmp: &Tmp) -> Mount {
    let mut mount = Mount::default();
    let size = format!("size={}", tmp.bytes);
    let options = ["nosuid", "nodev", "noexec", "mode=1777", &size];
    mount
        .set_destination(tmp.path.clone().into())
        .set_typ(Some("tmpfs".to_owned()))
        .set_source(Some("tmpfs".into()))
        .set_options(Some(options.map(str::to_owned).to_vec()));
    mount
}

fn linux(mut linux: Linux, plan: &Plan) -> Linux {
    // A path within an unmounted file system would name the image's own files.
    let mounted = |path: &String| {
        !plan.withheld.iter().any(|withheld| {
            matches!(withheld.by, Withholding::Unmounted { .. })
                && Path::new(path).starts_with(&withheld.path)
        })
    };
    let masked = plan
        .withheld
        .iter()
        .filter(|withheld| withheld.by == Withholding::Masked);
    let mut masked_paths = linux.masked_paths().clone().unwrap_or_default();
    masked_paths.retain(mounted);
    masked_paths.extend(masked.map(|withheld| withheld.path.clone()));
    let mut readonly_paths = linux.readonly_paths().clone().unwrap_or_default();
    readonly_paths.retain(mounted);
    let mut devices = linux.devices().clone().unwrap_or_default();
    devices.retain(|device| is_common_device(device.path()));
    linux
        .set_masked_paths(Some(masked_paths))
        .set_readonly_paths(Some(readonly_paths))
        .set_devices(Some(devices));
    linux
}
