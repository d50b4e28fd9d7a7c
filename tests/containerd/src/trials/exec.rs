//! Further processes of running containers: `ctr task exec`. Whatever can be, is held to what runc answers.

use std::fs;
use std::thread;

use super::native::{same, shell};
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
            "/usr/local/bin/python.wasm",
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
