//! What guests may be granted of the network: `network` in the policy file.

use serde::{Deserialize, Serialize};
use wasm_interp_network::{
    CeilingError, ConnectRule, ListenRule, NetworkMode, NetworkRules, UnixPattern,
};

/// What guests get of the network without annotations, and the most that annotations grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuestNetworkPolicy {
    /// What a container gets for each annotation that it does not have.
    pub default: NetworkRules,
    /// The most that a container gets, whatever its annotations say.
    pub ceiling: NetworkRules,
    /// The same for a container that shares the node's network.
    pub host_network_ceiling: NetworkRules,
}

impl Default for GuestNetworkPolicy {
    /// Nothing without annotations. By annotations what the pod's network allows to any container, and Unix
    /// sockets among the container's files.
    fn default() -> Self {
        Self {
            default: NetworkRules::none(),
            ceiling: NetworkRules {
                mode: NetworkMode::Pod,
                listen: vec![ListenRule::Unix(UnixPattern::any())],
                connect: vec![ConnectRule::Unix(UnixPattern::any())],
            },
            host_network_ceiling: NetworkRules::none(),
        }
    }
}

impl GuestNetworkPolicy {
    /// Whether the default is beneath the ceiling.
    pub(super) fn check(&self) -> Result<(), CeilingError> {
        self.default.check(&self.ceiling)
    }
}
