//! SIGKILL at random moments of a container's life: `make test-chaos`.
//!
//! The victim is its shim, the runner, its logging program, an exec in it, or containerd itself. After each kill, and
//! after what containerd does about it, nothing may be left, the exit status that could be known has to be reported,
//! and the id has to be free. Which step of the life is hit, how far into it, and with what program comes from a seed:
//! a failure prints it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::native::{same, shell};
use super::pods::with_hooks;
use super::survival::is_recorded_as_a_sandbox;
use crate::Outcome;
use crate::command::{Finished, wait_for};
use crate::guests::{IDLE, PYTHON};
use crate::leftovers::Leftovers;
use crate::random::Random;
use crate::world::{Beside, CtrContainer, OURS, RUNC, World, wait_for_end_of_keyring};

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Shim,
    /// Whichever of the runner's processes is on the way to the container or an exec, or removes it.
    Runner,
    LoggingProgram,
    Exec,
    Containerd,
}

/// A part of a container's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LifeStep {
    Create,
    Exec,
    End,
    Delete,
}

impl LifeStep {
    const ALL: [Self; 4] = [Self::Create, Self::Exec, Self::End, Self::Delete];

    /// How long it takes at most on a slow machine, in microseconds: the kill comes within this time.
    fn microseconds(self) -> u64 {
        match self {
            Self::Create => 150_000,
            Self::Exec => 250_000,
            Self::End | Self::Delete => 120_000,
        }
    }
}

/// With what the container ends if nothing happens to it, and its exec.
const ENDS: i32 = 7;
const EXEC_ENDS: i32 = 3;
const KILLED: i32 = 137;

/// One kill.
#[derive(Clone, Copy, Debug)]
struct Try {
    victim: Victim,
    step: LifeStep,
    after: Duration,
    guest: bool,
    /// Whether the container is a member of a pod, whose shim it uses.
    in_pod: bool,
    /// Whether this containerd forgets tasks that end while it is down, whatever their runtime.
    forgets: bool,
}

impl Try {
    fn make_up(victim: Victim, forgets: bool, random: &mut Random) -> Self {
        let steps: &[LifeStep] = match victim {
            Victim::Shim | Victim::Containerd | Victim::LoggingProgram => &LifeStep::ALL,
            // While the container ends by itself, no runner is there.
            Victim::Runner => &[LifeStep::Create, LifeStep::Exec, LifeStep::Delete],
            Victim::Exec => &[LifeStep::Exec],
        };
        let step = *random.choose(steps);
        Self {
            victim,
            step,
            after: Duration::from_micros(random.below(step.microseconds())),
            guest: random.one_in(2),
            in_pod: victim == Victim::Shim && random.one_in(2),
            forgets,
        }
    }
}

pub(super) fn killed_shims_leave_nothing(world: &World) -> Outcome {
    kill_many(world, Victim::Shim)
}

pub(super) fn killed_runners_leave_nothing(world: &World) -> Outcome {
    kill_many(world, Victim::Runner)
}

pub(super) fn killed_logging_programs_take_nothing_along(world: &World) -> Outcome {
    kill_many(world, Victim::LoggingProgram)
}

pub(super) fn killed_execs_take_nothing_along(world: &World) -> Outcome {
    kill_many(world, Victim::Exec)
}

pub(super) fn killed_containerd_takes_nothing_along(world: &World) -> Outcome {
    kill_many(world, Victim::Containerd)
}

fn kill_many(world: &World, victim: Victim) -> Outcome {
    let (tries, seed) = (world.settings().chaos_tries, world.settings().chaos_seed);
    let mut random = Random::new(seed);
    let forgets = victim == Victim::Containerd && forgets_what_ends_meanwhile(world, RUNC)?;
    let mut hits = [0; LifeStep::ALL.len()];
    for number in 1..=tries {
        let planned = Try::make_up(victim, forgets, &mut random);
        let killed = planned.carry_out(world).map_err(|error| {
            let message = error.message().unwrap_or("unknown");
            let failure = format!("seed {seed}, try {number} of {tries}, {planned:?}: {message}");
            // Now, as the other victims may take long.
            println!("{failure}");
            failure
        })?;
        if killed {
            let step = LifeStep::ALL.iter().position(|step| *step == planned.step);
            hits[step.unwrap_or_default()] += 1;
        }
    }
    let hits = LifeStep::ALL.iter().zip(hits);
    let hits: Vec<_> = hits
        .map(|(step, hits)| format!("{hits} at {step:?}"))
        .collect();
    println!(
        "{victim:?}: {tries} tries from seed {seed}: {}",
        hits.join(", ")
    );
    Ok(())
}

/// What became of the steps.
#[derive(Default)]
struct LifeRecord {
    created: Option<Finished>,
    exec: Option<Finished>,
    /// What the deletion of the task said, once it succeeded.
    status: Option<i32>,
    killed: bool,
}

/// What a try works with.
struct Scene<'world> {
    world: &'world World,
    container: CtrContainer<'world>,
    /// The sandbox first.
    pod: Vec<CtrContainer<'world>>,
    /// Mounted into the container: what it has come to, and whether it is to end.
    control: PathBuf,
    /// In the command line of the exec.
    marker: String,
}

impl Try {
    /// Returns whether there was someone to kill.
    fn carry_out(&self, world: &World) -> Outcome<bool> {
        let before = Leftovers::during(world.name());
        let mut scene = self.set_up(world)?;
        let members: Vec<i32> = scene
            .pod
            .iter()
            .map(CtrContainer::pid)
            .collect::<Outcome<_>>()?;
        let mut life = LifeRecord::default();
        for step in LifeStep::ALL {
            if step == self.step {
                self.take_and_kill(step, &scene, &mut life)?;
            } else {
                self.take(step, &scene, &mut life)?;
            }
        }
        if life.killed && self.in_pod {
            for member in members {
                let process = Path::new("/proc").join(member.to_string());
                wait_for("the pod to end with its shim", || {
                    Ok((!process.exists()).then_some(()))
                })?;
            }
        }
        // They keep the bundles of a pod's other members until they start again.
        let keeps = (1, 7)..=(2, 3);
        if life.killed && self.in_pod && keeps.contains(&world.daemon().version()?) {
            world.daemon().stop()?;
            world.daemon().launch()?;
        }
        self.remove(&scene, &mut life)?;
        self.check(&scene, &life)?;

        let mut ids = vec![std::mem::take(&mut scene.container.id)];
        ids.extend(scene.pod.iter_mut().map(|one| std::mem::take(&mut one.id)));
        let left = before.what_is_new();
        if !left.is_empty() {
            return Err(format!("left: {left:?}").into());
        }
        wait_for("bundles to be removed", || {
            Ok(world.daemon().bundles().is_empty().then_some(()))
        })?;
        for id in ids {
            wait_for_end_of_keyring(&id)?;
            let mut again = shell(world, OURS, "exit 5");
            again.id = id;
            again.run()?.expect_code(5)?;
        }
        Ok(life.killed)
    }

    fn set_up<'world>(&self, world: &'world World) -> Outcome<Scene<'world>> {
        let control = world.folder("chaos")?;
        let ends = format!(
            "touch /control/ready; while [ ! -e /control/end ]; do busybox sleep 0.02; done; \
             touch /control/ended; exit {ENDS}"
        );
        let guest_ends = format!(
            "import os, sys, time\nopen('/control/ready', 'w')\n\
             while not os.path.exists('/control/end'): time.sleep(0.02)\n\
             open('/control/ended', 'w')\nsys.exit({ENDS})"
        );
        let mut container = if self.guest {
            let words = ["python", "-c", &guest_ends];
            world.container(PYTHON).arguments(&words)
        } else {
            shell(world, OURS, &ends)
        };
        container = container.mount(&control, "/control", "rbind:rw");
        let mut pod = Vec::new();
        if self.in_pod {
            let sandbox = world.container(IDLE);
            let annotation = format!("io.kubernetes.cri.sandbox-id={}", sandbox.id);
            let mut member = vec!["--annotation", annotation.as_str()];
            let kind = "io.kubernetes.cri.container-type=sandbox";
            let id = sandbox.id.clone();
            let sandbox = sandbox.options(&[&member[..], &["--annotation", kind]].concat());
            if is_recorded_as_a_sandbox(world, &id)? {
                member.extend(["--sandbox", &id]);
            }
            let sidecar = shell(world, OURS, "busybox sleep 3600 & echo ready; wait");
            pod = vec![sandbox, sidecar.options(&member)];
            for one in &pod {
                one.detach()?;
                one.wait_for_status("RUNNING")?;
            }
            container = container.options(&member);
        }
        let marker = format!("marker-of-{}", container.id);
        Ok(Scene {
            world,
            container,
            pod,
            control,
            marker,
        })
    }

    /// Takes a step, whatever comes of it.
    fn take(&self, step: LifeStep, scene: &Scene<'_>, life: &mut LifeRecord) -> Outcome {
        let created = life.created.as_ref().is_none_or(|done| done.code == 0);
        let needs_a_process = matches!(step, LifeStep::Exec | LifeStep::End);
        if !created || needs_a_process && !scene.notes("ready") {
            return Ok(());
        }
        match step {
            LifeStep::Create => {
                let created = scene.create(self.victim)?;
                let runs = created.code == 0;
                life.created = Some(created);
                if runs {
                    scene.wait_for_note("ready")?;
                }
                Ok(())
            }
            LifeStep::Exec => {
                life.exec = Some(scene.exec(self.guest)?.finish()?);
                Ok(())
            }
            LifeStep::End => {
                fs::write(scene.control.join("end"), "")?;
                scene.wait_for_end()
            }
            LifeStep::Delete => {
                life.status = scene.delete()?;
                Ok(())
            }
        }
    }

    /// The same, and kills the victim meanwhile: when its time has come, or as soon as it is there after that. If it
    /// is not until the step is over, there is none.
    fn take_and_kill(&self, step: LifeStep, scene: &Scene<'_>, life: &mut LifeRecord) -> Outcome {
        let init = scene
            .container
            .pid()
            .ok()
            .filter(|_| step != LifeStep::Create);
        let over = AtomicBool::new(false);
        let (taken, killed) = thread::scope(|scope| {
            let killer = scope.spawn(|| -> Outcome<bool> {
                thread::sleep(self.after);
                loop {
                    let last = over.load(Ordering::Acquire);
                    if self.kill(scene, init)? {
                        return Ok(true);
                    }
                    if last {
                        return Ok(false);
                    }
                    thread::sleep(Duration::from_micros(300));
                }
            });
            let taken = self.take(step, scene, life);
            over.store(true, Ordering::Release);
            (taken, killer.join())
        });
        taken?;
        life.killed = killed.unwrap_or_else(|_| Err("the killer panicked".into()))?;
        Ok(())
    }

    /// Returns whether the victim is there.
    fn kill(&self, scene: &Scene<'_>, init: Option<i32>) -> Outcome<bool> {
        let victim = match self.victim {
            Victim::Containerd => {
                scene.world.daemon().kill()?;
                scene.world.daemon().launch()?;
                return Ok(true);
            }
            Victim::Shim => scene.shim(),
            Victim::Runner => scene.runner(init),
            Victim::LoggingProgram => scene.logging_program(),
            Victim::Exec => scene.exec_process(),
        };
        let Some(victim) = victim else {
            return Ok(false);
        };
        // It may have ended by itself since.
        Ok(kill(Pid::from_raw(victim), Signal::SIGKILL).is_ok())
    }

    /// Removes what containerd has not removed by itself. Deletes the task in order, if it can be.
    fn remove(&self, scene: &Scene<'_>, life: &mut LifeRecord) -> Outcome {
        if life.status.is_none() && scene.notes("ended") && self.victim != Victim::Shim {
            wait_for("the status of the ended task", || {
                match scene.container.status() {
                    Ok(None) => return Ok(Some(())),
                    Ok(Some(_)) => life.status = scene.delete()?,
                    // containerd is not back yet.
                    Err(_) => {}
                }
                Ok(life.status.map(drop))
            })?;
        }
        for container in scene.pod.iter().rev().chain([&scene.container]) {
            scene.forget(container)?;
        }
        Ok(())
    }

    /// Fails if something was not told that could be known.
    fn check(&self, scene: &Scene<'_>, life: &LifeRecord) -> Outcome {
        let created = life.created.as_ref().ok_or("no create")?;
        let is_told = |finished: &Finished| finished.code == 0 || !finished.stderr.is_empty();
        if !is_told(created) {
            return Err(format!("the create failed without a word: {created}").into());
        }
        if let Some(exec) = &life.exec {
            let known = [EXEC_ENDS, KILLED].contains(&exec.code);
            // A kill while it was made may have hit the container itself.
            let without_container = self.step == LifeStep::Create
                && matches!(self.victim, Victim::Shim | Victim::Runner);
            let disturbed = life.killed && (self.step == LifeStep::Exec || without_container);
            if !known && (!disturbed || !is_told(exec)) {
                return Err(format!("the exec failed: {exec}").into());
            }
            if !disturbed && exec.code != EXEC_ENDS {
                return Err(format!("an exec that was not disturbed: {exec}").into());
            }
        }
        let ended = scene.notes("ended");
        let expected: &[Option<i32>] = match self.victim {
            _ if !life.killed => &[Some(ENDS)],
            // Its exit statuses were in it.
            Victim::Shim => &[None, Some(ENDS), Some(KILLED)],
            Victim::LoggingProgram | Victim::Exec => &[Some(ENDS)],
            // It may have been about to become the container's process.
            Victim::Runner if self.step == LifeStep::Create && !ended => &[None, Some(KILLED)],
            Victim::Runner => &[Some(ENDS)],
            Victim::Containerd if self.step == LifeStep::Create && !ended => &[None, Some(KILLED)],
            Victim::Containerd if self.forgets => &[None, Some(ENDS)],
            // The client of the deletion has died, but not the deletion.
            Victim::Containerd if self.step == LifeStep::Delete => &[None, Some(ENDS)],
            Victim::Containerd => &[Some(ENDS)],
        };
        if expected.contains(&life.status) {
            return Ok(());
        }
        Err(format!(
            "exit status {:?} instead of {expected:?}; ended by itself: {ended}; {created}",
            life.status
        )
        .into())
    }
}

impl Scene<'_> {
    fn create(&self, victim: Victim) -> Outcome<Finished> {
        if victim != Victim::LoggingProgram {
            return self.container.try_detach();
        }
        let logger = self.control.join("logger");
        // Its environment tells whose it is.
        fs::write(
            &logger,
            "exec 5>&-; cat <&3 >/dev/null & cat <&4 >/dev/null; wait",
        )?;
        let uri = format!("binary:///bin/sh?{}", logger.display());
        self.container.detach_logging_to(&uri)
    }

    fn exec(&self, guest: bool) -> Outcome<Beside<'_>> {
        let native = format!("busybox sleep 0.1; exit {EXEC_ENDS}");
        let python = format!("import sys, time; time.sleep(0.1); sys.exit({EXEC_ENDS})");
        let command = if guest {
            ["python", "-c", &python, &self.marker]
        } else {
            ["sh", "-c", &native, &self.marker]
        };
        self.container.exec_beside("exec", &command)
    }

    /// Whether the container has left a note.
    fn notes(&self, note: &str) -> bool {
        self.control.join(note).exists()
    }

    /// Waits until the container notes something, or does not run.
    fn wait_for_note(&self, note: &str) -> Outcome {
        wait_for(
            &format!("{note:?} of container {}", self.container.id),
            || Ok((self.notes(note) || !self.runs()).then_some(())),
        )
    }

    fn wait_for_end(&self) -> Outcome {
        wait_for(
            &format!("the end of container {}", self.container.id),
            || Ok((!self.runs()).then_some(())),
        )
    }

    /// As far as containerd knows. If it cannot be asked now, it is asked again.
    fn runs(&self) -> bool {
        let status = self.container.status();
        status.is_err()
            || matches!(
                status.as_ref().map(Option::as_deref),
                Ok(Some("RUNNING" | "CREATED"))
            )
    }

    /// `ctr task rm`: the status, if the task could be deleted.
    fn delete(&self) -> Outcome<Option<i32>> {
        let deleted = self.container.task(&["rm"], &[])?;
        if deleted.code != 0 {
            return Ok(None);
        }
        // It stands only in a warning, and only if it is not zero.
        let code = deleted.stderr.split("exit code ").nth(1).map(|rest| {
            let digits = rest.chars().take_while(char::is_ascii_digit);
            digits.collect::<String>().parse()
        });
        Ok(Some(code.transpose()?.unwrap_or(0)))
    }

    /// Removes task, container and snapshot, as far as they are there.
    fn forget(&self, container: &CtrContainer<'_>) -> Outcome {
        wait_for("the task to be removed", || {
            match container.status() {
                Ok(None) => return Ok(Some(())),
                Ok(Some(_)) => drop(container.task(&["rm", "--force"], &[])?),
                Err(_) => {}
            }
            Ok(None)
        })?;
        let ctr = |arguments: &[&str]| self.world.daemon().ctr(arguments);
        let listed = ctr(&["container", "ls", "--quiet"])?.expect_code(0)?.stdout;
        if listed.lines().any(|line| line == container.id) {
            ctr(&["container", "rm", &container.id])?.expect_code(0)?;
        }
        // A client that died between the two has made the snapshot alone.
        let snapshots = ctr(&["snapshot", "ls"])?.expect_code(0)?.stdout;
        let of = |line: &str| line.split_whitespace().next() == Some(&container.id);
        if snapshots.lines().any(of) {
            ctr(&["snapshot", "rm", &container.id])?.expect_code(0)?;
        }
        Ok(())
    }

    /// The server of this container's shim, or the process that starts it. Not the one that cleans up after it.
    fn shim(&self) -> Option<i32> {
        let owner = self.pod.first().unwrap_or(&self.container);
        find(|process| {
            let words = process.words();
            let is_shim = words
                .first()
                .is_some_and(|word| word.contains("containerd-shim"));
            is_shim
                && words.contains(&owner.id)
                && words.iter().any(|word| word == self.world.name())
                && words.last().is_none_or(|word| word != "delete")
        })
    }

    /// A process of the runner beneath the shim, other than the container's own.
    fn runner(&self, init: Option<i32>) -> Option<i32> {
        let shim = self.shim()?;
        let runner = self.world.settings().bin().join("wasm-interp-runner");
        find(|process| {
            Some(process.pid) != init && process.is_running(&runner) && process.is_beneath(shim)
        })
    }

    fn logging_program(&self) -> Option<i32> {
        let wanted = [
            format!("CONTAINER_ID={}", self.container.id),
            format!("CONTAINER_NAMESPACE={}", self.world.name()),
        ];
        find(|process| {
            let environment = process.read("environ");
            wanted.iter().all(|variable| environment.contains(variable))
        })
    }

    /// The exec itself, not `ctr`.
    fn exec_process(&self) -> Option<i32> {
        find(|process| {
            let words = process.words();
            words.contains(&self.marker) && words.first().is_some_and(|word| !word.ends_with("ctr"))
        })
    }
}

/// A process of this machine.
struct SeenProcess {
    pid: i32,
}

impl SeenProcess {
    fn path(&self, file: &str) -> PathBuf {
        Path::new("/proc").join(self.pid.to_string()).join(file)
    }

    /// The words of a file of it, without those that are no text. A process that has ended has none.
    fn read(&self, file: &str) -> Vec<String> {
        let bytes = fs::read(self.path(file)).unwrap_or_default();
        bytes
            .split(|&byte| byte == 0)
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .filter(|word| !word.is_empty())
            .collect()
    }

    fn words(&self) -> Vec<String> {
        self.read("cmdline")
    }

    fn is_running(&self, executable: &Path) -> bool {
        use std::os::unix::fs::MetadataExt;
        let identity = |path: &Path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
        identity(&self.path("exe")).is_some_and(|own| Some(own) == identity(executable))
    }

    fn parent(&self) -> Option<i32> {
        let stat = fs::read_to_string(self.path("stat")).ok()?;
        stat.rsplit(')')
            .next()?
            .split_whitespace()
            .nth(1)?
            .parse()
            .ok()
    }

    fn is_beneath(&self, ancestor: i32) -> bool {
        let mut parent = self.parent();
        // A chain of processes that change meanwhile may have no end.
        for _ in 0..16 {
            match parent {
                Some(pid) if pid == ancestor => return true,
                Some(pid) if pid > 1 => parent = Self { pid }.parent(),
                _ => return false,
            }
        }
        false
    }
}

/// A process for which this is true.
fn find(is_wanted: impl Fn(&SeenProcess) -> bool) -> Option<i32> {
    let entries = fs::read_dir("/proc").ok()?;
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .map(|pid| SeenProcess { pid })
        .find(is_wanted)
        .map(|process| process.pid)
}

/// A hook of the host holds a create up, and the shim is killed meanwhile: the runner ends with it.
pub(super) fn killed_shim_takes_a_create_along(world: &World) -> Outcome {
    // The runner waits for the first, the container's init process for the second.
    for kind in ["createRuntime", "createContainer"] {
        killed_during(world, kind)?;
    }
    Ok(())
}

fn killed_during(world: &World, kind: &str) -> Outcome {
    let before = Leftovers::during(world.name());
    let (folder, mut spec) = with_hooks(world)?;
    let (hold, held) = (folder.join("hold"), folder.join("held"));
    fs::write(&hold, "")?;
    let waits = format!(
        "echo >{}; while [ -e {} ]; do sleep 0.02; done",
        held.display(),
        hold.display()
    );
    let path = "PATH=/usr/bin:/bin";
    spec["hooks"] = json!({ kind: [
        { "path": "/bin/sh", "args": ["sh", "-c", waits], "env": [path] },
    ] });
    let file = folder.join("spec.json");
    fs::write(&file, spec.to_string())?;
    let mut container = world.container_of_spec(&file);
    let client = container.run_beside()?;
    wait_for("the hook", || Ok(held.exists().then_some(())))?;
    kill(Pid::from_raw(container.shim()?), Signal::SIGKILL)?;
    let runner = world.settings().bin().join("wasm-interp-runner");
    let ended = wait_for("the end of the runner", || {
        Ok(find(|process| process.is_running(&runner))
            .is_none()
            .then_some(()))
    });
    ended?;
    client.finish()?.expect_failure()?;
    fs::remove_file(&hold)?;
    let left = before.what_is_new();
    if !left.is_empty() {
        return Err(format!("left of a {kind} hook: {left:?}").into());
    }
    let id = std::mem::take(&mut container.id);
    let mut again = shell(world, OURS, "exit 5");
    again.id = id;
    again.run()?.expect_code(5).map(drop)
}

/// A task that ends while containerd is down. Newer ones take a shim without a process for one that was forgotten, and
/// remove it.
pub(super) fn exit_without_containerd_is_reported_as_under_runc(world: &World) -> Outcome {
    same("an exit while containerd is down", |runtime| {
        Ok(vec![forgets_what_ends_meanwhile(world, runtime)?])
    })
}

fn forgets_what_ends_meanwhile(world: &World, runtime: &'static str) -> Outcome<bool> {
    let control = world.folder("control")?;
    let script = "echo ready; while [ ! -e /control/end ]; do busybox sleep 0.02; done; exit 7";
    let container = shell(world, runtime, script).mount(&control, "/control", "rbind:ro");
    container.detach()?;
    container.wait_for_output("ready")?;
    let process = Path::new("/proc").join(container.pid()?.to_string());
    world.daemon().kill()?;
    fs::write(control.join("end"), "")?;
    wait_for("the program to end", || {
        Ok((!process.exists()).then_some(()))
    })?;
    world.daemon().launch()?;
    let forgotten = container.status()?.is_none();
    if !forgotten {
        container.wait_for_status("STOPPED")?;
        container.delete_expecting(7)?;
    }
    container.remove()?;
    Ok(forgotten)
}
