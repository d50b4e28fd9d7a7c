//! The verbs of a task's life, held to runc's answers, and the events of it.

use serde_json::Value;

use crate::Outcome;
use crate::command::{Finished, Running, wait_for};
use crate::guests::{IDLE, NATIVE};
use crate::world::{CtrContainer, OURS, RUNC, World};

/// The same questions to both runtimes; what can be compared of the answers.
pub(super) fn responses_match_runc(world: &World) -> Outcome {
    let native = world
        .container(NATIVE)
        .arguments(&["sh", "-c", "echo ready; exec /bin/busybox sleep 3600"])
        .runtime(RUNC);
    let native = life(&native)?;
    let ours = life(&world.container(IDLE).runtime(OURS))?;
    for (native, ours) in native.iter().zip(&ours) {
        if native != ours {
            return Err(format!("runc answers {native:?}, we answer {ours:?}").into());
        }
    }
    Ok(())
}

/// The questions to a container that prints `ready` and stays, with the answers.
pub(super) fn life(container: &CtrContainer<'_>) -> Outcome<Vec<(&'static str, String)>> {
    let mut answers = Vec::new();
    let mut note = |question, answer: String| answers.push((question, answer));

    note(
        "kill before create",
        class(&container.task(&["kill"], &[])?),
    );
    container.detach()?;
    container.wait_for_output("ready")?;
    note("status while running", format!("{:?}", container.status()?));
    note("create again", class(&container.try_detach()?));
    note(
        "start again",
        class(&container.task(&["start", "--detach"], &[])?),
    );
    note(
        "delete while running",
        class(&container.task(&["rm"], &[])?),
    );
    note(
        "processes",
        format!(
            "{}",
            container
                .task(&["ps"], &[])?
                .expect_code(0)?
                .stdout
                .lines()
                .count()
        ),
    );
    note("metrics", class(&container.task(&["metrics"], &[])?));
    note(
        "kill of an unknown exec",
        class(&container.task(&["kill", "--exec-id", "nowhere"], &[])?),
    );
    note(
        "unknown signal",
        class(&container.task(&["kill", "--signal", "0"], &[])?),
    );
    note(
        "kill",
        class(&container.task(&["kill", "--signal", "SIGKILL"], &[])?),
    );
    container.wait_for_status("STOPPED")?;
    note(
        "kill when stopped",
        class(&container.task(&["kill", "--signal", "SIGTERM"], &[])?),
    );
    note(
        "start when stopped",
        class(&container.task(&["start", "--detach"], &[])?),
    );
    note("status when stopped", format!("{:?}", container.status()?));
    note("delete", format!("{}", container.delete()?));
    note("delete again", class(&container.task(&["rm"], &[])?));
    note("status when deleted", format!("{:?}", container.status()?));
    container.remove()?;
    Ok(answers)
}

/// The kind of an answer, without the words, which are each runtime's own.
fn class(finished: &Finished) -> String {
    if finished.code == 0 {
        return "done".to_owned();
    }
    let stderr = finished.stderr.to_lowercase();
    [
        "already exists",
        "not found",
        "not implemented",
        "invalid argument",
        "failed precondition",
        "deadline exceeded",
    ]
    .iter()
    .find(|class| stderr.contains(**class))
    .map_or_else(|| "failed".to_owned(), |&class| class.to_owned())
}

/// containerd's table of events (its runtime v2 README), of which each that applies MUST come, in order.
pub(super) fn events_come_in_order(world: &World) -> Outcome {
    for (runtime, image) in [(RUNC, NATIVE), (OURS, IDLE)] {
        let listener = Running::start(world.daemon().ctr_command(&["events"]), None)?;
        let container = world.container(image).runtime(runtime);
        let container = if runtime == RUNC {
            container.arguments(&["sh", "-c", "echo ready; exec /bin/busybox sleep 3600"])
        } else {
            container
        };
        wait_for_listener(world, &listener, image)?;
        container.detach()?;
        container.wait_for_output("ready")?;
        container.end_by("SIGKILL", 137)?;
        let seen = || -> Outcome<Vec<String>> { Ok(topics(&listener.stdout()?, &container.id)) };
        // runc's shim may end before it has sent the last one.
        let sure = if runtime == RUNC { 3 } else { 4 };
        wait_for("the events of its life", || {
            Ok((seen()?.len() >= sure).then_some(()))
        })?;
        container.remove()?;
        let topics = seen()?;
        listener.end()?;
        let table = [
            "/tasks/create",
            "/tasks/start",
            "/tasks/exit",
            "/tasks/delete",
        ];
        if !table.starts_with(&topics.iter().map(String::as_str).collect::<Vec<_>>()) {
            return Err(format!("{runtime}: events came as {topics:?}").into());
        }
    }
    Ok(())
}

/// Waits until a listener is known to listen: its first sight of any event.
pub(super) fn wait_for_listener(world: &World, listener: &Running, image: &str) -> Outcome {
    wait_for("the first event", || {
        for label in ["seen=1", "seen=2"] {
            world
                .daemon()
                .ctr(&["image", "label", image, label])?
                .expect_code(0)?;
        }
        Ok(listener.stdout()?.contains("/images/update").then_some(()))
    })
}

/// Topics of the task events of container `id`, in the order of arrival.
pub(super) fn topics(log: &str, id: &str) -> Vec<String> {
    log.lines()
        .filter_map(|line| {
            let json: Value = serde_json::from_str(&line[line.find('{')?..]).ok()?;
            let topic = line
                .split_whitespace()
                .find(|word| word.starts_with("/tasks/"))?;
            (json["container_id"] == id).then(|| topic.to_owned())
        })
        .collect()
}
