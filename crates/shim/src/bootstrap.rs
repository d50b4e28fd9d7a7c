//! What `start` is told and how it has to answer, for every containerd since 1.6.
//!
//! Called by `start`; pure. Three generations differ:
//!
//! | containerd | told by | answer |
//! |---|---|---|
//! | ≥ 2.3 | `BootstrapParams` on stdin | `BootstrapResult`, version 3 |
//! | 1.7 – 2.2 | flags and environment (`MAX_SHIM_VERSION`) | JSON, version 2 (1.7 refuses more; later ones bridge) |
//! | 1.6 | flags and environment | the bare address |
//!
//! In the older two stdin may hold runtime options (an `Any`) instead.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult, LogLevel};
use containerd_shim_protos::protobuf::{self, Enum as _, Message as _};

use crate::args::Flags;

/// Where sockets go unless containerd says otherwise. Short, since a socket's path is limited to
/// 108 bytes.
const DEFAULT_SOCKET_DIR: &str = "/run/containerd/s";

/// The part of the environment that older containerds speak through.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    /// `TTRPC_ADDRESS`
    pub(crate) ttrpc_address: Option<String>,
    /// `GRPC_ADDRESS`
    pub(crate) grpc_address: Option<String>,
    /// `MAX_SHIM_VERSION`
    pub(crate) max_shim_version: Option<String>,
}

impl Environment {
    /// The environment of this process.
    pub(crate) fn current() -> Self {
        let get = |name| std::env::var(name).ok().filter(|v| !v.is_empty());
        Self {
            ttrpc_address: get("TTRPC_ADDRESS"),
            grpc_address: get("GRPC_ADDRESS"),
            max_shim_version: get("MAX_SHIM_VERSION"),
        }
    }
}

/// What `start` was told, in whichever way.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StartRequest {
    /// Container id.
    pub(crate) id: String,
    /// containerd namespace.
    pub(crate) namespace: String,
    /// containerd's gRPC address: part of the socket's name.
    pub(crate) grpc_address: String,
    /// Where events go.
    pub(crate) ttrpc_address: String,
    /// Log at debug level.
    pub(crate) debug: bool,
    /// Where the socket goes.
    pub(crate) socket_dir: PathBuf,
    /// The form of the answer.
    pub(crate) reply: Reply,
}

/// Form of the answer to `start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Protobuf `BootstrapResult`.
    Bootstrap,
    /// JSON.
    Json,
    /// The address alone.
    Address,
}

/// `start` was not told what it needs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootstrapError {
    #[error(
        "bootstrap parameters on stdin are for {namespace}/{id}, the command line is for \
         {flags_namespace}/{flags_id}"
    )]
    Mismatch {
        namespace: String,
        id: String,
        flags_namespace: String,
        flags_id: String,
    },
    #[error("containerd's ttrpc address is not known: set TTRPC_ADDRESS")]
    NoEventsAddress,
    #[error("encode the answer to start: {0}")]
    Encode(#[from] protobuf::Error),
    #[error("encode the answer to start: {0}")]
    EncodeJson(#[from] serde_json::Error),
}

/// Brings whatever containerd said into one form.
pub(crate) fn parse(
    input: &[u8],
    flags: &Flags,
    environment: Environment,
) -> Result<StartRequest, BootstrapError> {
    let request = match bootstrap_params(input, flags)? {
        Some(params) => StartRequest {
            id: params.instance_id,
            namespace: params.namespace,
            grpc_address: params.containerd_grpc_address,
            ttrpc_address: params.containerd_ttrpc_address,
            // An open enum: more verbose levels are smaller numbers.
            debug: flags.debug || params.log_level.value() <= LogLevel::LOG_LEVEL_DEBUG.value(),
            socket_dir: params
                .socket_dir
                .filter(|dir| !dir.is_empty())
                .map_or_else(|| DEFAULT_SOCKET_DIR.into(), PathBuf::from),
            reply: Reply::Bootstrap,
        },
        None => StartRequest {
            id: flags.id.clone(),
            namespace: flags.namespace.clone(),
            grpc_address: Some(flags.address.clone())
                .filter(|address| !address.is_empty())
                .or(environment.grpc_address)
                .unwrap_or_default(),
            ttrpc_address: environment.ttrpc_address.unwrap_or_default(),
            debug: flags.debug,
            socket_dir: DEFAULT_SOCKET_DIR.into(),
            reply: match environment.max_shim_version {
                Some(_) => Reply::Json,
                None => Reply::Address,
            },
        },
    };
    // Fail here, where containerd reads what we say, not in the server.
    if request.ttrpc_address.is_empty() {
        return Err(BootstrapError::NoEventsAddress);
    }
    Ok(request)
}

/// `None` if stdin holds nothing, or the runtime options of an older containerd.
fn bootstrap_params(
    input: &[u8],
    flags: &Flags,
) -> Result<Option<BootstrapParams>, BootstrapError> {
    if input.is_empty() {
        return Ok(None);
    }
    let Ok(params) = BootstrapParams::parse_from_bytes(input) else {
        return Ok(None);
    };
    if params.instance_id == flags.id && params.namespace == flags.namespace {
        return Ok(Some(params));
    }
    // An `Any` reads as parameters too: its type URL lands in the id, its value in the namespace,
    // and nothing else is set. Anything more was meant for another shim.
    let identity_only = BootstrapParams {
        instance_id: params.instance_id.clone(),
        namespace: params.namespace.clone(),
        ..BootstrapParams::default()
    };
    if params == identity_only {
        return Ok(None);
    }
    Err(BootstrapError::Mismatch {
        namespace: params.namespace,
        id: params.instance_id,
        flags_namespace: flags.namespace.clone(),
        flags_id: flags.id.clone(),
    })
}

/// The answer, byte for byte.
pub(crate) fn encode(address: &str, reply: Reply) -> Result<Vec<u8>, BootstrapError> {
    Ok(match reply {
        Reply::Bootstrap => BootstrapResult {
            version: 3,
            address: address.to_owned(),
            protocol: "ttrpc".to_owned(),
            ..BootstrapResult::default()
        }
        .write_to_bytes()?,
        Reply::Json => {
            #[derive(serde::Serialize)]
            struct Answer<'a> {
                version: u32,
                address: &'a str,
                protocol: &'a str,
            }
            serde_json::to_vec(&Answer {
                version: 2,
                address,
                protocol: "ttrpc",
            })?
        }
        Reply::Address => address.as_bytes().to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use containerd_shim_protos::protobuf::EnumOrUnknown;
    use containerd_shim_protos::protobuf::well_known_types::any::Any;

    use super::*;

    fn flags() -> Flags {
        Flags {
            id: "abc".into(),
            namespace: "k8s.io".into(),
            address: "/run/containerd/containerd.sock".into(),
            ..Flags::default()
        }
    }

    fn environment() -> Environment {
        Environment {
            ttrpc_address: Some("/run/containerd/containerd.sock.ttrpc".into()),
            ..Environment::default()
        }
    }

    fn params() -> BootstrapParams {
        BootstrapParams {
            instance_id: "abc".into(),
            namespace: "k8s.io".into(),
            log_level: EnumOrUnknown::new(LogLevel::LOG_LEVEL_DEBUG),
            containerd_ttrpc_address: "unix:///c.ttrpc".into(),
            containerd_grpc_address: "/c".into(),
            socket_dir: Some("/run/s".into()),
            ..BootstrapParams::default()
        }
    }

    #[test]
    fn since_2_3_protobuf_both_ways() {
        let input = params().write_to_bytes().expect("encode");
        let request = parse(&input, &flags(), Environment::default()).expect("parse");
        assert_eq!(request.reply, Reply::Bootstrap);
        assert_eq!(request.ttrpc_address, "unix:///c.ttrpc");
        assert_eq!(request.grpc_address, "/c");
        assert_eq!(request.socket_dir, PathBuf::from("/run/s"));
        assert!(request.debug);

        let answer = encode("unix:///run/s/x", request.reply).expect("encode");
        let answer = BootstrapResult::parse_from_bytes(&answer).expect("decode");
        assert_eq!((answer.version, answer.protocol.as_str()), (3, "ttrpc"));
        assert_eq!(answer.address, "unix:///run/s/x");
    }

    #[test]
    fn from_1_7_json_version_2() {
        let mut environment = environment();
        environment.max_shim_version = Some("2".into());
        let request = parse(&[], &flags(), environment).expect("parse");
        assert_eq!(request.reply, Reply::Json);
        assert_eq!(request.socket_dir, PathBuf::from(DEFAULT_SOCKET_DIR));
        assert_eq!(
            encode("unix:///a", request.reply).expect("encode"),
            br#"{"version":2,"address":"unix:///a","protocol":"ttrpc"}"#
        );
    }

    #[test]
    fn in_1_6_the_bare_address() {
        let request = parse(&[], &flags(), environment()).expect("parse");
        assert_eq!(request.reply, Reply::Address);
        assert_eq!(request.grpc_address, "/run/containerd/containerd.sock");
        assert_eq!(
            encode("unix:///a", request.reply).expect("encode"),
            b"unix:///a"
        );
    }

    #[test]
    fn runtime_options_on_stdin_are_not_parameters() {
        let options = Any {
            type_url: "containerd.runc.v1.Options".into(),
            value: b"\x12\x06/shims".to_vec(),
            ..Any::default()
        };
        let input = options.write_to_bytes().expect("encode");
        let request = parse(&input, &flags(), environment()).expect("parse");
        assert_eq!(request.reply, Reply::Address);
        // Nor is what is no UTF-8, and so no parameters at all.
        let binary = Any {
            value: vec![0xff, 0xfe],
            ..options
        };
        let input = binary.write_to_bytes().expect("encode");
        assert_eq!(
            parse(&input, &flags(), environment()).expect("parse").reply,
            Reply::Address
        );
    }

    #[test]
    fn parameters_for_another_shim_are_refused() {
        let mut other = params();
        other.instance_id = "someone-else".into();
        let input = other.write_to_bytes().expect("encode");
        let error = parse(&input, &flags(), environment()).expect_err("must be refused");
        assert!(error.to_string().contains("k8s.io/someone-else"), "{error}");
    }

    #[test]
    fn events_need_an_address() {
        let error = parse(&[], &flags(), Environment::default()).expect_err("must be refused");
        assert!(error.to_string().contains("TTRPC_ADDRESS"), "{error}");
    }
}
