//! What `start` responds, in the form that the calling containerd reads. [`super::request`] has the
//! table of forms. Called by [`super::run`]; pure.
#![forbid(unsafe_code)]

use containerd_shim_protos::bootstrap_api::BootstrapResult;
use containerd_shim_protos::protobuf::{self, Message as _};

/// The form of the response to `start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResponseForm {
    /// Protobuf `BootstrapResult`.
    Bootstrap,
    /// JSON.
    Json,
    /// The address alone.
    Address,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ResponseError {
    #[error("cannot encode the response to start: {0}; report this as a bug")]
    Encode(#[from] protobuf::Error),
    #[error("cannot encode the response to start: {0}; report this as a bug")]
    EncodeJson(#[from] serde_json::Error),
}

#[derive(serde::Serialize)]
struct JsonResponse<'a> {
    version: u32,
    address: &'a str,
    protocol: &'a str,
}

/// The bytes of the response that says: the server is at `address`.
pub(crate) fn encode(address: &str, form: ResponseForm) -> Result<Vec<u8>, ResponseError> {
    Ok(match form {
        ResponseForm::Bootstrap => BootstrapResult {
            version: 3,
            address: address.to_owned(),
            protocol: "ttrpc".to_owned(),
            ..BootstrapResult::default()
        }
        .write_to_bytes()?,
        ResponseForm::Json => serde_json::to_vec(&JsonResponse {
            version: 2,
            address,
            protocol: "ttrpc",
        })?,
        ResponseForm::Address => address.as_bytes().to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containerd_2_3_gets_protobuf_with_version_3() {
        let response = encode("unix:///run/s/x", ResponseForm::Bootstrap).expect("encode");
        let result = BootstrapResult::parse_from_bytes(&response).expect("decode");
        assert_eq!((result.version, result.protocol.as_str()), (3, "ttrpc"));
        assert_eq!(result.address, "unix:///run/s/x");
    }

    #[test]
    fn containerd_1_7_gets_json_with_version_2() {
        assert_eq!(
            encode("unix:///a", ResponseForm::Json).expect("encode"),
            br#"{"version":2,"address":"unix:///a","protocol":"ttrpc"}"#
        );
    }

    #[test]
    fn containerd_1_6_gets_the_bare_address() {
        assert_eq!(
            encode("unix:///a", ResponseForm::Address).expect("encode"),
            b"unix:///a"
        );
    }
}
