//! Starts the process that compiles. A program that reaps all its ended children, as the shim does,
//! passes its own implementation to the store, so that it leaves this child to the store.
#![forbid(unsafe_code)]

use std::fmt::Debug;
use std::io;
use std::process::{Child, Command, ExitStatus};

/// Starts child processes.
pub trait Spawn: Debug + Send + Sync {
    /// Starts `command` as a child that this process leaves to the caller until [`Spawned::wait`]
    /// has returned.
    ///
    /// # Errors
    /// Those of [`Command::spawn`].
    fn spawn(&self, command: &mut Command) -> io::Result<Box<dyn Spawned>>;
}

/// A child process.
pub trait Spawned {
    /// Waits for its end.
    ///
    /// # Errors
    /// Those of [`Child::wait`].
    fn wait(self: Box<Self>) -> io::Result<ExitStatus>;
}

/// For a program that reaps children only by their process ids.
#[derive(Debug)]
pub(crate) struct Plainly;

impl Spawn for Plainly {
    fn spawn(&self, command: &mut Command) -> io::Result<Box<dyn Spawned>> {
        Ok(Box::new(command.spawn()?))
    }
}

impl Spawned for Child {
    fn wait(mut self: Box<Self>) -> io::Result<ExitStatus> {
        Child::wait(&mut self)
    }
}
