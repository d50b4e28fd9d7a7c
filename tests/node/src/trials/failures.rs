//! What goes wrong in the middle of an installation: containerd does not start, the client is killed, the job is killed.

use std::fs;
use std::io;

use wasm_interp_test_support::command::wait_for;
use wasm_interp_test_support::{Outcome, expect_equal};

use crate::world::TestNode;

/// A drop-in of containerd's unit that decides whether it starts, and the file that says that it was asked.
const GATE: &str = "/etc/systemd/system/containerd.service.d/90-gate.conf";
const ASKED: &str = "/run/gate";

/// With our table in its configuration containerd does not start.
const REFUSES: &str = "[Service]
ExecStartPre=/bin/sh -c 'touch /run/gate; ! grep -rqs runtimes.wasm-interp /etc/containerd'
";
/// With our table in its configuration containerd does not come to its start before it is too late.
const HANGS: &str = "[Service]
ExecStartPre=/bin/sh -c '! grep -rqs runtimes.wasm-interp /etc/containerd || { \
    touch /run/gate; sleep 1000; }'
TimeoutStartSec=20
";

pub(super) fn a_config_that_does_not_start_is_rolled_back_without_a_client(
    node: &TestNode,
) -> Outcome {
    set_gate(node, REFUSES)?;
    let client = node.start_installer(&["install"])?;
    wait_for_restart(node)?;
    let pattern = "^/opt/release/wasm-interp node install";
    node.must(&["pkill", "-KILL", "--full", pattern])
        .map_err(|error| {
            let error = error.message().unwrap_or_default();
            format!("the client ended too early: {error}")
        })?;
    client.finish()?.expect_failure()?;
    expect_rolled_back(node)?;

    let refused = node.failure_report(&["install"])?;
    expect_equal("the outcome", &refused["outcome"], &"rolled-back".into())?;
    expect_rolled_back(node)?;
    open_gate(node)
}

pub(super) fn systemd_finishes_a_job_that_was_killed(node: &TestNode) -> Outcome {
    set_gate(node, HANGS)?;
    let client = node.start_installer(&["install"])?;
    wait_for_restart(node)?;
    node.must(&["pkill", "-KILL", "--full", "wasm-interp node __job"])?;
    client
        .finish()?
        .expect_failure()?
        .expect_stderr(&["ended without a report"])?;
    expect_rolled_back(node)?;
    open_gate(node)
}

fn set_gate(node: &TestNode, text: &str) -> Outcome {
    fs::write(node.path(GATE), text)?;
    match fs::remove_file(node.path(ASKED)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    node.must(&["systemctl", "daemon-reload"]).map(drop)
}

/// Without the gate the runtime installs, and uninstalls.
fn open_gate(node: &TestNode) -> Outcome {
    fs::remove_file(node.path(GATE))?;
    node.must(&["systemctl", "daemon-reload"])?;
    node.must(&["systemctl", "restart", "containerd"])?;
    node.wait_for_containerd()?;
    node.install()?;
    node.uninstall()
}

fn wait_for_restart(node: &TestNode) -> Outcome {
    wait_for("the restart to be tried", || {
        Ok(node.path(ASKED).exists().then_some(()))
    })
}

fn expect_rolled_back(node: &TestNode) -> Outcome {
    node.wait_for_end_of_job()?;
    node.wait_for_containerd()?;
    node.expect_original_config()?;
    node.expect_no_drop_ins()
}
