//! The benchmark on a cluster: one node, on which pods of native CPython and of ours start, idle and end in
//! turn. `make bench-cluster` runs it; nothing asserts a speed. What is measured how is said in [`report`]'s text.

mod figures;
mod measured;
mod memory;
mod report;
mod watch;

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::Pod;

use crate::Outcome;
use crate::bench::measured::{Crowd, Installation, Life, Machine, Measured, Side};
use crate::bench::memory::{NodeMemory, Processes};
use crate::bench::watch::{PodEvent, Watch};
use crate::cluster::Cluster;
use crate::command::wait_for;
use crate::node::ClusterNode;
use crate::provision::{self, RELEASE, helm};
use crate::trials::{ClusterTrial, Concurrency, Needs};
use crate::world::{PodNamespace, TestCluster, exit_code, is_ready};

/// What runs in the place of the trials.
pub(crate) const ALL: &[ClusterTrial] = &[ClusterTrial {
    name: "bench",
    about: "pods of native CPython and of Wasm, in turn, on one node",
    needs: Needs::Nodes,
    kind: Concurrency::Alone,
    run,
}];

/// The node that is measured: the one with containerd 2.4.
const NODE: usize = 1;
/// Installations, each from nothing.
const INSTALLATIONS: usize = 3;
/// How long the node is left alone before its memory is read.
const SETTLING: Duration = Duration::from_secs(10);
/// What a script that ends by TERM exits with.
const TERMINATED: i32 = 143;

fn run(world: &TestCluster) -> Outcome {
    let cluster = world.cluster()?;
    let bench = cluster.settings.bench.as_ref();
    let pods = bench.ok_or("no benchmark was asked for")?.pods;
    let node = cluster.bare_node(NODE)?;
    let machine = Machine::read(world, node)?;
    provision::make_namespace(cluster)?;
    let namespace = world.namespace(None)?;
    let on = On {
        cluster,
        node,
        watch: Watch::start(world, &namespace),
        namespace,
    };

    let rounds = INSTALLATIONS.min(pods);
    let mut installations = Vec::new();
    for round in 1..=rounds {
        progress(&format!("installation {round} of {rounds}, from nothing"));
        if round > 1 {
            on.uninstall()?;
        }
        installations.push(on.install()?);
    }

    let mut pythons = [String::new(), String::new()];
    for (side, python) in Side::ALL.into_iter().zip(&mut pythons) {
        *python = on.live(side, "warm")?.1;
    }
    let mut lives = Vec::new();
    for round in 0..pods {
        if round % 10 == 0 {
            progress(&format!("pods one after another, {round} of {pods} each"));
        }
        for side in Side::ALL {
            // The kubelet does some things at its own intervals. Without a pause of its own, each pod would
            // begin at the moment of these at which the one before it was gone.
            let steps = u32::try_from(lives.len())?;
            thread::sleep(Duration::from_millis(u64::from(steps * 309 % 500)));
            lives.push(on.live(side, &format!("life-{round}"))?.0);
        }
    }

    let mut crowds = Vec::new();
    // Ours first: by what the daemons of node and cluster grow with their first crowd, it looks worse.
    for side in [Side::Wasm, Side::Native] {
        progress(&format!("{pods} pods at once, {}", side.name()));
        crowds.push(on.crowd(side, pods)?);
    }
    report::publish(
        &cluster.settings,
        &Measured {
            pods,
            machine,
            pythons,
            installations,
            lives,
            crowds,
        },
    )
}

fn progress(what: &str) {
    println!("==> {what}");
}

/// Where it is measured.
struct On<'world> {
    cluster: &'world Cluster,
    node: &'world ClusterNode,
    namespace: PodNamespace<'world>,
    watch: Watch,
}

impl On<'_> {
    /// Installs the chart and runs a first pod, whose interpreter has to be compiled.
    fn install(&self) -> Outcome<Installation> {
        let began = Instant::now();
        // Without --wait: as early as Helm lets go, the pod is there. Before, its class would not be.
        helm(self.cluster, &["install", RELEASE, provision::CHART])?.expect_code(0)?;
        let returned = began.elapsed();
        self.namespace.pod("first", Side::Wasm.pod())?;
        let first = |change: &PodEvent, state: fn(&Pod) -> bool| Ok(is(change, "first", state));
        let (scheduled, ()) = self
            .watch
            .until("the pod to be scheduled", |change| {
                first(change, is_scheduled)
            })
            .map_err(|error| provision::explained(self.cluster, error.message()))?;
        let (ready, ()) = self.until_ready("first")?;
        self.namespace.start_deleting("first")?;
        self.until_gone("first")?;
        Ok(Installation {
            returned: returned.as_secs_f64(),
            scheduled: (scheduled - began).as_secs_f64(),
            ready: (ready - began).as_secs_f64(),
        })
    }

    /// Takes the chart and all that it left on the node away, native code included.
    fn uninstall(&self) -> Outcome {
        let words = ["uninstall", RELEASE, "--wait", "--timeout=6m"];
        helm(self.cluster, &words)?.expect_code(0)?;
        if self.node.path("/var/lib/wasm-interp").exists() {
            return Err("native code outlived helm uninstall".into());
        }
        Ok(())
    }

    /// One pod from its creation to its end, and what its Python calls itself.
    fn live(&self, side: Side, name: &str) -> Outcome<(Life, String)> {
        let name = &match side {
            Side::Native => format!("{name}-native"),
            Side::Wasm => format!("{name}-wasm"),
        };
        let began = Instant::now();
        let clock = SystemTime::now().duration_since(UNIX_EPOCH)?;
        self.namespace.pod(name, side.pod())?;
        let (ready, ()) = self.until_ready(name)?;
        let printed = wait_for("the script's first line", || {
            let log = self.namespace.logs(name)?;
            Ok(log.ends_with('\n').then_some(log))
        })?;
        let (first_statement, python) = printed
            .trim_end()
            .split_once(' ')
            .ok_or_else(|| format!("pod {name} printed {printed:?}"))?;
        let first_statement = first_statement.parse::<f64>()? - clock.as_secs_f64();
        let ended = Instant::now();
        self.namespace.start_deleting(name)?;
        let gone = self.until_gone(name)?;
        let life = Life {
            side,
            first_statement,
            ready: (ready - began).as_secs_f64(),
            gone: (gone - ended).as_secs_f64(),
        };
        Ok((life, python.to_owned()))
    }

    /// Many pods, from their creation to their end, and the node's memory meanwhile.
    fn crowd(&self, side: Side, pods: usize) -> Outcome<Crowd> {
        thread::sleep(SETTLING);
        let shims: BTreeSet<i32> = memory::shims().into_keys().collect();
        let before = NodeMemory::read(&self.cluster.settings, self.node.name)?;
        let began = Instant::now();
        for number in 0..pods {
            self.namespace.pod(&format!("crowd-{number}"), side.pod())?;
        }
        let mut seen = BTreeSet::new();
        let what = format!("{pods} pods to be ready");
        let (ready, ()) = self.watch.until(&what, |change| {
            if let PodEvent::Is(pod) = change
                && is_ready(pod)
            {
                seen.insert(pod.metadata.name.clone());
            }
            Ok((seen.len() == pods).then_some(()))
        })?;
        thread::sleep(SETTLING);
        let with = NodeMemory::read(&self.cluster.settings, self.node.name)?;
        let processes = Processes::read(&shims)?;
        let expected = 3 * pods;
        if processes.all().processes as usize != expected {
            return Err(format!(
                "{} processes of {pods} pods instead of {expected}: shim, pause and container each",
                processes.all().processes
            )
            .into());
        }
        let ended = Instant::now();
        self.namespace.start_deleting_all()?;
        let what = format!("{pods} pods to be gone");
        let (gone, ()) = self.watch.until(&what, |change| {
            if let PodEvent::Gone(pod) = change {
                ended_by_term(pod)?;
                seen.remove(&pod.metadata.name);
            }
            Ok(seen.is_empty().then_some(()))
        })?;
        Ok(Crowd {
            side,
            ready: (ready - began).as_secs_f64(),
            gone: (gone - ended).as_secs_f64(),
            before,
            with,
            processes,
        })
    }

    fn until_ready(&self, name: &str) -> Outcome<(Instant, ())> {
        let what = format!("pod {name} to be ready");
        self.watch
            .until(&what, |change| Ok(is(change, name, is_ready)))
    }

    /// Waits for the end of a pod, which must have been by TERM.
    fn until_gone(&self, name: &str) -> Outcome<Instant> {
        let what = format!("pod {name} to be gone");
        let (at, ()) = self.watch.until(&what, |change| match change {
            PodEvent::Gone(pod) if is_named(pod, name) => ended_by_term(pod).map(Some),
            PodEvent::Is(_) | PodEvent::Gone(_) => Ok(None),
        })?;
        Ok(at)
    }
}

fn is_named(pod: &Pod, name: &str) -> bool {
    pod.metadata.name.as_deref() == Some(name)
}

/// Whether the pod of that name is in that state now.
fn is(change: &PodEvent, name: &str, state: fn(&Pod) -> bool) -> Option<()> {
    let PodEvent::Is(pod) = change else {
        return None;
    };
    (is_named(pod, name) && state(pod)).then_some(())
}

fn is_scheduled(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    spec.is_some_and(|spec| spec.node_name.is_some())
}

/// Fails unless both sides end the same way: a kill after the grace would be no comparison.
fn ended_by_term(pod: &Pod) -> Outcome {
    let code = exit_code(pod);
    if code == Some(TERMINATED) {
        return Ok(());
    }
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    Err(format!("pod {name} ended with {code:?} instead of {TERMINATED}").into())
}
