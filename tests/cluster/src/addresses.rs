//! The addresses of the cluster.

use std::net::Ipv4Addr;

/// The bridge of nodes and control plane; the control plane's address on it.
pub(crate) const BRIDGE: &str = "e2e";
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 213, 0, 1);
/// Addresses of all pods, of services, and of a name server that does not exist.
pub(crate) const PODS: &str = "10.214.0.0/16";
pub(crate) const SERVICES: &str = "10.215.0.0/16";
pub(crate) const CLUSTER_DNS: &str = "10.215.0.10";
/// Where the images' registry listens.
pub(crate) const REGISTRY: &str = "10.213.0.1:5000";
pub(crate) const PRIVATE_REGISTRY: &str = "10.213.0.1:5001";
pub(crate) const SERVER: &str = "https://10.213.0.1:6443";
