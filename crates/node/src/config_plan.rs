//! The change of containerd's configuration that installs or removes our table, decided without changing anything.
//! Called by `operation`.
//!
//! Each candidate file is tested on the host's own containerd. It fits only if containerd reads it, finds our runtime in
//! it, and nothing else of the effective configuration changes. So no table of versions says whether containerd reads a
//! drop-in, whether the drop-in would replace a whole section, or whether containerd knows `runtime_path`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::containerd::{NodeContainerd, NodeContainerdError};
use crate::files::{self, FileError};
use crate::host::HostRoot;
use crate::layout::{ConfigLocation, MainFile, NodeLayout};
use crate::names::RUN;
use wasm_interp_containerd_config::{
    self as config, ConfigDump, ConfigError, ConfigFileKind, ConfigVersion, ShimLocation, template,
};

/// Our file in a folder of drop-ins.
const DROP_IN: &str = "wasm-interp.toml";
/// A configuration that changes nothing. Every supported containerd reads this version.
const EMPTY_CONFIG: &str = "version = 2\n";

/// A file that can have our table.
#[derive(Clone, Debug)]
struct CandidateFile {
    kind: ConfigFileKind,
    path: PathBuf,
    /// The file that containerd reads: the main file, or the file that the distribution generates from this one.
    read: PathBuf,
    reading: DropInReading,
}

/// How a drop-in reaches containerd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DropInReading {
    /// containerd imports it.
    Imported,
    /// The distribution merges its tables into another file.
    Merged,
}

/// The change of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileChange {
    pub(crate) kind: ConfigFileKind,
    /// A path of the host.
    pub(crate) path: PathBuf,
    /// The content now; `None` if the file does not exist.
    pub(crate) before: Option<Vec<u8>>,
    /// The content afterwards; `None` if the file is removed.
    pub(crate) after: Option<Vec<u8>>,
}

impl FileChange {
    pub(crate) fn is_none(&self) -> bool {
        self.before == self.after
    }
}

/// The change that installs our table.
#[derive(Clone, Debug)]
pub(crate) struct ConfigPlan {
    pub(crate) change: FileChange,
    /// The shim that containerd uses with it.
    pub(crate) shim: ShimLocation,
}

/// No change can be planned.
#[derive(Debug, thiserror::Error)]
pub enum ConfigPlanError {
    /// The CRI is disabled.
    #[error(
        "cannot install the runtime: {path} disables containerd's CRI plugin (disabled_plugins \
         has {name:?}), which Kubernetes needs; remove it from the list and restart containerd"
    )]
    CriDisabled {
        /// The configuration.
        path: PathBuf,
        /// The entry.
        name: String,
    },
    /// The distribution has not written its configuration yet.
    #[error(
        "cannot install the runtime: {0} is missing or empty; start k3s, \
         RKE2, k0s or MicroK8s on this node once: it writes the file"
    )]
    NotStarted(PathBuf),
    /// Another program's table.
    #[error(
        "cannot edit {0}: it has a table for wasm-interp that this command did not write, and a \
         template cannot be edited by structure; remove that table"
    )]
    Foreign(PathBuf),
    /// No file fits.
    #[error("cannot add the runtime to a configuration file of this containerd: {}", .0.join("; "))]
    NoFile(Vec<String>),
    /// See the error.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// See the error.
    #[error(transparent)]
    File(#[from] FileError),
    /// See the error.
    #[error(transparent)]
    Containerd(#[from] NodeContainerdError),
}

/// Why a candidate file gets no plan.
enum Rejection {
    /// It does not fit; another may.
    Unfit(String),
    /// Nothing can be planned.
    Error(ConfigPlanError),
}

impl<E: Into<ConfigPlanError>> From<E> for Rejection {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// The files of a candidate, as they are now.
struct Inputs {
    /// The effective configuration.
    dump: ConfigDump,
    version: ConfigVersion,
    /// The text that containerd reads.
    read: String,
    /// The candidate itself.
    bytes: Option<Vec<u8>>,
    text: String,
}

/// Plans changes for a host with that layout and containerd.
pub(crate) struct ConfigPlanner<'a> {
    pub(crate) host: &'a HostRoot,
    pub(crate) layout: &'a NodeLayout,
    pub(crate) containerd: &'a dyn NodeContainerd,
}

impl ConfigPlanner<'_> {
    /// The change after which containerd uses that shim.
    pub(crate) fn plan_install(&self, shim: &Path) -> Result<ConfigPlan, ConfigPlanError> {
        let mut reasons = Vec::new();
        for file in self.candidates()? {
            match self.try_file(&file, shim) {
                Ok(plan) => return Ok(plan),
                Err(Rejection::Unfit(reason)) => {
                    reasons.push(format!("{}: {reason}", file.path.display()));
                }
                Err(Rejection::Error(error)) => return Err(error),
            }
        }
        Err(ConfigPlanError::NoFile(reasons))
    }

    /// The changes after which no candidate file has our table, nor any of these files that were edited before.
    pub(crate) fn plan_removal(
        &self,
        edited: &[(ConfigFileKind, &Path)],
    ) -> Result<Vec<FileChange>, ConfigPlanError> {
        let candidates = self.candidates()?;
        let mut files: Vec<_> = candidates
            .iter()
            .map(|file| (file.kind, file.path.as_path()))
            .collect();
        for edit in edited {
            if !files.iter().any(|(_, path)| *path == edit.1) {
                files.push(*edit);
            }
        }
        let changes = files
            .into_iter()
            .filter_map(|(kind, path)| self.without_our_table(kind, path).transpose());
        changes.collect()
    }

    /// The change that removes our table from the file; `None` if the file does not have it.
    pub(crate) fn without_our_table(
        &self,
        kind: ConfigFileKind,
        path: &Path,
    ) -> Result<Option<FileChange>, ConfigPlanError> {
        let before = self.read(path)?;
        let Some(bytes) = &before else {
            return Ok(None);
        };
        let text = config::text(path, Some(bytes))?;
        let after = kind.without_runtime(path, &text)?;
        Ok(after.map(|after| FileChange {
            kind,
            path: path.to_owned(),
            before,
            after: after.map(String::into_bytes),
        }))
    }

    /// The file that has our table with the shim that the table names, or else the file that would get it.
    pub(crate) fn configured(&self) -> Result<(PathBuf, Option<ShimLocation>), ConfigPlanError> {
        let candidates = self.candidates()?;
        for file in &candidates {
            if let Some(shim) = self.shim_in(file)? {
                return Ok((file.path.clone(), Some(shim)));
            }
        }
        let first = candidates.into_iter().next().map(|file| file.path);
        Ok((first.unwrap_or_else(|| self.layout.main.clone()), None))
    }

    /// The effective configuration of the files on the disk.
    pub(crate) fn dump(&self) -> Result<ConfigDump, ConfigPlanError> {
        self.dump_of(&self.layout.main)
    }

    /// The effective configuration of a file, a path of the host. Without the file, containerd runs with its defaults,
    /// but `config dump` of 1.6 fails. An empty configuration has the same effect.
    fn dump_of(&self, config: &Path) -> Result<ConfigDump, ConfigPlanError> {
        match self.read(config)? {
            Some(_) => Ok(self.containerd.dump(config)?),
            None => Ok(self.probe(EMPTY_CONFIG, None)?.dump(self.containerd)?),
        }
    }

    /// Checks that containerd reads the file after a change that removes our table.
    pub(crate) fn check_removal(&self, change: &FileChange) -> Result<(), ConfigPlanError> {
        // Without the drop-in or the template containerd reads nothing new.
        let (ConfigFileKind::Main, Some(after)) = (change.kind, &change.after) else {
            return Ok(());
        };
        let text = config::text(&change.path, Some(after))?;
        let probe = self.probe(&config::absolute(&change.path, &text)?, None)?;
        probe.dump(self.containerd)?;
        Ok(())
    }

    /// The files that can have our table. The file that has it is first; the others follow, drop-ins before the main
    /// file.
    fn candidates(&self) -> Result<Vec<CandidateFile>, ConfigPlanError> {
        let main = &self.layout.main;
        let text = match self.read(main)? {
            Some(bytes) => Some(config::text(main, Some(&bytes))?),
            None => None,
        };
        let drop_in = |folder: &Path, read: &Path, reading| CandidateFile {
            kind: ConfigFileKind::DropIn,
            path: folder.join(DROP_IN),
            read: read.to_owned(),
            reading,
        };
        let other = |kind, path: &Path| CandidateFile {
            kind,
            path: path.to_owned(),
            read: main.clone(),
            reading: DropInReading::Imported,
        };
        let mut candidates = Vec::new();
        if let Some(text) = &text {
            for folder in config::folders(main, text)? {
                candidates.push(drop_in(&folder, main, DropInReading::Imported));
            }
        }
        match &self.layout.location {
            ConfigLocation::Main => candidates.push(other(ConfigFileKind::Main, main)),
            ConfigLocation::Merged { folder, into } => {
                candidates = vec![drop_in(folder, into, DropInReading::Merged)];
            }
            ConfigLocation::Template { v2, v3 } => {
                let templates = match &text {
                    // Without the generated file, either template may have our table.
                    None => vec![v3, v2],
                    Some(text) => match config::version(main, text)? {
                        Some(ConfigVersion::V2) => vec![v2],
                        _ => vec![v3],
                    },
                };
                for template in templates {
                    candidates.push(other(ConfigFileKind::Template, template));
                }
            }
        }
        let mut ordered = Vec::new();
        for file in candidates {
            ordered.push((self.shim_in(&file)?.is_none(), file));
        }
        ordered.sort_by_key(|(lacks_our_table, _)| *lacks_our_table);
        Ok(ordered.into_iter().map(|(_, file)| file).collect())
    }

    /// The shim that our table in the file names.
    fn shim_in(&self, file: &CandidateFile) -> Result<Option<ShimLocation>, ConfigPlanError> {
        let Some(bytes) = self.read(&file.path)? else {
            return Ok(None);
        };
        let text = config::text(&file.path, Some(&bytes))?;
        Ok(match file.kind {
            ConfigFileKind::Template => template::configured(&text),
            ConfigFileKind::Main | ConfigFileKind::DropIn => config::configured(&file.path, &text)?,
        })
    }

    /// A plan for that file.
    fn try_file(&self, file: &CandidateFile, shim: &Path) -> Result<ConfigPlan, Rejection> {
        let inputs = self.inputs(file)?;
        let mut wanted = ShimLocation::Path(shim.to_owned());
        let mut edited = self.edit(file, &inputs, &wanted)?;
        if edited.found == ShimLocation::Link {
            // This containerd does not know `runtime_path`: it finds the shim by its name.
            wanted = ShimLocation::Link;
            edited = self.edit(file, &inputs, &wanted)?;
        }
        if edited.found != wanted {
            return Err(Rejection::Unfit(NOT_FOUND.into()));
        }
        Ok(ConfigPlan {
            change: FileChange {
                kind: file.kind,
                path: file.path.clone(),
                before: inputs.bytes,
                after: Some(edited.text.into_bytes()),
            },
            shim: wanted,
        })
    }

    /// Adds our table with that shim to the text of the file, and tests it on containerd.
    fn edit(
        &self,
        file: &CandidateFile,
        inputs: &Inputs,
        shim: &ShimLocation,
    ) -> Result<EditedText, Rejection> {
        let (mut text, mut dump) = self.edit_and_dump(file, inputs, shim, &Map::new())?;
        let lost = inputs.dump.lost_in(&dump);
        if file.kind == ConfigFileKind::Main && !lost.is_empty() {
            (text, dump) = self.edit_and_dump(file, inputs, shim, &lost)?;
        }
        if !inputs.dump.differs_in_ours_only(&dump) {
            return Err(Rejection::Unfit(
                "our table there would change more of the configuration than our runtime".into(),
            ));
        }
        match dump.runtime() {
            Some(found) => Ok(EditedText { text, found }),
            None => Err(Rejection::Unfit(NOT_FOUND.into())),
        }
    }

    /// The text of the file with our table and those of `defaults`, and its effective configuration.
    fn edit_and_dump(
        &self,
        file: &CandidateFile,
        inputs: &Inputs,
        shim: &ShimLocation,
        defaults: &Map<String, Value>,
    ) -> Result<(String, ConfigDump), Rejection> {
        let Inputs { read, version, .. } = inputs;
        // The text that containerd would read: the edited main file, or the one that the distribution would generate.
        let edited = config::with_runtime(&file.read, read, shim, *version, defaults)?;
        let edited_probe = || -> Result<ProbeConfig, ConfigPlanError> {
            self.probe(&config::absolute(&file.read, &edited)?, None)
        };
        let (text, probe) = match file.kind {
            ConfigFileKind::Main => (edited.clone(), edited_probe()?),
            ConfigFileKind::DropIn => {
                let text = match config::drop_in(&file.path, &inputs.text, *version, shim) {
                    Err(error @ ConfigError::Version { .. }) => {
                        return Err(Rejection::Unfit(error.to_string()));
                    }
                    text => text?,
                };
                let probe = match file.reading {
                    DropInReading::Merged => edited_probe()?,
                    DropInReading::Imported => self.probe_drop_in(file, read, &text)?,
                };
                (text, probe)
            }
            ConfigFileKind::Template => {
                if template::has_foreign_runtime(&inputs.text) {
                    return Err(ConfigPlanError::Foreign(file.path.clone()).into());
                }
                let template = inputs.bytes.as_ref().map(|_| inputs.text.as_str());
                let text = template::with_runtime(template, *version, shim);
                (text, edited_probe()?)
            }
        };
        match probe.dump(self.containerd) {
            Ok(dump) => Ok((text, dump)),
            Err(NodeContainerdError::Rejected { reason, .. }) => Err(Rejection::Unfit(format!(
                "containerd does not read it with our table: {reason}"
            ))),
            Err(error) => Err(error.into()),
        }
    }

    /// A probe that imports that text in place of the drop-in. With the old drop-in beside it, containerd would still
    /// have what the new one lacks.
    fn probe_drop_in(
        &self,
        file: &CandidateFile,
        main: &str,
        text: &str,
    ) -> Result<ProbeConfig, Rejection> {
        let beside = self.drop_ins_beside(&file.path)?;
        let probe_drop_in = probe_path("drop-in.toml");
        let main = config::replacing(&file.read, main, &file.path, &beside, &probe_drop_in)?;
        let Some(main) = main else {
            let reason = "more than one pattern imports it";
            return Err(Rejection::Unfit(reason.into()));
        };
        let text = config::absolute(&file.path, text)?;
        Ok(self.probe(&main, Some(&text))?)
    }

    fn inputs(&self, file: &CandidateFile) -> Result<Inputs, ConfigPlanError> {
        let bytes = self.read(&file.read)?;
        let is_blank = |bytes: &Vec<u8>| bytes.trim_ascii().is_empty();
        if self.layout.main_file == MainFile::WrittenAtStart && bytes.as_ref().is_none_or(is_blank)
        {
            return Err(ConfigPlanError::NotStarted(file.read.clone()));
        }
        let dump = self.dump_of(&file.read)?;
        if let Some(name) = dump.cri_disabled() {
            return Err(ConfigPlanError::CriDisabled {
                path: file.read.clone(),
                name: name.to_owned(),
            });
        }
        let read = config::text(&file.read, bytes.as_deref())?;
        let version = match config::version(&file.read, &read)? {
            Some(version) => version,
            None => dump.version().unwrap_or(ConfigVersion::V2),
        };
        let bytes = self.read(&file.path)?;
        let text = config::text(&file.path, bytes.as_deref())?;
        Ok(Inputs {
            dump,
            version,
            read,
            bytes,
            text,
        })
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, FileError> {
        files::read(&self.host.at(path))
    }

    /// The drop-ins in the same folder, paths of the host.
    fn drop_ins_beside(&self, drop_in: &Path) -> Result<Vec<PathBuf>, FileError> {
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

    /// Writes a configuration for containerd to test, in a folder that nothing else reads.
    fn probe(&self, main: &str, drop_in: Option<&str>) -> Result<ProbeConfig, ConfigPlanError> {
        let folder = self.host.at(probe_path(""));
        files::write(&folder.join("main.toml"), main.as_bytes(), 0o600)?;
        let probe = ProbeConfig { folder };
        if let Some(text) = drop_in {
            files::write(&probe.folder.join("drop-in.toml"), text.as_bytes(), 0o600)?;
        }
        Ok(probe)
    }
}

/// The text of a file with our table, and the shim that containerd finds in it.
struct EditedText {
    text: String,
    found: ShimLocation,
}

const NOT_FOUND: &str = "containerd does not find our table there";

/// A configuration to test. A drop removes it.
struct ProbeConfig {
    folder: PathBuf,
}

impl ProbeConfig {
    fn dump(&self, containerd: &dyn NodeContainerd) -> Result<ConfigDump, NodeContainerdError> {
        containerd.dump(&probe_path("main.toml"))
    }
}

impl Drop for ProbeConfig {
    fn drop(&mut self) {
        // A file that stays is overwritten by the next probe.
        let _ = files::remove_all(&self.folder);
    }
}

fn probe_path(name: &str) -> PathBuf {
    Path::new(RUN).join("probe").join(name)
}
