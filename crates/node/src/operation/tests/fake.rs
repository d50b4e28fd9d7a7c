//! A node in a temporary directory, with a fake containerd that reads configurations as the real ones do: in 1.x an import
//! replaces a whole section, 2.x merges it.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use wasm_interp_containerd::ContainerdError;

use crate::containerd::{NodeContainerd, NodeContainerdError};
use crate::distribution::DistributionChoice;
use crate::host::HostRoot;
use crate::layout::{self, ConfigLocation, LayoutError, NodeLayout};
use crate::names::{BASE, EXECUTABLES, SHIM_LINK};
use crate::operation::{Effects, Operation, OperationError, RestartPolicy, RestartTiming};
use crate::usage::CompileProcess;
use wasm_interp_containerd_config::{ConfigDump, ConfigVersion, ShimLocation};

/// The folder in which the fake containerd keeps its state.
const STATE: &str = "fake";
/// The time of most operations, in seconds since 1970.
pub(super) const NOW: u64 = 1_000_000;

/// The behaviour of a node's containerd: `node.json` of a layout.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct ContainerdBehavior {
    /// Its newest configuration version.
    pub(super) version: i64,
    pub(super) merge: ImportMerge,
    /// Whether it knows `runtime_path`.
    #[serde(default = "yes")]
    pub(super) runtime_path: bool,
    /// Whether `config dump` fails if the file does not exist.
    #[serde(default)]
    pub(super) dump_needs_file: bool,
    /// A part of the error, if the node has to be refused.
    pub(super) refused: Option<String>,
}

fn yes() -> bool {
    true
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ImportMerge {
    Sections,
    Deep,
}

/// One fake node.
pub(super) struct FakeNode {
    pub(super) host: HostRoot,
    pub(super) behavior: ContainerdBehavior,
}

impl FakeNode {
    /// A node with the files of that folder.
    pub(super) fn new(root: &Path, behavior: ContainerdBehavior, before: &Path) -> Self {
        copy(before, root);
        // Every system has these folders.
        for folder in ["opt", "run", "usr/local/bin", "var/lib"] {
            fs::create_dir_all(root.join(folder)).unwrap();
            fs::write(root.join(folder).join("of-the-system"), "").unwrap();
        }
        let node = Self {
            host: HostRoot::new(root),
            behavior,
        };
        node.release("1");
        fs::create_dir_all(root.join(STATE)).unwrap();
        if let Ok(layout) = node.layout() {
            // The base of the template, or the file into which drop-ins are merged.
            let base = match &layout.location {
                ConfigLocation::Merged { into, .. } => into.clone(),
                _ => layout.main.clone(),
            };
            let base = fs::read(node.host.at(base)).unwrap_or_default();
            if !base.is_empty() {
                fs::write(node.state("base.toml"), base).unwrap();
            }
            // Without its base, the distribution has not started containerd yet.
            if layout.location == ConfigLocation::Main || node.state("base.toml").exists() {
                let _ = node.containerd(&layout).restart();
            }
            fs::write(node.state("restarts"), "0").unwrap();
        }
        node
    }

    /// The node that another process made in that folder.
    pub(super) fn existing(root: &Path, behavior: ContainerdBehavior) -> Self {
        Self {
            host: HostRoot::new(root),
            behavior,
        }
    }

    fn state(&self, name: &str) -> PathBuf {
        self.host.at(STATE).join(name)
    }

    /// Creates a release's folder.
    pub(super) fn release(&self, version: &str) -> PathBuf {
        let folder = Path::new(BASE).join(version);
        fs::create_dir_all(self.host.at(&folder)).unwrap();
        for name in EXECUTABLES {
            fs::write(self.host.at(folder.join(name)), version).unwrap();
        }
        folder
    }

    pub(super) fn layout(&self) -> Result<NodeLayout, LayoutError> {
        layout::find(&self.host, DistributionChoice::Auto)
    }

    pub(super) fn containerd<'a>(&'a self, layout: &'a NodeLayout) -> FakeContainerd<'a> {
        FakeContainerd { node: self, layout }
    }

    /// Runs an operation on this node at that time.
    pub(super) fn operate(
        &self,
        now_unix: u64,
        before_step: &dyn Fn(&str),
        operate: impl FnOnce(&mut Operation<'_>) -> Result<Effects, OperationError>,
    ) -> Result<Effects, OperationError> {
        let layout = self.layout()?;
        let containerd = self.containerd(&layout);
        let mut operation = Operation {
            host: &self.host,
            layout: &layout,
            containerd: &containerd,
            restart: RestartPolicy::Allowed,
            timing: RestartTiming {
                limit: Duration::ZERO,
                poll: Duration::ZERO,
            },
            now_unix,
            before_step,
            steps: Vec::new(),
        };
        operate(&mut operation)
    }

    pub(super) fn install(&self, folder: &Path) -> Result<Effects, OperationError> {
        self.operate(NOW, &|_| {}, |operation| operation.install(folder))
    }

    pub(super) fn uninstall(&self) -> Result<Effects, OperationError> {
        self.operate(NOW, &|_| {}, |operation| operation.uninstall(false))
    }

    pub(super) fn running_shim(&self) -> Result<Option<ShimLocation>, NodeContainerdError> {
        let layout = self.layout().unwrap();
        self.containerd(&layout).running_shim()
    }

    /// Restarts containerd, as an administrator would.
    pub(super) fn restart_containerd(&self) {
        let layout = self.layout().unwrap();
        self.containerd(&layout).restart().unwrap();
    }

    pub(super) fn restarts(&self) -> u32 {
        fs::read_to_string(self.state("restarts"))
            .unwrap()
            .parse()
            .unwrap()
    }

    /// From now on, containerd does not start with our runtime configured.
    pub(super) fn break_start_with_our_runtime(&self) {
        fs::write(self.state("breaks"), "").unwrap();
    }

    pub(super) fn repair_start(&self) {
        fs::remove_file(self.state("breaks")).unwrap();
    }

    /// From now on, no program runs.
    pub(super) fn break_self_test(&self) {
        self.break_self_test_of(Path::new("/"));
    }

    /// From now on, no program runs with the release in that folder.
    pub(super) fn break_self_test_of(&self, folder: &Path) {
        fs::write(self.state("unfit"), folder.to_str().unwrap()).unwrap();
    }

    pub(super) fn repair_self_test(&self) {
        fs::remove_file(self.state("unfit")).unwrap();
    }

    /// All files that are neither ours nor the fake's, and all empty folders.
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

/// The fake containerd of a node.
pub(super) struct FakeContainerd<'a> {
    node: &'a FakeNode,
    layout: &'a NodeLayout,
}

impl NodeContainerd for FakeContainerd<'_> {
    fn kill(&self, compiles: &[CompileProcess]) {
        for CompileProcess { pid, .. } in compiles {
            fs::remove_dir_all(self.node.host.at("/proc").join(pid.to_string())).unwrap();
        }
    }

    fn stop_prewarming(&self) -> Result<(), NodeContainerdError> {
        Ok(())
    }

    fn dump(&self, config: &Path) -> Result<ConfigDump, NodeContainerdError> {
        if self.node.behavior.dump_needs_file && !self.node.host.at(config).exists() {
            let reason = format!("open {}: no such file or directory", config.display());
            let config = config.to_owned();
            return Err(NodeContainerdError::Rejected { config, reason });
        }
        self.read(config)
    }

    fn running_shim(&self) -> Result<Option<ShimLocation>, NodeContainerdError> {
        if let ConfigLocation::Merged { folder, into } = &self.layout.location {
            // k0s notices each change.
            let mut text = fs::read_to_string(self.node.state("base.toml")).unwrap();
            for path in self.imported(into, &folder.join("*.toml")) {
                let more = fs::read_to_string(self.node.host.at(path)).unwrap();
                text += &more.replace("version = 2\n", "");
            }
            fs::write(self.node.host.at(into), text).unwrap();
            self.start()?;
        }
        match fs::read(self.node.state("running")) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap()),
            Err(_) => Err(ContainerdError::Unreachable {
                socket: "/run/containerd/containerd.sock".into(),
                reason: "it does not run".into(),
            }
            .into()),
        }
    }

    fn restart(&self) -> Result<(), NodeContainerdError> {
        let restarts = fs::read_to_string(self.node.state("restarts")).unwrap_or("0".into());
        let restarts: u32 = restarts.parse().unwrap();
        fs::write(self.node.state("restarts"), (restarts + 1).to_string()).unwrap();
        if let ConfigLocation::Template { v2, v3 } = &self.layout.location {
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
        match self.layout.location {
            ConfigLocation::Merged { .. } => Ok(()),
            _ => self.start(),
        }
    }

    fn self_test(&self, shim: &ShimLocation) -> Result<(), NodeContainerdError> {
        let shim = match shim {
            ShimLocation::Path(path) => path.clone(),
            ShimLocation::Link => fs::read_link(self.node.host.at(SHIM_LINK)).map_err(|_| {
                let reason = "binary not installed \"containerd-shim-wasm-interp-v1\"".into();
                let act = "create a task";
                ContainerdError::Refused { act, reason }
            })?,
        };
        let unfit = fs::read_to_string(self.node.state("unfit"));
        if unfit.is_ok_and(|folder| shim.starts_with(folder)) {
            return Err(NodeContainerdError::SelfTest {
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
    /// The effective configuration as the daemon reads it: a missing file changes nothing.
    fn read(&self, config: &Path) -> Result<ConfigDump, NodeContainerdError> {
        let rejected = |reason: String| NodeContainerdError::Rejected {
            config: config.to_owned(),
            reason,
        };
        let section = ConfigVersion::of(self.node.behavior.version)
            .unwrap()
            .plugin();
        let runtimes = json!({ "runc": { "runtime_type": "io.containerd.runc.v2" } });
        let mut whole = json!({
            "state": "/run/containerd",
            "disabled_plugins": [],
            "plugins": { section: { "containerd": { "runtimes": runtimes } } },
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
                    // As the migration of a configuration does.
                    if name == ConfigVersion::V2.plugin() {
                        section.clone_into(&mut name);
                    }
                    match plugins.get_mut(&name) {
                        Some(there) if self.node.behavior.merge == ImportMerge::Deep => {
                            merge(there, value);
                        }
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
        if self.node.behavior.merge == ImportMerge::Sections && lists_runtimes {
            whole["plugins"][section]["containerd"]["runtimes"] = json!({});
        }
        merge(&mut whole["plugins"], Value::Object(plugins));
        if !self.node.behavior.runtime_path {
            for runtime in whole["plugins"][section]["containerd"]["runtimes"]
                .as_object_mut()
                .unwrap()
                .values_mut()
            {
                runtime.as_object_mut().unwrap().remove("runtime_path");
            }
        }
        whole["version"] = self.node.behavior.version.into();
        let text = toml_edit::ser::to_string(&whole).unwrap();
        Ok(ConfigDump::parse(config, &text)?)
    }

    fn start(&self) -> Result<(), NodeContainerdError> {
        let _ = fs::remove_file(self.node.state("running"));
        let read = match &self.layout.location {
            ConfigLocation::Merged { into, .. } => into,
            _ => &self.layout.main,
        };
        let runtime = self.read(read)?.runtime();
        if runtime.is_some() && self.node.state("breaks").exists() {
            return Err(NodeContainerdError::Down {
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
