//! What Wasmtime's macro makes of the WIT files: types, and a trait for each interface and resource. It is told which
//! types of ours are handles and failures.
#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic
)]

wasmtime::component::bindgen!({
    path: "wit",
    world: "wasm-interp:host/command",
    imports: { default: trappable },
    exports: { default: async },
    trappable_error_type: {
        "wasi:io/streams.stream-error" => crate::p2::failure::StreamFailure,
        "wasi:filesystem/types.error-code" => crate::p2::failure::FileFailure,
        "wasi:sockets/network.error-code" => crate::p2::failure::SocketFailure,
    },
    with: {
        "wasi:io/error.error": crate::p2::failure::IoError,
        "wasi:io/poll.pollable": crate::p2::handles::Pollable,
        "wasi:io/streams.input-stream": crate::p2::handles::InputStream,
        "wasi:io/streams.output-stream": crate::p2::handles::OutputHandle,
        "wasi:cli/terminal-input.terminal-input": crate::p2::handles::InputTerminal,
        "wasi:cli/terminal-output.terminal-output": crate::p2::handles::OutputTerminal,
        "wasi:filesystem/types.descriptor": crate::p2::handles::FileHandle,
        "wasi:filesystem/types.directory-entry-stream": crate::p2::handles::DirectoryEntries,
        "wasi:sockets/network.network": crate::p2::handles::NetworkHandle,
        "wasi:sockets/ip-name-lookup.resolve-address-stream": crate::p2::handles::FoundAddresses,
        "wasi:sockets/tcp.tcp-socket": crate::p2::handles::TcpHandle,
        "wasi:sockets/udp.udp-socket": crate::p2::handles::UdpHandle,
        "wasi:sockets/udp.incoming-datagram-stream": crate::p2::handles::IncomingDatagrams,
        "wasi:sockets/udp.outgoing-datagram-stream": crate::p2::handles::OutgoingDatagrams,
    },
    require_store_data_send: true,
});
