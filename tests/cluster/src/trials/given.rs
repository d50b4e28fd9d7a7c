//! This program on a cluster that it was given: it starts itself again, with the cluster that it runs on.

use std::process::Command;

use crate::Outcome;
use crate::command::{self, Finished};
use crate::world::TestCluster;

pub(super) fn a_cluster_must_be_named_by_file_and_context(world: &TestCluster) -> Outcome {
    let kubeconfig = world.kubeconfig.display().to_string();
    for (kubeconfig, context, told) in [
        (Some(kubeconfig.as_str()), None, "E2E_CONTEXT does not"),
        (
            None,
            Some(world.context.as_str()),
            "E2E_KUBECONFIG does not",
        ),
        (Some(&kubeconfig), Some("another"), "nothing is done"),
    ] {
        run(kubeconfig, context, &[])?
            .expect_failure()?
            .expect_stderr(&[told])?;
    }
    Ok(())
}

pub(super) fn trials_without_nodes_run_on_a_given_cluster(world: &TestCluster) -> Outcome {
    let kubeconfig = world.kubeconfig.display().to_string();
    let only = ["--exact", "run::a_script_of_a_config_map_runs"];
    let skipped = "limits::limits_and_requests_apply_to_the_cgroup: skipped";
    run(Some(&kubeconfig), Some(&world.context), &only)?
        .expect_code(0)?
        .expect_stdout(&format!("{skipped}, it needs access to the nodes"))?
        .expect_stdout("1 passed")?;
    Ok(())
}

fn run(kubeconfig: Option<&str>, context: Option<&str>, words: &[&str]) -> Outcome<Finished> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(words);
    for (name, value) in [("E2E_KUBECONFIG", kubeconfig), ("E2E_CONTEXT", context)] {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command::run(command, None)
}
