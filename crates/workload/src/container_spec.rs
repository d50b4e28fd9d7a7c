//! Makes the spec for the container runtime: the OCI spec with the plan's decisions applied to it. It
//! has no side effects. The launch pipeline calls it to write the runtime's config.json.

use std::path::Path;

use oci_spec::runtime::{Linux, Mount, Process, Spec};

use crate::grants::is_common_device;
use crate::mounts::{self, MountSource};
use crate::plan::{MountAccess, NativePlan, Plan, Tmp, Withholding};

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

/// The spec of the pod sandbox container that `spec` describes: unchanged but for a HOME.
#[must_use]
pub fn sandbox_spec(spec: &Spec) -> Spec {
    let env = spec
        .process()
        .as_ref()
        .and_then(|process| process.env().clone());
    with_env(spec, with_home(env.unwrap_or_default()))
}

/// The environment with one HOME, which is not empty: the last of several, or `/`. Without one libcontainer
/// would ask the image's NSS modules. It takes an entry without `=` for an empty value.
#[must_use]
pub fn with_home(mut env: Vec<String>) -> Vec<String> {
    fn home(entry: &str) -> Option<&str> {
        match entry.split_once('=') {
            Some(("HOME", home)) => Some(home),
            None if entry == "HOME" => Some(""),
            _ => None,
        }
    }
    let homes: Vec<_> = env.iter().filter_map(|entry| home(entry)).collect();
    if !matches!(homes.as_slice(), [home] if !home.is_empty()) {
        let last = homes.last().filter(|home| !home.is_empty());
        let last = format!("HOME={}", last.unwrap_or(&"/"));
        env.retain(|entry| home(entry).is_none());
        env.push(last);
    }
    env
}

/// The spec of the container of a native program that `spec` describes: unchanged but for a HOME.
#[must_use]
pub fn native_spec(spec: &Spec, native: &NativePlan) -> Spec {
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

/// Makes the mounts beneath a read-only bind mount read-only too: the mount is the grant, and the spec's
/// `ro` covers only the uppermost one.
fn read_only_throughout(mut mount: Mount) -> Mount {
    let is_bind = matches!(mounts::source(&mount), MountSource::Bind { .. });
    let mut options = mounts::options(&mount).to_vec();
    if is_bind
        && mounts::access(&mount) == MountAccess::ReadOnly
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
    // A path in a file system that is left out would name files of the image.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_has_one_home_that_is_not_empty() {
        for (env, expected) in [
            (&["HOME=/a", "A=1"][..], &["HOME=/a", "A=1"][..]),
            (&["A=1"], &["A=1", "HOME=/"]),
            (&["HOME="], &["HOME=/"]),
            (&["HOME=/a", "HOME="], &["HOME=/"]),
            (&["HOME=", "HOME=/a"], &["HOME=/a"]),
            (&["HOME=/a", "HOME"], &["HOME=/"]),
            (&["HOME=/a", "A=1", "HOME=/b"], &["A=1", "HOME=/b"]),
        ] {
            let mut spec = Spec::default();
            let mut process = Process::default();
            process.set_env(Some(env.iter().map(|&entry| entry.to_owned()).collect()));
            spec.set_process(Some(process));
            let sandbox = sandbox_spec(&spec);
            let found = sandbox.process().as_ref().unwrap().env().clone().unwrap();
            assert_eq!(found, expected, "{env:?}");
        }
    }
}
