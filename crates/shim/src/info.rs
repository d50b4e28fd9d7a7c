//! `-h`, `-v` and `-info`: what this program is, for people and for containerd. Called by `main`.
//!
//! containerd 2 calls `-info` for every runtime handler and shows the features in the Node's
//! `status.runtimeHandlers`.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{self, Message as _, MessageField};
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use serde_json::json;

/// What containerd calls this runtime.
pub(crate) const RUNTIME_NAME: &str = "io.containerd.wasm-interp.v1";

/// How containerd's typeurl names the OCI features document.
const FEATURES_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

#[derive(Debug, thiserror::Error)]
pub(crate) enum InfoError {
    #[error("cannot read runtime options from stdin: {0}; redirect stdin from /dev/null")]
    Input(#[source] io::Error),
    #[error(
        "cannot read runtime options from stdin: not a protobuf Any: {0}; give one, or nothing"
    )]
    Options(#[source] protobuf::Error),
    #[error("cannot encode the runtime's description: {0}; report this as a bug")]
    Encode(#[from] protobuf::Error),
    #[error("cannot encode the runtime's features: {0}; report this as a bug")]
    EncodeJson(#[from] serde_json::Error),
    #[error("cannot write to stdout: {0}; look at what reads it")]
    Output(#[from] io::Error),
}

/// `-h`
pub(crate) fn help() -> Result<(), InfoError> {
    const HELP: &str = "\
containerd's shim for interpreted WebAssembly: Python and other languages as sandboxed containers.

containerd starts this program. To use it:

    wasm-interp node install
    ctr run --rm --runtime io.containerd.wasm-interp.v1 IMAGE ID

What containerd calls:
    -namespace NS -id ID [-address SOCKET] [-debug] start    prints the address of the pod's server
    -namespace NS -id ID [-bundle DIR] delete                removes what a dead server left
    -info                                                    describes the runtime, in protobuf
    -v                                                       prints the version
";
    Ok(io::stdout().lock().write_all(HELP.as_bytes())?)
}

/// `-v`
pub(crate) fn version() -> Result<(), InfoError> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "containerd-shim-wasm-interp-v1:")?;
    writeln!(stdout, "  Version:  {}", env!("CARGO_PKG_VERSION"))?;
    writeln!(stdout, "  Runtime:  {RUNTIME_NAME}")?;
    writeln!(stdout, "  Task API: v2, v3 (ttrpc)")?;
    Ok(())
}

/// `-info`
pub(crate) fn describe() -> Result<(), InfoError> {
    let mut input = Vec::new();
    io::stdin()
        .lock()
        .read_to_end(&mut input)
        .map_err(InfoError::Input)?;
    let answer = runtime_info(&input)?.write_to_bytes()?;
    let mut stdout = io::stdout().lock();
    stdout.write_all(&answer)?;
    Ok(stdout.flush()?)
}

fn runtime_info(options: &[u8]) -> Result<RuntimeInfo, InfoError> {
    let options = match options {
        [] => MessageField::none(),
        bytes => MessageField::some(Any::parse_from_bytes(bytes).map_err(InfoError::Options)?),
    };
    Ok(RuntimeInfo {
        name: RUNTIME_NAME.to_owned(),
        version: MessageField::some(RuntimeVersion {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..RuntimeVersion::default()
        }),
        options,
        features: MessageField::some(Any {
            type_url: FEATURES_TYPE.to_owned(),
            value: serde_json::to_vec(&features())?,
            ..Any::default()
        }),
        ..RuntimeInfo::default()
    })
}

/// The document of `features.md` in the OCI runtime spec. containerd reads from it whether recursive
/// read-only mounts and user namespaces work. The rest is for people.
fn features() -> serde_json::Value {
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.2.0",
        "hooks": [
            "prestart", "createRuntime", "createContainer", "startContainer", "poststart",
            "poststop"
        ],
        "mountOptions": [
            "async", "atime", "bind", "defaults", "dev", "diratime", "dirsync", "exec", "noatime",
            "nodev", "nodiratime", "noexec", "norelatime", "nostrictatime", "nosuid", "private",
            "rbind", "relatime", "ro", "rprivate", "rro", "rshared", "rslave", "runbindable", "rw",
            "shared", "slave", "strictatime", "suid", "sync", "unbindable"
        ],
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"],
            "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": false },
            "seccomp": { "enabled": true },
            "apparmor": { "enabled": true },
            "selinux": { "enabled": false }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_returns_the_options_and_lists_recursive_read_only_mounts() {
        let options = Any {
            type_url: "runtimeoptions.v1.Options".to_owned(),
            ..Any::default()
        };
        let info = runtime_info(&options.write_to_bytes().expect("encode")).expect("info");
        assert_eq!(info.name, RUNTIME_NAME);
        assert_eq!(info.options.type_url, "runtimeoptions.v1.Options");
        let features: serde_json::Value =
            serde_json::from_slice(&info.features.value).expect("json");
        assert!(
            features["mountOptions"]
                .as_array()
                .expect("a list")
                .contains(&json!("rro"))
        );
        assert!(runtime_info(&[]).expect("info").options.is_none());
        assert!(runtime_info(&[0xff]).is_err());
    }
}
