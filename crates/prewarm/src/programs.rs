//! The Wasm programs of an image, found in its mounted files by the rules of `crates/workload`.

use std::fs::File;
use std::path::Path;
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use oci_spec::image::ImageConfiguration;
use serde_json::json;
use wasm_interp_image::{args, cwd};
use wasm_interp_mounts::{Mount, mount_all};
use wasm_interp_workload::{ImageModule, RootfsView, modules_in_image};

use crate::result::PrewarmError;

/// Finds the image's Wasm programs beneath these mounts. The programs stay open after the files are unmounted.
pub(crate) fn find(
    mounts: &[Mount],
    image: &ImageConfiguration,
) -> Result<Vec<ImageModule<File>>, PrewarmError> {
    let own = std::env::current_exe().map_err(PrewarmError::Locate)?;
    // This directory exists, and the thread that mounts over it does not need it.
    let mount_point = own.parent().unwrap_or(Path::new("/"));
    let mounts: Vec<Mount> = mounts.iter().map(restricted).collect();
    with_mounted(&mounts, mount_point, || find_in(image, mount_point))
}

/// The mount without the right to execute programs or open devices on it.
fn restricted(mount: &Mount) -> Mount {
    let mut mount = mount.clone();
    let options = ["ro", "nodev", "noexec", "nosuid"].map(str::to_owned);
    mount.options.extend(options);
    mount
}

/// Calls `read` while the files are mounted, in a thread with a mount namespace of its own: the host does not see the
/// mount, and a SIGKILL removes it.
fn with_mounted<R: Send>(
    mounts: &[Mount],
    mount_point: &Path,
    read: impl FnOnce() -> Result<R, PrewarmError> + Send,
) -> Result<R, PrewarmError> {
    let mount_and_read = || {
        unshare(CloneFlags::CLONE_NEWNS).map_err(PrewarmError::Namespace)?;
        let none: Option<&str> = None;
        // The host's unmounts reach this namespace, but its mounts do not reach the host.
        mount(none, "/", none, MsFlags::MS_SLAVE | MsFlags::MS_REC, none)
            .map_err(PrewarmError::Namespace)?;
        mount_all(mounts, mount_point)?;
        let result = read();
        // The end of the thread would unmount it too, but only a moment after the thread is joined.
        umount2(mount_point, MntFlags::MNT_DETACH).map_err(PrewarmError::Namespace)?;
        result
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .spawn_scoped(scope, mount_and_read)
            .map_err(PrewarmError::Thread)?;
        // If the thread panicked, so does this one.
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn find_in(
    image: &ImageConfiguration,
    rootfs: &Path,
) -> Result<Vec<ImageModule<File>>, PrewarmError> {
    let config = image.config().clone().unwrap_or_default();
    let spec = json!({
        "ociVersion": "1.1.0",
        "process": {
            "args": args(&config),
            "env": config.env().as_deref().unwrap_or_default(),
            "cwd": cwd(&config),
            "user": { "uid": 0, "gid": 0 },
        },
        "root": { "path": rootfs, "readonly": true },
    });
    let spec = serde_json::from_value(spec).map_err(PrewarmError::Spec)?;
    let view = RootfsView::new(rootfs, &spec)?;
    Ok(modules_in_image(&spec, &view)?)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use wasm_interp_mounts::mountinfo;

    use super::*;

    #[test]
    fn host_does_not_see_the_mount_of_an_images_files() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let files = tempfile::tempdir().unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(files.path().join("of-the-image"), "").unwrap();
        let bind = Mount {
            kind: "bind".into(),
            source: files.path().display().to_string(),
            target: String::new(),
            options: vec!["rbind".into(), "ro".into()],
        };
        let mount_point = folder.path().canonicalize().unwrap();
        // `self` is the process, whose namespace is the host's.
        let is_mounted = |task: &str| {
            let table = PathBuf::from(format!("/proc/{task}/mountinfo"));
            let mounts = mountinfo::read(&table).unwrap();
            mounts.iter().any(|mount| mount.mount_point == mount_point)
        };
        with_mounted(&[bind], &mount_point, || {
            assert!(mount_point.join("of-the-image").exists());
            assert!(is_mounted("thread-self"));
            assert!(!is_mounted("self"));
            Ok(())
        })
        .unwrap();
        assert!(!mount_point.join("of-the-image").exists());
    }

    #[test]
    fn mounts_of_an_image_allow_no_programs_and_devices() {
        let mount = restricted(&Mount {
            kind: "overlay".into(),
            source: "overlay".into(),
            target: String::new(),
            options: vec!["lowerdir=/a:/b".into()],
        });
        assert_eq!(
            mount.options,
            ["lowerdir=/a:/b", "ro", "nodev", "noexec", "nosuid"]
        );
    }
}
