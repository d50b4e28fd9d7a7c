//! Who has died: init processes by descriptor, orphans by SIGCHLD, and nobody's exit lost.
//!
//! The shim is a subreaper: init processes become its children when their runner ends, and so does
//! whatever else a container leaves. Three kinds of children, three ways to wait:
//!
//! - an **init process** by its pidfd ([`Init::exited`]): the exit stays with the process until it
//!   is read, however short its life;
//! - a **runner** by whoever called it, by pid, while a [`Hold`] is kept;
//! - an **orphan** by [`Exits::reap_orphans`], which only takes what nobody above waits for. The
//!   time between a runner's answer and the claim of its init process lies within the hold too.
//!
//! Called by `launch` and `task`. Does not know what a task is.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use log::{debug, error};
use tokio::signal::unix::{SignalKind, signal};

use crate::sys;

/// What is said of a process whose status somebody else took.
const STATUS_UNKNOWN: u32 = 255;

/// How and when a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    /// 0–255 as the process said, 128+n for signal n.
    pub(crate) status: u32,
    /// When we saw it.
    pub(crate) at: SystemTime,
}

/// The shim's children.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exits {
    claims: Arc<Mutex<Claims>>,
}

#[derive(Debug, Default)]
struct Claims {
    /// Calls of the runner under way.
    held: usize,
    inits: HashSet<i32>,
}

/// While this lives no orphan is reaped.
#[derive(Debug)]
pub(crate) struct Hold {
    exits: Exits,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.exits.lock().held -= 1;
        self.exits.reap_orphans();
    }
}

/// An init process: can be signalled and waited for without ever meaning another one.
#[derive(Debug)]
pub(crate) struct Init {
    pid: i32,
    pidfd: OwnedFd,
    exits: Exits,
}

impl Exits {
    fn lock(&self) -> MutexGuard<'_, Claims> {
        // A counter and a set are whole between any two calls.
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the length of a call of the runner, and until what it made is claimed.
    pub(crate) fn hold(&self) -> Hold {
        self.lock().held += 1;
        Hold {
            exits: self.clone(),
        }
    }

    /// Claims the init process that a runner has just made. `hold` is the one of that call.
    pub(crate) fn claim(&self, _hold: &Hold, pid: i32) -> io::Result<Init> {
        let pidfd = sys::pidfd_open(pid)?;
        self.lock().inits.insert(pid);
        Ok(Init {
            pid,
            pidfd,
            exits: self.clone(),
        })
    }

    /// Reaps on every SIGCHLD, for as long as the runtime runs.
    pub(crate) fn watch(&self) -> io::Result<()> {
        let mut children = signal(SignalKind::child())?;
        let exits = self.clone();
        tokio::spawn(async move {
            while children.recv().await.is_some() {
                exits.reap_orphans();
            }
        });
        Ok(())
    }

    /// Reaps dead children that nobody waits for.
    fn reap_orphans(&self) {
        let claims = self.lock();
        if claims.held > 0 {
            return;
        }
        loop {
            let dead = sys::any_dead().unwrap_or_else(|error| {
                if error.raw_os_error() != Some(libc::ECHILD) {
                    error!(error:%; "cannot look for orphans");
                }
                None
            });
            // An init process hides those behind it; its own waiter calls again when it is gone.
            let Some(dead) = dead.filter(|dead| !claims.inits.contains(&dead.pid)) else {
                return;
            };
            match sys::reap_now(dead.pid) {
                Ok(_) => debug!(dead:?; "reaped an orphan"),
                Err(error) => {
                    error!(pid = dead.pid, error:%; "cannot reap an orphan");
                    return;
                }
            }
        }
    }
}

impl Init {
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends a signal. [`io::ErrorKind`] of a process that has ended: raw error `ESRCH`.
    pub(crate) fn signal(&self, signal: i32) -> io::Result<()> {
        sys::pidfd_send_signal(self.pidfd.as_fd(), signal)
    }

    /// Waits for the end of the process and reaps it. To be called once.
    pub(crate) async fn exited(&self) -> io::Result<Exit> {
        let readable = sys::readable(self.pidfd.as_fd())?;
        drop(readable.readable().await?);
        Ok(self.reap())
    }

    /// As [`Init::exited`], blocking the thread.
    pub(crate) fn exited_blocking(&self) -> Exit {
        self.reap()
    }

    fn reap(&self) -> Exit {
        let status = match sys::reap(self.pidfd.as_fd()) {
            Ok(dead) => dead.status,
            Err(error) => {
                error!(pid = self.pid, error:%; "the exit status of an init process is lost");
                STATUS_UNKNOWN
            }
        };
        let exit = Exit {
            status,
            at: SystemTime::now(),
        };
        self.exits.lock().inits.remove(&self.pid);
        self.exits.reap_orphans();
        exit
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};
    use std::sync::Mutex;
    use std::time::Duration;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    /// These tests reap children of the test's process, whichever they are.
    static ALONE: Mutex<()> = Mutex::new(());

    fn child(script: &str) -> Child {
        Command::new("sh")
            .args(["-c", script])
            .spawn()
            .expect("spawn")
    }

    /// Waits until it is dead, and leaves it to be reaped.
    fn await_death(pid: u32) {
        let pidfd = sys::pidfd_open(i32::try_from(pid).expect("pid")).expect("pidfd");
        let mut ready = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut ready, PollTimeout::NONE), Ok(1));
    }

    fn init(exits: &Exits, script: &str) -> Init {
        let hold = exits.hold();
        let pid = i32::try_from(child(script).id()).expect("pid");
        exits.claim(&hold, pid).expect("claim")
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("runtime")
    }

    #[test]
    fn statuses_are_verbatim_or_128_and_the_signal() {
        let _alone = ALONE.lock();
        let exits = Exits::default();
        runtime().block_on(async {
            for (script, status) in [
                ("exit 0", 0),
                ("exit 255", 255),
                ("kill -TERM $$", 143),
                ("kill -KILL $$", 137),
                // A real-time signal.
                ("kill -40 $$", 168),
            ] {
                let exit = init(&exits, script).exited().await.expect("wait");
                assert_eq!(exit.status, status, "{script}");
            }
        });
    }

    /// An init process that is dead before anybody waits keeps its status, whatever SIGCHLD does.
    #[test]
    fn an_early_exit_is_not_lost_to_the_reaper() {
        let _alone = ALONE.lock();
        let exits = Exits::default();
        runtime().block_on(async {
            exits.watch().expect("watch");
            let init = init(&exits, "exit 7");
            await_death(init.pid.unsigned_abs());
            // Time for the watch to do its worst.
            tokio::time::sleep(Duration::from_millis(100)).await;
            exits.reap_orphans();
            assert_eq!(init.exited().await.expect("wait").status, 7);
        });
    }

    #[test]
    fn orphans_go_only_when_no_runner_is_under_way() {
        let _alone = ALONE.lock();
        let exits = Exits::default();
        let hold = exits.hold();
        let mut runner = child("exit 3");
        await_death(runner.id());
        exits.reap_orphans();
        assert_eq!(runner.wait().expect("still ours").code(), Some(3));
        let mut orphan = child("exit 0");
        await_death(orphan.id());
        drop(hold);
        let error = orphan.wait().expect_err("it has been reaped");
        assert_eq!(error.raw_os_error(), Some(libc::ECHILD));
    }

    /// One that a real-time signal killed hides nobody behind it.
    #[test]
    fn orphans_are_reaped_whatever_killed_them() {
        let _alone = ALONE.lock();
        let mut orphans = [child("kill -40 $$"), child("exit 0")];
        orphans.iter().for_each(|orphan| await_death(orphan.id()));
        Exits::default().reap_orphans();
        for orphan in &mut orphans {
            let error = orphan.wait().expect_err("it has been reaped");
            assert_eq!(error.raw_os_error(), Some(libc::ECHILD));
        }
    }

    #[test]
    fn a_dead_process_cannot_be_signalled() {
        let _alone = ALONE.lock();
        let exits = Exits::default();
        let init = init(&exits, "exit 0");
        init.exited_blocking();
        let error = init.signal(libc::SIGTERM).expect_err("it is dead");
        assert_eq!(error.raw_os_error(), Some(libc::ESRCH));
    }
}
