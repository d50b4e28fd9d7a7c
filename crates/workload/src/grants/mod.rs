//! Decides for each mount and device of the spec whether the guest gets it. Called by
//! [`crate::resolve`]; the kernel's mounts enforce these decisions.

mod capabilities;
mod devices;
mod network;

use std::collections::HashSet;
use std::path::Path;

use oci_spec::runtime::LinuxCapabilities;
use wasm_interp_network::{Network, NetworkAttempt};

pub use self::capabilities::{GUEST_CAPABILITIES, cut_capabilities};
pub(crate) use self::devices::is_common_device;
pub(crate) use self::network::{NetworkRequest, without_unix_sockets};
use crate::error::PlanError;
use crate::mounts::MountRequest;
use crate::plan::{Grant, GrantKind, GuestKind, MountAccess, Tmp, Withheld, Withholding};
use crate::program::text;
use crate::view::{MountContent, MountPoint, MountRefusal};

/// Why a component gets none, whatever the rules say.
const NO_UNIX_SOCKETS: &str = "WASI 0.2 has no Unix sockets";

/// Grants and refusals so far.
pub(crate) struct Grants {
    grants: Vec<Grant>,
    withheld: Vec<Withheld>,
}

impl Grants {
    /// The root filesystem alone.
    pub(crate) fn new(root: MountAccess) -> Self {
        let grant = Grant {
            path: "/".to_owned(),
            kind: GrantKind::Directory,
            access: root,
            source: "root filesystem".to_owned(),
        };
        Self {
            grants: vec![grant],
            withheld: Vec::new(),
        }
    }

    /// Adds the spec's mount number `index`.
    pub(crate) fn mount(
        &mut self,
        index: usize,
        mount: &MountRequest,
        point: &MountPoint,
        guest: GuestKind,
        network: &Network,
    ) -> Result<(), PlanError> {
        let path = text(&point.path)?;
        let kind = match point.content {
            MountContent::Directory => GrantKind::Directory,
            MountContent::File => GrantKind::File,
            MountContent::Refused(MountRefusal::Socket)
                if network.may_connect_unix(path.as_bytes()) =>
            {
                GrantKind::Socket
            }
            MountContent::Refused(MountRefusal::Socket) => {
                let reason = match guest {
                    GuestKind::Module => {
                        let attempt = NetworkAttempt::ConnectUnix(path.as_bytes());
                        format!("it is a socket; {}", network.annotation_for(&attempt))
                    }
                    GuestKind::Component => format!("it is a socket; {NO_UNIX_SOCKETS}"),
                };
                let by = Withholding::Unmounted { mount: index };
                self.withheld.push(Withheld { path, reason, by });
                return Ok(());
            }
            MountContent::Refused(refusal) => {
                let reason = refusal.reason().to_owned();
                let by = Withholding::Unmounted { mount: index };
                self.withheld.push(Withheld { path, reason, by });
                return Ok(());
            }
        };
        // This mount hides earlier mounts at or beneath its path.
        self.grants.retain(|grant| !is_beneath(&grant.path, &path));
        self.withheld
            .retain(|hidden| hidden.by != Withholding::Masked || !is_beneath(&hidden.path, &path));
        self.mask(mount, point)?;
        self.grants.push(Grant {
            path,
            kind,
            access: mount.access,
            source: mount.source.clone(),
        });
        Ok(())
    }

    /// Withholds a device of the spec unless every guest gets it.
    pub(crate) fn device(&mut self, path: &Path) -> Result<(), PlanError> {
        if !is_common_device(path) {
            self.withheld.push(Withheld {
                path: text(path)?,
                reason: MountRefusal::Device.reason().to_owned(),
                by: Withholding::NoDevice,
            });
        }
        Ok(())
    }

    /// Withholds the capabilities of the spec that no guest can use.
    pub(crate) fn capabilities(&mut self, capabilities: &LinuxCapabilities) {
        self.withheld.extend(capabilities::withheld(capabilities));
    }

    /// Adds the temporary directory that the spec lacks.
    pub(crate) fn tmp(&mut self, tmp: &Tmp) {
        self.grants.push(Grant {
            path: tmp.path.clone(),
            kind: GrantKind::Directory,
            access: MountAccess::Writable,
            source: "tmpfs, added".to_owned(),
        });
    }

    /// What the last mount over `path` allows, which has no symlinks.
    pub(crate) fn access(&self, path: &Path) -> MountAccess {
        self.grants
            .iter()
            .rev()
            .find(|grant| path.starts_with(&grant.path))
            .map_or(MountAccess::ReadOnly, |grant| grant.access)
    }

    /// The grants, and what is withheld.
    pub(crate) fn into_parts(self) -> (Vec<Grant>, Vec<Withheld>) {
        (self.grants, self.withheld)
    }

    /// Masks the kernel's file systems that a recursive bind mount brings along. Masking the outermost
    /// one hides those beneath it too.
    fn mask(&mut self, mount: &MountRequest, point: &MountPoint) -> Result<(), PlanError> {
        let all: HashSet<_> = point.brings.iter().map(|(at, _)| at.as_path()).collect();
        let inner = |at: &Path| at.ancestors().skip(1).any(|above| all.contains(above));
        for (at, fs) in point.brings.iter().filter(|(at, _)| !inner(at)) {
            self.withheld.push(Withheld {
                path: text(at)?,
                reason: format!("{} brings it along; {}", mount.source, fs.reason()),
                by: Withholding::Masked,
            });
        }
        Ok(())
    }
}

/// Whether `path` is `above` or lies beneath it. Both have no symlinks, `.` and `..`, so bytes are compared: each
/// mount is compared with all others.
fn is_beneath(path: &str, above: &str) -> bool {
    path.strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_lies_beneath_itself_and_whole_names_above_it() {
        for (path, above, beneath) in [
            ("/a/b", "/a", true),
            ("/a", "/a", true),
            ("/ab", "/a", false),
            ("/", "/a", false),
            ("/a", "/a/b", false),
        ] {
            assert_eq!(is_beneath(path, above), beneath, "{path} {above}");
        }
    }
}
