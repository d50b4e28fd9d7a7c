//! `prewarm`, with images that containerd has, that it can pull, and that it cannot.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use serde_json::Value;
use wasm_interp_test_support::image::Image;
use wasm_interp_test_support::{Outcome, expect_equal, registry};

use crate::world::TestNode;

/// An image that containerd has.
const IMAGE: &str = "localhost/test/endless:1";
/// The same image where containerd has to pull it.
const PULLED: &str = "localhost:5000/test/pulled:1";
/// An image of a registry that is not there.
const ABSENT: &str = "localhost:1/test/absent:1";
/// Path of the interpreter in all of them.
const INTERPRETER: &str = "/bin/endless.wasm";

/// A module that never ends.
pub(super) const ENDLESS: &str =
    r#"(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))"#;

pub(super) fn an_image_is_compiled_before_its_first_container(node: &TestNode) -> Outcome {
    node.install()?;
    let archive = "/opt/image.tar";
    Image::new()
        .program(INTERPRETER, wat::parse_str(ENDLESS)?)
        .command(&["endless"])
        .write(IMAGE, &node.path(archive))?;
    ctr(node, &["image", "import", archive])?;

    let first = node.report(&["prewarm", IMAGE])?;
    expect_equal("the interpreter", interpreter(&first, 0), INTERPRETER)?;
    expect_equal("changed", &first["changed"], &true.into())?;
    let second = node.report(&["prewarm", IMAGE])?;
    expect_equal("changed", &second["changed"], &false.into())?;

    // One that fails stops no other.
    let failed = node.failure_report(&["prewarm", ABSENT, IMAGE])?;
    let error = failed["images"][0]["error"].as_str().unwrap_or_default();
    if !error.starts_with("cannot pull the image: containerd says: ") {
        return Err(format!("the report does not say why: {failed}").into());
    }
    expect_equal("the interpreter", interpreter(&failed, 1), INTERPRETER)?;

    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 5000));
    registry::serve(&node.path(archive), node.pid(), address)?;
    let pulled = node.report(&["prewarm", PULLED])?;
    expect_equal("the interpreter", interpreter(&pulled, 0), INTERPRETER)?;
    let images = ctr(node, &["image", "ls", "--quiet"])?;
    if !images.lines().any(|image| image == PULLED) {
        return Err(format!("{PULLED} was not pulled: {images}").into());
    }

    for kind in ["leases", "snapshots"] {
        let left = ctr(node, &[kind, "ls"])?;
        if left.contains("wasm-interp") {
            return Err(format!("prewarm left {kind}:\n{left}").into());
        }
    }
    ctr(node, &["image", "rm", "--sync", IMAGE, PULLED])?;
    fs::remove_file(node.path(archive))?;
    node.uninstall()
}

pub(super) fn uninstall_ends_prewarming(node: &TestNode) -> Outcome {
    let unit = "wasm-interp-prewarm";
    node.install()?;
    let name = format!("--unit={unit}");
    node.must(&["systemd-run", "--quiet", &name, "sleep", "infinity"])?;
    node.uninstall()?;
    let state = node.unit(unit, "ActiveState")?;
    expect_equal("the unit's state", state.as_str(), "inactive")
}

fn ctr(node: &TestNode, words: &[&str]) -> Outcome<String> {
    node.must(&[&["ctr", "--namespace", "k8s.io"], words].concat())
}

fn interpreter(report: &Value, image: usize) -> &str {
    let path = &report["images"][image]["interpreters"][0]["path"];
    path.as_str().unwrap_or_default()
}
