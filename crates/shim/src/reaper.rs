//! The shim's child processes: waits for them, so that no exit status is lost and none stays a zombie.
//!
//! The shim is a subreaper: a container's init process becomes its child when the runner ends, and so
//! does every process that a container leaves behind. There are four kinds of children:
//!
//! - A [`ContainerProcess`] is waited for by its pidfd. Its exit status stays with it until it is read,
//!   however early it ends.
//! - A **runner** is waited for by its caller, by pid. The caller keeps a [`RunnerCall`] until it has claimed the process
//!   that the runner made. A runner may wait for a file system that does not answer, so others are reaped meanwhile.
//! - The **publisher** of native code is waited for by the store, by pid. That may take minutes, so
//!   [`Reaper`] implements [`Spawn`] and leaves only this child alone for so long.
//! - An **orphan** is reaped by [`Reaper::reap_orphans`], which takes only children that nothing above
//!   waits for. What a runner has made is the runner's child until the runner ends. So from then on, until the claim,
//!   no orphan is reaped: it may be that process.
//!
//! Called by `launch` and `task`. It does not know what a task is.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use log::{debug, error, warn};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};
use wasm_interp_artifact::{Spawn, Spawned};
use wasm_interp_runner_client::InitRef;

use crate::sys;

/// The status of a process whose own status is lost.
pub(crate) const STATUS_UNKNOWN: u32 = 255;
/// The status of a process that SIGKILL ended.
pub(crate) const KILLED_STATUS: u32 = 128 + libc::SIGKILL.unsigned_abs();

/// How and when a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    /// The process's exit status, or 128+n if signal n ended it.
    pub(crate) status: u32,
    /// When the shim learned of it.
    pub(crate) at: SystemTime,
}

/// The shim's children.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reaper {
    waits: Arc<Mutex<Waits>>,
}

/// Which children the reaper leaves to others.
#[derive(Debug, Default)]
struct Waits {
    /// How many [`ReapingPause`]s exist. If there is one, the reaper leaves every child alone.
    pauses: usize,
    /// The runners of all [`RunnerCall`]s, by their pidfd's number. If one has ended, the reaper leaves every child
    /// alone.
    runners: BTreeMap<RawFd, OwnedFd>,
    /// Children with a waiter: processes of containers, and publishers.
    waited_for: HashSet<i32>,
}

impl Waits {
    /// Whether a child that has ended may be one that nothing here knows yet. To be asked after the child was seen.
    fn may_be_new(&self) -> bool {
        // What cannot be looked at may have ended.
        let has_ended = |runner: &OwnedFd| sys::has_ended(runner.as_fd()).unwrap_or(true);
        self.pauses > 0 || self.runners.values().any(has_ended)
    }
}

/// A call of the runner, from before the runner is spawned until the process that it made is claimed.
#[derive(Debug)]
pub(crate) struct RunnerCall {
    reaper: Reaper,
    /// Until the runner is known.
    pause: Option<ReapingPause>,
    /// The key of the runner.
    runner: Option<RawFd>,
}

impl RunnerCall {
    /// The runner has been spawned.
    pub(crate) fn spawned(&mut self, pid: u32) {
        match sys::pidfd_open(pid.cast_signed()) {
            Ok(pidfd) => {
                let key = pidfd.as_raw_fd();
                self.reaper.lock().runners.insert(key, pidfd);
                self.runner = Some(key);
                self.pause = None;
            }
            // The pause lasts as long as the call.
            Err(error) => {
                warn!(pid, error:%; "cannot open the runner; nothing is reaped meanwhile");
            }
        }
    }
}

impl Drop for RunnerCall {
    fn drop(&mut self) {
        if let Some(key) = self.runner {
            self.reaper.lock().runners.remove(&key);
        }
        self.pause = None;
        self.reaper.reap_orphans();
    }
}

/// While this lives, no orphan is reaped.
#[derive(Debug)]
pub(crate) struct ReapingPause {
    reaper: Reaper,
}

impl Drop for ReapingPause {
    fn drop(&mut self) {
        self.reaper.lock().pauses -= 1;
        self.reaper.reap_orphans();
    }
}

/// A process of a container that the runner made. A signal or a wait never means a later process with
/// the same number.
#[derive(Debug)]
pub(crate) struct ContainerProcess {
    pid: i32,
    pidfd: OwnedFd,
    reaper: Reaper,
}

impl Reaper {
    fn lock(&self) -> MutexGuard<'_, Waits> {
        // A panic cannot leave a counter and a set half changed.
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be kept during a call of the runner, and until the process that it made is claimed.
    pub(crate) fn runner_call(&self) -> RunnerCall {
        RunnerCall {
            reaper: self.clone(),
            pause: Some(self.pause()),
            runner: None,
        }
    }

    /// To be kept from before a child is spawned until it is known here.
    pub(crate) fn pause(&self) -> ReapingPause {
        self.lock().pauses += 1;
        ReapingPause {
            reaper: self.clone(),
        }
    }

    /// Claims the process that a runner has just made by this call.
    pub(crate) fn claim(&self, _call: &RunnerCall, pid: i32) -> io::Result<ContainerProcess> {
        let pidfd = sys::pidfd_open(pid)?;
        self.lock().waited_for.insert(pid);
        Ok(ContainerProcess {
            pid,
            pidfd,
            reaper: self.clone(),
        })
    }

    /// Kills a process that a runner has just made by this call and that could not be claimed. The runner has ended, and
    /// the call has not: no child is reaped meanwhile, so none has got its number.
    pub(crate) fn kill_unclaimed(&self, _call: &RunnerCall, pid: i32) {
        // Another number would mean a group of processes.
        if pid > 0
            && let Err(error) = kill(Pid::from_raw(pid), Signal::SIGKILL)
        {
            error!(pid, error:%; "cannot kill a process that could not be claimed");
        }
    }

    /// The child has no waiter any more.
    fn release(&self, pid: i32) {
        self.lock().waited_for.remove(&pid);
        self.reap_orphans();
    }

    /// Reaps on every SIGCHLD, for as long as the runtime runs.
    pub(crate) fn watch(&self) -> io::Result<()> {
        let mut children = signal(SignalKind::child())?;
        let reaper = self.clone();
        tokio::spawn(async move {
            while children.recv().await.is_some() {
                reaper.reap_orphans();
            }
        });
        Ok(())
    }

    /// Reaps ended children that have no waiter.
    fn reap_orphans(&self) {
        let waits = self.lock();
        loop {
            let ended = sys::any_ended().unwrap_or_else(|error| {
                if error.raw_os_error() != Some(libc::ECHILD) {
                    error!(error:%; "cannot look for ended child processes");
                }
                None
            });
            // A child with a waiter hides the children after it. Its waiter calls this again.
            let Some(ended) = ended.filter(|ended| !waits.waited_for.contains(&ended.pid)) else {
                return;
            };
            if waits.may_be_new() {
                return;
            }
            match sys::reap_now(ended.pid) {
                Ok(_) => debug!(pid = ended.pid, status = ended.status; "reaped an orphan"),
                Err(error) => {
                    error!(pid = ended.pid, error:%; "cannot reap an ended child process");
                    return;
                }
            }
        }
    }
}

impl ContainerProcess {
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// The same for the runner.
    pub(crate) fn init_ref(&self) -> InitRef<'_> {
        InitRef {
            pid: self.pid,
            pidfd: self.pidfd.as_fd(),
        }
    }

    /// Sends a signal. If the process has ended, the raw error is `ESRCH`.
    pub(crate) fn signal(&self, signal: i32) -> io::Result<()> {
        sys::pidfd_send_signal(self.pidfd.as_fd(), signal)
    }

    /// Waits until the process has ended, and reaps it. To be called once.
    pub(crate) async fn exited(&self) -> io::Result<Exit> {
        let readable = sys::readable(self.pidfd.as_fd())?;
        drop(readable.readable().await?);
        Ok(self.reap())
    }

    /// The same as [`ContainerProcess::exited`], but blocks the thread.
    pub(crate) fn exited_blocking(&self) -> Exit {
        self.reap()
    }

    fn reap(&self) -> Exit {
        let status = match sys::reap(self.pidfd.as_fd()) {
            Ok(ended) => ended.status,
            Err(error) => {
                error!(
                    pid = self.pid, error:%;
                    "cannot read the exit status of a container's process; 255 is reported"
                );
                STATUS_UNKNOWN
            }
        };
        let exit = Exit {
            status,
            at: SystemTime::now(),
        };
        self.reaper.release(self.pid);
        exit
    }
}

impl Spawn for Reaper {
    fn spawn(&self, command: &mut Command) -> io::Result<Box<dyn Spawned>> {
        // The child may end before its number is known here.
        let _pause = self.pause();
        let child = command.spawn()?;
        self.lock().waited_for.insert(child.id().cast_signed());
        Ok(Box::new(SpawnedChild {
            child,
            reaper: self.clone(),
        }))
    }
}

/// A child that the reaper leaves to its waiter.
struct SpawnedChild {
    child: Child,
    reaper: Reaper,
}

impl Spawned for SpawnedChild {
    fn wait(mut self: Box<Self>) -> io::Result<ExitStatus> {
        self.child.wait()
    }
}

impl Drop for SpawnedChild {
    /// If the child was waited for, its number is free for another child. If not, it is an orphan.
    fn drop(&mut self) {
        self.reaper.release(self.child.id().cast_signed());
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use nix::errno::Errno;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    /// These tests reap every child of the test process, so they run one at a time.
    pub(crate) static ALONE: Mutex<()> = Mutex::new(());

    fn child(script: &str) -> Child {
        Command::new("sh")
            .args(["-c", script])
            .spawn()
            .expect("spawn")
    }

    /// Waits until the child has ended, and does not reap it.
    fn await_end(pid: u32) {
        let pidfd = sys::pidfd_open(i32::try_from(pid).expect("pid")).expect("pidfd");
        let mut ready = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        let awaited = loop {
            match poll(&mut ready, PollTimeout::NONE) {
                // The SIGCHLD of another test's child.
                Err(Errno::EINTR) => {}
                polled => break polled,
            }
        };
        assert_eq!(awaited, Ok(1));
    }

    fn assert_reaped(child: &mut Child) {
        let error = child.wait().expect_err("the reaper has reaped it");
        assert_eq!(error.raw_os_error(), Some(libc::ECHILD));
    }

    fn claimed(reaper: &Reaper, script: &str) -> ContainerProcess {
        let call = reaper.runner_call();
        let pid = i32::try_from(child(script).id()).expect("pid");
        reaper.claim(&call, pid).expect("claim")
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("runtime")
    }

    #[test]
    fn status_is_the_processs_own_or_128_and_the_signal() {
        let _alone = ALONE.lock();
        let reaper = Reaper::default();
        runtime().block_on(async {
            for (script, status) in [
                ("exit 0", 0),
                ("exit 255", 255),
                ("kill -TERM $$", 143),
                ("kill -KILL $$", 137),
                // A real-time signal.
                ("kill -40 $$", 168),
            ] {
                let exit = claimed(&reaper, script).exited().await.expect("wait");
                assert_eq!(exit.status, status, "{script}");
            }
        });
    }

    #[test]
    fn reaper_leaves_a_claimed_process_that_has_ended_to_its_waiter() {
        let _alone = ALONE.lock();
        let reaper = Reaper::default();
        runtime().block_on(async {
            reaper.watch().expect("watch");
            let process = claimed(&reaper, "exit 7");
            await_end(process.pid.unsigned_abs());
            // Time for the task that SIGCHLD wakes.
            tokio::time::sleep(Duration::from_millis(100)).await;
            reaper.reap_orphans();
            assert_eq!(process.exited().await.expect("wait").status, 7);
        });
    }

    #[test]
    fn orphans_are_not_reaped_before_the_runner_is_known() {
        let _alone = ALONE.lock();
        let reaper = Reaper::default();
        let call = reaper.runner_call();
        let mut runner = child("exit 3");
        await_end(runner.id());
        reaper.reap_orphans();
        assert_eq!(runner.wait().expect("still ours").code(), Some(3));
        let mut orphan = child("exit 0");
        await_end(orphan.id());
        drop(call);
        assert_reaped(&mut orphan);
    }

    /// A volume may not answer for as long as the runner waits.
    #[test]
    fn orphans_are_reaped_while_a_runner_works_and_not_between_its_end_and_the_claim() {
        let _alone = ALONE.lock();
        let reaper = Reaper::default();
        let mut call = reaper.runner_call();
        let (input, end) = std::io::pipe().expect("pipe");
        let mut command = Command::new("sh");
        let runner = command.args(["-c", "read _; exit 3"]).stdin(input).spawn();
        let mut runner = runner.expect("spawn");
        call.spawned(runner.id());
        let mut orphan = child("exit 0");
        await_end(orphan.id());
        reaper.reap_orphans();
        assert_reaped(&mut orphan);

        let mut init = child("exit 7");
        await_end(init.id());
        drop(end);
        await_end(runner.id());
        reaper.reap_orphans();
        assert_eq!(runner.wait().expect("still ours").code(), Some(3));
        // Now it is no child of ours any more.
        reaper.reap_orphans();
        let process = reaper.claim(&call, init.id().cast_signed()).expect("claim");
        drop(call);
        assert_eq!(process.exited_blocking().status, 7);
        assert_reaped(&mut init);
        assert!(reaper.lock().runners.is_empty());
        assert_eq!(reaper.lock().pauses, 0);
    }

    #[test]
    fn process_that_cannot_be_claimed_is_killed_and_reaped() {
        let _alone = ALONE.lock();
        let reaper = Reaper::default();
        let call = reaper.runner_call();
        let mut process = child("exec sleep 1000");
        reaper.kill_unclaimed(&call, process.id().cast_signed());
        await_end(process.id());
        drop(call);
        assert_reaped(&mut process);
    }

    /// A compile takes minutes, in which other containers end.
    #[test]
    fn orphans_are_reaped_while_the_store_waits_for_its_publisher() {
        let _alone = ALONE.lock();
        let reaper = Reaper::default();
        let (input, end) = std::io::pipe().expect("pipe");
        let spawned = reaper.spawn(
            Command::new("sh")
                .args(["-c", "read _; exit 3"])
                .stdin(input),
        );
        let spawned = spawned.expect("spawn");
        let mut orphan = child("exit 0");
        await_end(orphan.id());
        reaper.reap_orphans();
        assert_reaped(&mut orphan);

        let own = reaper.lock().waited_for.iter().copied().next();
        drop(end);
        await_end(own.expect("its number").unsigned_abs());
        reaper.reap_orphans();
        assert_eq!(spawned.wait().expect("still ours").code(), Some(3));
        assert!(reaper.lock().waited_for.is_empty());
    }

    /// Guards against stopping at an orphan that a real-time signal killed.
    #[test]
    fn orphans_are_reaped_whatever_signal_killed_them() {
        let _alone = ALONE.lock();
        let mut orphans = [child("kill -40 $$"), child("exit 0")];
        orphans.iter().for_each(|orphan| await_end(orphan.id()));
        Reaper::default().reap_orphans();
        for orphan in &mut orphans {
            assert_reaped(orphan);
        }
    }

    #[test]
    fn signal_to_an_ended_process_fails_with_esrch() {
        let _alone = ALONE.lock();
        let reaper = Reaper::default();
        let process = claimed(&reaper, "exit 0");
        process.exited_blocking();
        let error = process.signal(libc::SIGTERM).expect_err("it has ended");
        assert_eq!(error.raw_os_error(), Some(libc::ESRCH));
    }
}
