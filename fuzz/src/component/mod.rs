//! The host functions of a component, called as Wasmtime calls them for one, without a component: with handles that
//! the guest has, in any order, dropped in any order. Nothing is compiled for it, and no Wasm runs.

mod calls;
mod files;
mod sockets;
mod streams;
mod values;
mod waiting;

use wasm_interp_network::Network;
use wasm_interp_wasi::LateMounts;
use wasm_interp_wasi::p2::ComponentGuest;
use wasm_interp_wasi::p2::fuzzing::wasi::cli::stdin::Host as _;
use wasm_interp_wasi::p2::fuzzing::wasi::cli::stdout::Host as _;
use wasm_interp_wasi::p2::fuzzing::wasi::filesystem::{preopens, types as filesystem};
use wasm_interp_wasi::p2::fuzzing::wasi::io::{error, poll, streams as io};
use wasm_interp_wasi::p2::fuzzing::wasi::sockets::{
    instance_network, ip_name_lookup, network, tcp, tcp_create_socket, udp, udp_create_socket,
};
use wasm_interp_wasi::p2::fuzzing::{FileFailure, Resource, SocketFailure, StreamFailure, Trap};

pub use self::calls::Call;
use self::calls::PathCall;
use self::values::{Choice, Path};
use crate::contained::SECRET;
use crate::host::settings;

/// What ends a guest that breaks an interface's contract. Nothing else may: a handle is never unknown here.
const TRAPS: [&str; 4] = [
    "the guest writes ",
    "the guest sends ",
    "the list of what to poll is ",
    " random bytes at once are more than ",
];

/// The handles of one kind that the guest has.
struct Handles<T: 'static>(Vec<Resource<T>>);

impl<T> Handles<T> {
    fn put(&mut self, handle: Resource<T>) {
        self.0.push(handle);
    }

    fn at(&self, pick: u8) -> Option<usize> {
        usize::from(pick).checked_rem(self.0.len())
    }

    /// A handle for one call.
    fn lend(&self, pick: u8) -> Option<Resource<T>> {
        let at = self.at(pick)?;
        Some(Resource::new_borrow(self.0[at].rep()))
    }

    /// A handle that the guest drops.
    fn take(&mut self, pick: u8) -> Option<Resource<T>> {
        let at = self.at(pick)?;
        Some(self.0.swap_remove(at))
    }
}

macro_rules! all_handles {
    ($($name:ident: $type:ty, $drop:path;)*) => {
        /// All handles of the guest.
        struct AllHandles {
            $($name: Handles<$type>,)*
        }

        impl AllHandles {
            fn none() -> Self {
                Self { $($name: Handles(Vec::new()),)* }
            }
        }

        /// The kinds of handles.
        #[derive(Clone, Copy, Debug)]
        #[allow(non_camel_case_types)]
        enum Kind {
            $($name,)*
        }

        const KINDS: &[Kind] = &[$(Kind::$name,)*];

        impl Component {
            /// Drops one handle of this kind, if there is one. Whether there was.
            fn drop_one(&mut self, kind: Kind, pick: u8) -> bool {
                match kind {
                    $(Kind::$name => match self.handles.$name.take(pick) {
                        Some(handle) => {
                            let dropped = $drop(&mut self.guest, handle);
                            self.plain(dropped);
                            true
                        }
                        None => false,
                    },)*
                }
            }
        }
    };
}

all_handles! {
    files: filesystem::Descriptor, filesystem::HostDescriptor::drop;
    entries: filesystem::DirectoryEntryStream, filesystem::HostDirectoryEntryStream::drop;
    inputs: io::InputStream, io::HostInputStream::drop;
    outputs: io::OutputStream, io::HostOutputStream::drop;
    pollables: poll::Pollable, poll::HostPollable::drop;
    errors: error::Error, error::HostError::drop;
    networks: network::Network, network::HostNetwork::drop;
    tcp: tcp::TcpSocket, tcp::HostTcpSocket::drop;
    udp: udp::UdpSocket, udp::HostUdpSocket::drop;
    incoming: udp::IncomingDatagramStream, udp::HostIncomingDatagramStream::drop;
    outgoing: udp::OutgoingDatagramStream, udp::HostOutgoingDatagramStream::drop;
    found: ip_name_lookup::ResolveAddressStream, ip_name_lookup::HostResolveAddressStream::drop;
}

/// How a guest behaves.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// It breaks the interfaces' contracts too, and ends by that.
    pub rude: bool,
    /// It drops its handles before it ends.
    pub drops: bool,
}

/// A component in the calling thread's root directory.
pub struct Component {
    guest: ComponentGuest,
    handles: AllHandles,
    rude: bool,
    ended: bool,
    /// It has seen a name in a directory or written to a stream that it made, as a planted fault wants.
    deep: bool,
}

/// Opens a file beneath the root, to read and to write it.
fn open_call(name: &'static str) -> Call {
    let open = PathCall::Open(
        Choice::FIRST,
        Path(name),
        Choice::FIRST,
        Choice::READ_AND_WRITE,
    );
    Call::Path(0, open)
}

impl Component {
    /// With a handle of most kinds to begin with, as far as its grants give them.
    fn new(late_mounts: LateMounts, granted: Network, rude: bool) -> Self {
        let guest = ComponentGuest::new(settings(late_mounts, granted), "/a".to_owned());
        let mut component = Self {
            guest: guest.expect("a guest"),
            handles: AllHandles::none(),
            rude,
            ended: false,
            deep: false,
        };
        let guest = &mut component.guest;
        let roots = preopens::Host::get_directories(guest).expect("the root");
        let network = instance_network::Host::instance_network(guest).expect("the network");
        let (input, output) = (guest.get_stdin(), guest.get_stdout());
        component.handles.networks.put(network);
        component.handles.inputs.put(input.expect("a stream"));
        component.handles.outputs.put(output.expect("a stream"));
        for (root, name) in roots {
            assert_eq!(name, "/");
            component.handles.files.put(root);
        }
        component.call(&open_call("file"));
        for family in values::FAMILIES {
            let guest = &mut component.guest;
            let stream = tcp_create_socket::Host::create_tcp_socket(guest, family);
            let datagram = udp_create_socket::Host::create_udp_socket(guest, family);
            if let Some(socket) = component.socket(stream) {
                component.handles.tcp.put(socket);
            }
            if let Some(socket) = component.socket(datagram) {
                component.handles.udp.put(socket);
            }
        }
        component
    }

    fn call(&mut self, call: &Call) {
        let called = match call {
            Call::File(file, call) => self.call_file(*file, call),
            Call::Path(directory, call) => self.call_path(*directory, call),
            Call::Input(stream, call) => self.call_input(*stream, call),
            Call::Output(stream, call) => self.call_output(*stream, call),
            Call::Wait(pollable, call) => self.call_wait(*pollable, call),
            Call::Tcp(socket, call) => self.call_tcp(*socket, call),
            Call::Udp(socket, call) => self.call_udp(*socket, call),
            Call::Other(call) => self.call_other(call),
            Call::Drop(kind, pick) => {
                let kind = KINDS[usize::from(*kind) % KINDS.len()];
                self.drop_one(kind, *pick).then_some(())
            }
        };
        // Without the handle, or refused.
        let _: Option<()> = called;
    }

    /// Calls all functions, until the guest ends. Whether it has come to what takes several.
    pub fn run(
        late_mounts: LateMounts,
        granted: Network,
        calls: &[Call],
        manners: Manners,
    ) -> bool {
        let mut component = Self::new(late_mounts, granted, manners.rude);
        for call in calls {
            component.call(call);
            if component.ended {
                return component.deep;
            }
        }
        if manners.drops {
            for kind in KINDS {
                while component.drop_one(*kind, 0) {}
            }
        }
        component.deep
    }

    fn plain<T>(&mut self, result: Result<T, Trap>) -> Option<T> {
        result.map_err(|trap| self.trapped(&trap)).ok()
    }

    fn file<T>(&mut self, result: Result<T, FileFailure>) -> Option<T> {
        let failure = match result {
            Ok(value) => return Some(value),
            Err(failure) => failure,
        };
        let code = filesystem::Host::convert_error_code(&mut self.guest, failure);
        self.plain(code);
        None
    }

    fn socket<T>(&mut self, result: Result<T, SocketFailure>) -> Option<T> {
        let failure = match result {
            Ok(value) => return Some(value),
            Err(failure) => failure,
        };
        let code = network::Host::convert_error_code(&mut self.guest, failure);
        self.plain(code);
        None
    }

    fn stream<T>(&mut self, result: Result<T, StreamFailure>) -> Option<T> {
        let failure = match result {
            Ok(value) => return Some(value),
            Err(failure) => failure,
        };
        let told = io::Host::convert_stream_error(&mut self.guest, failure);
        if let Some(io::StreamError::LastOperationFailed(error)) = self.plain(told) {
            self.handles.errors.put(error);
        }
        None
    }

    fn trapped(&mut self, trap: &Trap) {
        let text = format!("{trap:#}");
        assert!(self.rude, "{text}");
        assert!(TRAPS.iter().any(|known| text.contains(known)), "{text}");
        self.ended = true;
    }
}

/// What a guest reads is never what lies outside.
fn inside(bytes: &[u8]) {
    let secret = SECRET.as_bytes();
    assert!(bytes.windows(secret.len()).all(|part| part != secret));
}
