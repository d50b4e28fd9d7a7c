//! What is measured: of both sides, of installations, of pods, and on which machine.

use std::fs;

use k8s_openapi::serde_json::{Value, json};
use serde::Serialize;

use super::memory::{NodeMemory, Processes};
use crate::Outcome;
use crate::guests::PYTHON;
use crate::node::ClusterNode;
use crate::world::TestCluster;

/// What every pod runs.
const SCRIPT: &str = include_str!("../../../../benches/guests/pod.py");
/// As `benches/run` names it.
const NATIVE_IMAGE: &str = "localhost/bench/native:1";
/// What is compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) enum Side {
    Native,
    Wasm,
}

impl Side {
    pub(super) const ALL: [Self; 2] = [Self::Native, Self::Wasm];

    /// As `benches/run` names it in tables and plots.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Native => "runc + native CPython",
            Self::Wasm => "wasm-interp",
        }
    }

    /// A pod of it: the same script, image and class aside.
    pub(super) fn pod(self) -> Value {
        let (class, image, python) = match self {
            Self::Native => (Value::Null, NATIVE_IMAGE, "python3"),
            Self::Wasm => ("wasm-interp".into(), PYTHON, "python"),
        };
        json!({
            "runtimeClassName": class,
            "containers": [{
                "name": "main", "image": image, "imagePullPolicy": "Never",
            "command": [python, "-c", SCRIPT],
            }],
        })
    }
}

/// Seconds since `helm install` was called.
#[derive(Serialize)]
pub(super) struct Installation {
    /// Helm has returned.
    pub(super) returned: f64,
    /// The pod has found the node, which has its label once the runtime works.
    pub(super) scheduled: f64,
    /// The pod is Ready.
    pub(super) ready: f64,
}

/// Seconds of one pod's life.
#[derive(Serialize)]
pub(super) struct Life {
    pub(super) side: Side,
    /// From its creation to the script's first statement.
    pub(super) first_statement: f64,
    /// From its creation to Ready.
    pub(super) ready: f64,
    /// From its deletion to its end.
    pub(super) gone: f64,
}

/// Many pods at once.
#[derive(Serialize)]
pub(super) struct Crowd {
    pub(super) side: Side,
    /// Seconds from the first one's creation until all are Ready.
    pub(super) ready: f64,
    /// Seconds from the deletion of all until the last one is gone.
    pub(super) gone: f64,
    pub(super) before: NodeMemory,
    pub(super) with: NodeMemory,
    pub(super) processes: Processes,
}

/// Everything that was measured.
#[derive(Serialize)]
pub(super) struct Measured {
    pub(super) pods: usize,
    /// Where: versions, processor.
    pub(super) machine: Machine,
    /// What each side's Python calls itself.
    pub(super) pythons: [String; 2],
    pub(super) installations: Vec<Installation>,
    pub(super) lives: Vec<Life>,
    pub(super) crowds: Vec<Crowd>,
}

/// What it ran on.
#[derive(Serialize)]
pub(super) struct Machine {
    pub(super) date: String,
    pub(super) cores: usize,
    pub(super) processor: String,
    /// The kernel's version, the kubelet's and the container runtime's.
    pub(super) versions: [String; 3],
}

impl Machine {
    pub(super) fn read(world: &TestCluster, node: &ClusterNode) -> Outcome<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
        let model = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let info = |field: &str| -> Outcome<String> {
            let path = format!("-o=jsonpath={{.status.nodeInfo.{field}}}");
            let read = world.kubectl(&["get", "node", node.name, &path])?;
            Ok(read.expect_code(0)?.stdout)
        };
        Ok(Self {
            date: node.must(&["date", "+%F"])?.trim().to_owned(),
            cores: std::thread::available_parallelism()?.get(),
            processor: model.map_or("unknown", |(_, model)| model).to_owned(),
            versions: [
                info("kernelVersion")?,
                info("kubeletVersion")?,
                info("containerRuntimeVersion")?,
            ],
        })
    }
}
