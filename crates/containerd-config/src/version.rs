//! The versions of containerd's configuration.

/// The version of a configuration file, which decides where the runtimes are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigVersion {
    /// Since containerd 1.3.
    V2,
    /// Since 2.0.
    V3,
    /// Since 2.3 or so; the runtimes are in the same place as in version 3.
    V4,
}

impl ConfigVersion {
    /// The version with that number, if it is supported.
    #[must_use]
    pub fn of(number: i64) -> Option<Self> {
        match number {
            2 => Some(Self::V2),
            3 => Some(Self::V3),
            4 => Some(Self::V4),
            _ => None,
        }
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> i64 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
            Self::V4 => 4,
        }
    }

    /// The plugin that lists runtimes.
    #[must_use]
    pub fn plugin(self) -> &'static str {
        match self {
            Self::V2 => "io.containerd.grpc.v1.cri",
            Self::V3 | Self::V4 => "io.containerd.cri.v1.runtime",
        }
    }
}
