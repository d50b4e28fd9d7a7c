//! What `start` is asked, by every containerd since 1.6. Called by [`super::run`]; pure.
//!
//! | containerd | asks by | expects ([`super::response`]) |
//! |---|---|---|
//! | ≥ 2.3 | `BootstrapParams` on stdin | `BootstrapResult`, version 3 |
//! | 1.7 – 2.2 | flags and environment (`MAX_SHIM_VERSION`) | JSON, version 2 (1.7 refuses 3; 2.x accepts 2) |
//! | 1.6 | flags and environment | the bare address |
//!
//! In the older two, stdin may hold runtime options (an `Any`) instead.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use containerd_shim_protos::bootstrap_api::{BootstrapParams, LogLevel};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Enum as _, Message as _};

use super::response::ResponseForm;
use crate::args::Flags;
use crate::options::{self, OptionsError};

/// The directory of sockets, if containerd names none. It is short because the path of a socket is
/// limited to 108 bytes.
const DEFAULT_SOCKET_DIR: &str = "/run/containerd/s";

/// The environment variables that an older containerd sets.
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

/// What `start` is asked, in one form for all versions.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BootstrapRequest {
    /// Container id.
    pub(crate) id: String,
    /// containerd namespace.
    pub(crate) namespace: String,
    /// containerd's gRPC address. The socket's name is derived from it.
    pub(crate) grpc_address: String,
    /// containerd's ttrpc address, to which events are sent.
    pub(crate) ttrpc_address: String,
    /// Log at debug level.
    pub(crate) debug: bool,
    /// The directory of the socket.
    pub(crate) socket_dir: PathBuf,
    /// The form of the response.
    pub(crate) response: ResponseForm,
    /// The cgroup that the server is to be in (option `ShimCgroup`).
    pub(crate) shim_cgroup: Option<String>,
}

/// `start` cannot use what containerd gave it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error(
        "cannot start a shim: the bootstrap parameters on stdin are for {namespace}/{id}, but the \
         command line is for {flags_namespace}/{flags_id}; give both the same container"
    )]
    Mismatch {
        namespace: String,
        id: String,
        flags_namespace: String,
        flags_id: String,
    },
    #[error(transparent)]
    Options(#[from] OptionsError),
    #[error("cannot start a shim: containerd's ttrpc address is missing; set TTRPC_ADDRESS")]
    NoEventsAddress,
}

/// Reads `input` (stdin), the flags and the environment.
pub(crate) fn parse(
    input: &[u8],
    flags: &Flags,
    environment: Environment,
) -> Result<BootstrapRequest, RequestError> {
    let request = match bootstrap_params(input, flags)? {
        Some(params) => BootstrapRequest {
            id: params.instance_id,
            namespace: params.namespace,
            grpc_address: params.containerd_grpc_address,
            ttrpc_address: params.containerd_ttrpc_address,
            // The enum is open: a smaller number is a more verbose level.
            debug: flags.debug || params.log_level.value() <= LogLevel::LOG_LEVEL_DEBUG.value(),
            socket_dir: params
                .socket_dir
                .filter(|dir| !dir.is_empty())
                .map_or_else(|| DEFAULT_SOCKET_DIR.into(), PathBuf::from),
            response: ResponseForm::Bootstrap,
            shim_cgroup: options::shim_cgroup(
                params
                    .extensions
                    .iter()
                    .filter_map(|one| one.value.as_ref()),
            )?,
        },
        None => BootstrapRequest {
            id: flags.id.clone(),
            namespace: flags.namespace.clone(),
            grpc_address: Some(flags.address.clone())
                .filter(|address| !address.is_empty())
                .or(environment.grpc_address)
                .unwrap_or_default(),
            ttrpc_address: environment.ttrpc_address.unwrap_or_default(),
            debug: flags.debug,
            socket_dir: DEFAULT_SOCKET_DIR.into(),
            response: match environment.max_shim_version {
                Some(_) => ResponseForm::Json,
                None => ResponseForm::Address,
            },
            // Whatever else is there is not for us.
            shim_cgroup: options::shim_cgroup(Any::parse_from_bytes(input).ok().as_ref())?,
        },
    };
    // It fails here, because containerd reads what `start` prints. It does not read the server's.
    if request.ttrpc_address.is_empty() {
        return Err(RequestError::NoEventsAddress);
    }
    Ok(request)
}

/// `None` if stdin holds nothing, or the runtime options of an older containerd.
fn bootstrap_params(input: &[u8], flags: &Flags) -> Result<Option<BootstrapParams>, RequestError> {
    if input.is_empty() {
        return Ok(None);
    }
    let Ok(params) = BootstrapParams::parse_from_bytes(input) else {
        return Ok(None);
    };
    if params.instance_id == flags.id && params.namespace == flags.namespace {
        return Ok(Some(params));
    }
    // An `Any` can be parsed as parameters too: then its type URL is the id, its value is the
    // namespace, and no other field is set. A message with more fields is for another shim.
    let identity_only = BootstrapParams {
        instance_id: params.instance_id.clone(),
        namespace: params.namespace.clone(),
        ..BootstrapParams::default()
    };
    if params == identity_only {
        return Ok(None);
    }
    Err(RequestError::Mismatch {
        namespace: params.namespace,
        id: params.instance_id,
        flags_namespace: flags.namespace.clone(),
        flags_id: flags.id.clone(),
    })
}

#[cfg(test)]
mod tests {
    use containerd_shim_protos::bootstrap_api::Extension;
    use containerd_shim_protos::protobuf::{EnumOrUnknown, MessageField};

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
    fn containerd_2_3_asks_by_parameters_on_stdin() {
        let input = params().write_to_bytes().expect("encode");
        let request = parse(&input, &flags(), Environment::default()).expect("parse");
        assert_eq!(request.response, ResponseForm::Bootstrap);
        assert_eq!(request.ttrpc_address, "unix:///c.ttrpc");
        assert_eq!(request.grpc_address, "/c");
        assert_eq!(request.socket_dir, PathBuf::from("/run/s"));
        assert!(request.debug);
    }

    #[test]
    fn containerd_1_7_asks_by_flags_and_max_shim_version() {
        let mut environment = environment();
        environment.max_shim_version = Some("2".into());
        let request = parse(&[], &flags(), environment).expect("parse");
        assert_eq!(request.response, ResponseForm::Json);
        assert_eq!(request.socket_dir, PathBuf::from(DEFAULT_SOCKET_DIR));
    }

    #[test]
    fn containerd_1_6_asks_by_flags_and_environment() {
        let request = parse(&[], &flags(), environment()).expect("parse");
        assert_eq!(request.response, ResponseForm::Address);
        assert_eq!(request.grpc_address, "/run/containerd/containerd.sock");
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
        assert_eq!(request.response, ResponseForm::Address);
        // 0x1a is the field of the shim's cgroup.
        let with_cgroup = Any {
            value: b"\x1a\x06/shims".to_vec(),
            ..options.clone()
        };
        let input = with_cgroup.write_to_bytes().expect("encode");
        let request = parse(&input, &flags(), environment()).expect("parse");
        assert_eq!(request.shim_cgroup.as_deref(), Some("/shims"));
        let mut params = params();
        params.extensions.push(Extension {
            value: MessageField::some(with_cgroup),
            ..Extension::default()
        });
        let input = params.write_to_bytes().expect("encode");
        let request = parse(&input, &flags(), Environment::default()).expect("parse");
        assert_eq!(request.shim_cgroup.as_deref(), Some("/shims"));
        // This one cannot be parsed as parameters, because its value is not UTF-8.
        let binary = Any {
            type_url: "another.Options".into(),
            value: vec![0xff, 0xfe],
            ..options
        };
        let input = binary.write_to_bytes().expect("encode");
        let request = parse(&input, &flags(), environment()).expect("parse");
        assert_eq!(request.response, ResponseForm::Address);
    }

    #[test]
    fn parameters_for_another_container_are_refused() {
        let mut other = params();
        other.instance_id = "another".into();
        let input = other.write_to_bytes().expect("encode");
        let error = parse(&input, &flags(), environment()).expect_err("must be refused");
        assert!(error.to_string().contains("k8s.io/another"), "{error}");
    }

    #[test]
    fn missing_ttrpc_address_is_refused() {
        let error = parse(&[], &flags(), Environment::default()).expect_err("must be refused");
        assert!(error.to_string().contains("TTRPC_ADDRESS"), "{error}");
    }
}
