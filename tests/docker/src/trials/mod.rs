//! The trials. Each native program is run by Docker's runc too, and both have to give the same; guests are held to
//! the same where the language does not matter.

mod containers;
mod exec;
mod life;
mod run;

use wasm_interp_test_support::Outcome;

use crate::engine::Engine;

/// A trial and its name.
type DockerTrial = (&'static str, fn(&Engine) -> Outcome);

macro_rules! trials {
    ($($module:ident::$name:ident),* $(,)?) => {
        &[$((concat!(stringify!($module), "::", stringify!($name)), $module::$name)),*]
    };
}

/// Every trial.
pub(crate) const ALL: &[DockerTrial] = trials![
    run::output_exit_codes_and_options_match_runc,
    run::programs_that_cannot_run_are_127_and_126,
    run::guest_has_what_it_is_told,
    run::runtime_can_have_a_name_of_the_daemons,
    run::annotations_reach_the_runtime,
    run::standard_input_is_read_to_its_end,
    run::terminal_matches_runc,
    run::python_is_usable_by_hand,
    exec::answers_match_runc,
    exec::python_runs_beside_the_script,
    exec::terminal_of_an_exec_is_usable,
    life::stop_kill_and_restart_match_runc,
    life::logs_match_runc,
    life::top_lists_the_processes,
    life::files_are_copied_in_and_out,
    life::stats_have_figures,
    life::pause_matches_runc,
    life::update_matches_runc,
    life::restart_policies_match_runc,
    life::health_is_checked,
];
