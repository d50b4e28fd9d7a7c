//! Typed messages as containerd's `typeurl` package writes them. Called by `publisher`, `service`
//! and `stats`.
#![forbid(unsafe_code)]

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{self, MessageFull};

/// The message with its type, whose URL is the bare name.
pub(crate) fn any<M: MessageFull>(message: &M) -> protobuf::Result<Any> {
    Ok(Any {
        type_url: M::descriptor().full_name().to_owned(),
        value: message.write_to_bytes()?,
        ..Any::default()
    })
}

#[cfg(test)]
mod tests {
    use containerd_shim_protos::events::task::TaskStart;

    use super::*;

    #[test]
    fn type_url_is_the_bare_name_of_the_message() {
        let any = any(&TaskStart::default()).expect("encode");
        assert_eq!(any.type_url, "containerd.events.TaskStart");
    }
}
