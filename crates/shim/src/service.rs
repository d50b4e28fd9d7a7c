//! The Task API: requests in, answers out, each verb a few lines.
//!
//! Served by `serve` under both of the API's names. All that a verb does is in `task` and
//! `launch`. A verb that changes something runs to its end even if the client goes away in the
//! middle: ttrpc drops the handler then, so the work is spawned.
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
use containerd_shim_protos::shim_async::Task as TaskApi;
use containerd_shim_protos::ttrpc::Result as TtrpcResult;
use containerd_shim_protos::ttrpc::r#async::TtrpcContext;
use log::{debug, warn};
use tokio::sync::Notify;
use tokio::task::spawn_blocking;

use crate::bundle::Bundle;
use crate::clock;
use wasm_interp_workload::with_causes;

use crate::error::Error;
use crate::events::Publisher;
use crate::launch::{Launcher, Wish};
use crate::stats;
use crate::stdio::Names;
use crate::sys;
use crate::task::{Registry, Reservation, Task, Whom};

/// What answers containerd.
#[derive(Clone)]
pub(crate) struct Service {
    launcher: Arc<Launcher>,
    registry: Registry,
    events: Publisher,
    /// Told when the last task has gone and containerd wants the shim to end.
    shutdown: Arc<Notify>,
}

/// Marks a creation as abandoned when the request for it is dropped.
struct Asker {
    registry: Registry,
    id: String,
    answered: bool,
}

impl Drop for Asker {
    fn drop(&mut self) {
        if !self.answered {
            self.registry.abandon(&self.id);
        }
    }
}

impl Service {
    pub(crate) fn new(launcher: Launcher, events: Publisher, shutdown: Arc<Notify>) -> Self {
        Self {
            launcher: Arc::new(launcher),
            registry: Registry::default(),
            events,
            shutdown,
        }
    }

    /// The tasks, for whoever ends this process.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    fn task(&self, id: &str, exec_id: &str) -> Result<Arc<Task>, Error> {
        let task = self.registry.get(id)?;
        if exec_id.is_empty() {
            Ok(task)
        } else {
            Err(Error::NoProcess {
                exec_id: exec_id.to_owned(),
            })
        }
    }

    /// Creates the task, or undoes all if nobody waits for it any more.
    async fn make(self, wish: Wish, reservation: Reservation) -> Result<Arc<Task>, Error> {
        let launcher = Arc::clone(&self.launcher);
        let abandoned = reservation.abandoned();
        let (wish, launched) = spawn_blocking(move || {
            let launched = launcher.create(&wish, &abandoned);
            if let Err(error) = &launched {
                let reason = with_causes(error);
                warn!(id = wish.id.as_str(), error = reason.as_str(); "not created");
            }
            // Parsing specs and mounts leaves holes in the heap of a process that lives long.
            sys::trim_heap();
            (wish, launched)
        })
        .await?;
        let events = self.events;
        let launcher = Arc::clone(&self.launcher);
        let filled = reservation.fill((wish, launched?), |(wish, launched)| {
            Task::begin(wish, launched, launcher, events)
        });
        match filled {
            Ok(task) => Ok(task),
            Err((reservation, (wish, launched))) => {
                let id = wish.id.clone();
                let launcher = self.launcher;
                spawn_blocking(move || launcher.abandon(&wish, &launched)).await?;
                drop(reservation);
                Err(Error::Abandoned { id })
            }
        }
    }
}

fn unsupported(what: impl Into<String>, instead: &'static str) -> Error {
    Error::Unsupported {
        what: what.into(),
        instead,
    }
}

/// Runs to its end, whatever becomes of the request.
async fn to_the_end<T: Send + 'static>(
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
        debug!(id = request.id.as_str(); "create");
        if request.terminal {
            return Err(unsupported(
                "a terminal",
                "run the container without one (-t, tty: true)",
            )
            .into());
        }
        if !request.checkpoint.is_empty() {
            return Err(unsupported(
                "create from a checkpoint",
                "create the container from its image",
            )
            .into());
        }
        let bundle = Bundle::new(&request.bundle).map_err(Error::from)?;
        let reservation = self.registry.reserve(&request.id)?;
        let mut asker = Asker {
            registry: self.registry.clone(),
            id: request.id.clone(),
            answered: false,
        };
        let wish = Wish {
            id: request.id,
            bundle,
            rootfs: request.rootfs,
            names: Names {
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
            },
        };
        let made = to_the_end(self.clone().make(wish, reservation)).await;
        asker.answered = true;
        Ok(CreateTaskResponse {
            pid: made?.pid(),
            ..CreateTaskResponse::default()
        })
    }

    async fn start(&self, _: &TtrpcContext, request: StartRequest) -> TtrpcResult<StartResponse> {
        let task = self.task(&request.id, &request.exec_id)?;
        Ok(StartResponse {
            pid: to_the_end(task.start()).await?,
            ..StartResponse::default()
        })
    }

    async fn state(&self, _: &TtrpcContext, request: StateRequest) -> TtrpcResult<StateResponse> {
        let task = self.task(&request.id, &request.exec_id)?;
        let state = task.state();
        let exit = state.exit();
        Ok(StateResponse {
            id: task.id().to_owned(),
            bundle: task.bundle().path().display().to_string(),
            pid: task.pid(),
            status: EnumOrUnknown::new(state.status()),
            stdin: task.names().stdin.clone(),
            stdout: task.names().stdout.clone(),
            stderr: task.names().stderr.clone(),
            exit_status: exit.map_or(0, |exit| exit.status),
            exited_at: exit.map(|exit| clock::timestamp(exit.at)).into(),
            exec_id: request.exec_id,
            ..StateResponse::default()
        })
    }

    async fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> TtrpcResult<PidsResponse> {
        let pids = self.task(&request.id, "")?.pids().await?;
        Ok(PidsResponse {
            processes: pids
                .into_iter()
                .map(|pid| ProcessInfo {
                    pid,
                    ..ProcessInfo::default()
                })
                .collect(),
            ..PidsResponse::default()
        })
    }

    async fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> TtrpcResult<WaitResponse> {
        let task = self.task(&request.id, &request.exec_id)?;
        let exit = task.wait().await;
        Ok(WaitResponse {
            exit_status: exit.status,
            exited_at: MessageField::some(clock::timestamp(exit.at)),
            ..WaitResponse::default()
        })
    }

    async fn kill(&self, _: &TtrpcContext, request: KillRequest) -> TtrpcResult<Empty> {
        let task = self.task(&request.id, &request.exec_id)?;
        let whom = if request.all { Whom::All } else { Whom::Init };
        debug!(id = request.id.as_str(), signal = request.signal, whom:?; "kill");
        task.kill(request.signal, whom).await?;
        Ok(Empty::new())
    }

    async fn delete(
        &self,
        _: &TtrpcContext,
        request: DeleteRequest,
    ) -> TtrpcResult<DeleteResponse> {
        if request.exec_id.is_empty() {
            // containerd gives up on a creation this way.
            self.registry.abandon(&request.id);
        }
        let task = self.task(&request.id, &request.exec_id)?;
        let registry = self.registry.clone();
        let obituary = to_the_end(async move {
            let id = task.id().to_owned();
            let obituary = task.delete().await?;
            registry.remove(&id);
            sys::trim_heap();
            Ok(obituary)
        })
        .await?;
        Ok(DeleteResponse {
            pid: obituary.pid,
            exit_status: obituary.exit.status,
            exited_at: MessageField::some(clock::timestamp(obituary.exit.at)),
            ..DeleteResponse::default()
        })
    }

    async fn stats(&self, _: &TtrpcContext, request: StatsRequest) -> TtrpcResult<StatsResponse> {
        let task = self.task(&request.id, "")?;
        let Some(cgroup) = task.cgroup().cloned() else {
            return Err(unsupported(
                format!("stats of {:?}, which has no cgroup of its own,", request.id),
                "give it one (linux.cgroupsPath)",
            )
            .into());
        };
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
            task_pid: self.registry.get(&request.id).map_or(0, |task| task.pid()),
            ..ConnectResponse::default()
        })
    }

    async fn close_io(&self, _: &TtrpcContext, request: CloseIORequest) -> TtrpcResult<Empty> {
        self.task(&request.id, &request.exec_id)?.close_stdin();
        Ok(Empty::new())
    }

    async fn shutdown(&self, _: &TtrpcContext, request: ShutdownRequest) -> TtrpcResult<Empty> {
        // Called for every container of a pod, the last one's ends the shim.
        self.registry.abandon(&request.id);
        if self.registry.is_idle() {
            self.shutdown.notify_one();
        }
        Ok(Empty::new())
    }

    async fn exec(&self, _: &TtrpcContext, _: ExecProcessRequest) -> TtrpcResult<Empty> {
        Err(unsupported(
            "exec",
            "a wasm container runs one program; run another container, or use HTTP or TCP probes",
        )
        .into())
    }

    async fn pause(&self, _: &TtrpcContext, _: PauseRequest) -> TtrpcResult<Empty> {
        Err(unsupported("pause", "stop the container and run it again").into())
    }

    async fn resume(&self, _: &TtrpcContext, _: ResumeRequest) -> TtrpcResult<Empty> {
        Err(unsupported("resume", "a container of this runtime is never paused").into())
    }

    async fn checkpoint(&self, _: &TtrpcContext, _: CheckpointTaskRequest) -> TtrpcResult<Empty> {
        Err(unsupported("checkpoint", "let the program save its state in a volume").into())
    }

    async fn update(&self, _: &TtrpcContext, _: UpdateTaskRequest) -> TtrpcResult<Empty> {
        Err(unsupported(
            "update of resources",
            "create the container anew with the new limits",
        )
        .into())
    }

    async fn resize_pty(&self, _: &TtrpcContext, _: ResizePtyRequest) -> TtrpcResult<Empty> {
        Err(unsupported(
            "resize of a terminal",
            "a container of this runtime has none",
        )
        .into())
    }
}
