//! Further processes of running containers: `ctr task exec`. Whatever can be, is held to what runc answers.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;

use containerd_shim_protos::api;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use serde_json::json;

use super::native::{same, shell};
use super::second::SecondTask;
use crate::Outcome;
use crate::guests::PYTHON;
use crate::world::{CtrContainer, OURS, World};

/// Runs until it is killed.
const SLEEPS: &str = "echo ready; exec busybox sleep 3600";

fn python<'world>(world: &'world World, script: &str) -> CtrContainer<'world> {
    world
        .container(PYTHON)
        .arguments(&["python", "-u", "-c", script])
}

fn exec(
    container: &CtrContainer<'_>,
    id: &str,
    options: &[&str],
    command: &[&str],
) -> Outcome<crate::command::Finished> {
    let verb = [&["exec", "--exec-id", id], options].concat();
    container.task(&verb, command)
}

pub(super) fn python_runs_beside_the_script(world: &World) -> Outcome {
    let container = python(
        world,
        "import time; open('/tmp/made', 'w').write('first'); print('ready'); time.sleep(3600)",
    );
    container.detach()?;
    container.wait_for_output("ready")?;
    let script = "import os, sys; print(open('/tmp/made').read(), os.getcwd()); \
                  print('bad', file=sys.stderr); sys.exit(7)";
    exec(
        &container,
        "one",
        &["--cwd", "/tmp"],
        &["python", "-c", script],
    )?
    .expect_code(7)?
    .expect_stdout("first /tmp")?
    .expect_stderr(&["bad"])?;
    // The exit of an exec is no exit of the container.
    container.wait_for_status("RUNNING")?;
    container.remove()
}

pub(super) fn many_run_at_once(world: &World) -> Outcome {
    let container = python(world, "import time; print('ready'); time.sleep(3600)");
    container.detach()?;
    container.wait_for_output("ready")?;
    let results: Vec<Outcome> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|number| {
                let container = &container;
                scope.spawn(move || -> Outcome {
                    let script = format!("print({number} * 11)");
                    let id = format!("many-{number}");
                    exec(container, &id, &[], &["python", "-c", &script])?
                        .expect_code(0)?
                        .expect_stdout(&format!("{}\n", number * 11))
                        .map(drop)
                })
            })
            .collect();
        let joined = threads.into_iter().map(thread::ScopedJoinHandle::join);
        joined
            .map(|result| result.unwrap_or_else(|_| Err("a thread panicked".into())))
            .collect()
    });
    for result in results {
        result?;
    }
    container.remove()
}

pub(super) fn a_missing_program_is_named_with_what_there_is(world: &World) -> Outcome {
    let container = python(world, "import time; print('ready'); time.sleep(3600)");
    container.detach()?;
    exec(&container, "copy", &[], &["tar", "cf", "-", "/etc"])?
        .expect_failure()?
        .expect_stderr(&[
            "OCI runtime exec failed: exec failed: unable to start container process: exec: \
             \"tar\": executable file not found in $PATH",
            "kubectl cp",
            "/usr/local/bin/python3.13",
        ])?;
    exec(&container, "shell", &[], &["/bin/sh", "-c", "true"])?
        .expect_failure()?
        .expect_stderr(&["stat /bin/sh: no such file or directory", "has no shell"])?;
    container.wait_for_status("RUNNING")?;
    container.remove()
}

/// Exit codes and output, and the words of errors that Docker makes exit codes of.
pub(super) fn answers_match_runc(world: &World) -> Outcome {
    same("an exec", |runtime| {
        let container = shell(world, runtime, SLEEPS);
        container.detach()?;
        container.wait_for_output("ready")?;
        let mut answers = Vec::new();
        // We make no cgroup in the hierarchies of cgroup v1 that have no controller: runc does.
        let see = "busybox grep -E '^(Uid|Gid|Groups|Umask|SigBlk|SigCgt|Cap...):' \
                   /proc/self/status; \
                   busybox grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status; pwd; ulimit -a; \
                   busybox cat /proc/self/oom_score_adj; \
                   busybox sed -e '/name=/d' -e '/^0::/d' -e 's,/[^/]*$,,' /proc/self/cgroup; \
                   busybox env | busybox sort";
        for (number, command) in [
            &["sh", "-c", see][..],
            &["sh", "-c", "exit 3"],
            &["sh", "-c", "kill -TERM $$"],
            &["sh", "-c", "kill -KILL $$"],
            // What it leaves behind holds none of its streams: ctr waits for their end.
            &[
                "sh",
                "-c",
                "busybox sleep 3600 </dev/null >/dev/null 2>&1 & exit 4",
            ],
        ]
        .iter()
        .enumerate()
        {
            let finished = exec(&container, &format!("e{number}"), &[], command)?;
            answers.push(format!(
                "{command:?}: {:?} {}",
                finished.code, finished.stdout
            ));
        }
        for (id, command, words) in [
            ("missing", "no", "executable file not found in $PATH"),
            ("path", "/no", "no such file or directory"),
            ("directory", "/etc", "exec: \"/etc\": "),
        ] {
            let finished = exec(&container, id, &[], &[command])?;
            answers.push(format!(
                "{command}: {:?} {}",
                finished.code,
                finished.stderr.contains(words)
            ));
        }
        container.remove()?;
        Ok(answers)
    })
}

/// What the shim answers, in what both runtimes have in common.
fn answer(result: Result<Vec<u8>, String>) -> String {
    const PHRASES: [&str; 6] = [
        "cannot exec in a paused",
        "cannot exec in a stopped state",
        "process already finished",
        "process does not exist",
        "argument list too long",
        "already exists",
    ];
    match result {
        Ok(_) => "done".to_owned(),
        Err(words) => PHRASES
            .iter()
            .find(|phrase| words.contains(**phrase))
            .map_or(words, |phrase| (*phrase).to_owned()),
    }
}

/// Calls of one task's execs.
struct ExecCalls<'trial, 'world> {
    container: &'trial CtrContainer<'world>,
    /// The task: the container's own, or another one of its shim.
    id: String,
}

impl ExecCalls<'_, '_> {
    fn call(&self, verb: &str, request: &impl Message) -> Outcome<Result<Vec<u8>, String>> {
        let answer = self.container.shim_api(verb, request);
        Ok(answer.map_err(|error| format!("{verb} of {}: {error:?}", self.id))?)
    }

    fn add(&self, exec_id: &str, args: &[&str], stdout: &Path) -> Outcome<String> {
        let process = json!({
            "user": {"uid": 0, "gid": 0}, "cwd": "/", "args": args, "env": ["PATH=/bin"],
        });
        let request = api::ExecProcessRequest {
            id: self.id.clone(),
            exec_id: exec_id.to_owned(),
            stdout: stdout.display().to_string(),
            // runc's shim takes no further process with one of the two alone.
            stderr: stdout.display().to_string(),
            spec: MessageField::some(Any {
                type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".to_owned(),
                value: process.to_string().into_bytes(),
                ..Default::default()
            }),
            ..Default::default()
        };
        Ok(answer(self.call("Exec", &request)?))
    }

    fn start(&self, exec_id: &str) -> Outcome<String> {
        let request = api::StartRequest {
            id: self.id.clone(),
            exec_id: exec_id.to_owned(),
            ..Default::default()
        };
        Ok(answer(self.call("Start", &request)?))
    }

    fn state(&self, exec_id: &str) -> Outcome<String> {
        let request = api::StateRequest {
            id: self.id.clone(),
            exec_id: exec_id.to_owned(),
            ..Default::default()
        };
        Ok(match self.call("State", &request)? {
            Ok(state) => {
                let state = api::StateResponse::parse_from_bytes(&state)?;
                format!("{:?} {}", state.status, state.exit_status)
            }
            refused => answer(refused),
        })
    }

    fn wait(&self, exec_id: &str) -> Outcome<String> {
        let request = api::WaitRequest {
            id: self.id.clone(),
            exec_id: exec_id.to_owned(),
            ..Default::default()
        };
        Ok(match self.call("Wait", &request)? {
            Ok(exit) => api::WaitResponse::parse_from_bytes(&exit)?
                .exit_status
                .to_string(),
            refused => answer(refused),
        })
    }

    fn kill(&self, exec_id: &str) -> Outcome<String> {
        let request = api::KillRequest {
            id: self.id.clone(),
            exec_id: exec_id.to_owned(),
            signal: 9,
            ..Default::default()
        };
        Ok(answer(self.call("Kill", &request)?))
    }

    fn delete(&self, exec_id: &str) -> Outcome<String> {
        let request = api::DeleteRequest {
            id: self.id.clone(),
            exec_id: exec_id.to_owned(),
            ..Default::default()
        };
        Ok(match self.call("Delete", &request)? {
            Ok(exit) => api::DeleteResponse::parse_from_bytes(&exit)?
                .exit_status
                .to_string(),
            refused => answer(refused),
        })
    }
}

const SLEEP: [&str; 3] = ["busybox", "sleep", "3600"];
const NULL: &str = "/dev/null";

/// ExecCalls of a task that runs, is paused, has stopped; arguments that the kernel does not take; a grandchild that
/// keeps the output open; waits and deletions after the end.
pub(super) fn execs_in_every_state_match_runc(world: &World) -> Outcome {
    same("an exec in every state of its task", |runtime| {
        let container = shell(world, runtime, SLEEPS);
        container.detach()?;
        container.wait_for_output("ready")?;
        let execs = ExecCalls {
            container: &container,
            id: container.id.clone(),
        };
        let mut answers = Vec::new();
        let mut note = |question: &'static str, answer: String| answers.push((question, answer));
        let null = Path::new(NULL);

        let long = "x".repeat(200 << 10);
        note(
            "add: long",
            execs.add("long", &["busybox", "echo", &long], null)?,
        );
        // More than 128 KiB, which the kernel takes for no argument. runc's process ends at that, after the start.
        let started = execs.start("long")?;
        if runtime == OURS && started != "argument list too long" {
            return Err(format!("an argument that is too long: {started}").into());
        }
        note("delete: long", execs.delete("long").map(|_| String::new())?);

        let stdout = world.folder("stdout")?.join("fifo");
        nix::unistd::mkfifo(&stdout, nix::sys::stat::Mode::S_IRWXU)?;
        let reader = File::options()
            .read(true)
            .custom_flags(nix::libc::O_NONBLOCK)
            .open(&stdout)?;
        let parent = ["sh", "-c", "busybox sleep 3600 & exit 3"];
        note("add: parent", execs.add("parent", &parent, &stdout)?);
        note("start: parent", execs.start("parent")?);
        note("wait: parent", execs.wait("parent")?);
        note("wait again: parent", execs.wait("parent")?);
        note("state: parent", execs.state("parent")?);
        note("kill: parent", execs.kill("parent")?);
        note("delete: parent", execs.delete("parent")?);
        note("wait after delete: parent", execs.wait("parent")?);
        drop(reader);

        note("add: sleeper", execs.add("sleeper", &SLEEP, null)?);
        note("add again: sleeper", execs.add("sleeper", &SLEEP, null)?);
        note("start: sleeper", execs.start("sleeper")?);
        note("add: unstarted", execs.add("unstarted", &SLEEP, null)?);
        note("delete: unstarted", execs.delete("unstarted")?);
        note("add: waiting", execs.add("waiting", &SLEEP, null)?);
        container.task(&["pause"], &[])?.expect_code(0)?;
        note("state in a paused task", execs.state("sleeper")?);
        note("add in a paused task", execs.add("paused", &SLEEP, null)?);
        note("start in a paused task", execs.start("waiting")?);
        container.task(&["resume"], &[])?.expect_code(0)?;
        note("state after resume", execs.state("sleeper")?);

        let forced = ["delete", "--force", "--exec-id", "sleeper"];
        let finished = container.task(&forced, &[])?;
        note(
            "delete by force",
            format!("{} {}", finished.code, execs.state("sleeper")?),
        );

        note("add: last", execs.add("last", &SLEEP, null)?);
        note("start: last", execs.start("last")?);
        container.signal("SIGKILL")?;
        container.wait_for_status("STOPPED")?;
        note("wait when stopped", execs.wait("last")?);
        note("state when stopped", execs.state("last")?);
        note("add when stopped", execs.add("late", &SLEEP, null)?);
        note("delete when stopped", execs.delete("last")?);
        container.remove()?;
        Ok(answers)
    })
}

/// A task that waits for its start: beside the container, in the same shim.
pub(super) fn execs_in_a_created_task_match_runc(world: &World) -> Outcome {
    same("an exec in a created task", |runtime| {
        let container = shell(world, runtime, SLEEPS);
        container.detach()?;
        container.wait_for_output("ready")?;
        let created = SecondTask::new(world, &container, |_| ())?;
        created.create(api::CreateTaskRequest::default())??;
        let execs = ExecCalls {
            container: &container,
            id: created.id.clone(),
        };
        let mut answers = Vec::new();
        let mut note = |question: &'static str, answer: String| answers.push((question, answer));
        let null = Path::new(NULL);
        note("add", execs.add("early", &["sh", "-c", "exit 5"], null)?);
        note("state", execs.state("early")?);
        note("start", execs.start("early")?);
        note("wait", execs.wait("early")?);
        note("state of the task", execs.state("")?);
        note("delete", execs.delete("early")?);
        note("kill of the task", execs.kill("")?);
        note("wait for the task", execs.wait("")?);
        note("delete of the task", execs.delete("")?);
        container.remove()?;
        Ok(answers)
    })
}

pub(super) fn the_policy_can_forbid_native_execs(world: &World) -> Outcome {
    let container = shell(world, OURS, SLEEPS);
    container.detach()?;
    container.wait_for_output("ready")?;
    let policy = world.daemon().policy();
    fs::write(&policy, r#"{ "native": "deny" }"#)?;
    let refused = exec(&container, "denied", &[], &["sh", "-c", "true"]);
    fs::remove_file(&policy)?;
    refused?
        .expect_failure()?
        .expect_stderr(&["exec: \"sh\": permission denied", "native: deny"])?;
    exec(&container, "allowed", &[], &["sh", "-c", "true"])?.expect_code(0)?;
    container.remove()
}
