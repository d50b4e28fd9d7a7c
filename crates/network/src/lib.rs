//! What a guest may reach of the network: the grammar of grants, and what they allow.
//!
//! Rules are written by people, in annotations and in the node's policy:
//!
//! ```text
//! listen   tcp:8080, udp:53, unix:/run/app.sock
//! connect  tcp:db.prod:5432, tcp:10.0.0.0/8:*, tcp:[fd00::]/8:443-445, tcp:localhost:9090, udp:*:53, unix:/run/db/*, dns
//! network  none, or pod: whatever the network of the pod allows
//! ```
//!
//! [`NetworkRules`] are such rules as they are written; the policy's ceiling has the same type. [`Network`] is what
//! is left of them for one container. The planning crate makes it, and the guest's host functions ask it before each bind,
//! listen, connect and send.
//!
//! Nothing here opens a socket, resolves a name or reads a file: equal inputs have equal answers. The caller
//! resolves names ([`NamedAddresses`]) and the symlinks of a path.
#![forbid(unsafe_code)]

mod address;
mod attempt;
mod ceiling;
mod host;
mod network;
mod ports;
mod problem;
mod rule;
mod rules;
#[cfg(test)]
mod soundness_tests;
mod transport;
mod unix;

pub use address::{AddressBlock, AddressClass};
pub use attempt::NetworkAttempt;
pub use ceiling::CeilingError;
pub use host::HostPattern;
pub use network::{NamedAddresses, Network, NetworkNeeds};
pub use ports::{PortRange, PortSet};
pub use problem::RuleProblem;
pub use rule::{ConnectRule, ListenRule, RuleError};
pub use rules::{
    MAX_RULES, NetworkMode, NetworkRules, RuleListError, parse_connect, parse_listen, parse_mode,
};
pub use transport::Transport;
pub use unix::UnixPattern;

/// The annotation that lists what a container may listen on.
pub const LISTEN_ANNOTATION: &str = "wasm-interp.io/listen";

/// The annotation that lists what a container may connect and send to.
pub const CONNECT_ANNOTATION: &str = "wasm-interp.io/connect";

/// The annotation that grants a container the pod's network, or nothing.
pub const NETWORK_ANNOTATION: &str = "wasm-interp.io/network";
