//! Signals: to the init process, to one exec, to all; and what each state of a task answers, as under runc.

use containerd_shim_protos::api::{CreateTaskRequest, KillRequest, Status};

use super::native::{same, shell};
use super::second::SecondTask;
use crate::Outcome;
use crate::command::{Running, wait_for};
use crate::guests::{IDLE, LOOP};
use crate::world::{CtrContainer, World};

const STAYS: &str = "echo ready; exec busybox sleep 3600";

pub(super) fn term_ends_an_idle_guest(world: &World) -> Outcome {
    signal(world, IDLE, "SIGTERM", 143)?;
    signal(world, IDLE, "SIGINT", 130)
}

pub(super) fn term_ends_a_tight_loop(world: &World) -> Outcome {
    signal(world, LOOP, "SIGTERM", 143)
}

pub(super) fn kill_is_137(world: &World) -> Outcome {
    signal(world, IDLE, "SIGKILL", 137)?;
    signal(world, LOOP, "SIGKILL", 137)
}

fn signal(world: &World, image: &str, signal: &str, code: i32) -> Outcome {
    let container = world.container(image);
    container.detach()?;
    container.wait_for_output("ready")?;
    container.end_by(signal, code)?;
    container.remove()
}

/// Sends a signal by the shim's own API. The words of a failure.
fn kill(container: &CtrContainer<'_>, exec_id: &str, signal: u32, all: bool) -> Outcome<String> {
    let request = KillRequest {
        id: container.id.clone(),
        exec_id: exec_id.to_owned(),
        signal,
        all,
        ..Default::default()
    };
    Ok(match container.shim_api("Kill", &request)? {
        Ok(_) => "sent".to_owned(),
        Err(words) => class_of(&words),
    })
}

/// The kind of an error: the words before the first that is a runtime's own.
fn class_of(words: &str) -> String {
    let known = [
        "process already finished",
        "process not created",
        "process does not exist",
        "container not created",
    ];
    let found = known.iter().find(|known| words.contains(*known));
    found.map_or_else(|| "failed".to_owned(), |&words| words.to_owned())
}

fn answer<T: std::fmt::Debug>(answer: Result<T, String>) -> String {
    answer.map_or_else(|words| class_of(&words), |value| format!("{value:?}"))
}

/// Starts an exec that runs until it is ended, beside this trial. `said`: it has begun.
fn exec(container: &CtrContainer<'_>, world: &World, id: &str, script: &str) -> Outcome<Running> {
    let arguments = [
        "task",
        "exec",
        "--exec-id",
        id,
        &container.id,
        "sh",
        "-c",
        script,
    ];
    let running = Running::start(world.daemon().ctr_command(&arguments), None)?;
    running.wait_for_stdout("begun", &mut 0)?;
    Ok(running)
}

/// One exec alone gets its signal, also a real-time one; then everything of the container.
pub(super) fn signals_to_execs_and_to_all_match_runc(world: &World) -> Outcome {
    same("signals to execs", |runtime| {
        let container = shell(world, runtime, STAYS);
        container.detach()?;
        container.wait_for_output("ready")?;
        let mut answers = Vec::new();
        // TERM, the first and the last signals of the real-time ones, and none that is a signal.
        for (number, signal) in [15, 34, 40, 64].into_iter().enumerate() {
            let id = format!("e{number}");
            let running = exec(
                &container,
                world,
                &id,
                "echo begun; exec busybox sleep 3600",
            )?;
            answers.push(kill(&container, &id, signal, number % 2 == 0)?);
            // The client deletes it.
            answers.push(format!("{signal}: {}", running.finish()?.code));
            answers.push(kill(&container, &id, signal, false)?);
            container.wait_for_status("RUNNING")?;
        }
        for signal in [65, 1000] {
            answers.push(kill(&container, "", signal, false)?);
        }
        let running = exec(
            &container,
            world,
            "rest",
            "echo begun; exec busybox sleep 3600",
        )?;
        answers.push(kill(&container, "", 9, true)?);
        answers.push(format!("all: {}", running.finish()?.code));
        container.wait_for_status("STOPPED")?;
        answers.push(kill(&container, "", 15, false)?);
        answers.push(kill(&container, "", 15, true)?);
        answers.push(container.delete()?.to_string());
        container.remove()?;
        Ok(answers)
    })
}

/// The signal of the image's STOPSIGNAL is what clients send if they are not told another.
pub(super) fn stop_signal_of_the_image_is_the_default(world: &World) -> Outcome {
    same("the stop signal", |runtime| {
        let script = "trap 'echo asked; exit 7' USR1; echo ready; \
             while :; do busybox sleep 0.05; done";
        let container = shell(world, runtime, script);
        container.detach()?;
        container.wait_for_output("ready")?;
        let label = "io.containerd.image.config.stop-signal=SIGUSR1";
        let labelled = ["container", "label", &container.id, label];
        world.daemon().ctr(&labelled)?.expect_code(0)?;
        container.task(&["kill"], &[])?.expect_code(0)?;
        container.wait_for_status("STOPPED")?;
        let code = container.delete()?;
        let printed = container.output()?;
        container.remove()?;
        Ok(vec![format!("{code} {printed}")])
    })
}

/// A task that is created and not started.
pub(super) fn signals_to_a_created_task_match_runc(world: &World) -> Outcome {
    same("a created task", |runtime| {
        let first = shell(world, runtime, STAYS);
        first.detach()?;
        let mut answers = Vec::new();
        let second = SecondTask::new(world, &first, |_| ())?;
        answers.push(answer(second.kill(9)?));
        second.create(CreateTaskRequest::default())??;
        let status = |second: &SecondTask<'_, '_>| -> Outcome<String> {
            Ok(answer(
                second
                    .state()?
                    .map(|state| state.status.enum_value_or_default()),
            ))
        };
        answers.push(status(&second)?);
        answers.push(answer(second.kill(9)?));
        answers.push(answer(second.wait()?));
        wait_for("the state of an ended task", || {
            let state = second.state()??;
            Ok((state.status.enum_value_or_default() == Status::STOPPED).then_some(()))
        })?;
        answers.push(answer(second.kill(9)?));
        answers.push(format!("start: {}", second.start()?.is_ok()));
        answers.push(answer(second.delete()?));
        answers.push(answer(second.kill(9)?));
        // The id is free, and a deletion ends what was never started.
        second.create(CreateTaskRequest::default())??;
        // Its status is 0 under runc's shim, and 137 here: it was killed.
        answers.push(second.delete()?.is_ok().to_string());
        answers.push(status(&second)?);
        drop(second);
        first.remove()?;
        Ok(answers)
    })
}
