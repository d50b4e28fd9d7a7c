//! The messages that are needed, by the field numbers of containerd's and Kubernetes' own definitions. Each names
//! the message that it stands for; fields that are not used are left out.

use std::collections::HashMap;

use prost::Message;

/// A response whose content does not matter.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Empty {}

/// `runtime.v1.StatusRequest`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StatusRequest {
    #[prost(bool, tag = "1")]
    pub(crate) verbose: bool,
}

/// `runtime.v1.StatusResponse`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StatusResponse {
    #[prost(map = "string, string", tag = "2")]
    pub(crate) info: HashMap<String, String>,
}

/// `google.protobuf.Any`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AnyProto {
    #[prost(string, tag = "1")]
    pub(crate) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) value: Vec<u8>,
}

/// `containerd.services.containers.v1.Container.Runtime`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RuntimeProto {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
}

/// `containerd.services.containers.v1.Container`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ContainerProto {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(message, optional, tag = "4")]
    pub(crate) runtime: Option<RuntimeProto>,
    #[prost(message, optional, tag = "5")]
    pub(crate) spec: Option<AnyProto>,
}

/// `containerd.services.containers.v1.CreateContainerRequest`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CreateContainerRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) container: Option<ContainerProto>,
}

/// A request that holds nothing but an id as its first field: `DeleteContainerRequest`,
/// `DeleteNamespaceRequest`, those about a task's init process, about an image by its name, about content by its
/// digest, and about a lease.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct IdRequest {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
}

/// `containerd.types.Mount`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct MountProto {
    #[prost(string, tag = "1")]
    pub(crate) kind: String,
    #[prost(string, tag = "2")]
    pub(crate) source: String,
    #[prost(string, tag = "3")]
    pub(crate) target: String,
    #[prost(string, repeated, tag = "4")]
    pub(crate) options: Vec<String>,
}

/// `containerd.services.tasks.v1.CreateTaskRequest`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CreateTaskRequest {
    #[prost(string, tag = "1")]
    pub(crate) container_id: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) rootfs: Vec<MountProto>,
    #[prost(string, tag = "5")]
    pub(crate) stdout: String,
    #[prost(string, tag = "6")]
    pub(crate) stderr: String,
    #[prost(string, tag = "10")]
    pub(crate) runtime_path: String,
}

/// `containerd.services.tasks.v1.KillRequest`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct KillRequest {
    #[prost(string, tag = "1")]
    pub(crate) container_id: String,
    #[prost(uint32, tag = "3")]
    pub(crate) signal: u32,
    #[prost(bool, tag = "4")]
    pub(crate) all: bool,
}

/// `containerd.services.tasks.v1.WaitResponse`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct WaitResponse {
    #[prost(uint32, tag = "1")]
    pub(crate) exit_status: u32,
}

/// `runtime.v1.ImageSpec`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ImageSpec {
    #[prost(string, tag = "1")]
    pub(crate) image: String,
}

/// `runtime.v1.PullImageRequest`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PullImageRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) image: Option<ImageSpec>,
}

/// `containerd.types.Descriptor`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct DescriptorProto {
    #[prost(string, tag = "1")]
    pub(crate) media_type: String,
    #[prost(string, tag = "2")]
    pub(crate) digest: String,
    #[prost(int64, tag = "3")]
    pub(crate) size: i64,
}

/// `containerd.services.images.v1.Image`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ImageProto {
    #[prost(message, optional, tag = "3")]
    pub(crate) target: Option<DescriptorProto>,
}

/// `containerd.services.images.v1.GetImageResponse`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct GetImageResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) image: Option<ImageProto>,
}

/// `containerd.services.content.v1.ReadContentRequest`; without offset and size it reads the whole blob.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReadContentRequest {
    #[prost(string, tag = "1")]
    pub(crate) digest: String,
}

/// `containerd.services.content.v1.ReadContentResponse`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReadContentResponse {
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) data: Vec<u8>,
}

/// `containerd.services.content.v1.Info`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ContentInfoProto {
    #[prost(map = "string, string", tag = "5")]
    pub(crate) labels: HashMap<String, String>,
}

/// `containerd.services.content.v1.InfoResponse`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct InfoResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) info: Option<ContentInfoProto>,
}

/// `containerd.services.leases.v1.CreateRequest`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CreateLeaseRequest {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(map = "string, string", tag = "3")]
    pub(crate) labels: HashMap<String, String>,
}

/// `containerd.services.snapshots.v1.ViewSnapshotRequest`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ViewSnapshotRequest {
    #[prost(string, tag = "1")]
    pub(crate) snapshotter: String,
    #[prost(string, tag = "2")]
    pub(crate) key: String,
    #[prost(string, tag = "3")]
    pub(crate) parent: String,
}

/// `containerd.services.snapshots.v1.ViewSnapshotResponse`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ViewSnapshotResponse {
    #[prost(message, repeated, tag = "1")]
    pub(crate) mounts: Vec<MountProto>,
}

/// `containerd.services.snapshots.v1.RemoveSnapshotRequest`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RemoveSnapshotRequest {
    #[prost(string, tag = "1")]
    pub(crate) snapshotter: String,
    #[prost(string, tag = "2")]
    pub(crate) key: String,
}
