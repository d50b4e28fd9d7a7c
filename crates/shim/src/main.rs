//! The shim: containerd's counterpart for the containers of one pod.
//!
//! Read as a table of contents. containerd calls this program in four ways:
//!
//! | call | module | does |
//! |---|---|---|
//! | `-h`, `-v`, `-info` | [`info`] | says what this is |
//! | `… start` | [`start`] | answers with the address of a server, starting one if need be |
//! | (no action) | [`serve`] | is that server: the Task API on a socket |
//! | `… delete` | [`cleanup`] | removes what a dead server left behind |
//!
//! The server knows bundles, tasks and events. It does not know Wasmtime or libcontainer: native
//! code comes from `wasm-interp-artifact`, and what becomes a container is `wasm-interp-runner`.

mod args;
mod bootstrap;
mod bundle;
mod cgroup;
mod cleanup;
mod clock;
mod error;
mod events;
mod exits;
mod info;
mod launch;
mod logger;
mod oom;
mod serve;
mod service;
mod socket;
mod start;
mod stats;
mod stdio;
mod sys;
mod task;
mod termination_log;

use std::error::Error;
use std::process::ExitCode;

use args::{Action, Flags};

/// What containerd calls this runtime.
pub(crate) const RUNTIME_NAME: &str = "io.containerd.wasm-interp.v1";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // containerd shows its user what `start` and `delete` print.
            eprintln!("{RUNTIME_NAME}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let flags = Flags::parse(std::env::args().skip(1))?;
    match flags.action {
        Action::Help => info::help()?,
        Action::Version => info::version()?,
        Action::Info => info::describe()?,
        Action::Start => start::run(&flags)?,
        Action::Serve => serve::run(&flags)?,
        Action::Delete => cleanup::run(&flags)?,
    }
    Ok(())
}
