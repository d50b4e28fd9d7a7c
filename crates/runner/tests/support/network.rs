//! Networks that tests make.

use std::process::Command;

use nix::sched::{CloneFlags, unshare};

use super::TestContainer;

/// Runs `test` in a network of its own, with these addresses of its loopback.
pub(crate) fn in_network(addresses: &'static [&str], test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        let ip = |arguments: &str| {
            let mut command = Command::new("ip");
            let done = command.args(arguments.split(' ')).status().expect("ip");
            assert!(done.success(), "ip {arguments}");
        };
        ip("link set lo up");
        for address in addresses {
            ip(&format!("address add {address}/32 dev lo"));
        }
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

impl TestContainer {
    /// Has no network of its own.
    pub(crate) fn share_our_network(&mut self) {
        let namespaces = self.spec["linux"]["namespaces"].as_array_mut();
        namespaces
            .expect("namespaces")
            .retain(|one| one["type"] != "network");
    }
}
