//! `wasi:sockets`: the kernel's sockets, none of which lets the caller wait, under the grants of the container.
//!
//! What is granted is asked in `crate::sockets::inet`, at each bind, listen, connect and send, as for a module. A
//! socket that no grant asks for exists in name: it says at its first use which address is not granted.

mod common;
mod names;
mod options;
mod tcp;
mod udp;
