//! Another release while a container of the first one runs.

use std::fs::{self, OpenOptions};
use std::io::Write;

use wasm_interp_test_support::command::wait_for;
use wasm_interp_test_support::{Outcome, expect_equal};

use super::prewarm::ENDLESS;
use crate::world::{RELEASE, TestNode};

/// The container, and the folder that is its root.
const ID: &str = "endless";
const ROOT: &str = "/opt/endless";

pub(super) fn a_running_container_survives_an_upgrade(node: &TestNode) -> Outcome {
    node.install()?;
    for folder in ["dev", "proc", "sys", "run", "tmp"] {
        fs::create_dir_all(node.path(ROOT).join(folder))?;
    }
    let module = wat::parse_str(ENDLESS)?;
    fs::write(node.path(ROOT).join("endless.wasm"), module)?;
    let old = running(node)?;
    let run = ["ctr", "run", "--detach", "--runtime", &old, "--rootfs"];
    node.must(&[&run[..], &[ROOT, ID, "/endless.wasm"]].concat())?;

    // Another build of it: a byte more, behind all that is loaded.
    let runner = node.path(RELEASE).join("wasm-interp-runner");
    OpenOptions::new()
        .append(true)
        .open(runner)?
        .write_all(b"\n")?;
    node.install()?;
    let new = running(node)?;
    if new == old {
        return Err(format!("containerd still uses {old}").into());
    }
    if !node.path(&old).exists() {
        return Err(format!("{old} is gone though a container uses it").into());
    }
    node.must(&["systemctl", "restart", "containerd"])?;
    node.wait_for_containerd()?;
    expect_equal("the container", &status(node)?.as_deref(), &Some("RUNNING"))?;

    let refused = node.failure_report(&["uninstall"])?;
    expect_equal("the outcome", &refused["outcome"], &"in-use".into())?;
    expect_equal("the user", &refused["containers"][0]["id"], &ID.into())?;

    node.must(&["ctr", "task", "kill", "--signal", "KILL", ID])?;
    wait_for("the container to end", || {
        Ok((status(node)?.as_deref() == Some("STOPPED")).then_some(()))
    })?;
    // Its exit code, which is not zero, is ctr's too.
    node.run(&["ctr", "task", "rm", ID])?;
    expect_equal("the task", &status(node)?, &None)?;
    node.must(&["ctr", "container", "rm", ID])?;
    node.install()?;
    node.expect_absent(&old)?;

    fs::remove_dir_all(node.path(ROOT))?;
    node.uninstall()
}

/// The shim that containerd starts for new pods.
fn running(node: &TestNode) -> Outcome<String> {
    let status = node.report(&["status"])?;
    let shim = status["status"]["running"].as_str();
    shim.map(str::to_owned)
        .ok_or_else(|| format!("the status names no shim: {status}").into())
}

/// The container's status as `ctr task ls` prints it; `None` if there is no such task.
fn status(node: &TestNode) -> Outcome<Option<String>> {
    let tasks = node.must(&["ctr", "task", "ls"])?;
    let words = tasks
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|words| words.first() == Some(&ID));
    Ok(words.and_then(|words| words.last().map(|&status| status.to_owned())))
}
