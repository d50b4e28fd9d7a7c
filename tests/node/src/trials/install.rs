//! `install`, `status`, `verify` and `uninstall` on a node that can be served.

use wasm_interp_test_support::{Outcome, expect_equal};

use crate::world::{Containerd, TestNode};

pub(super) fn install_configures_and_restarts_containerd_once(node: &TestNode) -> Outcome {
    let before = node.containerd_pid()?;
    node.install()?;
    let after = node.containerd_pid()?;
    if before == after {
        return Err("containerd was not restarted".into());
    }
    node.installer(&["status"])?.expect_code(0)?;
    node.installer(&["verify"])?.expect_code(0)?;
    match node.containerd {
        // It would not read one.
        Containerd::Distribution => node.expect_no_drop_ins()?,
        Containerd::WithDropIns => node.expect_original_config()?,
    }

    let again = node.report(&["install"])?;
    expect_equal("changed", &again["changed"], &false.into())?;
    expect_equal("containerd", &node.containerd_pid()?, &after)?;

    node.uninstall()?;
    node.uninstall()
}

pub(super) fn a_release_uninstalls_itself_from_where_it_was_installed(node: &TestNode) -> Outcome {
    node.install()?;
    let installed = node.must(&["sh", "-c", "echo /opt/wasm-interp/*/wasm-interp"])?;
    node.must(&[installed.trim(), "node", "uninstall"])?;
    node.expect_nothing_left()
}
