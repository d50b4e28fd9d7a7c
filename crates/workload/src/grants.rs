//! What a guest may reach and what is kept from it: the spec's mounts and devices, each a decision
//! of its own. Called by [`crate::resolve`]; the kernel's mounts enforce what is decided here.

use std::path::{Component, Path, PathBuf};

use crate::error::PlanError;
use crate::plan::{DirectoryRights, Grant, GrantKind, Tmp, Withheld, Withholding};
use crate::program::text;
use crate::request::MountRequest;
use crate::view::{Content, MountPoint, Refusal};

/// The device nodes that a Wasm guest gets.
const DEVICES: [&str; 5] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
];

/// Grants and refusals so far.
pub(crate) struct Reach {
    grants: Vec<Granted>,
    withheld: Vec<Withheld>,
}

struct Granted {
    /// Where the grant's files are, without symlinks.
    at: PathBuf,
    grant: Grant,
}

impl Reach {
    /// The root filesystem alone.
    pub(crate) fn new(root: DirectoryRights) -> Self {
        let grant = Grant {
            path: "/".to_owned(),
            kind: GrantKind::Directory,
            rights: root,
            source: "root filesystem".to_owned(),
        };
        Self {
            grants: vec![Granted {
                at: PathBuf::from("/"),
                grant,
            }],
            withheld: Vec::new(),
        }
    }

    /// Adds the spec's mount number `index`.
    pub(crate) fn mount(
        &mut self,
        index: usize,
        mount: &MountRequest,
        point: &MountPoint,
    ) -> Result<(), PlanError> {
        let path = text(&point.path)?;
        let kind = match point.content {
            Content::Directory => GrantKind::Directory,
            Content::File => GrantKind::File,
            Content::Refused(refusal) => {
                let reason = refusal.reason().to_owned();
                let by = Withholding::Unmounted { mount: index };
                self.withheld.push(Withheld { path, reason, by });
                return Ok(());
            }
        };
        // What earlier mounts put at or beneath this place is out of sight now.
        self.grants
            .retain(|granted| !granted.at.starts_with(&point.path));
        self.withheld.retain(|hidden| {
            hidden.by != Withholding::Masked || !Path::new(&hidden.path).starts_with(&point.path)
        });
        self.mask(mount, point)?;
        let grant = Grant {
            path,
            kind,
            rights: mount.rights,
            source: mount.source.clone(),
        };
        self.push(&point.path, grant, &mount.destination)
    }

    /// Withholds a device of the spec that is not one of the few.
    pub(crate) fn device(&mut self, path: &Path) -> Result<(), PlanError> {
        if !is_common_device(path) {
            self.withheld.push(Withheld {
                path: text(path)?,
                reason: Refusal::Device.reason().to_owned(),
                by: Withholding::NoDevice,
            });
        }
        Ok(())
    }

    /// Adds the temporary directory that the spec lacks.
    pub(crate) fn tmp(&mut self, tmp: &Tmp, name: &Path) -> Result<(), PlanError> {
        let grant = Grant {
            path: tmp.path.clone(),
            kind: GrantKind::Directory,
            rights: DirectoryRights::ReadWrite,
            source: "tmpfs, added".to_owned(),
        };
        self.push(Path::new(&tmp.path), grant, name)
    }

    /// The rights that hold at `path`, which is without symlinks: those of the last mount over it.
    pub(crate) fn rights(&self, path: &Path) -> DirectoryRights {
        self.grants
            .iter()
            .rev()
            .find(|granted| path.starts_with(&granted.at))
            .map_or(DirectoryRights::ReadOnly, |granted| granted.grant.rights)
    }

    /// What a guest is granted and what not.
    pub(crate) fn into_parts(self) -> (Vec<Grant>, Vec<Withheld>) {
        let grants = self.grants.into_iter().map(|granted| granted.grant);
        (grants.collect(), self.withheld)
    }

    /// Masks what a recursive bind mount brings along. The outermost is enough: what it holds goes
    /// with it.
    fn mask(&mut self, mount: &MountRequest, point: &MountPoint) -> Result<(), PlanError> {
        let inner = |at: &Path| {
            let mut outer = point.brings.iter();
            outer.any(|(outer, _)| outer != at && at.starts_with(outer))
        };
        for (at, fs) in point.brings.iter().filter(|(at, _)| !inner(at)) {
            self.withheld.push(Withheld {
                path: text(at)?,
                reason: format!("{} brings it along; {}", mount.source, fs.reason()),
                by: Withholding::Masked,
            });
        }
        Ok(())
    }

    /// Adds `grant`, and if the spec's name for it leads there through a symlink (`/var/run/x`),
    /// that name too: WASI hosts refuse absolute symlinks even beneath a grant of `/`.
    fn push(&mut self, at: &Path, grant: Grant, name: &Path) -> Result<(), PlanError> {
        let climbs = name.components().any(|part| part == Component::ParentDir);
        let alias = (grant.kind == GrantKind::Directory && name != at && !climbs)
            .then(|| text(name))
            .transpose()?
            .map(|path| Grant {
                path,
                source: format!("{}, by the name that the spec gives it", grant.source),
                ..grant.clone()
            });
        self.grants.extend(
            [Some(grant), alias]
                .into_iter()
                .flatten()
                .map(|grant| Granted {
                    at: at.to_owned(),
                    grant,
                }),
        );
        Ok(())
    }
}

/// Whether a guest gets the device node at `path`.
pub(crate) fn is_common_device(path: &Path) -> bool {
    DEVICES.iter().any(|device| path == Path::new(device))
}
