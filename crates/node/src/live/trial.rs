//! A tiny program through the whole way: containerd, shim, compiler, runner, guest, and back. Called
//! by `live`. No image, pull or snapshot takes part: the root filesystem is a bind mount of a
//! directory, so that what fails is this runtime and nothing else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tonic::Code;

use super::LiveError;
use super::rpc::{
    self, Any, Anything, Container, Containerd, CreateContainerRequest, CreateTaskRequest, Id,
    KillRequest, Mount, Runtime, WaitResponse,
};
use crate::config::Shim;
use crate::files::{self, FileError};
use crate::host::Host;
use crate::names::{RUN, RUNTIME_TYPE};

const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/trial.wasm"));
const PRINTS: &str = "wasm-interp works\n";
const ENDS_WITH: u32 = 42;

/// A namespace of containerd's for this alone, gone afterwards. One id: what a killed trial left is
/// in the way, and removed, instead of piling up.
const NAMESPACE: &str = "wasm-interp";
const ID: &str = "wasm-interp-trial";
const SPEC: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
/// How long a killed trial may take to be gone.
const GONE: Duration = Duration::from_secs(10);

pub(super) fn run(host: &Host, socket: &Path, shim: &Shim) -> Result<(), LiveError> {
    rpc::talk(socket, Some(NAMESPACE), rpc::LIMIT, async |containerd| {
        let place = Place {
            host,
            path: Path::new(RUN).join("trial"),
        };
        clear(containerd, &place).await?;
        let outcome = attempt(containerd, &place, shim).await;
        let cleared = clear(containerd, &place).await;
        outcome.and(cleared)
    })
}

/// Where the trial's files are.
struct Place<'a> {
    host: &'a Host,
    path: PathBuf,
}

impl Place<'_> {
    /// As containerd, the host's process, names it.
    fn there(&self, name: &str) -> String {
        self.path.join(name).to_string_lossy().into_owned()
    }

    fn here(&self, name: &str) -> PathBuf {
        self.host.at(self.path.join(name))
    }

    /// The root filesystem: the program, and the directories that things are mounted on.
    fn make(&self) -> Result<(), FileError> {
        for name in ["rootfs/dev", "rootfs/proc", "rootfs/tmp"] {
            let path = self.here(name);
            fs::create_dir_all(&path).map_err(FileError::new("make directory", &path))?;
        }
        // The guest is nobody in particular, whatever the umask says.
        for path in [self.here(""), self.here("rootfs")] {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
                .map_err(FileError::new("open up", &path))?;
        }
        files::write(&self.here("rootfs/trial.wasm"), PROGRAM, 0o644)
    }

    fn read(&self, name: &str) -> Result<String, FileError> {
        let bytes = files::read(&self.here(name))?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

async fn attempt(containerd: &Containerd, place: &Place<'_>, shim: &Shim) -> Result<(), LiveError> {
    place.make()?;
    let container = Container {
        id: ID.into(),
        runtime: Some(Runtime {
            name: RUNTIME_TYPE.into(),
        }),
        spec: Some(Any {
            type_url: SPEC.into(),
            value: spec(),
        }),
    };
    let _: Anything = containerd
        .must(
            "create the trial's container",
            "/containerd.services.containers.v1.Containers/Create",
            CreateContainerRequest {
                container: Some(container),
            },
        )
        .await?;
    let task = CreateTaskRequest {
        container_id: ID.into(),
        rootfs: vec![Mount {
            kind: "bind".into(),
            source: place.there("rootfs"),
            target: String::new(),
            options: vec!["rbind".into(), "ro".into()],
        }],
        stdout: format!("file://{}", place.there("stdout")),
        stderr: format!("file://{}", place.there("stderr")),
        // As the CRI gives it.
        runtime_path: match shim {
            Shim::Path(path) => path.to_string_lossy().into_owned(),
            Shim::Link => String::new(),
        },
    };
    let _: Anything = containerd
        .must(
            "create the trial's task",
            "/containerd.services.tasks.v1.Tasks/Create",
            task,
        )
        .await?;
    let _: Anything = containerd
        .must(
            "start the trial",
            "/containerd.services.tasks.v1.Tasks/Start",
            id(),
        )
        .await?;
    let WaitResponse { exit_status } = containerd
        .must(
            "wait for the trial",
            "/containerd.services.tasks.v1.Tasks/Wait",
            id(),
        )
        .await?;
    let printed = place.read("stdout")?;
    if exit_status == ENDS_WITH && printed == PRINTS {
        return Ok(());
    }
    Err(LiveError::Trial {
        code: exit_status,
        printed,
        errors: place.read("stderr")?,
    })
}

/// Takes away whatever there is of a trial, this one or one that was killed.
async fn clear(containerd: &Containerd, place: &Place<'_>) -> Result<(), LiveError> {
    let kill = KillRequest {
        container_id: ID.into(),
        signal: 9,
        all: true,
    };
    // A task that has ended cannot be killed; that it is gone is seen from its deletion.
    let killed = containerd
        .call::<_, Anything>("/containerd.services.tasks.v1.Tasks/Kill", kill)
        .await;
    if killed.is_ok() {
        let wait =
            containerd.call::<_, WaitResponse>("/containerd.services.tasks.v1.Tasks/Wait", id());
        let _ = tokio::time::timeout(GONE, wait).await;
    }
    containerd
        .clear(
            "delete the trial's task",
            "/containerd.services.tasks.v1.Tasks/Delete",
            id(),
        )
        .await?;
    containerd
        .clear(
            "delete the trial's container",
            "/containerd.services.containers.v1.Containers/Delete",
            id(),
        )
        .await?;
    let namespace = Id {
        id: NAMESPACE.into(),
    };
    let deleted = containerd
        .call::<_, Anything>(
            "/containerd.services.namespaces.v1.Namespaces/Delete",
            namespace,
        )
        .await;
    match deleted {
        // Not empty: somebody has put something of their own there, which is in no trial's way.
        Err(status) if !matches!(status.code(), Code::NotFound | Code::FailedPrecondition) => {
            return Err(rpc::refused("delete the trial's namespace")(status));
        }
        _ => {}
    }
    Ok(files::remove_all(&place.here(""))?)
}

fn id() -> Id {
    Id { id: ID.into() }
}

fn spec() -> Vec<u8> {
    let namespaces = ["pid", "ipc", "uts", "mount", "network"];
    json!({
        "ociVersion": "1.1.0",
        "process": {
            "args": ["/trial.wasm"],
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
