//! Calls over containerd's gRPC socket, and the few messages that are needed, by their numbers in
//! containerd's and Kubernetes' own definitions. Called by `cri`, `trial` and `image`.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Extensions, Request, Status};
use tonic_prost::ProstCodec;

use super::LiveError;

/// One call; a trial's longest is the wait for its end.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// An open connection.
pub(super) struct Containerd {
    channel: Channel,
    socket: PathBuf,
    metadata: MetadataMap,
}

/// Connects and has the conversation. No call of it takes longer than `limit`.
pub(super) fn talk<R>(
    socket: &Path,
    namespace: Option<&str>,
    limit: Duration,
    conversation: impl AsyncFnOnce(&Containerd) -> Result<R, LiveError>,
) -> Result<R, LiveError> {
    let mut metadata = MetadataMap::new();
    if let Some(namespace) = namespace {
        set(&mut metadata, "containerd-namespace", namespace)?;
    }
    block_on(async {
        let unreachable = |error: &dyn std::error::Error| LiveError::Unreachable {
            socket: socket.to_owned(),
            reason: causes(error),
        };
        let channel = Endpoint::from_shared(format!("unix://{}", socket.display()))
            .map_err(|error| unreachable(&error))?
            .connect_timeout(LIMIT)
            .timeout(limit)
            .connect()
            .await
            .map_err(|error| unreachable(&error))?;
        conversation(&Containerd {
            channel,
            socket: socket.to_owned(),
            metadata,
        })
        .await
    })
    .map_err(LiveError::Runtime)?
}

fn set(metadata: &mut MetadataMap, name: &'static str, value: &str) -> Result<(), LiveError> {
    let value = MetadataValue::try_from(value).map_err(|_| LiveError::Refused {
        act: "be asked",
        said: format!("{value:?} cannot be the value of {name}"),
    })?;
    metadata.insert(name, value);
    Ok(())
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

    /// The same connection; what its calls make belongs to that lease.
    pub(super) fn with_lease(&self, lease: &str) -> Result<Self, LiveError> {
        let mut metadata = self.metadata.clone();
        set(&mut metadata, "containerd-lease", lease)?;
        Ok(Self {
            channel: self.channel.clone(),
            socket: self.socket.clone(),
            metadata,
        })
    }

    /// One call, as containerd answers it.
    pub(super) async fn call<Q, A>(&self, path: &'static str, question: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let path = PathAndQuery::from_static(path);
        let answer = self
            .client()
            .await?
            .unary(self.request(question), path, ProstCodec::<Q, A>::default())
            .await?;
        Ok(answer.into_inner())
    }

    /// A blob of the content store, if it has no more bytes than that.
    pub(super) async fn read(&self, digest: &str, most: u64) -> Result<Vec<u8>, Status> {
        let question = ReadContentRequest {
            digest: digest.to_owned(),
        };
        let path = PathAndQuery::from_static("/containerd.services.content.v1.Content/Read");
        let mut answers = self
            .client()
            .await?
            .server_streaming(
                self.request(question),
                path,
                ProstCodec::<ReadContentRequest, ReadContentResponse>::default(),
            )
            .await?
            .into_inner();
        let mut bytes = Vec::new();
        while let Some(answer) = answers.message().await? {
            bytes.extend_from_slice(&answer.data);
            if bytes.len() as u64 > most {
                let said = format!("{digest} is larger than {most} bytes");
                return Err(Status::out_of_range(said));
            }
        }
        Ok(bytes)
    }

    async fn client(&self) -> Result<Grpc<Channel>, Status> {
        let mut client = Grpc::new(self.channel.clone());
        client
            .ready()
            .await
            .map_err(|error| Status::unavailable(causes(&error)))?;
        Ok(client)
    }

    fn request<Q>(&self, question: Q) -> Request<Q> {
        Request::from_parts(self.metadata.clone(), Extensions::default(), question)
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
/// `DeleteNamespaceRequest`, those of tasks about the init process, of images by name, of content by
/// digest and of leases.
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

/// `runtime.v1.ImageSpec`
#[derive(Clone, PartialEq, Message)]
pub(super) struct ImageSpec {
    #[prost(string, tag = "1")]
    pub(super) image: String,
}

/// `runtime.v1.PullImageRequest`
#[derive(Clone, PartialEq, Message)]
pub(super) struct PullImageRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) image: Option<ImageSpec>,
}

/// `containerd.types.Descriptor`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Descriptor {
    #[prost(string, tag = "1")]
    pub(super) media_type: String,
    #[prost(string, tag = "2")]
    pub(super) digest: String,
    #[prost(int64, tag = "3")]
    pub(super) size: i64,
}

/// `containerd.services.images.v1.Image`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Image {
    #[prost(message, optional, tag = "3")]
    pub(super) target: Option<Descriptor>,
}

/// `containerd.services.images.v1.GetImageResponse`
#[derive(Clone, PartialEq, Message)]
pub(super) struct GetImageResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) image: Option<Image>,
}

/// `containerd.services.content.v1.ReadContentRequest`; without offset and size it is all of it.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ReadContentRequest {
    #[prost(string, tag = "1")]
    pub(super) digest: String,
}

/// `containerd.services.content.v1.ReadContentResponse`
#[derive(Clone, PartialEq, Message)]
pub(super) struct ReadContentResponse {
    #[prost(bytes = "vec", tag = "2")]
    pub(super) data: Vec<u8>,
}

/// `containerd.services.content.v1.Info`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Info {
    #[prost(map = "string, string", tag = "5")]
    pub(super) labels: HashMap<String, String>,
}

/// `containerd.services.content.v1.InfoResponse`
#[derive(Clone, PartialEq, Message)]
pub(super) struct InfoResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) info: Option<Info>,
}

/// `containerd.services.leases.v1.CreateRequest`
#[derive(Clone, PartialEq, Message)]
pub(super) struct CreateLeaseRequest {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(map = "string, string", tag = "3")]
    pub(super) labels: HashMap<String, String>,
}

/// `containerd.services.snapshots.v1.ViewSnapshotRequest`
#[derive(Clone, PartialEq, Message)]
pub(super) struct ViewSnapshotRequest {
    #[prost(string, tag = "1")]
    pub(super) snapshotter: String,
    #[prost(string, tag = "2")]
    pub(super) key: String,
    #[prost(string, tag = "3")]
    pub(super) parent: String,
}

/// `containerd.services.snapshots.v1.ViewSnapshotResponse`
#[derive(Clone, PartialEq, Message)]
pub(super) struct ViewSnapshotResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) mounts: Vec<Mount>,
}

/// `containerd.services.snapshots.v1.RemoveSnapshotRequest`
#[derive(Clone, PartialEq, Message)]
pub(super) struct RemoveSnapshotRequest {
    #[prost(string, tag = "1")]
    pub(super) snapshotter: String,
    #[prost(string, tag = "2")]
    pub(super) key: String,
}
