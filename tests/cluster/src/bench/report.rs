//! What was measured, in words: tables on the terminal, the last section of
//! docs/internals/benchmarks.md, and its plot.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use k8s_openapi::serde_json::{Value, json, to_string, to_string_pretty};

use super::figures::{percentile, table, with_section};
use super::measured::{Crowd, Life, Measured, Side};
use super::memory;
use crate::Outcome;
use crate::command;
use crate::settings::{Bench, ClusterSettings};

/// The checkout.
const REPO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// As few pods as the documentation takes figures from: fewer only try the benchmark.
const ENOUGH: usize = 20;

/// Prints it all; writes it into the documentation if there were enough pods.
pub(super) fn publish(settings: &ClusterSettings, measured: &Measured) -> Outcome {
    let section = section(measured);
    println!("\n{section}");
    fs::create_dir_all(&settings.logs)?;
    let values = settings.logs.join("bench.json");
    fs::write(&values, to_string_pretty(measured)?)?;
    println!("every value: {}", values.display());
    if measured.pods < ENOUGH {
        println!("not written into docs/internals/benchmarks.md: that takes {ENOUGH} pods");
        return Ok(());
    }
    let page = docs().join("benchmarks.md");
    fs::write(&page, with_section(&fs::read_to_string(&page)?, &section))?;
    plot(
        &ratios(measured),
        &docs().join("images/benchmarks-cluster.svg"),
    )?;
    println!("wrote {}", page.display());
    Ok(())
}

fn docs() -> PathBuf {
    Path::new(REPO).join("docs/internals")
}

/// By the plot maker of `make bench`.
fn plot(ratios: &Value, target: &Path) -> Outcome {
    let mut command = Command::new("python3");
    command
        .arg(Path::new(REPO).join("benches/run"))
        .arg("--plot")
        .arg(target);
    command::run(command, Some(to_string(ratios)?.as_bytes()))?.expect_code(0)?;
    Ok(())
}

/// One figure of every life of a side.
fn of(lives: &[Life], side: Side, figure: fn(&Life) -> f64) -> Vec<f64> {
    let lives = lives.iter().filter(|life| life.side == side);
    lives.map(figure).collect()
}

/// The crowd of a side.
fn crowd(measured: &Measured, side: Side) -> Option<&Crowd> {
    let mut crowds = measured.crowds.iter();
    crowds.find(|crowd| crowd.side == side)
}

/// What it is called in a plot and in a table, and how it is read from what was measured.
type Figure<T> = (&'static str, &'static str, fn(&T) -> f64);

/// What a pod's life is measured by.
const LIFE: [Figure<Life>; 3] = [
    (
        "first statement",
        "creation to the script's first statement",
        |life| life.first_statement,
    ),
    ("Ready", "creation to Ready", |life| life.ready),
    ("gone", "deletion to gone", |life| life.gone),
];

/// What the memory of a crowd is measured by, in KiB of all its pods.
const MEMORY: [Figure<Crowd>; 6] = [
    ("MemAvailable", "machine: `MemAvailable`", |crowd| {
        crowd.before.available - crowd.with.available
    }),
    (
        "node's working set",
        "node's cgroup: working set",
        |crowd| crowd.with.working_set - crowd.before.working_set,
    ),
    ("kernel's memory", "of which the kernel's", kernel),
    ("Pss", "pods' processes: Pss", |crowd| {
        crowd.processes.all().pss
    }),
    ("Private_Dirty", "of which Private_Dirty", |crowd| {
        crowd.processes.all().private_dirty
    }),
    (
        "Pss of shim and pause",
        "shim and pause alone: Pss",
        |crowd| crowd.processes.sandbox().pss,
    ),
];

/// How long a crowd takes.
const AT_ONCE: [Figure<Crowd>; 2] = [
    ("all Ready", "seconds until all are Ready", |crowd| {
        crowd.ready
    }),
    ("all gone", "seconds until all are gone", |crowd| crowd.gone),
];

fn kernel(crowd: &Crowd) -> f64 {
    crowd.with.kernel - crowd.before.kernel
}

fn section(measured: &Measured) -> String {
    let Measured {
        pods,
        machine,
        pythons: [native, wasm],
        ..
    } = measured;
    let [kernel, kubernetes, containerd] = &machine.versions;
    let mut text = format!(
        "## On a cluster

`make bench-cluster` writes this section; do not edit it. One run on one node of the cluster that
`make e2e` starts, all on one machine.

- command: `{command}`
- {date}, {cores} cores ({processor}), Linux {kernel}, Kubernetes {kubernetes}, {containerd}
- *{native_side}*: a pod without RuntimeClass, CPython {native} in an image of the distribution's
  packages
- *{wasm_side}*: a pod of the RuntimeClass, CPython {wasm} of `make images`; `helm install`
  provisioned the node
- both run [the same script](../../benches/guests/pod.py). It handles TERM, because native CPython
  as the first process of a container would ignore it, and exits with 143. A Wasm guest does so
  without a handler

![Ratios to native](images/benchmarks-cluster.svg)

### From `helm install` to the first Python pod

Seconds since `helm install` was called. The pod is created as soon as Helm returns (before that,
its RuntimeClass does not exist). The images are on the node, the native code is not: this time
includes a restart of containerd and the compile of CPython.

",
        command = match *pods {
            Bench::PODS => "make bench-cluster".to_owned(),
            pods => format!("E2E_BENCH_PODS={pods} make bench-cluster"),
        },
        date = machine.date,
        cores = machine.cores,
        processor = machine.processor,
        native_side = Side::Native.name(),
        wasm_side = Side::Wasm.name(),
    );
    text += &installations(measured);
    text += &format!(
        "
### One pod after another

{pods} pods of each kind in turn on the warm node, each gone before the next; p99 by nearest rank.
The times are those of a client that watches the API server, so they include scheduler, kubelet
and API server. Ready means that the container runs. The time of the script's first statement
comes from the script's own clock, and includes the interpreter's start.

"
    );
    text += &lives(measured);
    text += &format!(
        "
### {pods} idle pods at once

The difference that {pods} pods make, in MiB per pod. Ours ran first, so a growth of the node's
and the cluster's daemons that happens once counts against it. These are three measures of the
same pods, not parts of a sum: what the machine has left (it also runs the control plane), what
the node's cgroup is charged (including kubelet and containerd), and what the pods' own processes
map (including shim and pause).

"
    );
    text += &crowds(measured);
    text + &format!("\n{}", overhead(measured))
}

fn installations(measured: &Measured) -> String {
    let row = |what: &str, figure: fn(&super::Installation) -> f64| {
        let values: Vec<f64> = measured.installations.iter().map(figure).collect();
        vec![
            what.to_owned(),
            format!("{:.1} s", percentile(&values, 50)),
            format!(
                "{:.1}–{:.1} s",
                percentile(&values, 0),
                percentile(&values, 100)
            ),
            values.len().to_string(),
        ]
    };
    table(
        &["", "median", "range", "rounds"],
        &[
            row("Helm returned", |one| one.returned),
            row("node labelled, pod scheduled", |one| one.scheduled),
            row("pod Ready", |one| one.ready),
        ],
    )
}

fn lives(measured: &Measured) -> String {
    let mut rows = Vec::new();
    for (_, what, figure) in LIFE {
        let values = |side| of(&measured.lives, side, figure);
        let native = values(Side::Native);
        for side in Side::ALL {
            let values = values(side);
            let figure = |percent| format!("{:.0} ms", 1000.0 * percentile(&values, percent));
            let ratio = |percent| {
                let native = percentile(&native, percent);
                format!("{:.2} ×", percentile(&values, percent) / native)
            };
            rows.push(vec![
                format!("{what}, {}", side.name()),
                figure(50),
                figure(99),
                values.len().to_string(),
                ratio(50),
                ratio(99),
            ]);
        }
    }
    let header = ["", "p50", "p99", "pods", "p50 to native", "p99 to native"];
    table(&header, &rows)
}

fn crowds(measured: &Measured) -> String {
    let [Some(native), Some(wasm)] = Side::ALL.map(|side| crowd(measured, side)) else {
        return String::new();
    };
    let pods = measured.pods as f64;
    let mut rows = Vec::new();
    for (_, what, figure) in MEMORY {
        let [native, wasm] = [native, wasm].map(|crowd| figure(crowd) / pods / 1024.0);
        rows.push(vec![
            what.to_owned(),
            format!("{native:.2}"),
            format!("{wasm:.2}"),
            format!("{:.2} ×", wasm / native),
        ]);
    }
    for (_, what, figure) in AT_ONCE {
        let [native, wasm] = [native, wasm].map(figure);
        rows.push(vec![
            what.to_owned(),
            format!("{native:.1}"),
            format!("{wasm:.1}"),
            format!("{:.2} ×", wasm / native),
        ]);
    }
    let header = ["", Side::Native.name(), Side::Wasm.name(), "to native"];
    table(&header, &rows)
}

/// What a pod costs beside its container, for the RuntimeClass.
fn overhead(measured: &Measured) -> String {
    let Some(wasm) = crowd(measured, Side::Wasm) else {
        return String::new();
    };
    let pods = measured.pods as f64;
    let memory::Share {
        pss, private_dirty, ..
    } = wasm.processes.sandbox().a_pod(pods);
    let kernel = kernel(wasm) / pods;
    let [pss, private_dirty, kernel] = [pss, private_dirty, kernel].map(|kib| kib / 1024.0);
    format!(
        "### Overhead of a pod

With {pods} pods on the node, shim and pause of a Wasm pod use {pss:.2} MiB of Pss
({private_dirty:.2} MiB of it Private_Dirty). The kernel's own memory for the pod, including its
container, is {kernel:.2} MiB. The sum, rounded up, is the `runtimeClass.overhead.memory` of [the
chart](../../charts/wasm-interp/values.yaml): **{overhead:.0}Mi**.
",
        overhead = (pss + kernel).ceil()
    )
}

/// Bars of the plot, relative to native.
fn ratios(measured: &Measured) -> Value {
    let mut groups = Vec::new();
    let mut group = |title: String, [native, wasm]: [f64; 2]| {
        // A busy machine's MemAvailable may go the other way: no bar shows that.
        if native > 0.0 && wasm > 0.0 {
            groups.push(json!([title, {
                Side::Native.name(): 1.0, Side::Wasm.name(): wasm / native,
            }]));
        }
    };
    for (what, _, figure) in LIFE {
        for percent in [50, 99] {
            let values =
                Side::ALL.map(|side| percentile(&of(&measured.lives, side, figure), percent));
            group(format!("one pod {what}, p{percent}"), values);
        }
    }
    if let [Some(native), Some(wasm)] = Side::ALL.map(|side| crowd(measured, side)) {
        let pods = measured.pods;
        for (what, _, figure) in AT_ONCE {
            let title = format!("{pods} pods: {what}");
            group(title, [figure(native), figure(wasm)]);
        }
        for (what, _, figure) in MEMORY {
            let title = format!("{pods} idle: {what}");
            group(title, [figure(native), figure(wasm)]);
        }
    }
    groups.into()
}
