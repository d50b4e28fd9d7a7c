//! The Task API: requests and responses, a few lines per verb.
//!
//! `serve` serves it under both names of the API. What a verb does is in `task` and `launch`. When a
//! client disconnects, ttrpc drops the handlers of its requests. A verb that changes something must
//! still run to its end, so its work is spawned.
#![forbid(unsafe_code)]

use std::sync::Arc;

use async_trait::async_trait;
use containerd_shim_protos::api::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest,
    CreateTaskResponse, DeleteRequest, DeleteResponse, ExecProcessRequest, KillRequest,
    PauseRequest, PidsRequest, PidsResponse, ProcessInfo, ResizePtyRequest, ResumeRequest,
    ShutdownRequest, StartRequest, StartResponse, StateRequest, StateResponse, StatsRequest,
    StatsResponse, UpdateTaskRequest, WaitRequest, WaitResponse,
};
use containerd_shim_protos::protobuf::well_known_types::empty::Empty;
use containerd_shim_protos::protobuf::{EnumOrUnknown, MessageField};
use containerd_shim_protos::shim::oci::ProcessDetails;
use containerd_shim_protos::shim_async::Task as TaskApi;
use containerd_shim_protos::ttrpc::Result as TtrpcResult;
use containerd_shim_protos::ttrpc::r#async::TtrpcContext;
use log::{debug, warn};
use tokio::sync::Notify;
use tokio::task::spawn_blocking;

use wasm_interp_workload::{parse_resources, with_causes};

use crate::bundle::Bundle;
use crate::clock;
use crate::error::{CreateError, Error};
use crate::io::StdioPaths;
use crate::launch::{CreateRequest, Launcher};
use crate::options::CreateOptions;
use crate::publisher::Publisher;
use crate::stats;
use crate::sys;
use crate::task::{Container, KillTarget, Registry, Reservation};
use crate::typeurl;

/// The implementation of the Task API.
#[derive(Clone)]
pub(crate) struct Service {
    launcher: Arc<Launcher>,
    registry: Registry,
    publisher: Publisher,
    /// Notified when containerd requests the end of the shim and no task is left.
    shutdown: Arc<Notify>,
}

/// Cancels a creation if its request is dropped before the creation has ended.
struct CancelOnDrop {
    registry: Registry,
    id: String,
    ended: bool,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if !self.ended {
            self.registry.cancel(&self.id);
        }
    }
}

impl Service {
    pub(crate) fn new(launcher: Launcher, publisher: Publisher, shutdown: Arc<Notify>) -> Self {
        Self {
            launcher: Arc::new(launcher),
            registry: Registry::default(),
            publisher,
            shutdown,
        }
    }

    /// The tasks, for `serve`, which ends this process.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The verb `create`. [`CreateError`] says why its errors have their own type.
    async fn create_task(
        &self,
        request: CreateTaskRequest,
    ) -> Result<CreateTaskResponse, CreateError> {
        debug!(id = request.id.as_str(); "create");
        if !request.checkpoint.is_empty() {
            return Err(unsupported(
                "create from a checkpoint",
                "create the container from its image",
            )
            .into());
        }
        let options = CreateOptions::parse(request.options.as_ref())?;
        let bundle = Bundle::new(&request.bundle)?;
        let reservation = self.registry.reserve(&request.id)?;
        let mut cancel_on_drop = CancelOnDrop {
            registry: self.registry.clone(),
            id: request.id.clone(),
            ended: false,
        };
        let create_request = CreateRequest {
            id: request.id,
            bundle,
            rootfs: request.rootfs,
            stdio: StdioPaths {
                terminal: request.terminal,
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
            },
            options,
        };
        let created = run_to_the_end(self.clone().create_container(create_request, reservation));
        let created = created.await;
        cancel_on_drop.ended = true;
        Ok(CreateTaskResponse {
            pid: created?.init().pid(),
            ..CreateTaskResponse::default()
        })
    }

    /// Creates the container. Undoes that if the client cancels the request meanwhile.
    async fn create_container(
        self,
        request: CreateRequest,
        reservation: Reservation,
    ) -> Result<Arc<Container>, Error> {
        let launcher = Arc::clone(&self.launcher);
        let cancellation = reservation.cancellation();
        let (request, launched) = spawn_blocking(move || {
            let launched = launcher.create(&request, &cancellation);
            if let Err(error) = &launched {
                let reason = with_causes(error);
                warn!(
                    id = request.id.as_str(), error = reason.as_str();
                    "cannot create the container"
                );
            }
            // To parse specs and mount tables leaves holes in the heap of this long-lived process.
            sys::trim_heap();
            (request, launched)
        })
        .await?;
        let (launched, stdio) = launched?;
        let publisher = self.publisher;
        let launcher = Arc::clone(&self.launcher);
        let filled = reservation.fill((request, launched, stdio), |(request, launched, stdio)| {
            Container::begin(request, launched, stdio, launcher, publisher)
        });
        match filled {
            Ok(container) => Ok(container),
            Err((reservation, (request, launched, stdio))) => {
                let id = request.id.clone();
                let launcher = self.launcher;
                spawn_blocking(move || {
                    launcher.undo_create(&request, &launched);
                    if let Some(logger) = stdio.close() {
                        logger.end();
                    }
                })
                .await?;
                drop(reservation);
                Err(Error::Cancelled { id })
            }
        }
    }
}

fn unsupported(what: &str, instead: &'static str) -> Error {
    Error::Unsupported {
        what: what.to_owned(),
        instead,
    }
}

/// Runs `work` to its end, even if the request is dropped.
async fn run_to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    tokio::spawn(work).await?
}

#[async_trait]
impl TaskApi for Service {
    async fn create(
        &self,
        _: &TtrpcContext,
        request: CreateTaskRequest,
    ) -> TtrpcResult<CreateTaskResponse> {
        Ok(self.create_task(request).await?)
    }

    async fn start(&self, _: &TtrpcContext, request: StartRequest) -> TtrpcResult<StartResponse> {
        let container = self.registry.get(&request.id)?;
        let pid = if request.exec_id.is_empty() {
            run_to_the_end(container.start()).await?
        } else {
            run_to_the_end(container.start_exec(request.exec_id)).await?
        };
        Ok(StartResponse {
            pid,
            ..StartResponse::default()
        })
    }

    async fn state(&self, _: &TtrpcContext, request: StateRequest) -> TtrpcResult<StateResponse> {
        let container = self.registry.get(&request.id)?;
        let process = container.process(&request.exec_id)?;
        let stdio = process.stdio_paths().clone();
        let state = process.state();
        let exit = state.exit();
        Ok(StateResponse {
            id: if request.exec_id.is_empty() {
                container.id().to_owned()
            } else {
                request.exec_id.clone()
            },
            bundle: container.bundle().path().display().to_string(),
            pid: process.pid(),
            status: EnumOrUnknown::new(container.status(&process)),
            stdin: stdio.stdin,
            stdout: stdio.stdout,
            stderr: stdio.stderr,
            terminal: stdio.terminal,
            exit_status: exit.map_or(0, |exit| exit.status),
            exited_at: exit.map(|exit| clock::timestamp(exit.at)).into(),
            exec_id: request.exec_id,
            ..StateResponse::default()
        })
    }

    async fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> TtrpcResult<PidsResponse> {
        let container = self.registry.get(&request.id)?;
        let pids = container.pids().await?;
        let mut exec_ids = container.exec_ids();
        let mut processes = Vec::new();
        for pid in pids {
            let details = exec_ids.remove(&pid).map(|exec_id| ProcessDetails {
                exec_id,
                ..ProcessDetails::default()
            });
            let info = details.map(|details| typeurl::any(&details)).transpose();
            processes.push(ProcessInfo {
                pid,
                info: info.map_err(Error::from)?.into(),
                ..ProcessInfo::default()
            });
        }
        Ok(PidsResponse {
            processes,
            ..PidsResponse::default()
        })
    }

    async fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> TtrpcResult<WaitResponse> {
        let container = self.registry.get(&request.id)?;
        let exit = container.process(&request.exec_id)?.wait().await;
        Ok(WaitResponse {
            exit_status: exit.status,
            exited_at: MessageField::some(clock::timestamp(exit.at)),
            ..WaitResponse::default()
        })
    }

    async fn kill(&self, _: &TtrpcContext, request: KillRequest) -> TtrpcResult<Empty> {
        let container = self.registry.get(&request.id)?;
        let target = if request.all {
            KillTarget::All
        } else {
            KillTarget::Process
        };
        let (id, exec_id) = (request.id.as_str(), request.exec_id.as_str());
        debug!(id, exec_id, signal = request.signal, target:?; "kill");
        container.kill(exec_id, request.signal, target).await?;
        Ok(Empty::new())
    }

    async fn delete(
        &self,
        _: &TtrpcContext,
        request: DeleteRequest,
    ) -> TtrpcResult<DeleteResponse> {
        if request.exec_id.is_empty() {
            // In this way containerd cancels a creation.
            self.registry.cancel(&request.id);
        }
        let container = self.registry.get(&request.id)?;
        if !request.exec_id.is_empty() {
            let (pid, exit) = run_to_the_end(container.delete_exec(request.exec_id)).await?;
            return Ok(DeleteResponse {
                pid,
                exit_status: exit.status,
                exited_at: MessageField::some(clock::timestamp(exit.at)),
                ..DeleteResponse::default()
            });
        }
        let pid = container.init().pid();
        let registry = self.registry.clone();
        let exit = run_to_the_end(async move {
            let exit = container.delete().await?;
            registry.remove(&request.id);
            sys::trim_heap();
            Ok(exit)
        })
        .await?;
        Ok(DeleteResponse {
            pid,
            exit_status: exit.status,
            exited_at: MessageField::some(clock::timestamp(exit.at)),
            ..DeleteResponse::default()
        })
    }

    async fn stats(&self, _: &TtrpcContext, request: StatsRequest) -> TtrpcResult<StatsResponse> {
        let container = self.registry.get(&request.id)?;
        let cgroup = container.cgroup().cloned().ok_or(Error::NoCgroup)?;
        let metrics = spawn_blocking(move || stats::collect(&cgroup))
            .await
            .map_err(Error::from)?
            .map_err(Error::from)?;
        Ok(StatsResponse {
            stats: MessageField::some(metrics),
            ..StatsResponse::default()
        })
    }

    async fn connect(
        &self,
        _: &TtrpcContext,
        request: ConnectRequest,
    ) -> TtrpcResult<ConnectResponse> {
        Ok(ConnectResponse {
            shim_pid: std::process::id(),
            task_pid: self
                .registry
                .get(&request.id)
                .map_or(0, |container| container.init().pid()),
            ..ConnectResponse::default()
        })
    }

    async fn close_io(&self, _: &TtrpcContext, request: CloseIORequest) -> TtrpcResult<Empty> {
        let container = self.registry.get(&request.id)?;
        container.process(&request.exec_id)?.close_stdin();
        Ok(Empty::new())
    }

    async fn shutdown(&self, _: &TtrpcContext, request: ShutdownRequest) -> TtrpcResult<Empty> {
        // containerd calls this for every container of a pod. The call for the last ends the shim.
        self.registry.cancel(&request.id);
        if self.registry.is_idle() {
            self.shutdown.notify_one();
        }
        Ok(Empty::new())
    }

    async fn exec(&self, _: &TtrpcContext, request: ExecProcessRequest) -> TtrpcResult<Empty> {
        let container = self.registry.get(&request.id)?;
        let stdio = StdioPaths {
            terminal: request.terminal,
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
        };
        let wanted = request.spec.into_option().unwrap_or_default().value;
        container.add_exec(&request.exec_id, wanted, stdio).await?;
        Ok(Empty::new())
    }

    async fn pause(&self, _: &TtrpcContext, request: PauseRequest) -> TtrpcResult<Empty> {
        debug!(id = request.id.as_str(); "pause");
        run_to_the_end(self.registry.get(&request.id)?.pause()).await?;
        Ok(Empty::new())
    }

    async fn resume(&self, _: &TtrpcContext, request: ResumeRequest) -> TtrpcResult<Empty> {
        debug!(id = request.id.as_str(); "resume");
        run_to_the_end(self.registry.get(&request.id)?.resume()).await?;
        Ok(Empty::new())
    }

    async fn checkpoint(&self, _: &TtrpcContext, _: CheckpointTaskRequest) -> TtrpcResult<Empty> {
        Err(unsupported("checkpoint", "let the program save its state in a volume").into())
    }

    async fn update(&self, _: &TtrpcContext, request: UpdateTaskRequest) -> TtrpcResult<Empty> {
        let container = self.registry.get(&request.id)?;
        let resources = request.resources.into_option().unwrap_or_default();
        let parsed = parse_resources(&resources.value);
        let (resources, warnings) = parsed.map_err(|source| Error::Resources {
            id: request.id.clone(),
            source,
        })?;
        for warning in warnings {
            warn!(id = request.id.as_str(); "the update is not followed in full: {warning}");
        }
        debug!(id = request.id.as_str(), resources:?; "update");
        run_to_the_end(container.update(resources)).await?;
        Ok(Empty::new())
    }

    async fn resize_pty(&self, _: &TtrpcContext, request: ResizePtyRequest) -> TtrpcResult<Empty> {
        let container = self.registry.get(&request.id)?;
        let characters = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
        let (columns, rows) = (characters(request.width), characters(request.height));
        let process = container.process(&request.exec_id)?;
        process.resize(columns, rows).map_err(Error::from)?;
        Ok(Empty::new())
    }
}
