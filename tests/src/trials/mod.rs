//! The trials, by what they are about. Each is a function; [`ALL`] lists them.

mod by_hand;
mod cgroups;
mod failures;
mod lifecycle;
mod native;
mod prewarm;
mod run;
mod sharing;
mod signals;
mod survival;

use crate::Outcome;
use crate::run::Kind;
use crate::world::World;

/// One trial.
pub(crate) struct Trial {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) run: fn(&World) -> Outcome,
}

macro_rules! trials {
    ($($kind:ident $module:ident::$name:ident),* $(,)?) => {
        &[$(Trial {
            name: concat!(stringify!($module), "::", stringify!($name)),
            kind: Kind::$kind,
            run: $module::$name,
        }),*]
    };
}

/// Every trial, in the order in which they are started.
pub(crate) const ALL: &[Trial] = trials![
    // Before anything has started a container of that image.
    Alone sharing::fifty_containers_of_a_new_image_compile_it_once,
    Shared run::hello_prints,
    Shared run::mounts_have_the_rights_of_their_options,
    Shared run::the_library_and_packages_are_files_of_the_image,
    Shared run::environment_reaches_the_script,
    Shared run::a_read_only_root_cannot_be_written,
    Shared run::memory_limit_is_a_memory_error,
    Shared run::files_are_made_as_the_user,
    Shared run::relative_scripts_work_from_the_cwd,
    Shared run::exit_codes_come_through,
    Shared run::standard_input_is_read_to_its_end,
    Shared run::output_that_nobody_wants_is_no_error,
    Shared run::nothing_of_the_host_is_seen,
    Shared by_hand::run_does_what_the_shim_does,
    Shared by_hand::inspect_says_what_run_would_do,
    Alone prewarm::the_first_container_of_a_prewarmed_image_compiles_nothing,
    Alone prewarm::a_prewarm_that_is_killed_leaves_nothing_in_containerd,
    Shared prewarm::what_cannot_be_prewarmed_is_named_and_the_rest_is_done,
    Shared failures::a_trap_is_not_a_kill,
    Shared failures::a_missing_interpreter_is_named,
    Shared failures::a_missing_script_is_named,
    Shared failures::a_broken_module_is_named,
    Shared failures::a_precompiled_file_is_refused,
    Shared failures::imports_that_no_one_offers_are_listed,
    Shared native::a_life_is_that_under_runc,
    Shared native::the_process_and_its_files_are_those_under_runc,
    Shared native::exit_codes_and_signals_are_those_under_runc,
    Shared native::a_program_that_is_not_there_is_told_as_by_runc,
    Shared native::stdio_and_processes_work,
    Shared native::an_out_of_memory_kill_is_told_before_the_exit,
    Alone native::the_policy_may_forbid_it,
    Shared native::by_hand_too,
    Shared failures::exec_and_pause_are_unimplemented_in_words,
    Shared failures::a_terminal_is_unimplemented_in_words,
    Shared failures::a_failed_create_leaves_its_id_free,
    Shared signals::term_ends_an_idle_guest,
    Shared signals::term_ends_a_tight_loop,
    Shared signals::kill_is_137,
    Shared lifecycle::answers_are_those_of_runc,
    Shared lifecycle::events_come_in_order,
    Shared cgroups::limits_hold_and_metrics_tell_of_them,
    Shared cgroups::the_oom_killer_is_told_of,
    Shared cgroups::what_runs_is_killed_and_its_place_is_free_again,
    Shared sharing::a_container_has_its_own_cgroup_and_no_stray_descriptors,
    Alone sharing::a_full_cache_disk_is_survived_and_reported,
    Alone sharing::a_read_only_cache_is_survived_and_reported,
    Alone survival::a_container_outlives_containerd,
    Alone survival::a_killed_shim_leaves_its_id_free,
];
