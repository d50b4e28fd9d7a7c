//! A small program that runs through containerd, shim, compiler and runner. No image, pull or snapshot takes part: a
//! failure is one of this runtime.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;
use wasm_interp_containerd::ContainerRun;

use super::NodeContainerdError;
use crate::files::{self, FileError};
use crate::host::HostRoot;
use crate::names::{RUN, RUNTIME_TYPE};
use wasm_interp_containerd_config::ShimLocation;

const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/self_test.wasm"));
const OUTPUT: &str = "wasm-interp works\n";
const EXIT_CODE: u32 = 42;

/// A namespace of containerd for the test alone.
const NAMESPACE: &str = "wasm-interp";
/// One id: a test removes what a killed one left.
const ID: &str = "wasm-interp-self-test";
/// Its folder, in that of the reports.
const FOLDER: &str = "self-test";

/// Runs the program with that shim.
pub(super) fn run(
    host: &HostRoot,
    socket: &Path,
    shim: &ShimLocation,
) -> Result<(), NodeContainerdError> {
    let folder = TestFolder {
        host,
        path: Path::new(RUN).join(FOLDER),
    };
    let result = run_in(&folder, socket, shim);
    let removed = files::remove_all(&folder.here(""));
    result?;
    Ok(removed?)
}

fn run_in(
    folder: &TestFolder<'_>,
    socket: &Path,
    shim: &ShimLocation,
) -> Result<(), NodeContainerdError> {
    folder.create()?;
    let container = ContainerRun {
        namespace: NAMESPACE.into(),
        id: ID.into(),
        runtime: RUNTIME_TYPE.into(),
        shim: match shim {
            ShimLocation::Path(path) => Some(path.clone()),
            ShimLocation::Link => None,
        },
        spec: spec(),
        rootfs: folder.path.join("rootfs"),
        stdout: folder.path.join("stdout"),
        stderr: folder.path.join("stderr"),
    };
    let code = container.run(socket)?;
    let printed = folder.read("stdout")?;
    if code == EXIT_CODE && printed == OUTPUT {
        return Ok(());
    }
    Err(NodeContainerdError::SelfTest {
        code,
        printed,
        errors: folder.read("stderr")?,
    })
}

/// The test's files.
struct TestFolder<'a> {
    host: &'a HostRoot,
    /// A path of the host: containerd is a process of the host.
    path: PathBuf,
}

impl TestFolder<'_> {
    fn here(&self, name: &str) -> PathBuf {
        self.host.at(self.path.join(name))
    }

    /// Creates the root filesystem: the program, and the mount points.
    fn create(&self) -> Result<(), FileError> {
        files::remove_all(&self.here(""))?;
        for name in ["rootfs/dev", "rootfs/proc", "rootfs/tmp"] {
            let path = self.here(name);
            fs::create_dir_all(&path).map_err(FileError::new("create the directory", &path))?;
        }
        // The guest runs as an unprivileged user, whatever the umask of this process is.
        for path in [self.here(""), self.here("rootfs")] {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
                .map_err(FileError::new("change the mode of", &path))?;
        }
        files::write(&self.here("rootfs/self_test.wasm"), PROGRAM, 0o644)
    }

    fn read(&self, name: &str) -> Result<String, FileError> {
        let bytes = files::read(&self.here(name))?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn spec() -> Vec<u8> {
    let namespaces = ["pid", "ipc", "uts", "mount", "network"];
    json!({
        "ociVersion": "1.1.0",
        "process": {
            "args": ["/self_test.wasm"],
            "cwd": "/",
            "user": { "uid": 65534, "gid": 65534 },
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": true },
        "linux": {
            "cgroupsPath": format!("/{ID}"),
            "namespaces": namespaces.map(|kind| json!({ "type": kind })),
        },
    })
    .to_string()
    .into_bytes()
}
