//! One change of a configuration file with its way back: recorded, made, and then confirmed by containerd or undone.

use std::path::Path;

use super::{Operation, OperationError, RestartPolicy};
use crate::config_plan::{ConfigPlanError, FileChange};
use crate::files;
use crate::record::{EditedFile, NodeRecord, PendingChange, SavedBytes};
use wasm_interp_containerd_config::{self as config, ConfigError, ConfigFileKind, ShimLocation};

impl Operation<'_> {
    /// Completes or undoes a change that a killed job left.
    pub(super) fn settle_change(&mut self) -> Result<(), OperationError> {
        let record = NodeRecord::load(self.host)?;
        let Some(pending) = record.pending.clone() else {
            return Ok(());
        };
        let current = self.read(&pending.path)?;
        let running = self.containerd.running_shim().ok();
        let runs_with_it = running.as_ref() == Some(&pending.wants);
        let hash = current.as_deref().map(files::sha256);
        if hash == pending.after && (runs_with_it || self.restart == RestartPolicy::Never) {
            confirm(record).store(self.host)?;
            self.step("settle", "a killed job had already made its change");
            return Ok(());
        }
        self.undo(&record, &pending)?;
        // A containerd that has not read the new content needs no restart.
        if running.is_none() || runs_with_it {
            self.before("settle-restart");
            if let Err(error) = self.restart_and_wait() {
                return Err(OperationError::StillDown {
                    path: pending.path,
                    reason: "the job was killed".into(),
                    source: Box::new(error),
                });
            }
        }
        discard(record).store(self.host)?;
        let undone = format!("undid the change of {}", pending.path.display());
        self.step("settle", format!("{undone}, whose job was killed"));
        Ok(())
    }

    /// Makes the change, and restarts containerd. If containerd does not run with it then, undoes it.
    pub(super) fn apply(
        &mut self,
        change: &FileChange,
        wanted: Option<&ShimLocation>,
    ) -> Result<(), OperationError> {
        let mut record = NodeRecord::load(self.host)?;
        let pending = self.pending_change(&record, change, wanted)?;
        self.before("write-down");
        record.pending = Some(pending.clone());
        record.store(self.host)?;
        self.before("write");
        self.write(&change.path, change.after.as_deref())?;
        self.step("write", change.path.display().to_string());
        self.before("restart");
        match self.restart {
            RestartPolicy::Never => {
                let next = match wanted {
                    Some(_) => ", then run wasm-interp node verify",
                    None => "",
                };
                self.step("restart", format!("left to you: restart containerd{next}"));
            }
            RestartPolicy::Allowed => {
                let restarted = self.containerd.restart();
                if let Err(error) = restarted.and_then(|()| self.wait_for_shim(wanted)) {
                    return Err(self.roll_back(record, pending, error.to_string())?);
                }
                self.step("restart", "containerd runs with the new configuration");
            }
        }
        let edit = record.edit_of(&change.path);
        if change.after.is_none() && edit.is_some_and(|edit| edit.made_folder) {
            self.remove_folder_of(&change.path)?;
        }
        self.before("confirm");
        Ok(confirm(record).store(self.host)?)
    }

    /// Undoes a change with which containerd does not run. Returns the error to report.
    fn roll_back(
        &mut self,
        record: NodeRecord,
        pending: PendingChange,
        reason: String,
    ) -> Result<OperationError, OperationError> {
        self.before("undo");
        self.undo(&record, &pending)?;
        self.step("undo", format!("{}: {reason}", pending.path.display()));
        self.before("undo-restart");
        if let Err(source) = self.restart_and_wait() {
            return Ok(OperationError::StillDown {
                path: pending.path,
                reason,
                source: Box::new(source),
            });
        }
        self.before("forget");
        discard(record).store(self.host)?;
        Ok(OperationError::RolledBack {
            path: pending.path,
            reason,
        })
    }

    /// Removes our table from the files that had it before it moved to `current`. containerd does not read it there any
    /// more. A failure is reported as a step; the next install or uninstall tries again.
    pub(super) fn leave_earlier_files(&mut self, current: &Path) {
        let earlier = match NodeRecord::load(self.host) {
            Ok(record) => record.edits,
            Err(error) => return self.step("keep", error.to_string()),
        };
        for edit in earlier.iter().filter(|edit| edit.path != current) {
            self.before("leave");
            match self.leave_file(edit) {
                Ok(()) => self.step("leave", edit.path.display().to_string()),
                Err(error) => self.step("keep", error.to_string()),
            }
        }
    }

    fn leave_file(&self, edit: &EditedFile) -> Result<(), OperationError> {
        let mut record = NodeRecord::load(self.host)?;
        if let Some(change) = self.planner().without_our_table(edit.kind, &edit.path)? {
            let original = record.original(self.host, &edit.path, change.before.as_deref())?;
            let after = original.unwrap_or(change.after);
            self.write(&edit.path, after.as_deref())?;
        }
        // A killed job may have removed the file, but not its folder.
        if edit.made_folder && self.read(&edit.path)?.is_none() {
            self.remove_folder_of(&edit.path)?;
        }
        self.before("left");
        record.edits.retain(|other| other.path != edit.path);
        Ok(record.store(self.host)?)
    }

    fn pending_change(
        &self,
        record: &NodeRecord,
        change: &FileChange,
        wanted: Option<&ShimLocation>,
    ) -> Result<PendingChange, OperationError> {
        let edit = match (&change.after, wanted) {
            (Some(after), Some(_)) => Some(EditedFile {
                kind: change.kind,
                path: change.path.clone(),
                original: self.original_of(record, change)?,
                after: files::sha256(after),
                made_folder: match record.edit_of(&change.path) {
                    Some(edit) => edit.made_folder,
                    None => self.folder_is_missing(&change.path),
                },
                applied_unix: self.now_unix,
            }),
            _ => None,
        };
        Ok(PendingChange {
            path: change.path.clone(),
            previous: SavedBytes::keep(self.host, change.before.as_deref())?,
            after: change.after.as_deref().map(files::sha256),
            wants: wanted.cloned(),
            edit,
        })
    }

    /// The content that an uninstall restores: that from before a job edited the file.
    fn original_of(
        &self,
        record: &NodeRecord,
        change: &FileChange,
    ) -> Result<SavedBytes, OperationError> {
        let Some(before) = change.before.as_deref() else {
            return Ok(SavedBytes::Absent);
        };
        if let Some(edit) = record.edit_of(&change.path)
            && files::sha256(before) == edit.after
        {
            return Ok(edit.original.clone());
        }
        // The file was changed since, or has our table although the record does not say so: everything but our table.
        let original = without_our_table(change.kind, &change.path, before);
        match original.map_err(ConfigPlanError::from)? {
            None => Ok(SavedBytes::Absent),
            Some(text) => Ok(SavedBytes::keep(self.host, Some(text.as_bytes()))?),
        }
    }

    /// Restores the content from before the change, unless another program has changed the file since.
    fn undo(&self, record: &NodeRecord, pending: &PendingChange) -> Result<(), OperationError> {
        let current = self.read(&pending.path)?;
        if current.as_deref().map(files::sha256) == pending.after {
            let previous = pending.previous.bytes(self.host, &pending.path)?;
            self.write(&pending.path, previous.as_deref())?;
        }
        let made_folder = pending.edit.as_ref().is_some_and(|edit| edit.made_folder);
        if made_folder && record.edit_of(&pending.path).is_none() {
            self.remove_folder_of(&pending.path)?;
        }
        Ok(())
    }

    fn restart_and_wait(&self) -> Result<(), crate::containerd::NodeContainerdError> {
        self.containerd.restart()?;
        self.wait_for_containerd()
    }

    fn folder_is_missing(&self, path: &Path) -> bool {
        path.parent()
            .is_some_and(|folder| !self.host.at(folder).exists())
    }

    fn remove_folder_of(&self, path: &Path) -> Result<(), OperationError> {
        match path.parent() {
            Some(folder) => Ok(files::remove_if_empty(&self.host.at(folder))?),
            None => Ok(()),
        }
    }
}

/// The record once containerd runs with the pending change.
fn confirm(mut record: NodeRecord) -> NodeRecord {
    if let Some(pending) = record.pending.take() {
        record.edits.retain(|edit| edit.path != pending.path);
        record.edits.extend(pending.edit);
    }
    record
}

/// The record once the pending change is undone.
fn discard(mut record: NodeRecord) -> NodeRecord {
    record.pending = None;
    record
}

/// The text without our table; `None` if it has nothing else.
fn without_our_table(
    kind: ConfigFileKind,
    path: &Path,
    bytes: &[u8],
) -> Result<Option<String>, ConfigError> {
    let text = config::text(path, Some(bytes))?;
    Ok(kind.without_runtime(path, &text)?.unwrap_or(Some(text)))
}
