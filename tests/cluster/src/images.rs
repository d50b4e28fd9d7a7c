//! The images that trials use, as archives for the nodes: those of `make images`, those of the tests
//! against containerd, and a few that only a cluster asks for.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Outcome;
use crate::guests;
use crate::image::Image;
use crate::node::ClusterNode;
use crate::settings::ClusterSettings;

/// CPython with a USER, WORKDIR, ENTRYPOINT, CMD and ENV of its own.
pub(crate) const CONFIGURED: &str = "localhost/test/configured:1";
/// What holds a pod's namespaces, of the name in the nodes' configuration of containerd.
const PAUSE: &str = "localhost/test/pause:1";

/// What the examples of `deployments/` call their native programs' image.
const BUSYBOX: &str = "docker.io/library/busybox:stable";
/// What `deployments/apps` calls its images, and their archives.
const APPS: [(&str, &str); 2] = [
    ("localhost/wasm-interp-apps/django:1", "django.tar"),
    ("localhost/wasm-interp-apps/postgresql:15", "postgresql.tar"),
];
/// The tag of [`another_release`].
pub(crate) const ANOTHER: &str = "another";

/// Writes them all into `folder`.
pub(crate) fn write(settings: &ClusterSettings, folder: &Path) -> Outcome {
    fs::create_dir_all(folder)?;
    let mut archives = guests::write(folder, &settings.dist, &settings.busybox)?;
    guests::write_c_programs(folder, &settings.guests)?;
    for image in ["installer", "component-python", "component-javascript"] {
        archives.push(settings.dist.join(format!("images/{image}.tar")));
    }
    archives.extend(settings.bench.iter().map(|bench| bench.native.clone()));
    // Those of `make images` are where they are; the node sees only one folder.
    for archive in archives
        .iter()
        .filter(|archive| !archive.starts_with(folder))
    {
        let name = archive.file_name().unwrap_or(archive.as_os_str());
        fs::copy(archive, folder.join(name)).map_err(|error| {
            format!(
                "cannot copy {}: {error}; run make images",
                archive.display()
            )
        })?;
    }
    Image::on(&folder.join("python.tar"))?
        .file("/app/show.py", SHOW)
        .user("1234:4321")
        .working_directory("/app")
        .entrypoint(&["python", "show.py"])
        .command(&["words", "of", "the", "image"])
        .env("FROM_THE_IMAGE=yes")
        .write(CONFIGURED, &folder.join("configured.tar"))?;
    let busybox = Image::new().program("/bin/busybox", fs::read(&settings.busybox)?);
    busybox.write(BUSYBOX, &folder.join("busybox.tar"))?;
    busybox
        .entrypoint(&["/bin/busybox", "sleep", "2147483647"])
        .write(PAUSE, &folder.join("pause.tar"))
}

/// Imports the images of `deployments/apps`, as `scripts/apps` made them, unless the node has them.
pub(crate) fn import_apps(settings: &ClusterSettings, node: &ClusterNode) -> Outcome {
    let known = node.must(&["ctr", "--namespace=k8s.io", "image", "ls", "--quiet"])?;
    for (name, archive) in APPS {
        if known.lines().any(|line| line == name) {
            continue;
        }
        // Not left in the folder, whose archives another node imports when it boots.
        let seen = settings.run.folder().join("images").join(archive);
        let from = settings.apps.join(archive);
        fs::copy(&from, &seen)
            .map_err(|error| format!("cannot copy {}: {error}", from.display()))?;
        let imported = node.import_image(archive);
        fs::remove_file(&seen)?;
        imported?;
    }
    Ok(())
}

/// Writes an installer's image with another build of the same version among the others; returns the archive's
/// name. Its executables do the same: each has a few bytes more, behind all that is loaded.
pub(crate) fn another_release(settings: &ClusterSettings) -> Outcome<&'static str> {
    let read = |name: &str| -> Outcome<Vec<u8>> {
        let mut program = fs::read(settings.dist.join(name))
            .map_err(|error| format!("cannot read {name}: {error}; run make build"))?;
        program.extend_from_slice(b"another build");
        Ok(program)
    };
    let mut image = Image::new()
        .program("/wasm-interp-agent", read("wasm-interp-agent")?)
        .entrypoint(&["/wasm-interp-agent"]);
    for name in [
        "containerd-shim-wasm-interp-v1",
        "wasm-interp-runner",
        "wasm-interp-compiler",
        "wasm-interp",
    ] {
        image = image.program(&format!("/release/{name}"), read(name)?);
    }
    let name = format!("localhost/wasm-interp/installer:{ANOTHER}");
    let archive = "another-release.tar";
    image.write(&name, &settings.run.folder().join("images").join(archive))?;
    Ok(archive)
}

/// An archive for the registry with a guest that begins with `start`, in the text form.
pub(crate) fn archive_of(settings: &ClusterSettings, name: &str, start: &str) -> Outcome<PathBuf> {
    let archive = settings.run.folder().join(format!("{name}.tar"));
    let module =
        format!(r#"(module (memory (export "memory") 1) (func (export "_start") {start}))"#);
    Image::new()
        .program("/bin/guest.wasm", wat::parse_str(module)?)
        .entrypoint(&["/bin/guest.wasm"])
        .write(&format!("localhost/test/{name}:1"), &archive)?;
    Ok(archive)
}

const SHOW: &str = "import json, os, sys
print(json.dumps({
    'cwd': os.environ['PWD'],
    'arguments': sys.argv[1:],
    'variable': os.environ.get('FROM_THE_IMAGE'),
}))
";
