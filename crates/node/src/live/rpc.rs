//! Calls over containerd's gRPC socket, and the few messages that are needed, by their numbers in
//! containerd's and Kubernetes' own definitions. Called by `cri` and `trial`.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::LiveError;

/// One call; a trial's longest is the wait for its end.
const LIMIT: Duration = Duration::from_secs(60);

/// An open connection.
pub(super) struct Containerd {
    channel: Channel,
    socket: PathBuf,
    namespace: Option<&'static str>,
}

/// Connects and has the conversation.
pub(super) fn talk<R>(
    socket: &Path,
    namespace: Option<&'static str>,
    conversation: impl AsyncFnOnce(&Containerd) -> Result<R, LiveError>,
) -> Result<R, LiveError> {
    block_on(async {
        let unreachable = |error: &dyn std::error::Error| LiveError::Unreachable {
            socket: socket.to_owned(),
            reason: causes(error),
        };
        let channel = Endpoint::from_shared(format!("unix://{}", socket.display()))
            .map_err(|error| unreachable(&error))?
            .connect_timeout(LIMIT)
            .timeout(LIMIT)
            .connect()
            .await
            .map_err(|error| unreachable(&error))?;
        conversation(&Containerd {
            channel,
            socket: socket.to_owned(),
            namespace,
        })
        .await
    })
    .map_err(LiveError::Runtime)?
}

/// Runs one conversation to its end on this thread.
fn block_on<R>(conversation: impl Future<Output = R>) -> io::Result<R> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(conversation))
}

/// The innermost cause: the outer ones of a transport say "transport error".
fn causes(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

impl Containerd {
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// One call, as containerd answers it.
    pub(super) async fn call<Q, A>(&self, path: &'static str, question: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut client = Grpc::new(self.channel.clone());
        client
            .ready()
            .await
            .map_err(|error| Status::unavailable(causes(&error)))?;
        let mut request = Request::new(question);
        if let Some(namespace) = self.namespace {
            let value = MetadataValue::from_static(namespace);
            request.metadata_mut().insert("containerd-namespace", value);
        }
        let path = PathAndQuery::from_static(path);
        let answer = client
            .unary(request, path, ProstCodec::<Q, A>::default())
            .await?;
        Ok(answer.into_inner())
    }

    /// One call that has to succeed.
    pub(super) async fn must<Q, A>(
        &self,
        act: &'static str,
        path: &'static str,
        question: Q,
    ) -> Result<A, LiveError>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        self.call(path, question).await.map_err(refused(act))
    }

    /// One call about something that need not be there.
    pub(super) async fn clear<Q>(
        &self,
        act: &'static str,
        path: &'static str,
        question: Q,
    ) -> Result<(), LiveError>
    where
        Q: Message + 'static,
    {
        match self.call::<Q, Anything>(path, question).await {
            Err(status) if status.code() != Code::NotFound => Err(refused(act)(status)),
            _ => Ok(()),
        }
    }
}

pub(super) fn refused(act: &'static str) -> impl FnOnce(Status) -> LiveError {
    move |status| LiveError::Refused {
        act,
        said: status.message().to_owned(),
    }
}

/// Any answer whose content does not matter.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Anything {}

/// `runtime.v1.StatusRequest`
#[derive(Clone, PartialEq, Message)]
pub(super) struct StatusRequest {
    #[prost(bool, tag = "1")]
    pub(super) verbose: bool,
}

/// `runtime.v1.StatusResponse`
#[derive(Clone, PartialEq, Message)]
pub(super) struct StatusResponse {
    #[prost(map = "string, string", tag = "2")]
    pub(super) info: HashMap<String, String>,
}

/// `google.protobuf.Any`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Any {
    #[prost(string, tag = "1")]
    pub(super) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

/// `containerd.services.containers.v1.Container.Runtime`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Runtime {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

/// `containerd.services.containers.v1.Container`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Container {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(message, optional, tag = "4")]
    pub(super) runtime: Option<Runtime>,
    #[prost(message, optional, tag = "5")]
    pub(super) spec: Option<Any>,
}

/// `containerd.services.containers.v1.CreateContainerRequest`
#[derive(Clone, PartialEq, Message)]
pub(super) struct CreateContainerRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) container: Option<Container>,
}

/// Requests that hold nothing but an id as their first field: `DeleteContainerRequest`,
/// `DeleteNamespaceRequest`, and those of tasks about the init process.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Id {
    #[prost(string, tag = "1")]
    pub(super) id: String,
}

/// `containerd.types.Mount`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Mount {
    #[prost(string, tag = "1")]
    pub(super) kind: String,
    #[prost(string, tag = "2")]
    pub(super) source: String,
    #[prost(string, tag = "3")]
    pub(super) target: String,
    #[prost(string, repeated, tag = "4")]
    pub(super) options: Vec<String>,
}

/// `containerd.services.tasks.v1.CreateTaskRequest`
#[derive(Clone, PartialEq, Message)]
pub(super) struct CreateTaskRequest {
    #[prost(string, tag = "1")]
    pub(super) container_id: String,
    #[prost(message, repeated, tag = "3")]
    pub(super) rootfs: Vec<Mount>,
    #[prost(string, tag = "5")]
    pub(super) stdout: String,
    #[prost(string, tag = "6")]
    pub(super) stderr: String,
    #[prost(string, tag = "10")]
    pub(super) runtime_path: String,
}

/// `containerd.services.tasks.v1.KillRequest`
#[derive(Clone, PartialEq, Message)]
pub(super) struct KillRequest {
    #[prost(string, tag = "1")]
    pub(super) container_id: String,
    #[prost(uint32, tag = "3")]
    pub(super) signal: u32,
    #[prost(bool, tag = "4")]
    pub(super) all: bool,
}

/// `containerd.services.tasks.v1.WaitResponse`
#[derive(Clone, PartialEq, Message)]
pub(super) struct WaitResponse {
    #[prost(uint32, tag = "1")]
    pub(super) exit_status: u32,
}
