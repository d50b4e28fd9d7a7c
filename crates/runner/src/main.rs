//! `wasm-interp-runner`: reads one request, makes, starts, updates or deletes a container, or makes a further
//! process in one, and writes one response.
//!
//! Started by the shim and by `wasm-interp run` as `wasm_interp_runner_client` describes. Knows
//! neither containerd nor where artifacts come from.

mod affinity;
mod apparmor;
mod capabilities;
mod cgroup;
mod confine;
mod container;
mod container_root;
mod cwd;
mod dev;
mod devices;
mod diagnostics;
mod executor;
mod guest;
mod init;
mod keyring;
mod limits;
mod namespaces;
mod native;
mod pause;
mod privileges;
mod report;
mod rootfs;
mod seccomp;
mod spec;
mod sys;
mod target;
mod terminal;
mod user_namespace;
mod wire;

use std::process::ExitCode;

use wasm_interp_runner_client::{Request, Response};

use self::container::ExecCall;

fn main() -> ExitCode {
    let mut channel = match wire::Channel::inherited() {
        Ok(channel) => channel,
        Err(error) => {
            eprintln!("wasm-interp-runner: {error}");
            return ExitCode::from(2);
        }
    };
    let passed = channel.passed();
    let response = channel
        .request()
        .map_err(Into::into)
        .and_then(|request| match request {
            Request::Create {
                id,
                bundle,
                state,
                workload,
                lifetime,
                keyring,
            } => container::create(
                container::CreateCall {
                    id: &id,
                    bundle: &bundle,
                    state: &state,
                    workload: workload.into_owned(),
                    lifetime,
                    keyring,
                },
                passed,
            )
            .map(|(pid, warnings)| Response::Created { pid, warnings }),
            Request::Start { id, state } => {
                container::start(&id, &state).map(|()| Response::Started)
            }
            Request::Update {
                id,
                state,
                resources,
            } => container::update(&id, &state, &resources).map(|()| Response::Updated),
            Request::Delete { id, state, force } => {
                container::delete(&id, &state, force).map(|warnings| Response::Deleted { warnings })
            }
            Request::Plan {
                id,
                spec,
                policy,
                init,
            } => container::plan(&id, &spec, &policy, init, passed),
            Request::Exec {
                id,
                bundle,
                state,
                spec,
                workload,
                init,
                init_runs,
                place,
                keyring,
            } => container::exec(
                ExecCall {
                    id: &id,
                    bundle: &bundle,
                    state: &state,
                    spec: spec.into_owned(),
                    workload: workload.into_owned(),
                    init,
                    init_runs,
                    place,
                    keyring,
                },
                passed,
            ),
        });
    let response = response.unwrap_or_else(|error: container::VerbError| Response::Failed {
        reason: error.to_string(),
    });
    channel.respond(&response)
}
