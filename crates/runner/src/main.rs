//! `wasm-interp-runner`: one request, one answer, and perhaps a container in between.
//!
//! Started by the shim and by `wasm-interp run` as `wasm_interp_runner::client` describes. Knows
//! neither containerd nor where artifacts come from.

mod apparmor;
mod cgroup;
mod container;
mod cwd;
mod dev;
mod devices;
mod diagnostics;
mod executor;
mod guest;
mod inside;
mod native;
mod pause;
mod spec;
mod sys;
mod wire;

use std::process::ExitCode;

use wasm_interp_runner::client::{Answer, Request};

fn main() -> ExitCode {
    let mut channel = match wire::Channel::inherited() {
        Ok(channel) => channel,
        Err(error) => {
            eprintln!("wasm-interp-runner: {error}");
            return ExitCode::from(2);
        }
    };
    let gifts = channel.gifts();
    let answer = channel
        .request()
        .map_err(Into::into)
        .and_then(|request| match request {
            Request::Create {
                id,
                bundle,
                state,
                workload,
                lifetime,
            } => container::create(&id, &bundle, &state, workload.into_owned(), lifetime, gifts)
                .map(|pid| Answer::Created { pid }),
            Request::Start { id, state } => container::start(&id, &state).map(|()| Answer::Started),
            Request::Delete { id, state, force } => {
                container::delete(&id, &state, force).map(|warnings| Answer::Deleted { warnings })
            }
        });
    let answer = answer.unwrap_or_else(|error: container::Error| Answer::Failed {
        reason: error.to_string(),
    });
    channel.answer(&answer)
}
