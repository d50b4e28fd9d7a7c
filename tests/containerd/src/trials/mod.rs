//! The trials, by what they are about. Each is a function; [`ALL`], [`ROBUSTNESS`] and [`LANGUAGES`] list them.

mod by_hand;
mod c_programs;
mod cgroups;
mod chaos;
mod component_apps;
mod components;
mod django;
mod exec;
mod failures;
mod faults;
mod hostile;
mod hostile_inputs;
mod lifecycle;
mod logs;
mod native;
mod pods;
mod prewarm;
mod python;
mod python_packages;
mod python_start;
mod python_suites;
mod python_tls;
mod rounds;
mod run;
mod second;
mod sharing;
mod signals;
mod sockets;
mod survival;
mod terminals;
mod verbs;

use crate::Outcome;
use crate::run::Concurrency;
use crate::world::World;

/// One trial.
pub(crate) struct Trial {
    pub(crate) name: &'static str,
    pub(crate) kind: Concurrency,
    pub(crate) run: fn(&World) -> Outcome,
}

macro_rules! trials {
    ($($kind:ident $module:ident::$name:ident),* $(,)?) => {
        &[$(Trial {
            name: concat!(stringify!($module), "::", stringify!($name)),
            kind: Concurrency::$kind,
            run: $module::$name,
        }),*]
    };
}

/// Every trial of the runtime, in the order in which they are started.
pub(crate) const ALL: &[Trial] = trials![
    // Before anything has started a container of that image.
    Alone sharing::fifty_containers_of_a_new_image_compile_it_once,
    Shared run::hello_prints,
    Shared run::mounts_have_the_rights_of_their_options,
    Shared run::environment_reaches_the_script,
    Shared run::a_read_only_root_cannot_be_written,
    Shared run::memory_limit_is_a_memory_error,
    Shared run::files_are_made_as_the_user,
    Shared run::relative_scripts_work_from_the_cwd,
    Shared run::exit_codes_come_through,
    Shared run::standard_input_is_read_to_its_end,
    Shared run::output_without_a_reader_is_no_error,
    Shared run::nothing_of_the_host_is_seen,
    Shared c_programs::attributes_of_files_are_the_kernels,
    Shared c_programs::set_id_bits_are_refused,
    Shared c_programs::paths_start_at_the_working_directory,
    Shared c_programs::questions_of_the_wasi_suite_have_linux_answers,
    Shared c_programs::questions_of_rust_have_linux_answers,
    Shared c_programs::rust_programs_end_by_exit_code_or_panic,
    Shared c_programs::rust_program_reads_its_input_to_the_end,
    Shared c_programs::locks_of_one_process_are_the_kernels,
    Shared c_programs::locks_hold_between_containers,
    Shared c_programs::term_ends_a_guest_that_waits_for_a_lock,
    Shared c_programs::process_clocks_count_seconds_of_cpu,
    Shared c_programs::local_time_follows_tz,
    Shared c_programs::users_and_groups_are_the_images,
    Shared c_programs::signals_are_those_of_a_native_program,
    Shared c_programs::copies_and_fills_are_those_of_a_native_program,
    Shared c_programs::jumps_are_those_of_a_native_program,
    Shared c_programs::term_ends_a_program_by_its_handler,
    Shared c_programs::mappings_are_memory_and_copies_of_files,
    Shared c_programs::system_log_gets_what_a_native_program_sends,
    Shared c_programs::example_image_shows_its_container,
    Shared sockets::descriptors_are_shared_as_by_the_kernel,
    Shared sockets::sockets_are_the_kernels,
    Shared sockets::names_are_looked_up_in_the_containers_files,
    Shared sockets::one_poll_loop_serves_a_thousand_connections_of_all_kinds,
    Shared sockets::a_client_finds_a_server_by_name,
    Shared sockets::term_ends_a_server_after_its_answers,
    Shared sockets::what_is_not_granted_is_refused_and_said,
    Shared sockets::operator_finds_refusals_in_containerds_log,
    Shared sockets::the_command_line_grants_sockets,
    Shared components::files_are_those_of_a_native_program,
    Shared components::clocks_sleep_and_random_bytes_are_right,
    Shared components::ends_are_success_failure_or_a_trap,
    Shared components::memory_limit_is_a_failed_allocation,
    Shared components::term_ends_a_component_at_once,
    Shared components::input_is_read_to_its_end,
    Shared components::input_reaches_a_component_that_never_waits,
    Shared components::interfaces_that_are_not_offered_are_listed,
    Shared components::one_poll_loop_serves_a_thousand_connections,
    Shared components::answer_arrives_while_its_server_waits_for_the_next_question,
    Shared components::clients_that_do_not_read_neither_fill_memory_nor_keep_others_waiting,
    Shared components::a_client_finds_a_server_by_name,
    Shared components::what_is_not_granted_is_refused_and_said,
    Shared components::hostile_components_are_refused_and_others_go_on,
    Shared components::no_path_of_a_component_leads_out_of_the_container,
    Shared component_apps::arguments_environment_and_directory_are_the_containers,
    Shared component_apps::standard_input_is_read_to_its_end,
    Shared component_apps::output_of_any_size_is_complete,
    Shared component_apps::exit_codes_come_through,
    Shared component_apps::mounts_have_the_rights_of_their_options,
    Shared component_apps::a_read_only_root_cannot_be_written,
    Shared component_apps::memory_limit_is_an_error_of_the_language,
    Shared component_apps::term_ends_an_application_at_once,
    Shared component_apps::python_reaches_what_is_granted,
    Shared by_hand::run_does_what_the_shim_does,
    Shared by_hand::inspect_says_what_run_would_do,
    Alone by_hand::an_archive_brings_its_configuration_and_is_unpacked_once,
    Shared by_hand::profile_says_which_function_of_python_called_the_kernel,
    Alone prewarm::the_first_container_of_a_prewarmed_image_compiles_nothing,
    Alone prewarm::a_prewarm_that_is_killed_leaves_nothing_in_containerd,
    Shared prewarm::a_failed_prewarm_is_reported_and_the_others_go_on,
    Shared failures::a_trap_is_not_a_kill,
    Shared failures::a_missing_interpreter_is_named,
    Shared failures::a_missing_script_is_named,
    Shared failures::a_broken_module_is_named,
    Shared failures::a_precompiled_file_is_refused,
    Shared failures::unknown_imports_are_listed,
    Shared native::the_lifecycle_matches_runc,
    Shared native::process_and_files_match_runc,
    Shared native::exit_codes_and_signals_match_runc,
    Shared native::a_missing_program_fails_as_under_runc,
    Shared native::an_unknown_capability_is_one_warning,
    Shared native::stdio_and_processes_work,
    Shared native::the_out_of_memory_event_precedes_the_exit,
    Alone native::the_policy_can_forbid_native_programs,
    Shared native::the_command_line_runs_native_programs,
    Shared exec::python_runs_beside_the_script,
    Shared exec::many_run_at_once,
    Shared exec::a_missing_program_is_named_with_what_there_is,
    Shared exec::answers_match_runc,
    Shared exec::execs_in_every_state_match_runc,
    Shared exec::execs_in_a_created_task_match_runc,
    Alone exec::the_policy_can_forbid_native_execs,
    Shared failures::a_failed_create_leaves_its_id_free,
    Shared hostile::no_path_leads_out_of_the_container,
    Shared hostile::no_address_beyond_the_rules_is_reached,
    Shared hostile::no_byte_reaches_a_socket_that_is_swapped_in,
    Shared hostile::sockets_end_with_an_error_and_come_back,
    Shared hostile::full_pairs_of_sockets_end_at_the_limit,
    Shared hostile::half_open_connections_keep_no_one_out,
    Shared hostile::open_files_end_with_an_error_and_come_back,
    Shared hostile::memory_ends_at_the_limit,
    Shared hostile::tables_end_at_the_limit,
    Shared hostile::endless_recursion_is_a_trap,
    Shared hostile::lengths_and_pointers_out_of_memory_are_errors,
    Shared hostile::output_waits_for_a_slow_reader,
    Shared hostile::hostile_modules_are_refused_in_words,
    Shared hostile::components_that_break_the_rules_trap,
    Shared hostile::component_that_never_waits_keeps_no_one_out,
    Shared hostile::a_file_without_end_is_no_module,
    Shared hostile_inputs::specs_are_refused_in_words,
    Shared hostile_inputs::paths_of_a_spec_stay_in_the_container,
    Shared hostile_inputs::links_of_an_image_stay_in_the_container,
    Shared hostile_inputs::layouts_are_refused_in_words,
    Shared signals::term_ends_an_idle_guest,
    Shared signals::term_ends_a_tight_loop,
    Shared signals::kill_is_137,
    Shared signals::signals_to_execs_and_to_all_match_runc,
    Shared signals::stop_signal_of_the_image_is_the_default,
    Shared signals::signals_to_a_created_task_match_runc,
    Shared pods::namespaces_are_shared_as_under_runc,
    Shared pods::nothing_is_left_of_a_container_in_anothers_pid_namespace,
    Shared pods::hooks_get_what_they_get_under_runc,
    Shared lifecycle::responses_match_runc,
    Shared lifecycle::events_come_in_order,
    Shared verbs::pause_and_resume_match_runc,
    Shared verbs::update_matches_runc,
    Shared verbs::memory_error_comes_at_the_updated_limit,
    Shared verbs::two_guests_share_the_memory_of_their_container,
    Shared verbs::metrics_have_the_fields_of_runcs,
    Shared logs::logging_program_gets_what_it_gets_under_runc,
    Shared logs::logging_program_reads_a_terminal_as_under_runc,
    Shared logs::logging_program_that_cannot_start_fails_the_create,
    Shared logs::log_file_is_not_the_containers,
    Shared logs::output_waits_for_a_reader_that_comes_back,
    Shared logs::exec_reads_its_input_to_its_end,
    Shared logs::options_of_a_create_match_runc,
    Shared terminals::native_program_on_a_terminal_matches_runc,
    Shared terminals::native_exec_on_a_terminal_matches_runc,
    Shared terminals::python_is_usable_by_hand,
    Shared terminals::python_is_usable_by_hand_beside_a_script,
    Shared terminals::client_that_leaves_hangs_nothing_up,
    Shared terminals::client_of_an_exec_that_leaves_hangs_nothing_up,
    Shared cgroups::limits_hold_and_metrics_report_them,
    Shared cgroups::an_out_of_memory_kill_is_reported,
    Shared cgroups::a_killed_container_frees_its_id_and_cgroup,
    Shared sharing::a_container_has_its_own_cgroup_and_no_stray_descriptors,
    Alone sharing::a_full_cache_disk_is_survived_and_reported,
    Alone sharing::a_read_only_cache_is_survived_and_reported,
    Alone survival::a_container_outlives_containerd,
    Alone survival::a_killed_shim_leaves_its_id_free,
    Alone survival::a_killed_shim_takes_its_pod_along,
];

/// What breaks beneath containers, and what many of them leave: in a run of their own, because they take minutes.
pub(crate) const ROBUSTNESS: &[Trial] = trials![
    Alone faults::full_disk_fails_a_create_in_words_and_leaves_nothing,
    Alone faults::full_disk_keeps_no_container_from_its_end,
    Shared faults::read_only_state_keeps_no_exit_status_back,
    Alone faults::read_only_bundle_fails_a_create_in_words,
    Shared faults::full_fifo_blocks_the_program_alone,
    Alone faults::vanished_bundle_keeps_no_exit_status_back,
    Alone chaos::exit_without_containerd_is_reported_as_under_runc,
    Alone chaos::killed_shim_takes_a_create_along,
    Alone chaos::killed_shims_leave_nothing,
    Alone chaos::killed_runners_leave_nothing,
    Alone chaos::killed_logging_programs_take_nothing_along,
    Alone chaos::killed_execs_take_nothing_along,
    Alone chaos::killed_containerd_takes_nothing_along,
    Alone rounds::rounds_leak_nothing,
];

/// Those of the interpreters: in a run of their own, because they do not depend on the containerd.
pub(crate) const LANGUAGES: &[Trial] = trials![
    Shared python::paths_are_those_of_the_official_image,
    Shared python::every_module_of_the_library_is_imported,
    Shared python::modules_in_c_do_their_work,
    Shared python::ctypes_has_types_and_says_what_it_cannot_call,
    Shared python::files_have_modes_owners_and_locks,
    Shared python::clocks_and_local_time_are_right,
    Shared python::first_byte_that_differs_decides_what_is_less,
    Shared python::deep_recursion_is_an_error_and_no_trap,
    Shared python::exits_are_those_of_a_native_python,
    Shared python::waits_end_without_threads,
    Shared python::handler_of_term_runs_and_ends_a_wait,
    Shared python::handler_runs_while_a_loop_computes,
    Shared python::handler_of_a_loop_of_asyncio_runs,
    Shared python::pipes_and_sockets_are_the_kernels,
    Shared python::processes_are_refused_with_what_to_do_instead,
    Shared python::memory_limit_is_a_memory_error_in_3_13,
    Shared python::hashes_are_those_of_openssl,
    Shared python::limits_logs_and_mappings_are_as_documented,
    Shared python::prompt_has_lines_that_can_be_edited,
    Shared python::readline_edits_remembers_and_completes,
    Shared python::terminal_is_read_key_by_key_and_without_echo,
    Shared python_tls::servers_and_clients_are_as_strict_as_native_ones,
    Shared python_tls::authorities_are_found_where_the_documentation_says,
    Shared python_packages::packages_that_are_built_in_do_their_work,
    Shared python_packages::native_code_is_refused_with_what_to_do_instead,
    Shared python_packages::virtual_environment_of_another_machine_works,
    Shared python_tls::requests_and_httpx_speak_tls,
    Shared python_packages::flask_serves,
    Shared python_packages::fastapi_and_uvicorn_serve,
    Shared python_packages::django_serves_its_admin,
    Shared django::django_runs_on_postgresql,
    Shared python_suites::own_tests_of_the_library_pass,
    Shared python::bill_of_materials_and_licences_are_in_the_image,
    Shared python_start::two_starts_have_other_hashes_and_random_numbers,
    Shared python_start::hash_seed_is_obeyed,
    Shared python_start::every_key_is_found_after_the_hashes_are_renewed,
    Shared python_start::arguments_environment_and_directory_are_the_containers,
    Shared python_start::options_are_obeyed,
    Shared python_start::environment_of_another_locale_is_obeyed,
    Shared python_start::packages_of_the_container_and_its_environments_are_seen,
    Shared python_start::own_modules_hide_those_of_the_library,
    Shared python_start::time_zone_and_clocks_are_the_containers,
    Shared python_start::tracebacks_name_lines_of_preloaded_modules,
    Shared python_start::streams_and_the_end_are_those_of_a_new_process,
];
