//! What tests grant a guest of the network.

use wasm_interp_network::{Network, NetworkRules, parse_connect, parse_listen};

/// What these rules grant.
///
/// # Panics
/// If a rule cannot be parsed, with it.
pub fn granted(listen: &str, connect: &str) -> Network {
    let rules = NetworkRules {
        listen: parse_listen(listen).expect(listen),
        connect: parse_connect(connect).expect(connect),
        ..NetworkRules::none()
    };
    Network::new(rules.clone(), rules).expect("within itself")
}
