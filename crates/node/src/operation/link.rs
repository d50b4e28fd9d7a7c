//! The link to the shim on containerd's PATH (docs/internals/decisions/0017). Where containerd does not know the path of a
//! shim, the link alone names it, so a switch of the link has a way back.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::{Operation, OperationError};
use crate::files::{self, FileError};
use crate::host::HostRoot;
use crate::names::SHIM_LINK;
use crate::record::{LinkSwitch, NodeRecord};

/// Whether the link leads to a release of the host.
pub(crate) fn is_linked(host: &HostRoot) -> bool {
    let target = std::fs::read_link(host.at(SHIM_LINK));
    target.is_ok_and(|target| target.starts_with(host.base()))
}

impl Operation<'_> {
    /// The target of the link.
    pub(super) fn link_target(&self) -> Option<PathBuf> {
        std::fs::read_link(self.host.at(SHIM_LINK)).ok()
    }

    /// Checks that the link can be made, without changing anything. It is needed after containerd was restarted.
    pub(super) fn check_link(&self, shim: &Path) -> Result<(), OperationError> {
        self.before("try-link");
        if self.link_target().is_some_and(|target| target == shim) {
            return Ok(());
        }
        let made = self.new_link(shim).and_then(|new| files::remove(&new));
        made.map_err(|source| OperationError::NoLink {
            link: SHIM_LINK.into(),
            source,
        })
    }

    /// Makes the link lead to the shim.
    pub(super) fn link(&mut self, shim: &Path) -> Result<(), OperationError> {
        let mut record = NodeRecord::load(self.host)?;
        let link = PathBuf::from(SHIM_LINK);
        if record.link.as_ref() != Some(&link) {
            record.link = Some(link.clone());
            record.store(self.host)?;
        }
        self.before("link");
        if self.link_target().is_some_and(|target| target == shim) {
            return Ok(());
        }
        let here = self.host.at(&link);
        let new = self.new_link(shim)?;
        std::fs::rename(&new, &here).map_err(FileError::new("make the link", &here))?;
        self.step("link", link.display().to_string());
        Ok(())
    }

    /// Makes the link lead to the shim where nothing else names it. The record has the way back until
    /// [`Self::confirm_link`].
    pub(super) fn switch_link(&mut self, shim: &Path) -> Result<(), OperationError> {
        let mut record = NodeRecord::load(self.host)?;
        if record.switched.is_none() {
            record.switched = Some(LinkSwitch {
                before: self.link_target(),
            });
            record.store(self.host)?;
        }
        self.link(shim)
    }

    /// A program has run with the shim that the link leads to: the way back is not needed any more.
    pub(super) fn confirm_link(&self) -> Result<(), OperationError> {
        let mut record = NodeRecord::load(self.host)?;
        if record.switched.take().is_some() {
            record.store(self.host)?;
        }
        Ok(())
    }

    /// Undoes a switch of the link that was not confirmed. A link that is new is removed, unless a table needs it.
    /// Returns the shim that the link leads to again.
    pub(super) fn switch_link_back(&mut self) -> Result<Option<PathBuf>, OperationError> {
        let mut record = NodeRecord::load(self.host)?;
        let Some(LinkSwitch { before }) = record.switched.take() else {
            return Ok(None);
        };
        self.before("switch-back");
        // A shim whose release is gone cannot be linked again.
        let before = before.filter(|shim| self.host.at(shim).exists());
        match &before {
            Some(shim) => self.link(shim)?,
            None if record.edits.is_empty() => {
                if is_linked(self.host) {
                    files::remove(&self.host.link_to_write(Path::new(SHIM_LINK))?)?;
                }
                record.link = None;
            }
            None => {}
        }
        record.store(self.host)?;
        Ok(before)
    }

    /// Removes the link, and one that was not renamed into its place.
    pub(super) fn remove_link(&self, record: &NodeRecord) -> Result<(), OperationError> {
        let link = record.link.as_deref().unwrap_or(Path::new(SHIM_LINK));
        let link = self.host.link_to_write(link)?;
        for link in [link.with_extension("new"), link] {
            if std::fs::read_link(&link).is_ok_and(|target| target.starts_with(self.host.base())) {
                files::remove(&link)?;
            }
        }
        Ok(())
    }

    /// Makes the link beside its place, from where it can be renamed.
    fn new_link(&self, shim: &Path) -> Result<PathBuf, FileError> {
        let new = Path::new(SHIM_LINK).with_extension("new");
        let new = self.host.link_to_write(&new)?;
        files::remove(&new)?;
        symlink(shim, &new).map_err(FileError::new("make the link", &new))?;
        Ok(new)
    }
}
