//! The trials, by what they are about. Each is a function; [`ALL`] and [`APPS`] list them.

mod apps;
mod chart;
mod components;
mod ends;
mod examples;
mod files;
mod given;
mod hooks;
mod limits;
mod logs;
mod metrics;
mod native;
mod nodes;
mod registry;
mod run;
mod sockets;
mod upgrade;

use crate::Outcome;
pub(crate) use crate::run::Concurrency;
use crate::world::TestCluster;

/// One trial.
pub(crate) struct ClusterTrial {
    pub(crate) name: &'static str,
    /// What it is about; printed when it starts.
    pub(crate) about: &'static str,
    pub(crate) needs: Needs,
    pub(crate) kind: Concurrency,
    pub(crate) run: fn(&TestCluster) -> Outcome,
}

/// What a trial reaches for.
#[derive(PartialEq, Eq)]
pub(crate) enum Needs {
    /// The API server: it can run on any cluster that has the RuntimeClass and the images.
    Api,
    /// The nodes themselves, or names in the cluster that are no trial's own.
    Nodes,
}

macro_rules! trials {
    ($($kind:ident $needs:ident $module:ident::$name:ident: $about:literal),* $(,)?) => {
        &[$(ClusterTrial {
            name: concat!(stringify!($module), "::", stringify!($name)),
            about: $about,
            needs: Needs::$needs,
            kind: Concurrency::$kind,
            run: $module::$name,
        }),*]
    };
}

/// Every trial, in the order in which they are started. The second node joins after the first ones.
pub(crate) const ALL: &[ClusterTrial] = trials![
    Shared Api run::a_script_of_an_image_runs:
        "a Python script of an image runs; its output and exit code come through",
    Shared Api run::a_script_of_a_config_map_runs:
        "a script from a ConfigMap runs on the plain language image",
    Shared Api run::the_image_config_applies:
        "USER, WORKDIR, ENTRYPOINT, CMD and ENV of an image count, unless the pod says otherwise",
    Shared Api run::exit_codes_come_through:
        "exit codes from 0 to 255 are those of the container's status",
    Shared Api run::restart_policies_hold:
        "Never, OnFailure and Always restart what they say, with back-off",
    Shared Api run::init_containers_run_in_order:
        "init containers run one after the other, and a failed one stops the pod",
    Shared Api logs::both_streams_are_kept_in_order:
        "kubectl logs has both streams, each in its order",
    Shared Api logs::timestamps_are_those_of_the_lines: "kubectl logs --timestamps",
    Shared Api logs::following_ends_with_the_pod:
        "kubectl logs --follow prints what comes, and ends with the container",
    Shared Api logs::the_previous_run_can_be_read:
        "kubectl logs --previous is the run before the restart",
    Shared Api ends::term_ends_a_pod_long_before_its_grace:
        "a deleted pod ends by TERM with 143, idle or computing, without waiting for its grace",
    Shared Api ends::a_trap_is_told_from_a_kill:
        "a trap is exit code 134, and the log says what trapped",
    Shared Api ends::describe_says_what_trapped:
        "kubectl describe has the reason of a trap, under every terminationMessagePolicy",
    Shared Api ends::a_failed_start_says_why:
        "kubectl describe says why a container could not start",
    Shared Api ends::exec_runs_python_beside_the_script:
        "kubectl exec runs Python beside the script",
    Shared Api ends::kubectl_cp_without_tar_is_refused_in_words:
        "kubectl cp without tar is refused in words",
    Shared Api ends::a_pod_that_must_not_be_root_is_refused:
        "runAsNonRoot refuses an image that runs as root",
    Shared Api hooks::attach_streams_both_ways:
        "kubectl attach -i feeds a script and prints its answers; the end of the input is the \
         script's",
    Shared Api hooks::attach_prints_what_comes:
        "kubectl attach prints what a running script prints",
    Shared Api hooks::a_terminal_is_given:
        "tty: true gives a script a terminal",
    Shared Api hooks::exec_gives_a_terminal:
        "kubectl exec -it: Python's prompt beside a script, and a shell with job control in a \
         native container",
    Shared Nodes hooks::a_probe_past_its_timeout_leaves_no_process:
        "an exec probe that does not end in time leaves no process",
    Shared Api hooks::exec_probes_ask_the_script:
        "exec probes: ready when the program says so, ended when it does not answer in time",
    Shared Api hooks::exec_hooks_run_in_the_script_s_container:
        "exec hooks run, after the start and before the end",
    Shared Api hooks::http_hooks_and_probes_ask_a_sidecar:
        "httpGet and tcpSocket of a script's container reach a native sidecar, and sleep hooks \
         sleep",
    Shared Api files::secrets_and_projections_are_files:
        "Secret and projected volumes are read-only files",
    Shared Api files::an_empty_dir_is_shared_and_limited:
        "an emptyDir is shared by the pod's containers, each with the rights of its mount",
    Shared Api files::the_downward_api_is_variables_and_files:
        "variables of the downward API, ConfigMaps and Secrets, and a downwardAPI volume",
    Shared Api files::a_pod_has_its_names_and_its_resolver:
        "hostname, hosts and resolv.conf are the pod's",
    Shared Api files::the_service_accounts_token_can_be_read:
        "a script reads its service account's token, unless the pod refuses it",
    Shared Nodes files::a_claim_of_a_static_volume_is_kept:
        "a PersistentVolumeClaim of a static volume outlives the pod that wrote to it",
    Shared Nodes files::a_host_path_has_the_rights_of_its_mount:
        "a hostPath is the node's folder, with the rights of its mount",
    Shared Api limits::a_memory_limit_is_a_memory_error:
        "a memory limit is a MemoryError in the script, not a kill",
    Shared Api limits::a_read_only_root_cannot_be_written: "readOnlyRootFilesystem",
    Shared Nodes limits::limits_and_requests_apply_to_the_cgroup:
        "limits and requests are those of the container's cgroup",
    Shared Nodes limits::the_security_context_applies_to_the_process:
        "user, groups, capabilities and seccomp of a restricted pod are those of its process; \
         files have its fsGroup",
    Shared Api native::a_sidecar_serves_probes_beside_a_script:
        "a native sidecar answers http and tcp probes beside a script, and lets the pod end",
    Shared Api native::a_failed_liveness_probe_restarts_the_sidecar:
        "a failed liveness probe starts the sidecar again, and only it",
    Shared Api native::a_native_init_container_runs_first:
        "a native init container prepares what a script reads",
    Shared Api native::an_out_of_memory_kill_has_its_reason: "kubectl describe says OOMKilled",
    Shared Api sockets::a_service_leads_to_a_server_and_term_ends_it:
        "a guest serves HTTP behind a Service and its probes, a client finds it by name, and TERM \
         ends it",
    Shared Api sockets::a_service_leads_to_a_component:
        "a component serves HTTP behind a Service and its probes, and a component finds it by name",
    Shared Api sockets::containers_of_a_pod_talk_by_every_kind_of_socket:
        "containers of a pod talk by TCP, UDP and a Unix socket on a volume, with grants of \
         their own",
    Shared Api sockets::a_port_is_forwarded_to_a_server: "kubectl port-forward reaches a guest",
    Shared Api sockets::a_refusal_is_in_the_log:
        "kubectl logs says what was not granted, and which annotation grants it",
    Shared Api components::applications_run:
        "components of Python and JavaScript have their arguments, their variables, a ConfigMap \
         and their exit code",
    Shared Api components::files_are_those_of_a_native_program:
        "files of a component are those of a native program, on a volume and on its own root",
    Shared Api components::clocks_and_ends_are_those_of_the_container:
        "a component sleeps, succeeds, fails and traps; kubectl describe says what trapped",
    Shared Api components::missing_interfaces_are_described:
        "kubectl describe lists the interfaces that a component imports in vain",
    Shared Api components::hostile_ones_leave_their_neighbour_alone:
        "hostile components fail as documented, and a script beside them goes on",
    Shared Nodes registry::a_private_image_is_pulled_with_its_secret:
        "an image of a private registry is pulled with its secret, and not without",
    Shared Nodes registry::a_tag_moves_and_a_digest_does_not:
        "a tag with Always is what it means now, a digest what it meant",
    Shared Nodes examples::every_example_works_unchanged:
        "kubectl apply -f deployments/: everything completes or gets ready, and goes again",
    Shared Nodes apps::django_migrates_serves_and_answers_its_probes:
        "deployments/apps/django: Django on PostgreSQL migrates, serves its admin, and is \
         probed",
    Alone Nodes metrics::kubectl_top_and_the_kubelet_know_what_a_pod_uses:
        "kubectl top and the kubelet's metrics know what a pod uses",
    Shared Api given::a_cluster_must_be_named_by_file_and_context:
        "E2E_KUBECONFIG and E2E_CONTEXT have to name the same cluster",
    Shared Api given::trials_without_nodes_run_on_a_given_cluster:
        "what needs no node runs on a given cluster, the rest says why not",
    Alone Nodes nodes::a_second_node_joins_and_runs_pods:
        "a node that joins late, with containerd 2.4, runs pods as the first does",
    Alone Nodes limits::a_pod_is_resized_in_place:
        "kubectl patch --subresource resize raises and lowers limits of a running script",
    Alone Nodes nodes::drain_moves_the_pods:
        "kubectl drain moves the pods, uncordon lets them back",
    Alone Nodes nodes::pods_outlive_the_kubelet:
        "a restart of the kubelet leaves running pods alone",
    Alone Nodes nodes::pods_outlive_a_restart_of_containerd:
        "a restart of containerd leaves running pods alone, and no line of their logs is lost",
    Alone Nodes nodes::pods_outlive_a_kill_of_containerd: "so does a kill -9 of containerd",
    Alone Nodes nodes::a_hundred_pods_run_at_once: "a hundred pods run on one node at once",
    Alone Nodes chart::helm_test_runs_a_script: "helm test runs a script in a pod of the class",
    Alone Nodes upgrade::running_pods_keep_their_shim:
        "helm upgrade changes the shim under running pods, which keep theirs; the old release \
         goes with the last of them",
    Alone Nodes chart::every_node_prewarms_its_images:
        "the images of the value prewarm are compiled on every node, which says so",
    Alone Nodes chart::uninstall_is_refused_while_a_pod_runs:
        "helm uninstall is refused while a pod uses the runtime, and names it",
    Alone Nodes chart::nodes_are_reinstalled_when_an_uninstall_fails:
        "nodes that gave the runtime up before an uninstallation failed elsewhere get it back",
    Alone Nodes chart::uninstall_restores_the_nodes:
        "helm uninstall leaves nodes as they were, and a second installation works",
    Alone Api run::a_job_of_many_completes:
        "a Job of a hundred completions (E2E_COMPLETIONS) completes",
];

/// Those of the applications, in a run of their own.
pub(crate) const APPS: &[ClusterTrial] = trials![
    Alone Nodes apps::django_migrates_serves_and_answers_its_probes:
        "deployments/apps/django: Django on PostgreSQL migrates, serves its admin, and is \
         probed",
    Alone Nodes apps::the_admin_is_used_by_a_browser:
        "Chromium logs in to the admin and makes an object",
    Alone Nodes apps::a_rolling_update_fails_no_request:
        "kubectl rollout restart under load: every request is answered",
    Alone Nodes apps::term_drains_a_request_in_flight:
        "a pod that is deleted answers what it has begun",
];
