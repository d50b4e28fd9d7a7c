//! The trials, by what they are about. Each is a function; [`ALL`] lists them.

mod failures;
mod install;
mod prewarm;
mod upgrade;

use wasm_interp_test_support::Outcome;

use crate::world::TestNode;

/// One trial. The node has no runtime of ours when it begins, and none when it ends.
pub(crate) struct NodeTrial {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&TestNode) -> Outcome,
}

macro_rules! trials {
    ($($module:ident::$name:ident),* $(,)?) => {
        &[$(NodeTrial {
            name: concat!(stringify!($module), "::", stringify!($name)),
            run: $module::$name,
        }),*]
    };
}

/// Every trial, in the order in which they are started.
pub(crate) const ALL: &[NodeTrial] = trials![
    install::install_configures_and_restarts_containerd_once,
    install::a_release_uninstalls_itself_from_where_it_was_installed,
    prewarm::an_image_is_compiled_before_its_first_container,
    prewarm::uninstall_ends_prewarming,
    upgrade::a_running_container_survives_an_upgrade,
    failures::a_config_that_does_not_start_is_rolled_back_without_a_client,
    failures::systemd_finishes_a_job_that_was_killed,
];
