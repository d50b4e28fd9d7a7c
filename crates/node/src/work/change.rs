//! One change of a file with its way back: written down, made, confirmed by containerd or undone.

use std::path::Path;

use super::{Restart, Work, WorkError};
use crate::config::{self, Shim};
use crate::files;
use crate::plan::{Change, Kind};
use crate::record::{Edit, Pending, Record, Saved};

impl Work<'_> {
    /// Finishes or undoes what a killed job left. Nothing to do is the rule.
    pub(crate) fn settle(&mut self) -> Result<(), WorkError> {
        let settled = self.settle_change();
        let back = self.switch_back()?;
        settled?;
        if let Some(shim) = back {
            self.step(
                "settle",
                format!("containerd finds {} again", shim.display()),
            );
        }
        Ok(())
    }

    fn settle_change(&mut self) -> Result<(), WorkError> {
        let record = Record::load(self.host)?;
        let Some(pending) = record.pending.clone() else {
            return Ok(());
        };
        let current = self.read(&pending.path)?;
        let running = self.daemon.running().ok();
        let took_it = running
            .as_ref()
            .is_some_and(|running| running.runtime == pending.wants);
        let hash = current.as_deref().map(files::sha256);
        if hash == pending.after && (took_it || self.restart == Restart::Never) {
            self.commit(record)?;
            self.step("settle", "an interrupted job had all but finished");
            return Ok(());
        }
        self.undo(&record, &pending)?;
        // One that never read the new bytes needs no restart.
        if running.is_none() || took_it {
            self.before("settle-restart");
            if let Err(error) = self.daemon.restart().and_then(|()| self.wait_for_any()) {
                return Err(WorkError::StillDown {
                    path: pending.path,
                    reason: "its job was interrupted".into(),
                    source: Box::new(error),
                });
            }
        }
        self.forget(record)?;
        self.step(
            "settle",
            format!(
                "an interrupted change of {} was taken back",
                pending.path.display()
            ),
        );
        Ok(())
    }

    /// Makes the change and has containerd take it in; or undoes it.
    pub(crate) fn apply(&mut self, change: &Change, wants: Option<&Shim>) -> Result<(), WorkError> {
        let mut record = Record::load(self.host)?;
        let edit = match (&change.after, wants) {
            (Some(after), Some(_)) => Some(Edit {
                kind: change.kind,
                path: change.path.clone(),
                original: self.original(&record, change)?,
                after: files::sha256(after),
                made_folder: match record.edit_of(&change.path) {
                    Some(edit) => edit.made_folder,
                    None => self.folder_is_missing(&change.path),
                },
                applied_unix: self.now,
            }),
            _ => None,
        };
        let pending = Pending {
            path: change.path.clone(),
            previous: Saved::keep(self.host, change.before.as_deref())?,
            after: change.after.as_deref().map(files::sha256),
            wants: wants.cloned(),
            edit,
        };
        self.before("write-down");
        record.pending = Some(pending.clone());
        record.store(self.host)?;
        self.before("write");
        self.put(&change.path, change.after.as_deref())?;
        self.step("write", change.path.display().to_string());
        self.before("restart");
        if self.restart == Restart::Never {
            let next = match wants {
                Some(_) => ", then run wasm-interp node verify",
                None => "",
            };
            self.step("restart", format!("left to you: restart containerd{next}"));
        } else if let Err(reason) = self
            .daemon
            .restart()
            .and_then(|()| self.wait_for(wants))
            .map_err(|error| error.to_string())
        {
            self.before("undo");
            self.undo(&record, &pending)?;
            self.step("undo", format!("{}: {reason}", change.path.display()));
            self.before("undo-restart");
            if let Err(source) = self.daemon.restart().and_then(|()| self.wait_for_any()) {
                return Err(WorkError::StillDown {
                    path: pending.path,
                    reason,
                    source: Box::new(source),
                });
            }
            self.before("forget");
            self.forget(record)?;
            return Err(WorkError::RolledBack {
                path: pending.path,
                reason,
            });
        } else {
            self.step("restart", "containerd runs with the new configuration");
        }
        let made_folder = |edit: &Edit| edit.made_folder;
        if change.after.is_none() && record.edit_of(&change.path).is_some_and(made_folder) {
            self.remove_folder_of(&change.path)?;
        }
        self.before("confirm");
        self.commit(record)
    }

    /// Takes our table out of the files that it was in before it came to that one: no containerd reads
    /// it there by now. What cannot be done is said, and done by the next install or uninstall.
    pub(crate) fn leave_earlier(&mut self, current: &Path) {
        let earlier = match Record::load(self.host) {
            Ok(record) => record.edits,
            Err(error) => return self.step("keep", error.to_string()),
        };
        for edit in earlier.iter().filter(|edit| edit.path != current) {
            self.before("leave");
            match self.leave(edit) {
                Ok(()) => self.step("leave", edit.path.display().to_string()),
                Err(error) => self.step("keep", error.to_string()),
            }
        }
    }

    fn leave(&self, edit: &Edit) -> Result<(), WorkError> {
        let mut record = Record::load(self.host)?;
        if let Some(change) = self.node().without_ours(edit.kind, &edit.path)? {
            let original = record.original(self.host, &edit.path, change.before.as_deref())?;
            let after = original.unwrap_or(change.after);
            self.put(&edit.path, after.as_deref())?;
        }
        // Also if that was done before, and the rest was not.
        if edit.made_folder && self.read(&edit.path)?.is_none() {
            self.remove_folder_of(&edit.path)?;
        }
        self.before("left");
        record.edits.retain(|other| other.path != edit.path);
        Ok(record.store(self.host)?)
    }

    /// The bytes to go back to one day: those from before there was anything of ours.
    fn original(&self, record: &Record, change: &Change) -> Result<Saved, WorkError> {
        let before = change.before.as_deref();
        if let Some(edit) = record.edit_of(&change.path)
            && before.is_some_and(|before| files::sha256(before) == edit.after)
        {
            return Ok(edit.original.clone());
        }
        // Changed by somebody since, or ours by another hand: all but our table.
        let path = &change.path;
        let text = config::text(path, before).map_err(crate::plan::PlanError::from)?;
        let without = match (change.kind, before) {
            (_, None) => return Ok(Saved::Absent),
            (Kind::Template, _) => Some(config::template::without_runtime(&text)),
            (Kind::Main, _) => {
                config::without_runtime(path, &text).map_err(crate::plan::PlanError::from)?
            }
            (Kind::DropIn, _) => {
                let rest = config::drop_in_without_runtime(path, &text);
                match rest.map_err(crate::plan::PlanError::from)? {
                    Some(None) => return Ok(Saved::Absent),
                    rest => rest.flatten(),
                }
            }
        };
        Ok(Saved::keep(
            self.host,
            Some(without.unwrap_or(text).as_bytes()),
        )?)
    }

    /// Puts the bytes from before the change back, unless somebody else has changed the file since.
    fn undo(&self, record: &Record, pending: &Pending) -> Result<(), WorkError> {
        let current = self.read(&pending.path)?;
        if current.as_deref().map(files::sha256) == pending.after {
            let previous = pending.previous.bytes(self.host, &pending.path)?;
            self.put(&pending.path, previous.as_deref())?;
        }
        let made = pending.edit.as_ref().is_some_and(|edit| edit.made_folder);
        if made && record.edit_of(&pending.path).is_none() {
            self.remove_folder_of(&pending.path)?;
        }
        Ok(())
    }

    fn commit(&mut self, mut record: Record) -> Result<(), WorkError> {
        if let Some(pending) = record.pending.take() {
            record.edits.retain(|edit| edit.path != pending.path);
            record.edits.extend(pending.edit);
        }
        Ok(record.store(self.host)?)
    }

    fn forget(&mut self, mut record: Record) -> Result<(), WorkError> {
        record.pending = None;
        Ok(record.store(self.host)?)
    }

    fn folder_is_missing(&self, path: &Path) -> bool {
        path.parent()
            .is_some_and(|folder| !self.host.at(folder).exists())
    }

    fn remove_folder_of(&self, path: &Path) -> Result<(), WorkError> {
        match path.parent() {
            Some(folder) => Ok(files::remove_if_empty(&self.host.at(folder))?),
            None => Ok(()),
        }
    }
}
