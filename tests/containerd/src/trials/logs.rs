//! Where output goes that no client of a FIFO takes at once: logging programs, log files, readers that come back.
//! Whatever can be, is held to what runc's shim does.

use std::fs;
use std::path::{Path, PathBuf};

use containerd_shim_protos::api::CreateTaskRequest;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message as _, MessageField};
use containerd_shim_protos::shim::oci::Options;
use nix::sys::signal::Signal;

use super::native::{same, shell};
use super::second::SecondTask;
use crate::Outcome;
use crate::command::{self, Running, wait_for};
use crate::guests::{NATIVE_AS_USER, PYTHON};
use crate::world::{CtrContainer, OURS, RUNC, World, wait_for_end_of_keyring};

/// Notes what it was started with, and copies both streams.
const LOGGER: &str = r#"out=$1
echo "$#" >"$out.see"
env | grep -v -e ^PWD= -e ^SHLVL= -e ^_= | sort >>"$out.see"
open=$(for fd in 0 1 2 3 4 5; do readlink "/proc/$$/fd/$fd"; done | sed 's/:.*//')
echo "$open" >>"$out.see"
printf x >&5
exec 5>&-
cat <&3 >"$out.stdout" & cat <&4 >"$out.stderr" & wait
"#;

/// The URI of a script that the shell runs as a logging program, with `folder/out` as its argument. The script is
/// no executable itself: another trial's child may have it open for writing.
fn program(scheme: &str, folder: &Path, script: &str) -> Outcome<String> {
    let path = folder.join("logger");
    fs::write(&path, script)?;
    let (path, out) = (path.display(), folder.join("out"));
    Ok(format!("{scheme}:///bin/sh?{path}={}", out.display()))
}

/// The text of a file, once it holds `text`.
fn text_with(path: &Path, text: &str) -> Outcome<String> {
    wait_for(&format!("{text:?} in {}", path.display()), || {
        let found = fs::read_to_string(path).unwrap_or_default();
        Ok(found.contains(text).then_some(found))
    })
}

/// What a logging program saw and read, without what differs by container.
fn logged(world: &World, id: &str, out: &Path) -> Outcome<Vec<String>> {
    let file = |suffix: &str| PathBuf::from(format!("{}.{suffix}", out.display()));
    let all = text_with(&file("stdout"), "two")? + &text_with(&file("stderr"), "bad")?;
    let seen = fs::read_to_string(file("see"))?;
    let lines = seen.lines().chain(all.lines());
    Ok(lines
        .map(|line| line.replace(id, "ID").replace(world.name(), "RUN"))
        .collect())
}

const SPEAKS: &str = "echo one; echo bad >&2; echo two";

pub(super) fn logging_program_gets_what_it_gets_under_runc(world: &World) -> Outcome {
    let run = |container: CtrContainer<'_>| -> Outcome<Vec<String>> {
        let folder = world.folder("logger")?;
        let out = folder.join("out");
        let uri = program("binary", &folder, LOGGER)?;
        container.detach_logging_to(&uri)?.expect_code(0)?;
        container.wait_for_status("STOPPED")?;
        let code = container.delete()?;
        let mut answers = logged(world, &container.id, &out)?;
        answers.push(format!("exit code {code}"));
        container.remove()?;
        Ok(answers)
    };
    same("a logging program", |runtime| {
        run(shell(world, runtime, &format!("{SPEAKS}; exit 3")))
    })?;
    let script =
        "import sys; print('one'); print('bad', file=sys.stderr); print('two'); sys.exit(3)";
    let guest = world
        .container(PYTHON)
        .arguments(&["python", "-u", "-c", script]);
    let native = run(shell(world, OURS, &format!("{SPEAKS}; exit 3")))?;
    let guest = run(guest)?;
    if guest != native {
        return Err(format!("a guest: {guest:?}, a native program: {native:?}").into());
    }
    Ok(())
}

/// `nerdctl run -dt`: `ctr` cannot ask for both.
pub(super) fn logging_program_reads_a_terminal_as_under_runc(world: &World) -> Outcome {
    same("a terminal's logging program", |runtime| {
        let first = shell(world, runtime, "echo ready; exec busybox sleep 3600");
        first.detach()?;
        let folder = world.folder("logger")?;
        let out = folder.join("out");
        let second = SecondTask::new(world, &first, |spec| {
            spec["process"]["args"] =
                serde_json::json!(["sh", "-c", "[ -t 1 ] && echo one; echo two >&2"]);
            spec["process"]["terminal"] = true.into();
        })?;
        let uri = program("binary", &folder, LOGGER)?;
        second.create(CreateTaskRequest {
            terminal: true,
            stdout: uri,
            ..Default::default()
        })??;
        second.start()??;
        let status = second.wait()??;
        let printed = text_with(&out.with_extension("stdout"), "two\r\n")?;
        let deleted = second.delete()??;
        first.remove()?;
        Ok(vec![format!("{status} {deleted} {printed:?}")])
    })
}

pub(super) fn logging_program_that_cannot_start_fails_the_create(world: &World) -> Outcome {
    let folder = world.folder("logger")?;
    let dies = program("binary-v2", &folder, "exit 3")?;
    let mut uris = vec![("binary:///nowhere/logger".to_owned(), "no such file")];
    // Older shims for runc do not know the scheme.
    uris.push((dies, "ended or closed descriptor 5 before it was ready"));
    for (uri, words) in uris {
        let container = shell(world, OURS, "echo lost");
        container
            .detach_logging_to(&uri)?
            .expect_failure()?
            .expect_stderr(&[words])?;
    }
    same("a missing program", |runtime| {
        let container = shell(world, runtime, "echo lost");
        let failed = container.detach_logging_to("binary:///nowhere/logger")?;
        Ok(vec![failed.code])
    })
}

/// A pipe is between a container and its log file: any user in it may write, and only append.
pub(super) fn log_file_is_not_the_containers(world: &World) -> Outcome {
    let script = "echo one; echo two >/dev/stdout; echo $?; [ -p /dev/stdout ] && echo three; \
         echo four >/dev/stderr; echo $? >&1";
    same("log files", |runtime| {
        let mut printed = Vec::new();
        for container in [
            shell(world, runtime, script),
            world
                .container(NATIVE_AS_USER)
                .runtime(runtime)
                .arguments(&["sh", "-c", script]),
        ] {
            container.detach()?;
            container.wait_for_status("STOPPED")?;
            container.delete_expecting(0)?;
            // Under runc, the two streams have no order between them.
            let output = container.output()?;
            printed.extend(
                output
                    .lines()
                    .filter(|line| *line != "four")
                    .map(str::to_owned),
            );
            printed.push(output.contains("four").to_string());
            container.remove()?;
        }
        Ok(printed)
    })
}

/// A client that is killed and another that attaches: the output waits, and no line of it is lost.
pub(super) fn output_waits_for_a_reader_that_comes_back(world: &World) -> Outcome {
    const LINES: usize = 20_000;
    let native = format!(
        "echo ready; while [ ! -e /ctl/go ]; do busybox sleep 0.05; done; i=0; \
         while [ $i -lt {LINES} ]; do echo line $i; i=$((i+1)); done; echo all; \
         exec busybox sleep 3600"
    );
    let python = format!(
        "import os, time\nprint('ready', flush=True)\n\
         while not os.path.exists('/ctl/go'): time.sleep(0.05)\n\
         for i in range({LINES}): print('line', i)\n\
         print('all', flush=True)\ntime.sleep(3600)"
    );
    for container in [
        shell(world, RUNC, &native),
        shell(world, OURS, &native),
        world
            .container(PYTHON)
            .arguments(&["python", "-c", &python]),
    ] {
        let folder = world.folder("ctl")?;
        let container = container.mount(&folder, "/ctl", "rbind:rw");
        let client = container.run_beside()?;
        client.wait_for_stdout("ready", &mut 0)?;
        client.signal(Signal::SIGKILL)?;
        client.finish()?;
        fs::write(folder.join("go"), "")?;
        let attach = world
            .daemon()
            .ctr_command(&["task", "attach", &container.id]);
        let attached = Running::start(attach, None)?;
        attached.wait_for_stdout("all\n", &mut 0)?;
        let printed = attached.stdout()?;
        let expected: String = (0..LINES).map(|i| format!("line {i}\n")).collect();
        if printed != expected + "all\n" {
            let lines = printed.lines().count();
            return Err(format!("{lines} lines of {LINES} came through").into());
        }
        container.signal("SIGKILL")?;
        attached.finish()?;
        container.remove()?;
    }
    Ok(())
}

pub(super) fn exec_reads_its_input_to_its_end(world: &World) -> Outcome {
    let stays = "echo ready; exec busybox sleep 3600";
    let python = "import time; print('ready', flush=True); time.sleep(3600)";
    for (container, command) in [
        (shell(world, RUNC, stays), &["busybox", "cat"][..]),
        (shell(world, OURS, stays), &["busybox", "cat"]),
        (
            world.container(PYTHON).arguments(&["python", "-c", python]),
            &[
                "python",
                "-c",
                "import sys; sys.stdout.write(sys.stdin.read())",
            ],
        ),
    ] {
        container.detach()?;
        container.wait_for_output("ready")?;
        for number in ["1", "2"] {
            let exec = ["task", "exec", "--exec-id", number, &container.id];
            let exec = world.daemon().ctr_command(&[&exec, command].concat());
            command::run(exec, Some(b"first\nsecond\n"))?
                .expect_code(0)?
                .expect_stdout("first\nsecond\n")?;
        }
        container.remove()?;
    }
    Ok(())
}

/// `containerd.runc.v1.Options`: the owner of the streams, and no session keyring of its own.
pub(super) fn options_of_a_create_match_runc(world: &World) -> Outcome {
    same("options", |runtime| {
        let first = shell(world, runtime, "echo ready; exec busybox sleep 3600");
        first.detach()?;
        let mut answers = Vec::new();
        for no_new_keyring in [false, true] {
            let log = world.folder("options")?.join("log");
            let second = SecondTask::new(world, &first, |spec| {
                let see = "busybox stat -L -c '%F %u:%g' /dev/stdout; \
                     busybox grep -c _ses.$ID: /proc/keys";
                spec["process"]["args"] = serde_json::json!(["sh", "-c", see]);
                let id = format!("ID={}-second", first.id);
                spec["process"]["env"] = serde_json::json!(["PATH=/bin", id]);
                // The keys would be hidden.
                spec["linux"]["maskedPaths"] = serde_json::json!([]);
            })?;
            let options = Options {
                io_uid: 1234,
                io_gid: 4321,
                no_new_keyring,
                ..Default::default()
            };
            let uri = format!("file://{}", log.display());
            second.create(CreateTaskRequest {
                stdout: uri.clone(),
                stderr: uri,
                options: MessageField::some(Any {
                    type_url: "containerd.runc.v1.Options".to_owned(),
                    value: options.write_to_bytes()?,
                    ..Default::default()
                }),
                ..Default::default()
            })??;
            second.start()??;
            let status = second.wait()??;
            second.delete()??;
            answers.push(format!("{status}: {}", fs::read_to_string(&log)?));
            // The next task has the same id.
            wait_for_end_of_keyring(&second.id)?;
        }
        first.remove()?;
        Ok(answers)
    })
}
