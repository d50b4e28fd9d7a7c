//! Calls over containerd's gRPC socket. Used by every other module of this crate; does not know what a call is about.

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

use crate::error::ContainerdError;
use crate::messages::{Empty, ReadContentRequest, ReadContentResponse};

/// The limit of one call, unless its caller names another.
pub const CALL_LIMIT: Duration = Duration::from_secs(60);

/// An open connection.
pub(crate) struct Client {
    channel: Channel,
    socket: PathBuf,
    metadata: MetadataMap,
}

/// Connects, and runs `calls` to their end on this thread. No call takes longer than `limit`.
pub(crate) fn connect<R>(
    socket: &Path,
    namespace: Option<&str>,
    limit: Duration,
    calls: impl AsyncFnOnce(&Client) -> Result<R, ContainerdError>,
) -> Result<R, ContainerdError> {
    let mut metadata = MetadataMap::new();
    if let Some(namespace) = namespace {
        set(&mut metadata, "containerd-namespace", namespace)?;
    }
    block_on(async {
        let unreachable = |error: &dyn std::error::Error| ContainerdError::Unreachable {
            socket: socket.to_owned(),
            reason: innermost_cause(error),
        };
        let channel = Endpoint::from_shared(format!("unix://{}", socket.display()))
            .map_err(|error| unreachable(&error))?
            .connect_timeout(CALL_LIMIT)
            .timeout(limit)
            .connect()
            .await
            .map_err(|error| unreachable(&error))?;
        calls(&Client {
            channel,
            socket: socket.to_owned(),
            metadata,
        })
        .await
    })
    .map_err(ContainerdError::Runtime)?
}

fn set(metadata: &mut MetadataMap, name: &'static str, value: &str) -> Result<(), ContainerdError> {
    let value = MetadataValue::try_from(value).map_err(|_| ContainerdError::Metadata {
        name,
        value: value.to_owned(),
    })?;
    metadata.insert(name, value);
    Ok(())
}

fn block_on<R>(calls: impl Future<Output = R>) -> io::Result<R> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(calls))
}

/// The outer causes of a transport say only "transport error".
fn innermost_cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

impl Client {
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The same connection; what its calls create belongs to that lease.
    pub(crate) fn with_lease(&self, lease: &str) -> Result<Self, ContainerdError> {
        let mut metadata = self.metadata.clone();
        set(&mut metadata, "containerd-lease", lease)?;
        Ok(Self {
            channel: self.channel.clone(),
            socket: self.socket.clone(),
            metadata,
        })
    }

    /// One call, with the status as containerd sends it.
    pub(crate) async fn call<Q, A>(&self, path: &'static str, request: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let path = PathAndQuery::from_static(path);
        let response = self
            .grpc()
            .await?
            .unary(self.request(request), path, ProstCodec::<Q, A>::default())
            .await?;
        Ok(response.into_inner())
    }

    /// A blob of the content store. One with more than `limit` bytes is an error.
    pub(crate) async fn read_content(&self, digest: &str, limit: u64) -> Result<Vec<u8>, Status> {
        let request = ReadContentRequest {
            digest: digest.to_owned(),
        };
        let path = PathAndQuery::from_static("/containerd.services.content.v1.Content/Read");
        let mut responses = self
            .grpc()
            .await?
            .server_streaming(
                self.request(request),
                path,
                ProstCodec::<ReadContentRequest, ReadContentResponse>::default(),
            )
            .await?
            .into_inner();
        let mut bytes = Vec::new();
        while let Some(response) = responses.message().await? {
            bytes.extend_from_slice(&response.data);
            if bytes.len() as u64 > limit {
                let reason = format!("{digest} is larger than {limit} bytes");
                return Err(Status::out_of_range(reason));
            }
        }
        Ok(bytes)
    }

    async fn grpc(&self) -> Result<Grpc<Channel>, Status> {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready()
            .await
            .map_err(|error| Status::unavailable(innermost_cause(&error)))?;
        Ok(grpc)
    }

    fn request<Q>(&self, message: Q) -> Request<Q> {
        Request::from_parts(self.metadata.clone(), Extensions::default(), message)
    }

    /// One call that has to succeed. `act` completes "cannot …" in the error.
    pub(crate) async fn require<Q, A>(
        &self,
        act: &'static str,
        path: &'static str,
        request: Q,
    ) -> Result<A, ContainerdError>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        self.call(path, request).await.map_err(refused(act))
    }

    /// One call that removes something. It succeeds if that does not exist.
    pub(crate) async fn remove<Q>(
        &self,
        act: &'static str,
        path: &'static str,
        request: Q,
    ) -> Result<(), ContainerdError>
    where
        Q: Message + 'static,
    {
        match self.call::<Q, Empty>(path, request).await {
            Err(status) if status.code() != Code::NotFound => Err(refused(act)(status)),
            _ => Ok(()),
        }
    }
}

/// For `map_err`: what containerd was asked.
pub(crate) fn refused(act: &'static str) -> impl FnOnce(Status) -> ContainerdError {
    move |status| ContainerdError::Refused {
        act,
        reason: status.message().to_owned(),
    }
}
