//! Terminals: `ctr run --tty` and `ctr task exec --tty`, on a terminal on which the trial types.

use std::fs::File;
use std::io::{Read, Write};

use containerd_shim_protos::api::{ResizePtyRequest, StateRequest, StateResponse, Status};
use containerd_shim_protos::protobuf::Message as _;

use super::native::{same, shell};
use crate::Outcome;
use crate::command::{Running, wait_for};
use crate::guests::{COMPUTES, PYTHON};
use crate::world::{Beside, CtrContainer, OURS, RUNC, World};

/// What a program finds out of its terminal, and then a line that it reads.
const LOOK: &str = "busybox tty; busybox stat -c '%F %t,%T %a' $(busybox tty) /dev/console; \
     [ -t 2 ] && echo stderr too; echo by name >/dev/tty; trap 'echo told' INT; echo ready; \
     read -r line; echo got $line; \
     until size=$(busybox stty size); [ \"$size\" = '37 91' ]; do busybox sleep 0.05; done; \
     echo $size; cat; echo end";

/// Sets the size of a terminal until the program on it has seen that it has 37 lines of 91 columns: ctr sets a size of its
/// own once it has started a process, which may come later.
fn wait_for_size(container: &CtrContainer<'_>, exec_id: &str, terminal: &Running) -> Outcome {
    let resize = ResizePtyRequest {
        id: container.id.clone(),
        exec_id: exec_id.to_owned(),
        width: 91,
        height: 37,
        ..Default::default()
    };
    wait_for("the size that was set", || {
        container.shim_api("ResizePty", &resize)??;
        Ok(terminal.stdout()?.contains("37 91").then_some(()))
    })
}

/// Waits for `text` and the end of its line: what is typed before that is shown before it too.
fn wait_for_line(terminal: &Running, text: &str, seen: &mut usize) -> Outcome {
    terminal.wait_for_stdout(text, seen)?;
    // Some shims have the terminal write no carriage return.
    terminal.wait_for_stdout("\n", seen)
}

pub(super) fn native_program_on_a_terminal_matches_runc(world: &World) -> Outcome {
    same("what a terminal shows", |runtime| {
        let container = shell(world, runtime, LOOK);
        let mut terminal = container.run_beside_on_a_terminal()?;
        let mut seen = 0;
        wait_for_line(&terminal, "ready", &mut seen)?;
        expect_terminal(&container, "")?;
        terminal.write(b"a line\r")?;
        wait_for_line(&terminal, "got a line", &mut seen)?;
        wait_for_size(&container, "", &terminal)?;
        wait_for_line(&terminal, "37 91", &mut seen)?;
        terminal.write(b"copied\r")?;
        wait_for_line(&terminal, "copied", &mut seen)?;
        // ctrl-D ends what cat reads.
        terminal.write(b"\x04")?;
        wait_for_line(&terminal, "end", &mut seen)?;
        let finished = terminal.finish()?.expect_code(0)?;
        Ok(vec![finished.stdout])
    })
}

/// What a further process finds out of its terminal, and then as a person uses it: with one key, and with programs in
/// the foreground.
const LOOK_BESIDE: &str = "busybox tty; busybox stat -c '%F %t,%T %a' $(busybox tty); \
     [ -t 2 ] && echo stderr too; echo by name >/dev/tty; echo ready; \
     read -r line; echo got $line; \
     until size=$(busybox stty size); [ \"$size\" = '37 91' ]; do busybox sleep 0.05; done; \
     echo $size; busybox stty -icanon -echo; key=$(busybox dd bs=1 count=1 2>/dev/null); \
     busybox stty icanon echo; echo key $key; busybox cat; \
     set -m; trap : INT; sh -c 'while read -r line; do echo also $line; done'; \
     echo stopped $?; fg; echo ended $?; exit 9";

/// Runs until it is killed.
const SLEEPS: &str = "echo ready; exec busybox sleep 3600";

fn sleeper<'world>(world: &'world World, runtime: &'static str) -> Outcome<CtrContainer<'world>> {
    let container = shell(world, runtime, SLEEPS);
    container.detach()?;
    container.wait_for_output("ready")?;
    Ok(container)
}

fn state(container: &CtrContainer<'_>, exec_id: &str) -> Outcome<StateResponse> {
    let request = StateRequest {
        id: container.id.clone(),
        exec_id: exec_id.to_owned(),
        ..Default::default()
    };
    let answer = container.shim_api("State", &request)??;
    Ok(StateResponse::parse_from_bytes(&answer)?)
}

/// A process with a terminal has no stderr of its own.
fn expect_terminal(container: &CtrContainer<'_>, exec_id: &str) -> Outcome {
    let state = state(container, exec_id)?;
    if !state.terminal || !state.stderr.is_empty() {
        return Err(format!("not on a terminal alone: {state}").into());
    }
    Ok(())
}

pub(super) fn native_exec_on_a_terminal_matches_runc(world: &World) -> Outcome {
    same("what a terminal of an exec shows", |runtime| {
        let container = sleeper(world, runtime)?;
        let command = ["sh", "-c", LOOK_BESIDE];
        let mut terminal = container.exec_on_a_terminal("e", &[], &command)?;
        let mut seen = 0;
        terminal.wait_for_stdout("ready", &mut seen)?;
        expect_terminal(&container, "e")?;
        terminal.write(b"a line\r")?;
        terminal.wait_for_stdout("got a line", &mut seen)?;
        wait_for_size(&container, "e", &terminal)?;
        terminal.wait_for_stdout("37 91", &mut seen)?;
        for (typed, answers) in [
            ("k", &["key k"][..]),
            ("copied\r", &["copied", "copied"]),
            // ctrl-D ends what cat reads; ctrl-Z and ctrl-C reach the program in the foreground alone.
            ("\x04", &[]),
            ("one\r", &["also one"]),
            ("\x1a", &["stopped 148"]),
            ("two\r", &["also two"]),
            ("\x03", &["ended 130"]),
        ] {
            terminal.write(typed.as_bytes())?;
            for answer in answers {
                terminal.wait_for_stdout(answer, &mut seen)?;
            }
        }
        let finished = terminal.finish()?.expect_code(9)?;
        container.wait_for_status("RUNNING")?;
        container.remove()?;
        let facts = finished.stdout.split("ready").next().unwrap_or_default();
        Ok(vec![facts.to_owned()])
    })
}

/// The next client goes on where the first has left.
pub(super) fn client_of_an_exec_that_leaves_hangs_nothing_up(world: &World) -> Outcome {
    for runtime in [RUNC, OURS] {
        let container = sleeper(world, runtime)?;
        let script = "trap 'echo hung up; exit 7' HUP; while read -r line; do echo got $line; done";
        container
            .exec_on_a_terminal("e", &["--detach"], &["sh", "-c", script])?
            .finish()?
            .expect_code(0)?;
        let paths = state(&container, "e")?;
        let shown = read_until(&paths.stdout, "got again\r\n", || {
            let mut client = File::options().write(true).open(&paths.stdin)?;
            Ok(client.write_all(b"again\r")?)
        })?;
        let after = state(&container, "e")?;
        if shown.contains("hung up") || after.status.enum_value() != Ok(Status::RUNNING) {
            return Err(format!("{runtime}: {after}: {shown}").into());
        }
        container.remove()?;
    }
    Ok(())
}

/// Reads a FIFO until it has held `text`. `act` runs when it is open.
fn read_until(path: &str, text: &str, act: impl FnOnce() -> Outcome) -> Outcome<String> {
    let mut fifo = File::open(path)?;
    act()?;
    let mut all = String::new();
    while !all.contains(text) {
        let mut buffer = [0; 256];
        match fifo.read(&mut buffer)? {
            0 => return Err(format!("{path} ends after {all:?}").into()),
            length => all.push_str(&String::from_utf8_lossy(&buffer[..length])),
        }
    }
    Ok(all)
}

/// As a person would: at a prompt, and by ctrl-C.
pub(super) fn python_is_usable_by_hand(world: &World) -> Outcome {
    let container = world.container(PYTHON).arguments(&["python"]);
    converse(container.run_beside_on_a_terminal()?)?;
    let container = world
        .container(PYTHON)
        .arguments(&["python", "-c", COMPUTES]);
    interrupt(container.run_beside_on_a_terminal()?)
}

/// The same beside the container's own script, which goes on.
pub(super) fn python_is_usable_by_hand_beside_a_script(world: &World) -> Outcome {
    let script = "import time; print('ready', flush=True); time.sleep(3600)";
    let container = world.container(PYTHON).arguments(&["python", "-c", script]);
    container.detach()?;
    container.wait_for_output("ready")?;
    converse(container.exec_on_a_terminal("talk", &[], &["python"])?)?;
    let command = ["python", "-c", COMPUTES];
    interrupt(container.exec_on_a_terminal("loop", &[], &command)?)?;
    container.wait_for_status("RUNNING")?;
    container.remove()
}

/// A block of several lines, exceptions, input, and the end by ctrl-D.
fn converse(mut terminal: Beside<'_>) -> Outcome {
    let mut seen = 0;
    terminal.wait_for_stdout(">>> ", &mut seen)?;
    for (typed, answer) in [
        ("6 * 7", "42"),
        ("def twice(x):", "... "),
        ("    return 2 * x", "... "),
        ("", ">>> "),
        ("twice('ab')", "'abab'"),
        ("1 / 0", "ZeroDivisionError"),
        ("twice(", "... "),
        ("3)", "6"),
        ("def", "SyntaxError"),
        (
            "import os, sys; print(os.isatty(0), sys.stdout.isatty())",
            "True True",
        ),
        ("input('name? ')", "name? "),
        ("another one", "'another one'"),
    ] {
        terminal.write(format!("{typed}\r").as_bytes())?;
        // What is typed is shown first.
        terminal.wait_for_stdout(typed, &mut seen)?;
        terminal.wait_for_stdout(answer, &mut seen)?;
    }
    // ctrl-C gives up what is typed, and ends a computation.
    let spins = "print('spins'); any(x for x in iter(int, 1))";
    for (typed, answer) in [("never", ""), (&format!("{spins}\r"), "spins")] {
        terminal.wait_for_stdout(">>> ", &mut seen)?;
        terminal.write(typed.as_bytes())?;
        terminal.wait_for_stdout(typed.trim_end(), &mut seen)?;
        terminal.wait_for_stdout(answer, &mut seen)?;
        terminal.write(b"\x03")?;
        terminal.wait_for_stdout("KeyboardInterrupt", &mut seen)?;
    }
    // Right after an interrupted statement CPython would end with the status of the signal.
    terminal.wait_for_stdout(">>> ", &mut seen)?;
    terminal.write(b"40 + 2\r")?;
    terminal.wait_for_stdout("42", &mut seen)?;
    terminal.wait_for_stdout(">>> ", &mut seen)?;
    terminal.write(b"\x04")?;
    terminal.finish()?.expect_code(0).map(drop)
}

/// ctrl-C ends a script with the status of the signal.
fn interrupt(mut terminal: Beside<'_>) -> Outcome {
    let mut seen = 0;
    terminal.wait_for_stdout("computes", &mut seen)?;
    terminal.write(b"\x03")?;
    terminal.wait_for_stdout("KeyboardInterrupt", &mut seen)?;
    terminal.finish()?.expect_code(130).map(drop)
}

/// The shim holds the terminal's other end, as runc's does.
pub(super) fn client_that_leaves_hangs_nothing_up(world: &World) -> Outcome {
    for runtime in [RUNC, OURS] {
        let script = "trap 'echo hung up; exit 7' HUP; echo ready; \
             while read -r line; do echo got $line; done";
        let container = shell(world, runtime, script);
        // A client that is ended on a terminal passes on the signal of that end: this one leaves by itself.
        container
            .run_detached_on_a_terminal()?
            .finish()?
            .expect_code(0)?;
        let pid = container.pid()?;
        let mut attached = container.attach_on_a_terminal()?;
        let mut attached_seen = 0;
        attached.write(b"again\r")?;
        attached.wait_for_stdout("got again", &mut attached_seen)?;
        if container.pid()? != pid || container.status()?.as_deref() != Some("RUNNING") {
            return Err(format!("{runtime}: it does not run on").into());
        }
        container.signal("SIGKILL")?;
        attached.finish()?;
        container.remove()?;
    }
    Ok(())
}
