//! What the running containerd's CRI says of itself, in every version: the verbose status holds its
//! configuration. Called by `live`. (The Node's `status.runtimeHandlers` comes from the same call, but
//! since containerd 2 only, and lists a handler whose binary is missing.)

use std::path::Path;

use serde_json::Value;
use tonic::Code;

use super::LiveError;
use super::rpc::{self, StatusRequest, StatusResponse};
use crate::config::Shim;
use crate::daemon::Running;
use crate::names::{HANDLER, RUNTIME_TYPE};

pub(super) fn running(socket: &Path) -> Result<Running, LiveError> {
    let answer: StatusResponse = rpc::talk(socket, None, rpc::LIMIT, async |containerd| {
        let question = StatusRequest { verbose: true };
        let answer = containerd
            .call("/runtime.v1.RuntimeService/Status", question)
            .await;
        answer.map_err(|status| match status.code() {
            Code::Unimplemented => LiveError::NoCri(containerd.socket().to_owned()),
            _ => rpc::refused("tell its status")(status),
        })
    })?;
    let config = answer.info.get("config").map_or("{}", String::as_str);
    read(config).map_err(|error| LiveError::Refused {
        act: "tell its configuration",
        said: format!("what it says is not JSON: {error}"),
    })
}

fn read(config: &str) -> Result<Running, serde_json::Error> {
    let config: Value = serde_json::from_str(config)?;
    let ours = config
        .pointer("/containerd/runtimes")
        .and_then(|runtimes| runtimes.get(HANDLER))
        .filter(|ours| ours.get("runtimeType").and_then(Value::as_str) == Some(RUNTIME_TYPE));
    let shim = |ours: &Value| match ours.get("runtimePath").and_then(Value::as_str) {
        Some(path) if !path.is_empty() => Shim::Path(path.into()),
        _ => Shim::Link,
    };
    Ok(Running {
        runtime: ours.map(shim),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_is_ours_by_its_type() {
        let config = |kind: &str, path: &str| {
            format!(
                r#"{{"containerd":{{"runtimes":{{"wasm-interp":{{"runtimeType":"{kind}","runtimePath":"{path}"}}}}}}}}"#
            )
        };
        let ours = "io.containerd.wasm-interp.v1";
        assert_eq!(
            read(&config(ours, "/a")).unwrap().runtime,
            Some(Shim::Path("/a".into()))
        );
        assert_eq!(read(&config(ours, "")).unwrap().runtime, Some(Shim::Link));
        assert_eq!(
            read(&config("io.containerd.runc.v2", "")).unwrap().runtime,
            None
        );
        assert_eq!(read("{}").unwrap().runtime, None);
    }
}
