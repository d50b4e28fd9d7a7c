//! What has to change on the node, decided without changing it. Candidates are tried on the host's
//! own containerd: one counts only if containerd reads it, finds our runtime in it, and finds nothing
//! else changed. So it is found out, not known by version, whether a drop-in file is read, whether
//! it would replace a whole section, and whether `runtime_path` is understood.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Map;

use crate::config::{self, ConfigError, Dump, Shim, Version, template};
use crate::daemon::Daemon;
use crate::files::{self, FileError};
use crate::host::Host;
use crate::layout::{Layout, Place};
use crate::live::LiveError;
use crate::names::RUN;
use crate::record::Edit;

/// Our file in a folder of drop-ins.
const DROP_IN: &str = "wasm-interp.toml";

/// What kind of file holds our table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// A whole configuration.
    Main,
    /// A file of our own, to which others may have added.
    DropIn,
    /// A Go template.
    Template,
}

/// A file that can hold our table.
#[derive(Clone, Debug)]
struct Target {
    kind: Kind,
    path: PathBuf,
    /// What containerd reads: the file that imports the drop-in, that the template gave, that the
    /// drop-in was merged into.
    read: PathBuf,
    /// Whether a drop-in is merged by the distribution, by tables, and not imported.
    merged: bool,
}

/// One file's change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) kind: Kind,
    /// A path of the host.
    pub(crate) path: PathBuf,
    pub(crate) before: Option<Vec<u8>>,
    pub(crate) after: Option<Vec<u8>>,
}

impl Change {
    pub(crate) fn is_none(&self) -> bool {
        self.before == self.after
    }
}

/// What install has to do.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) change: Change,
    /// What containerd will say of our runtime.
    pub(crate) shim: Shim,
}

/// Nothing can be planned.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The CRI is off.
    #[error(
        "{path} disables containerd's CRI plugin (disabled_plugins has {name:?}), which Kubernetes \
         needs: take it out of the list and restart containerd"
    )]
    CriDisabled {
        /// The configuration.
        path: PathBuf,
        /// The entry.
        name: String,
    },
    /// The distribution has not made its configuration yet.
    #[error("{0} is missing: the distribution writes it when it starts; start it once")]
    NotStarted(PathBuf),
    /// Somebody else's table.
    #[error(
        "{0} has a runtime wasm-interp that this command did not write, in a template that cannot be \
         edited by structure: take it out"
    )]
    Foreign(PathBuf),
    /// Nothing fits.
    #[error("no configuration file of this containerd takes the runtime: {}", .0.join("; "))]
    NoPlace(Vec<String>),
    /// See the error.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// See the error.
    #[error(transparent)]
    File(#[from] FileError),
    /// See the error.
    #[error(transparent)]
    Live(#[from] LiveError),
}

/// The host, how it is laid out, and its containerd.
pub(crate) struct Node<'a> {
    pub(crate) host: &'a Host,
    pub(crate) layout: &'a Layout,
    pub(crate) daemon: &'a dyn Daemon,
}

impl Node<'_> {
    /// What install has to change so that containerd uses that shim.
    pub(crate) fn plan_install(&self, shim: &Path) -> Result<Plan, PlanError> {
        let mut reasons = Vec::new();
        for target in self.targets()? {
            match self.try_install(&target, shim)? {
                Ok(plan) => return Ok(plan),
                Err(reason) => reasons.push(format!("{}: {reason}", target.path.display())),
            }
        }
        Err(PlanError::NoPlace(reasons))
    }

    /// What has to change so that our table is in none of the files that can hold it, nor in those that
    /// were edited when they could.
    pub(crate) fn plan_removal(&self, edited: &[Edit]) -> Result<Vec<Change>, PlanError> {
        let targets = self.targets()?;
        let mut places: Vec<_> = targets
            .iter()
            .map(|target| (target.kind, &target.path))
            .collect();
        for edit in edited {
            if !places.iter().any(|(_, path)| **path == edit.path) {
                places.push((edit.kind, &edit.path));
            }
        }
        let changes = places
            .into_iter()
            .filter_map(|(kind, path)| self.without_ours(kind, path).transpose());
        changes.collect()
    }

    /// That file's change after which our table is not in it; `None` if it is not.
    pub(crate) fn without_ours(
        &self,
        kind: Kind,
        path: &Path,
    ) -> Result<Option<Change>, PlanError> {
        let before = self.read(path)?;
        let Some(bytes) = &before else {
            return Ok(None);
        };
        let text = config::text(path, Some(bytes))?;
        let after = match kind {
            Kind::Template => {
                let rest = template::without_runtime(&text);
                template::has_runtime(&text).then(|| (!template::is_plain(&rest)).then_some(rest))
            }
            Kind::Main => config::without_runtime(path, &text)?.map(Some),
            Kind::DropIn => config::drop_in_without_runtime(path, &text)?,
        };
        Ok(after.map(|after| Change {
            kind,
            path: path.to_owned(),
            before,
            after: after.map(String::into_bytes),
        }))
    }

    /// The file that holds our table, or would, and the shim that it names.
    pub(crate) fn configured(&self) -> Result<(PathBuf, Option<Shim>), PlanError> {
        let targets = self.targets()?;
        for target in &targets {
            if let Some(shim) = self.names(target)? {
                return Ok((target.path.clone(), Some(shim)));
            }
        }
        let first = targets.into_iter().next().map(|target| target.path);
        Ok((first.unwrap_or_else(|| self.layout.main.clone()), None))
    }

    /// containerd's configuration as it is on the disk now.
    pub(crate) fn dump(&self) -> Result<Dump, PlanError> {
        Ok(self.daemon.dump(&self.layout.main)?)
    }

    /// Whether containerd reads that change and finds, or does not find, our runtime with it.
    pub(crate) fn check_removal(&self, change: &Change) -> Result<(), PlanError> {
        // Without a drop-in or a template nothing new is left to read.
        let (Kind::Main, Some(after)) = (change.kind, &change.after) else {
            return Ok(());
        };
        let text = config::text(&change.path, Some(after))?;
        let probe = self.probe(&config::absolute(&change.path, &text)?, None)?;
        probe.dump(self.daemon)?;
        Ok(())
    }

    /// Files that can hold our table, the one that does first, else the least intrusive first.
    fn targets(&self) -> Result<Vec<Target>, PlanError> {
        let main = &self.layout.main;
        let text = self.read(main)?;
        let mut targets = Vec::new();
        let drop_in = |folder: &Path, read: &Path, merged| Target {
            kind: Kind::DropIn,
            path: folder.join(DROP_IN),
            read: read.to_owned(),
            merged,
        };
        if let Some(bytes) = &text {
            let text = config::text(main, Some(bytes))?;
            for folder in config::folders(main, &text)? {
                targets.push(drop_in(&folder, main, false));
            }
        }
        match &self.layout.place {
            Place::Main => targets.push(Target {
                kind: Kind::Main,
                path: main.clone(),
                read: main.clone(),
                merged: false,
            }),
            Place::Merged { folder, into } => targets = vec![drop_in(folder, into, true)],
            Place::Template { v2, v3 } => {
                let bytes = text
                    .as_deref()
                    .ok_or_else(|| PlanError::NotStarted(main.clone()))?;
                let rendered = config::text(main, Some(bytes))?;
                let template = match config::version(main, &rendered)? {
                    Some(Version::V2) => v2,
                    _ => v3,
                };
                targets.push(Target {
                    kind: Kind::Template,
                    path: template.clone(),
                    read: main.clone(),
                    merged: false,
                });
            }
        }
        let mut ours = Vec::new();
        for target in &targets {
            ours.push(self.names(target)?.is_none());
        }
        let mut order: Vec<_> = ours.into_iter().zip(targets).collect();
        order.sort_by_key(|(is_not_ours, _)| *is_not_ours);
        Ok(order.into_iter().map(|(_, target)| target).collect())
    }

    /// The shim that our table in that file names.
    fn names(&self, target: &Target) -> Result<Option<Shim>, PlanError> {
        let Some(bytes) = self.read(&target.path)? else {
            return Ok(None);
        };
        let text = config::text(&target.path, Some(&bytes))?;
        Ok(match target.kind {
            Kind::Template => template::configured(&text),
            Kind::Main | Kind::DropIn => config::configured(&target.path, &text)?,
        })
    }

    /// A plan for that file, or why it does not do.
    fn try_install(&self, target: &Target, shim: &Path) -> Result<Result<Plan, String>, PlanError> {
        let there = self.read(&target.read)?;
        if there.is_none() && (target.merged || target.kind == Kind::Template) {
            return Err(PlanError::NotStarted(target.read.clone()));
        }
        let before = self.daemon.dump(&target.read)?;
        if let Some(name) = before.cri_disabled() {
            return Err(PlanError::CriDisabled {
                path: target.read.clone(),
                name: name.to_owned(),
            });
        }
        let read = config::text(&target.read, there.as_deref())?;
        let version = match config::version(&target.read, &read)? {
            Some(version) => version,
            None => before.version().unwrap_or(Version::V2),
        };
        let bytes = self.read(&target.path)?;
        let text = config::text(&target.path, bytes.as_deref())?;
        let mut defaults = Map::new();
        let mut shims = vec![Shim::Link, Shim::Path(shim.to_owned())];
        while let Some(shim) = shims.pop() {
            let edited = config::with_runtime(&target.read, &read, &shim, version, &defaults)?;
            let (after, probe) = match target.kind {
                Kind::Main => {
                    let probe = self.probe(&config::absolute(&target.path, &edited)?, None)?;
                    (edited, probe)
                }
                Kind::DropIn => {
                    let after = match config::drop_in(&target.path, &text, version, &shim) {
                        Err(error @ ConfigError::Version { .. }) => {
                            return Ok(Err(error.to_string()));
                        }
                        after => after?,
                    };
                    let probe = if target.merged {
                        self.probe(&config::absolute(&target.read, &edited)?, None)?
                    } else {
                        // Not beside the old one, which would hide what the new one loses.
                        let replaced = config::replacing(
                            &target.read,
                            &read,
                            &target.path,
                            &self.beside(&target.path)?,
                            &probe_path("drop-in.toml"),
                        )?;
                        let Some(replaced) = replaced else {
                            return Ok(Err("more than one pattern imports it".into()));
                        };
                        self.probe(&replaced, Some(&config::absolute(&target.path, &after)?))?
                    };
                    (after, probe)
                }
                Kind::Template => {
                    if template::has_foreign_runtime(&text) {
                        return Err(PlanError::Foreign(target.path.clone()));
                    }
                    let after = template::with_runtime(
                        bytes.as_ref().map(|_| text.as_str()),
                        version,
                        &shim,
                    );
                    let probe = self.probe(&config::absolute(&target.read, &edited)?, None)?;
                    (after, probe)
                }
            };
            let dump = match probe.dump(self.daemon) {
                Ok(dump) => dump,
                Err(LiveError::Rejected { said, .. }) => {
                    return Ok(Err(format!(
                        "containerd does not read it with our table: {said}"
                    )));
                }
                Err(error) => return Err(error.into()),
            };
            let lost = before.lost_in(&dump);
            if target.kind == Kind::Main && defaults.is_empty() && !lost.is_empty() {
                defaults = lost;
                shims.push(shim);
                continue;
            }
            if !before.differs_in_ours_only(&dump) {
                return Ok(Err(
                    "our table there would change more of the configuration than our runtime"
                        .into(),
                ));
            }
            match (dump.runtime(), &shim) {
                (Some(found), wanted) if found == *wanted => {
                    return Ok(Ok(Plan {
                        change: Change {
                            kind: target.kind,
                            path: target.path.clone(),
                            before: bytes,
                            after: Some(after.into_bytes()),
                        },
                        shim,
                    }));
                }
                // This containerd does not know runtime_path: by the name then.
                (Some(Shim::Link), Shim::Path(_)) => {}
                _ => return Ok(Err("containerd does not find our table there".into())),
            }
        }
        Ok(Err("containerd does not find our table there".into()))
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, FileError> {
        files::read(&self.host.at(path))
    }

    /// The drop-ins in that one's folder: paths of the host.
    fn beside(&self, drop_in: &Path) -> Result<Vec<PathBuf>, FileError> {
        let folder = drop_in.parent().unwrap_or(Path::new("/"));
        let here = self.host.at(folder);
        let entries = match fs::read_dir(&here) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(FileError::new("list", &here))?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let name = entry.map_err(FileError::new("list", &here))?.file_name();
            if name.as_encoded_bytes().ends_with(b".toml") {
                files.push(folder.join(name));
            }
        }
        Ok(files)
    }

    /// Writes a configuration for containerd to try, where nothing else reads it.
    fn probe(&self, main: &str, drop_in: Option<&str>) -> Result<Probe, FileError> {
        let folder = self.host.at(probe_path(""));
        files::write(&folder.join("main.toml"), main.as_bytes(), 0o600)?;
        let probe = Probe { folder };
        if let Some(text) = drop_in {
            files::write(&probe.folder.join("drop-in.toml"), text.as_bytes(), 0o600)?;
        }
        Ok(probe)
    }
}

/// A configuration to try; gone when it was.
struct Probe {
    folder: PathBuf,
}

impl Probe {
    fn dump(&self, daemon: &dyn Daemon) -> Result<Dump, LiveError> {
        daemon.dump(&probe_path("main.toml"))
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // What is left is overwritten next time.
        let _ = files::remove_all(&self.folder);
    }
}

fn probe_path(name: &str) -> PathBuf {
    Path::new(RUN).join("probe").join(name)
}
