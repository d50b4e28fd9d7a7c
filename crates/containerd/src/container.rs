//! One container from its creation to its exit status. No image, pull or snapshot takes part: the root filesystem is
//! a bind mount of a directory.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::Code;

use crate::client::{CALL_LIMIT, Client, connect, refused};
use crate::error::ContainerdError;
use crate::messages::{
    AnyProto, ContainerProto, CreateContainerRequest, CreateTaskRequest, Empty, IdRequest,
    KillRequest, MountProto, RuntimeProto, WaitResponse,
};

const SPEC_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
const SIGKILL: u32 = 9;
/// How long a killed container may take to end.
const END_LIMIT: Duration = Duration::from_secs(10);

/// A container that runs once. Paths are those that containerd sees.
#[derive(Clone, Debug)]
pub struct ContainerRun {
    /// containerd's namespace. It holds nothing else, and is removed afterwards.
    pub namespace: String,
    /// Its id. What is left of an earlier container with this id is removed.
    pub id: String,
    /// Name of the runtime, for example `io.containerd.runc.v2`.
    pub runtime: String,
    /// The shim, if containerd shall not find it by the runtime's name.
    pub shim: Option<PathBuf>,
    /// The OCI spec, as JSON.
    pub spec: Vec<u8>,
    /// A directory with the root filesystem, which is mounted read-only.
    pub rootfs: PathBuf,
    /// File for the standard output.
    pub stdout: PathBuf,
    /// File for the standard error.
    pub stderr: PathBuf,
}

impl ContainerRun {
    /// Runs the container and waits for its end; returns the exit status. Nothing of it is left in containerd.
    ///
    /// # Errors
    /// If containerd refuses a step, or something of the container cannot be removed.
    pub fn run(&self, socket: &Path) -> Result<u32, ContainerdError> {
        connect(socket, Some(&self.namespace), CALL_LIMIT, async |client| {
            self.remove(client).await?;
            let exit_status = self.start_and_wait(client).await;
            let removed = self.remove(client).await;
            let exit_status = exit_status?;
            removed?;
            Ok(exit_status)
        })
    }

    async fn start_and_wait(&self, client: &Client) -> Result<u32, ContainerdError> {
        let container = ContainerProto {
            id: self.id.clone(),
            runtime: Some(RuntimeProto {
                name: self.runtime.clone(),
            }),
            spec: Some(AnyProto {
                type_url: SPEC_TYPE.into(),
                value: self.spec.clone(),
            }),
        };
        let _: Empty = client
            .require(
                "create a container",
                "/containerd.services.containers.v1.Containers/Create",
                CreateContainerRequest {
                    container: Some(container),
                },
            )
            .await?;
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let task = CreateTaskRequest {
            container_id: self.id.clone(),
            rootfs: vec![MountProto {
                kind: "bind".into(),
                source: path(&self.rootfs),
                target: String::new(),
                options: vec!["rbind".into(), "ro".into()],
            }],
            stdout: format!("file://{}", path(&self.stdout)),
            stderr: format!("file://{}", path(&self.stderr)),
            // As the CRI sends it.
            runtime_path: self.shim.as_deref().map(path).unwrap_or_default(),
        };
        let _: Empty = client
            .require(
                "create a task",
                "/containerd.services.tasks.v1.Tasks/Create",
                task,
            )
            .await?;
        let _: Empty = client
            .require(
                "start a task",
                "/containerd.services.tasks.v1.Tasks/Start",
                self.id(),
            )
            .await?;
        let WaitResponse { exit_status } = client
            .require(
                "wait for a task",
                "/containerd.services.tasks.v1.Tasks/Wait",
                self.id(),
            )
            .await?;
        Ok(exit_status)
    }

    /// Removes everything that this run, or an earlier one that was killed, has left in containerd.
    async fn remove(&self, client: &Client) -> Result<(), ContainerdError> {
        let kill = KillRequest {
            container_id: self.id.clone(),
            signal: SIGKILL,
            all: true,
        };
        // A task that has ended cannot be killed. Its deletion says whether it is gone.
        let killed = client
            .call::<_, Empty>("/containerd.services.tasks.v1.Tasks/Kill", kill)
            .await;
        if killed.is_ok() {
            let path = "/containerd.services.tasks.v1.Tasks/Wait";
            let wait = client.call::<_, WaitResponse>(path, self.id());
            let _ = tokio::time::timeout(END_LIMIT, wait).await;
        }
        client
            .remove(
                "delete a task",
                "/containerd.services.tasks.v1.Tasks/Delete",
                self.id(),
            )
            .await?;
        client
            .remove(
                "delete a container",
                "/containerd.services.containers.v1.Containers/Delete",
                self.id(),
            )
            .await?;
        let namespace = IdRequest {
            id: self.namespace.clone(),
        };
        let path = "/containerd.services.namespaces.v1.Namespaces/Delete";
        match client.call::<_, Empty>(path, namespace).await {
            // FAILED_PRECONDITION: another client has put something into the namespace, which does no harm.
            Err(status) if !matches!(status.code(), Code::NotFound | Code::FailedPrecondition) => {
                Err(refused("delete a namespace")(status))
            }
            _ => Ok(()),
        }
    }

    fn id(&self) -> IdRequest {
        IdRequest {
            id: self.id.clone(),
        }
    }
}
