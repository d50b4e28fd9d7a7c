//! A node in a temporary directory, and a containerd that reads configurations as the real ones do:
//! 1.x replaces whole sections by imported ones, 2.x merges them.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::config::{Dump, Shim, Version};
use crate::daemon::{Daemon, Running};
use crate::host::Host;
use crate::in_use::Publisher;
use crate::job::Choice;
use crate::layout::{self, Layout, LayoutError, Place};
use crate::live::LiveError;
use crate::names::{BASE, EXECUTABLES};
use crate::process::Restart;
use crate::work::install::LINK;
use crate::work::{Done, Pace, Work, WorkError};

/// What stands in for containerd keeps its state here, out of the way of everything.
const STATE: &str = "fake";

/// What kind of containerd a node has: `node.json` of a layout.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Kind {
    /// The newest configuration version that it knows.
    pub(super) version: i64,
    pub(super) merge: Merge,
    #[serde(default = "yes")]
    pub(super) runtime_path: bool,
    /// Words of the refusal, if it has to be refused.
    pub(super) refused: Option<String>,
}

fn yes() -> bool {
    true
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Merge {
    Sections,
    Deep,
}

/// One fake node.
pub(super) struct FakeNode {
    pub(super) host: Host,
    pub(super) kind: Kind,
}

impl FakeNode {
    /// A node whose files are those of `before`.
    pub(super) fn new(root: &Path, kind: Kind, before: &Path) -> Self {
        copy(before, root);
        // Folders that every system has.
        for folder in ["opt", "run", "usr/local/bin", "var/lib"] {
            fs::create_dir_all(root.join(folder)).unwrap();
            fs::write(root.join(folder).join("of-the-system"), "").unwrap();
        }
        let node = Self {
            host: Host::new(root),
            kind,
        };
        node.release("1");
        fs::create_dir_all(root.join(STATE)).unwrap();
        if let Ok(layout) = node.layout() {
            // What a template's base gives, and what drop-ins are merged into.
            let base = match &layout.place {
                Place::Merged { into, .. } => into.clone(),
                _ => layout.main.clone(),
            };
            if let Ok(text) = fs::read(node.host.at(base)) {
                fs::write(node.state("base.toml"), text).unwrap();
            }
            let _ = node.containerd(&layout).restart();
            fs::write(node.state("restarts"), "0").unwrap();
        }
        node
    }

    /// A node on which the layout of that name was laid before, as it is.
    pub(super) fn again(root: &Path, kind: Kind) -> Self {
        Self {
            host: Host::new(root),
            kind,
        }
    }

    fn state(&self, name: &str) -> PathBuf {
        self.host.at(STATE).join(name)
    }

    /// A release's folder, placed.
    pub(super) fn release(&self, version: &str) -> PathBuf {
        let folder = Path::new(BASE).join(version);
        fs::create_dir_all(self.host.at(&folder)).unwrap();
        for name in EXECUTABLES {
            fs::write(self.host.at(folder.join(name)), version).unwrap();
        }
        folder
    }

    pub(super) fn layout(&self) -> Result<Layout, LayoutError> {
        layout::find(&self.host, Choice::Auto)
    }

    pub(super) fn containerd<'a>(&'a self, layout: &'a Layout) -> FakeContainerd<'a> {
        FakeContainerd { node: self, layout }
    }

    /// A job on this node at that time, told what is about to be done.
    pub(super) fn job(
        &self,
        now: u64,
        watch: &dyn Fn(&str),
        act: impl FnOnce(&mut Work<'_>) -> Result<Done, WorkError>,
    ) -> Result<Done, WorkError> {
        let layout = self.layout()?;
        let containerd = self.containerd(&layout);
        let mut work = Work {
            host: &self.host,
            layout: &layout,
            daemon: &containerd,
            restart: Restart::Allowed,
            pace: Pace {
                up: Duration::ZERO,
                poll: Duration::ZERO,
            },
            now,
            watch,
            steps: Vec::new(),
        };
        act(&mut work)
    }

    pub(super) fn install(&self, folder: &Path) -> Result<Done, WorkError> {
        self.job(1_000_000, &|_| {}, |work| work.install(folder))
    }

    pub(super) fn uninstall(&self) -> Result<Done, WorkError> {
        self.job(1_000_000, &|_| {}, |work| work.uninstall(false))
    }

    pub(super) fn running(&self) -> Result<Running, LiveError> {
        let layout = self.layout().unwrap();
        self.containerd(&layout).running()
    }

    pub(super) fn restarts(&self) -> u32 {
        fs::read_to_string(self.state("restarts"))
            .unwrap()
            .parse()
            .unwrap()
    }

    /// From now on containerd does not start with our runtime configured.
    pub(super) fn breaks_with_ours(&self) {
        fs::write(self.state("breaks"), "").unwrap();
    }

    pub(super) fn is_mended(&self) {
        fs::remove_file(self.state("breaks")).unwrap();
    }

    /// From now on no program runs.
    pub(super) fn runs_nothing(&self) {
        self.runs_nothing_of(Path::new("/"));
    }

    /// From now on no program runs with what is in that folder.
    pub(super) fn runs_nothing_of(&self, folder: &Path) {
        fs::write(self.state("unfit"), folder.to_str().unwrap()).unwrap();
    }

    pub(super) fn runs_all_again(&self) {
        fs::remove_file(self.state("unfit")).unwrap();
    }

    /// All files that are neither ours nor the fake's, and empty folders.
    pub(super) fn files(&self) -> BTreeMap<PathBuf, String> {
        let mut files = BTreeMap::new();
        collect(self.host.root(), self.host.root(), &mut files);
        let ours = [
            STATE,
            "opt/wasm-interp",
            "var/lib/wasm-interp",
            "run/wasm-interp",
        ];
        files.retain(|path, _| !ours.iter().any(|ours| path.starts_with(ours)));
        files
    }
}

/// What stands in for a node's containerd.
pub(super) struct FakeContainerd<'a> {
    node: &'a FakeNode,
    layout: &'a Layout,
}

impl Daemon for FakeContainerd<'_> {
    fn kill(&self, publishers: &[Publisher]) {
        for Publisher { pid, .. } in publishers {
            fs::remove_dir_all(self.node.host.at("/proc").join(pid.to_string())).unwrap();
        }
    }

    fn end_prewarming(&self) -> Result<(), LiveError> {
        Ok(())
    }

    fn dump(&self, config: &Path) -> Result<Dump, LiveError> {
        let rejected = |said: String| LiveError::Rejected {
            config: config.to_owned(),
            said,
        };
        let section = Version::of(self.node.kind.version).unwrap().plugin();
        let mut whole = json!({
            "state": "/run/containerd",
            "disabled_plugins": [],
            "plugins": { section: { "containerd": { "runtimes": { "runc": { "runtime_type": "io.containerd.runc.v2" } } } } },
        });
        let mut plugins = Map::new();
        let mut files = VecDeque::from([config.to_owned()]);
        while let Some(path) = files.pop_front() {
            let Ok(text) = fs::read_to_string(self.node.host.at(&path)) else {
                continue;
            };
            let mut file: Map<String, Value> =
                toml_edit::de::from_str(&text).map_err(|error| rejected(error.to_string()))?;
            if let Some(Value::Object(sections)) = file.remove("plugins") {
                for (mut name, value) in sections {
                    // As migration does.
                    if name == Version::V2.plugin() {
                        section.clone_into(&mut name);
                    }
                    match plugins.get_mut(&name) {
                        Some(there) if self.node.kind.merge == Merge::Deep => merge(there, value),
                        _ => {
                            plugins.insert(name, value);
                        }
                    }
                }
            }
            for import in file
                .get("imports")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                files.extend(self.imported(&path, Path::new(import.as_str().unwrap())));
            }
            merge(&mut whole, Value::Object(file));
        }
        let lists_runtimes = plugins
            .get(section)
            .is_some_and(|section| section.pointer("/containerd/runtimes").is_some());
        if self.node.kind.merge == Merge::Sections && lists_runtimes {
            whole["plugins"][section]["containerd"]["runtimes"] = json!({});
        }
        merge(&mut whole["plugins"], Value::Object(plugins));
        if !self.node.kind.runtime_path {
            for runtime in whole["plugins"][section]["containerd"]["runtimes"]
                .as_object_mut()
                .unwrap()
                .values_mut()
            {
                runtime.as_object_mut().unwrap().remove("runtime_path");
            }
        }
        whole["version"] = self.node.kind.version.into();
        let text = toml_edit::ser::to_string(&whole).unwrap();
        Ok(Dump::parse(config, &text)?)
    }

    fn running(&self) -> Result<Running, LiveError> {
        if let Place::Merged { folder, into } = &self.layout.place {
            // k0s sees each change.
            let mut text = fs::read_to_string(self.node.state("base.toml")).unwrap();
            for path in self.imported(into, &folder.join("*.toml")) {
                let more = fs::read_to_string(self.node.host.at(path)).unwrap();
                text += &more.replace("version = 2\n", "");
            }
            fs::write(self.node.host.at(into), text).unwrap();
            self.start()?;
        }
        match fs::read(self.node.state("running")) {
            Ok(bytes) => Ok(Running {
                runtime: serde_json::from_slice(&bytes).unwrap(),
            }),
            Err(_) => Err(LiveError::Unreachable {
                socket: "/run/containerd/containerd.sock".into(),
                reason: "it does not run".into(),
            }),
        }
    }

    fn restart(&self) -> Result<(), LiveError> {
        let restarts = fs::read_to_string(self.node.state("restarts")).unwrap_or("0".into());
        let restarts: u32 = restarts.parse().unwrap();
        fs::write(self.node.state("restarts"), (restarts + 1).to_string()).unwrap();
        if let Place::Template { v2, v3 } = &self.layout.place {
            let base = fs::read_to_string(self.node.state("base.toml")).unwrap();
            let template = [v3, v2]
                .into_iter()
                .find_map(|path| fs::read_to_string(self.node.host.at(path)).ok());
            let main = match template {
                Some(template) => template.replace("{{ template \"base\" . }}\n", &base),
                None => base,
            };
            fs::write(self.node.host.at(&self.layout.main), main).unwrap();
        }
        match self.layout.place {
            Place::Merged { .. } => Ok(()),
            _ => self.start(),
        }
    }

    fn trial(&self, shim: &Shim) -> Result<(), LiveError> {
        let shim = match shim {
            Shim::Path(path) => path.clone(),
            Shim::Link => fs::read_link(self.node.host.at(LINK)).map_err(|_| {
                let said = "binary not installed \"containerd-shim-wasm-interp-v1\"".into();
                let act = "create the trial's task";
                LiveError::Refused { act, said }
            })?,
        };
        let unfit = fs::read_to_string(self.node.state("unfit"));
        if unfit.is_ok_and(|folder| shim.starts_with(folder)) {
            return Err(LiveError::Trial {
                code: 125,
                printed: String::new(),
                errors: "no".into(),
            });
        }
        assert!(self.node.host.at(&shim).exists(), "{shim:?}");
        Ok(())
    }
}

impl FakeContainerd<'_> {
    fn start(&self) -> Result<(), LiveError> {
        let _ = fs::remove_file(self.node.state("running"));
        let read = match &self.layout.place {
            Place::Merged { into, .. } => into,
            _ => &self.layout.main,
        };
        let runtime = self.dump(read)?.runtime();
        if runtime.is_some() && self.node.state("breaks").exists() {
            return Err(LiveError::Down {
                unit: "containerd.service".into(),
                state: "activating (auto-restart)".into(),
                result: "exit-code".into(),
            });
        }
        fs::write(
            self.node.state("running"),
            serde_json::to_vec(&runtime).unwrap(),
        )
        .unwrap();
        Ok(())
    }

    fn imported(&self, parent: &Path, import: &Path) -> Vec<PathBuf> {
        let import = parent.parent().unwrap().join(import);
        if import.file_name().unwrap() != "*.toml" {
            return vec![import];
        }
        let folder = import.parent().unwrap();
        let entries = fs::read_dir(self.node.host.at(folder))
            .into_iter()
            .flatten();
        let mut paths: Vec<_> = entries
            .map(|entry| folder.join(entry.unwrap().file_name()))
            .collect();
        paths.retain(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        });
        paths.sort();
        paths
    }
}

fn merge(to: &mut Value, from: Value) {
    match (to, from) {
        (Value::Object(to), Value::Object(from)) => {
            for (key, value) in from {
                merge(to.entry(key).or_insert(Value::Null), value);
            }
        }
        (to, from) => *to = from,
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub(super) fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().to_owned();
        let text = if path.is_symlink() {
            format!("link to {}", fs::read_link(&path).unwrap().display())
        } else if path.is_dir() {
            collect(root, &path, files);
            if fs::read_dir(&path).unwrap().next().is_some() {
                continue;
            }
            "empty folder".into()
        } else {
            fs::read_to_string(&path).unwrap()
        };
        files.insert(name, text);
    }
}
