//! The running containerd's CRI plugin: its configuration, and pulling images.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tonic::Code;

use crate::client::{CALL_LIMIT, connect, refused};
use crate::error::ContainerdError;
use crate::messages::{Empty, ImageSpec, PullImageRequest, StatusRequest, StatusResponse};

/// The longest that a pull may take: some hundred megabytes over a slow line.
const PULL_LIMIT: Duration = Duration::from_secs(900);

/// The configuration with which the CRI plugin runs, in its own JSON. Every version of containerd has it in the verbose
/// status. (The Node's `status.runtimeHandlers` comes from the same call, but only since containerd 2, and lists a
/// handler whose binary is missing.)
///
/// # Errors
/// [`ContainerdError::Unreachable`] if nothing answers, [`ContainerdError::NoCri`] if the plugin is not loaded.
pub fn cri_config(socket: &Path) -> Result<Value, ContainerdError> {
    const ACT: &str = "read the CRI's configuration";
    let response: StatusResponse = connect(socket, None, CALL_LIMIT, async |client| {
        let request = StatusRequest { verbose: true };
        let response = client
            .call("/runtime.v1.RuntimeService/Status", request)
            .await;
        response.map_err(|status| match status.code() {
            Code::Unimplemented => ContainerdError::NoCri(client.socket().to_owned()),
            _ => refused(ACT)(status),
        })
    })?;
    let config = response.info.get("config").map_or("{}", String::as_str);
    serde_json::from_str(config).map_err(|error| ContainerdError::Refused {
        act: ACT,
        reason: format!("its answer is not JSON: {error}"),
    })
}

/// Makes the CRI pull an image into the namespace `k8s.io`, as the kubelet would without credentials.
///
/// # Errors
/// [`ContainerdError::NoCri`] if the plugin is not loaded, [`ContainerdError::Refused`] with containerd's or the
/// registry's words.
pub fn cri_pull(socket: &Path, image: &str) -> Result<(), ContainerdError> {
    let image = Some(ImageSpec {
        image: image.to_owned(),
    });
    connect(socket, None, PULL_LIMIT, async |client| {
        let path = "/runtime.v1.ImageService/PullImage";
        let response: Result<Empty, _> = client.call(path, PullImageRequest { image }).await;
        response.map(drop).map_err(|status| match status.code() {
            Code::Unimplemented => ContainerdError::NoCri(client.socket().to_owned()),
            _ => refused("pull the image")(status),
        })
    })
}
