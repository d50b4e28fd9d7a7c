//! Terminals at run: `ctr run --tty` on a terminal on which the trial types.

use containerd_shim_protos::api::{ResizePtyRequest, StateRequest, StateResponse};
use containerd_shim_protos::protobuf::Message as _;

use super::native::{same, shell};
use crate::Outcome;
use crate::command::wait_for;
use crate::guests::PYTHON;
use crate::world::{OURS, RUNC, World};

/// What a program finds out of its terminal, and then a line that it reads.
const LOOK: &str = "busybox tty; busybox stat -c '%F %t,%T %a' $(busybox tty) /dev/console; \
     [ -t 2 ] && echo stderr too; echo by name >/dev/tty; trap 'echo told' INT; echo ready; \
     read -r line; echo got $line; \
     until [ \"$(busybox stty size)\" = '37 91' ]; do busybox sleep 0.05; done; \
     busybox stty size; cat; echo end";

pub(super) fn native_program_on_a_terminal_matches_runc(world: &World) -> Outcome {
    same("what a terminal shows", |runtime| {
        let container = shell(world, runtime, LOOK);
        let mut terminal = container.run_beside_on_a_terminal()?;
        let mut seen = 0;
        terminal.wait_for_stdout("ready", &mut seen)?;
        let resize = ResizePtyRequest {
            id: container.id.clone(),
            width: 91,
            height: 37,
            ..Default::default()
        };
        let request = StateRequest {
            id: container.id.clone(),
            ..Default::default()
        };
        let state = container.shim_api("State", &request)??;
        let state = StateResponse::parse_from_bytes(&state)?;
        if !state.terminal || !state.stderr.is_empty() {
            return Err(format!("{runtime}: {state}").into());
        }
        terminal.write(b"a line\r")?;
        terminal.wait_for_stdout("got a line", &mut seen)?;
        // ctr sets a size of its own once it has started the container, which may come later than this.
        wait_for("the size that was set", || {
            container.shim_api("ResizePty", &resize)??;
            let shown = terminal.stdout()?;
            Ok(shown.contains("37 91").then_some(()))
        })?;
        terminal.wait_for_stdout("37 91", &mut seen)?;
        terminal.write(b"copied\r")?;
        terminal.wait_for_stdout("copied", &mut seen)?;
        // ctrl-D ends what cat reads.
        terminal.write(b"\x04")?;
        terminal.wait_for_stdout("end", &mut seen)?;
        let finished = terminal.finish()?.expect_code(0)?;
        Ok(vec![finished.stdout])
    })
}

/// As a person would: a block of several lines, an exception, the end by ctrl-D, and by ctrl-C.
pub(super) fn python_is_usable_by_hand(world: &World) -> Outcome {
    let container = world.container(PYTHON).arguments(&["python"]);
    let mut terminal = container.run_beside_on_a_terminal()?;
    let mut seen = 0;
    terminal.wait_for_stdout(">>> ", &mut seen)?;
    for (typed, answer) in [
        ("6 * 7", "42"),
        ("def twice(x):", "... "),
        ("    return 2 * x", "... "),
        ("", ">>> "),
        ("twice('ab')", "'abab'"),
        ("1 / 0", "ZeroDivisionError"),
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
    terminal.wait_for_stdout(">>> ", &mut seen)?;
    terminal.write(b"\x04")?;
    terminal.finish()?.expect_code(0)?;

    let container = world.container(PYTHON).arguments(&[
        "python",
        "-c",
        "print('ready', flush=True)\nwhile True: pass",
    ]);
    let mut terminal = container.run_beside_on_a_terminal()?;
    let mut seen = 0;
    terminal.wait_for_stdout("ready", &mut seen)?;
    terminal.write(b"\x03")?;
    let finished = terminal.finish()?;
    // 130 by the signal, or 1 by a KeyboardInterrupt where the interpreter has signals.
    if [1, 130].contains(&finished.code) {
        return Ok(());
    }
    Err(format!("ctrl-C does not end it: {finished}").into())
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
