//! The shim: containerd's counterpart for the containers of one pod.
//!
//! Read as a table of contents. containerd calls this program in four ways:
//!
//! | call | module | does |
//! |---|---|---|
//! | `-h`, `-v`, `-info` | [`info`] | prints what this program is |
//! | `… start` | [`bootstrap`] | prints the address of a server, which it starts if there is none |
//! | (no action) | [`serve`] | is that server: the Task API on a socket |
//! | `… delete` | [`cleanup`] | removes what a dead server left behind |
//!
//! The server knows bundles, tasks and events. It knows neither Wasmtime nor libcontainer: native
//! code comes from `wasm-interp-artifact`, and `wasm-interp-runner` becomes the container.
//!
//! | module | owns |
//! |---|---|
//! | [`service`] | the verbs of the Task API |
//! | [`task`] | containers and their processes: states, order, events |
//! | [`launch`] | the way from a create request to a created container, and its removal |
//! | [`io`] | stdio and the termination log |
//! | [`cgroup`], [`stats`] | members and out-of-memory kills of a cgroup; its metrics |
//! | [`reaper`] | the shim's child processes |
//! | [`publisher`] | the events that containerd has not got yet |
//! | [`refusals`] | what guests are refused, in the shim's log |

mod args;
mod bootstrap;
mod bundle;
mod cgroup;
mod cleanup;
mod clock;
mod error;
mod info;
mod io;
mod launch;
mod logger;
mod options;
mod publisher;
mod reaper;
mod refusals;
mod serve;
mod service;
mod socket;
mod stats;
mod sys;
mod task;
mod typeurl;

use std::error::Error;
use std::process::ExitCode;

use args::{Action, Flags};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // containerd shows its user what `start` and `delete` print.
            eprintln!("{}: {error}", info::RUNTIME_NAME);
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
        Action::Start => bootstrap::run(&flags)?,
        Action::Serve => serve::run(&flags)?,
        Action::Delete => cleanup::run(&flags)?,
    }
    Ok(())
}
