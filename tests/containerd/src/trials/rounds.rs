//! Many rounds of a container's whole life, and a count of what each of them could leave: `make test-rounds`.
//!
//! A round is a guest and a native program, each created, started, entered by an exec, killed and deleted. One of the
//! two is in the shim of a pod that lives through all rounds, the other has a shim of its own: in the next round it is
//! the other way round. The first is what a leak in the shim would show in, the second one in containerd.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::native::shell;
use crate::Outcome;
use crate::command::wait_for;
use crate::guests::{IDLE, PYTHON};
use crate::leftovers::Amounts;
use crate::world::{CtrContainer, OURS, World};

/// How many rounds are under way at the same time.
const AT_ONCE: usize = 16;

/// How a figure may differ from the one after the warm-up.
#[derive(Clone, Copy)]
enum Allowance {
    /// Not more, once all is settled: also not after the warm-up.
    Returns,
    /// The same, but the warm-up may open what stays: a client, a library's files.
    ReturnsToWarmUp,
    /// By so much at the most: it depends on what ran at the same time.
    GrowsAtMost(u64),
}

/// One thing that is counted.
struct CensusFigure {
    what: &'static str,
    count: u64,
    rule: Allowance,
}

/// Everything that is counted, at one moment.
struct Census(Vec<CensusFigure>);

impl Census {
    fn take(world: &World, shim: i32) -> Outcome<Self> {
        let amounts = Amounts::of(world.name());
        let containerd = world.daemon().pid()?;
        let kept = [
            // It opens the store of native code for the first guest.
            ("shim: descriptors", entries(shim, "fd")?),
            ("containerd: descriptors", entries(containerd, "fd")?),
            ("containerd: goroutines", goroutines(world)?),
        ];
        let returning = [
            ("shim: threads", entries(shim, "task")?),
            ("shim: children", children(shim)?),
            ("processes", amounts.processes),
            ("mounts", amounts.mounts),
            ("cgroups", amounts.cgroups),
            ("bundles", world.daemon().bundles().len()),
        ];
        // A heap has holes, Go ends no thread, and other runs on this machine have sockets and keyrings too: all this is
        // bounded, however many rounds there are.
        let growing = [
            ("sockets of shims", amounts.sockets, 16),
            ("session keyrings", session_keyrings()?, 16),
            ("shim: private memory, KiB", private_memory(shim)?, 1024),
            ("containerd: heap, KiB", heap(world)?, 8 * 1024),
            ("containerd: threads", entries(containerd, "task")?, 32),
        ];
        let mut figures = Vec::new();
        for (what, count) in kept {
            figures.push((what, count, Allowance::ReturnsToWarmUp));
        }
        for (what, count) in returning {
            figures.push((what, count, Allowance::Returns));
        }
        for (what, count, bound) in growing {
            figures.push((what, count, Allowance::GrowsAtMost(bound)));
        }
        let figure = |(what, count, rule)| -> Outcome<CensusFigure> {
            let count = u64::try_from(count)?;
            Ok(CensusFigure { what, count, rule })
        };
        Ok(Self(
            figures.into_iter().map(figure).collect::<Outcome<_>>()?,
        ))
    }

    /// Whether `holds` is true of each pair of figures with such an allowance.
    fn compare(
        &self,
        later: &Self,
        allowance: fn(Allowance) -> bool,
        holds: fn(u64, u64) -> bool,
    ) -> bool {
        let mut pairs = self.0.iter().zip(&later.0);
        pairs.all(|(one, other)| !allowance(one.rule) || holds(one.count, other.count))
    }

    /// Whether all that the rounds have made is gone.
    fn has_returned(&self, later: &Self) -> bool {
        let returns = |rule| matches!(rule, Allowance::Returns);
        self.compare(later, returns, |before, after| after <= before)
    }

    /// Whether nothing of what may stay has changed.
    fn is_as(&self, last: &Self) -> bool {
        let stays = |rule| matches!(rule, Allowance::ReturnsToWarmUp);
        self.compare(last, stays, |one, other| one == other)
    }

    /// Whether nothing of what may stay after a warm-up has become more.
    fn is_at_most(&self, warm: &Self) -> bool {
        let stays = |rule| matches!(rule, Allowance::ReturnsToWarmUp);
        self.compare(warm, stays, |one, other| one <= other)
    }

    /// What is more than it may be after this one.
    fn grown(&self, later: &Self) -> Vec<&'static str> {
        let pairs = self.0.iter().zip(&later.0);
        pairs
            .filter(|(before, after)| {
                let allowed = match before.rule {
                    Allowance::Returns | Allowance::ReturnsToWarmUp => 0,
                    Allowance::GrowsAtMost(bound) => bound,
                };
                after.count > before.count + allowed
            })
            .map(|(before, _)| before.what)
            .collect()
    }
}

/// The figures of several moments, side by side.
struct CensusTable<'a>(&'a [(&'a str, &'a Census)]);

impl fmt::Display for CensusTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:28}", "")?;
        for (moment, _) in self.0 {
            write!(f, "{moment:>18}")?;
        }
        let Some((_, first)) = self.0.first() else {
            return Ok(());
        };
        for (number, figure) in first.0.iter().enumerate() {
            write!(f, "\n{:28}", figure.what)?;
            for (_, census) in self.0 {
                write!(f, "{:>18}", census.0[number].count)?;
            }
        }
        Ok(())
    }
}

pub(super) fn rounds_leak_nothing(world: &World) -> Outcome {
    let rounds = world.settings().rounds;
    let sandbox = world.container(IDLE);
    let pod = format!("io.kubernetes.cri.sandbox-id={}", sandbox.id);
    let kind = "io.kubernetes.cri.container-type=sandbox";
    let sandbox = sandbox.options(&["--annotation", &pod, "--annotation", kind]);
    sandbox.detach()?;
    sandbox.wait_for_status("RUNNING")?;
    let shim = sandbox.shim()?;

    // Its threads that may block end when they have been idle.
    wait_for("the shim to be idle", || {
        Ok((entries(shim, "task")? == 1).then_some(()))
    })?;
    let before = Census::take(world, shim)?;
    run_rounds(world, &pod, AT_ONCE)?;
    let warm = settled(world, shim, |last, later| {
        before.has_returned(later) && later.is_as(last)
    })?;
    run_rounds(world, &pod, rounds)?;
    let after = settled(world, shim, |_, later| {
        warm.has_returned(later) && later.is_at_most(&warm)
    })?;

    let warm_up = format!("after {AT_ONCE}");
    let end = format!("after {rounds} more");
    let table = CensusTable(&[("before", &before), (&warm_up, &warm), (&end, &after)]).to_string();
    println!("{table}");
    let grown = warm.grown(&after);
    if !grown.is_empty() {
        return Err(format!("grown after {rounds} rounds: {grown:?}\n{table}").into());
    }
    sandbox.end_by("SIGKILL", 137)?;
    sandbox.remove()
}

/// The census for which `is_settled` holds, given the one before it too; or else the last one, which shows what has not
/// gone. The caller decides.
fn settled(
    world: &World,
    shim: i32,
    is_settled: impl Fn(&Census, &Census) -> bool,
) -> Outcome<Census> {
    let mut last = Census::take(world, shim)?;
    let waited = wait_for("what the rounds have made to go", || {
        let later = Census::take(world, shim)?;
        let settled = is_settled(&last, &later);
        last = later;
        Ok(settled.then_some(()))
    });
    drop(waited);
    Ok(last)
}

fn run_rounds(world: &World, pod: &str, rounds: usize) -> Outcome {
    let begun = AtomicUsize::new(0);
    let results: Vec<Outcome> = thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE.min(rounds))
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let number = begun.fetch_add(1, Ordering::Relaxed);
                        if number >= rounds {
                            return Ok(());
                        }
                        if let Err(error) = round(world, pod, number) {
                            // No worker begins another one.
                            begun.store(rounds, Ordering::Relaxed);
                            return Err(error);
                        }
                    }
                })
            })
            .collect();
        let joined = workers.into_iter().map(thread::ScopedJoinHandle::join);
        joined
            .map(|result| result.unwrap_or_else(|_| Err("a thread panicked".into())))
            .collect()
    });
    results.into_iter().collect()
}

fn round(world: &World, pod: &str, number: usize) -> Outcome {
    let sleeps = "import time; print('ready', flush=True); time.sleep(3600)";
    let guest = world.container(PYTHON).arguments(&["python", "-c", sleeps]);
    let native = shell(world, OURS, "echo ready; exec busybox sleep 3600");
    let lives: [(CtrContainer<'_>, &[&str]); 2] = [
        (guest, &["python", "-c", "import sys; sys.exit(3)"]),
        (native, &["sh", "-c", "exit 3"]),
    ];
    for (place, (container, exec)) in lives.into_iter().enumerate() {
        let container = if number % 2 == place {
            container.options(&["--annotation", pod])
        } else {
            container
        };
        container.detach()?;
        container.wait_for_output("ready")?;
        container
            .task(&["exec", "--exec-id", "exec"], exec)?
            .expect_code(3)?;
        container.signal("SIGKILL")?;
        wait_for("the task to be deleted", || {
            let deleted = container.task(&["rm"], &[])?;
            if deleted.code == 0 {
                return Ok(Some(deleted));
            }
            // It has not ended yet.
            deleted.expect_stderr(&["failed precondition"])?;
            Ok(None)
        })?
        .expect_stderr(&["exit code 137"])?;
        container.remove()?;
        container.forget_output()?;
    }
    Ok(())
}

/// How many entries a folder of a process has in /proc.
fn entries(pid: i32, folder: &str) -> Outcome<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/{folder}"))?.count())
}

/// How many processes have this one as their parent.
fn children(pid: i32) -> Outcome<usize> {
    let mut children = 0;
    for entry in fs::read_dir("/proc")? {
        let stat = fs::read_to_string(entry?.path().join("stat")).unwrap_or_default();
        let parent = stat.rsplit(')').next().unwrap_or_default();
        if parent.split_whitespace().nth(1) == Some(&pid.to_string()) {
            children += 1;
        }
    }
    Ok(children)
}

/// In KiB, without what is shared with others.
fn private_memory(pid: i32) -> Outcome<usize> {
    let path = Path::new("/proc")
        .join(pid.to_string())
        .join("smaps_rollup");
    let mut sum = 0;
    for line in fs::read_to_string(path)?.lines() {
        if line.starts_with("Private_") {
            let number = line.split_whitespace().nth(1).ok_or("no number")?;
            sum += number.parse::<usize>()?;
        }
    }
    Ok(sum)
}

/// `goroutine profile: total 42`.
fn goroutines(world: &World) -> Outcome<usize> {
    let profile = world.daemon().profile("goroutine")?;
    let total = profile.split("total ").nth(1);
    let number = total.and_then(|rest| rest.split_whitespace().next());
    Ok(number.ok_or("no total in the profile")?.parse()?)
}

/// In KiB, after a collection: `# HeapAlloc = 1234`.
fn heap(world: &World) -> Outcome<usize> {
    let profile = world.daemon().profile("heap?gc=1")?;
    let alloc = profile.split("# HeapAlloc = ").nth(1);
    let number = alloc.and_then(|rest| rest.split_whitespace().next());
    let bytes: usize = number.ok_or("no HeapAlloc in the profile")?.parse()?;
    Ok(bytes / 1024)
}

/// How many names of session keyrings there are, of tasks of whatever run.
fn session_keyrings() -> Outcome<usize> {
    let keys = fs::read_to_string("/proc/keys")?;
    let names: BTreeSet<_> = keys
        .split_whitespace()
        .filter(|word| word.starts_with("_ses."))
        .collect();
    Ok(names.len())
}
