//! One run of the tests: its name, its folder, and who may run beside whom. Shared by the tests against containerd
//! and those on a cluster; knows nothing of either.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError, RwLock};

/// Name and place of a run.
#[derive(Clone)]
pub struct Run {
    name: String,
    folder: PathBuf,
}

impl Run {
    /// A run of that name, with a folder of that name for temporary files.
    pub fn new(name: String) -> Self {
        let folder = env::temp_dir().join(&name);
        Self { name, folder }
    }

    /// In the path of everything that the run makes: files, cgroups, command lines.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Everything of the run is in there, and goes with it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Whether others may run at the same time as a trial.
#[derive(Clone, Copy)]
pub enum Concurrency {
    /// Yes.
    Shared,
    /// No: it restarts what others use, takes much of it, or counts what they would change.
    Alone,
}

/// Whose turn it is.
#[derive(Default)]
pub struct Turns {
    gate: RwLock<()>,
    /// Of the trials that run alone: they take turns in the order in which they were started, because one may
    /// leave what the next one needs.
    queue: TurnQueue,
}

impl Turns {
    /// Runs a trial, beside others or alone. A trial that panicked does not keep others from running.
    pub fn take<T>(&self, kind: Concurrency, trial: impl FnOnce() -> T) -> T {
        match kind {
            Concurrency::Shared => {
                let _beside_others = self.gate.read().unwrap_or_else(PoisonError::into_inner);
                trial()
            }
            Concurrency::Alone => {
                let _first = self.queue.wait();
                let _alone = self.gate.write().unwrap_or_else(PoisonError::into_inner);
                trial()
            }
        }
    }
}

/// First come, first served.
#[derive(Default)]
struct TurnQueue {
    tickets: AtomicUsize,
    served: Mutex<usize>,
    moved: Condvar,
}

/// The place of the first in a [`TurnQueue`]; dropped, it serves the next.
struct First<'a>(&'a TurnQueue);

impl TurnQueue {
    fn wait(&self) -> First<'_> {
        let ticket = self.tickets.fetch_add(1, Ordering::SeqCst);
        let served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = self.moved.wait_while(served, |served| *served != ticket);
        drop(turn.unwrap_or_else(PoisonError::into_inner));
        First(self)
    }
}

impl Drop for First<'_> {
    fn drop(&mut self) {
        let served = self.0.served.lock();
        *served.unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn trials_that_run_alone_keep_their_order() {
        let turns = Turns::default();
        let order = Mutex::new(Vec::new());
        thread::scope(|scope| {
            let shared = turns.gate.read().expect("nothing holds it");
            for number in 0..8 {
                let before = turns.queue.tickets.load(Ordering::SeqCst);
                let (turns, order) = (&turns, &order);
                scope.spawn(move || {
                    turns.take(Concurrency::Alone, || {
                        order.lock().expect("order").push(number);
                    });
                });
                while turns.queue.tickets.load(Ordering::SeqCst) == before {
                    thread::yield_now();
                }
            }
            drop(shared);
        });
        assert_eq!(
            order.into_inner().expect("order"),
            (0..8).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_trial_that_panics_ends_its_turn() {
        let turns = Turns::default();
        thread::scope(|scope| {
            let panicking = scope.spawn(|| turns.take(Concurrency::Alone, || panic!("as planned")));
            assert!(panicking.join().is_err());
        });
        assert_eq!(turns.take(Concurrency::Alone, || 1), 1);
    }
}
