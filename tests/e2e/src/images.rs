//! The images that trials use, as archives for the nodes: those of `make images`, those of the tests
//! against containerd, and a few that only a cluster asks for.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Outcome;
use crate::guests;
use crate::image::{self, Image};
use crate::settings::Settings;

/// CPython with a USER, WORKDIR, ENTRYPOINT, CMD and ENV of its own.
pub(crate) const CONFIGURED: &str = "localhost/test/configured:1";
/// What holds a pod's namespaces, of the name in the nodes' configuration of containerd.
const PAUSE: &str = "localhost/test/pause:1";

/// Writes them all into `folder`.
pub(crate) fn write(settings: &Settings, folder: &Path) -> Outcome {
    fs::create_dir_all(folder)?;
    let mut archives = guests::write(folder, &settings.dist, &settings.busybox)?;
    archives.push(settings.dist.join("images/installer.tar"));
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
    let python = image::read_file(&folder.join("python.tar"), guests::PYTHON_WASM)?;
    Image::new()
        .folder("/tmp", 0o1777)
        .program(guests::PYTHON_WASM, python)
        .file("/app/show.py", SHOW)
        .user("1234:4321")
        .working_directory("/app")
        .entrypoint(&["python", "show.py"])
        .command(&["words", "of", "the", "image"])
        .env("FROM_THE_IMAGE=yes")
        .write(CONFIGURED, &folder.join("configured.tar"))?;
    Image::new()
        .program("/bin/busybox", fs::read(&settings.busybox)?)
        .entrypoint(&["/bin/busybox", "sleep", "2147483647"])
        .write(PAUSE, &folder.join("pause.tar"))
}

/// The archive with the content that a private image gets.
pub(crate) fn archive_of_a_trap(settings: &Settings) -> Outcome<PathBuf> {
    let archive = settings.folder().join("trap.tar");
    Image::new()
        .program("/bin/guest.wasm", wat::parse_str(TRAP)?)
        .entrypoint(&["/bin/guest.wasm"])
        .write("localhost/test/private:1", &archive)?;
    Ok(archive)
}

const TRAP: &str = r#"(module (memory (export "memory") 1) (func (export "_start") unreachable))"#;

const SHOW: &str = "import json, os, sys
print(json.dumps({'cwd': os.environ['PWD'], 'arguments': sys.argv[1:], 'variable': os.environ.get('FROM_THE_IMAGE')}))
";
