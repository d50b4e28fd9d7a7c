//! The ways in which a node's containerd is laid out, by the names that people know. Used by jobs, reports and `layout`.

use serde::{Deserialize, Serialize};

/// A layout of a node's containerd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Distribution {
    /// A containerd with a service of its own, configured in `/etc/containerd`: Debian, Ubuntu, kubeadm, kind, EKS,
    /// AKS, GKE on Ubuntu.
    Containerd,
    /// k3s.
    K3s,
    /// RKE2.
    Rke2,
    /// k0s.
    K0s,
    /// MicroK8s.
    MicroK8s,
}

impl Distribution {
    /// The name that `--distribution` takes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::K3s => "k3s",
            Self::Rke2 => "rke2",
            Self::K0s => "k0s",
            Self::MicroK8s => "microk8s",
        }
    }
}

/// The layout that a job uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DistributionChoice {
    /// Detect it.
    #[default]
    Auto,
    /// This one.
    #[serde(untagged)]
    Named(Distribution),
}
