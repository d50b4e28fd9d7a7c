//! `docker exec`.

use std::path::Path;

use wasm_interp_test_support::command::wait_for;
use wasm_interp_test_support::{Outcome, expect};

use super::containers::{python, same, shell};
use crate::engine::Engine;

const SLEEPS: &str = "echo ready; exec busybox sleep 3600";
const GUEST_SLEEPS: &str = "import time; open('/tmp/made', 'w').write('first'); print('ready')\n\
                            time.sleep(3600)";

pub(super) fn answers_match_runc(engine: &Engine) -> Outcome {
    let see = "busybox grep -E '^(Uid|Gid|Groups|CapEff|CapBnd|Seccomp|NoNewPrivs):' \
               /proc/self/status; pwd; busybox env | busybox sort";
    let cases: [(&[&str], &[&str]); 9] = [
        (&[], &["sh", "-c", "echo out; echo err >&2; exit 3"]),
        (&["--user", "1000:1000"], &["sh", "-c", see]),
        (&["--workdir", "/tmp", "--env", "A=b"], &["sh", "-c", see]),
        (&["--privileged"], &["sh", "-c", see]),
        (&[], &["sh", "-c", "kill -KILL $$"]),
        (&[], &["nowhere"]),
        (&[], &["/nowhere"]),
        (&[], &["/etc"]),
        (&["--workdir", "/nowhere"], &["sh", "-c", "pwd"]),
    ];
    same("execs", |runtime| {
        let container = shell(engine, runtime, SLEEPS).options(&["--hostname", "fixed"]);
        container.detach()?;
        container.wait_for_logs("ready")?;
        let mut answers = Vec::new();
        for (options, command) in cases {
            let verb = [&["exec"], options].concat();
            let finished = container.verb(&verb, command)?;
            // Docker prints there why it could not start, in the words of each runtime.
            let printed = finished
                .stdout
                .split("container process: ")
                .next()
                .unwrap_or_default();
            answers.push(format!(
                "{options:?} {command:?}: {} {printed}",
                finished.code
            ));
        }
        // -d: nothing waits for it.
        let made = container.verb(&["exec", "--detach"], &["sh", "-c", "echo x >/tmp/made"])?;
        answers.push(made.code.to_string());
        wait_for("what a detached exec makes", || {
            let made = container.verb(&["exec"], &["sh", "-c", "[ -e /tmp/made ]"])?;
            Ok((made.code == 0).then_some(()))
        })?;
        answers.push(container.state()?);
        container.done(&["stop", "--time", "0"], &[])?;
        let late = container.verb(&["exec"], &["sh", "-c", "true"])?;
        answers.push(format!(
            "{} {}",
            late.code,
            late.stderr.contains("is not running")
        ));
        Ok(answers)
    })
}

pub(super) fn python_runs_beside_the_script(engine: &Engine) -> Outcome {
    let container = python(engine, GUEST_SLEEPS);
    container.detach()?;
    container.wait_for_logs("ready")?;
    let script = "import os, sys\n\
                  print(open('/tmp/made').read(), os.getcwd(), os.environ['A'])\nsys.exit(7)";
    container
        .verb(
            &["exec", "--workdir", "/tmp", "--env", "A=b"],
            &["python", "-c", script],
        )?
        .expect_code(7)?
        .expect_stdout("first /tmp b")?;
    container
        .verb(&["exec"], &["bash"])?
        // As under runc: Docker 26 prints the reason to standard output, and makes no 127 of it.
        .expect_code(126)?
        .expect_stdout("executable file not found in $PATH")?;
    container.done(
        &["exec", "--detach"],
        &["python", "-c", "open('/tmp/late', 'w')"],
    )?;
    wait_for("what a detached exec makes", || {
        let check = "import os, sys; sys.exit(not os.path.exists('/tmp/late'))";
        let made = container.verb(&["exec"], &["python", "-c", check])?;
        Ok((made.code == 0).then_some(()))
    })?;
    expect(container.state()?.as_str(), "running 0")?;
    let process = Path::new("/proc").join(container.inspect("{{.State.Pid}}")?);
    expect(&process.exists(), &true)
}

pub(super) fn terminal_of_an_exec_is_usable(engine: &Engine) -> Outcome {
    same("the terminal of an exec", |runtime| {
        let container = shell(engine, runtime, SLEEPS);
        container.detach()?;
        container.wait_for_logs("ready")?;
        let script = "[ -t 0 ] && echo a terminal; read line; echo got $line; exit 5";
        let mut running = container.exec_on_a_terminal(&["sh", "-c", script])?;
        let mut seen = 0;
        running.wait_for_stdout("a terminal", &mut seen)?;
        running.write(b"hello\n")?;
        running.wait_for_stdout("got hello", &mut seen)?;
        Ok(vec![running.finish()?.code.to_string()])
    })?;
    let container = python(engine, GUEST_SLEEPS);
    container.detach()?;
    container.wait_for_logs("ready")?;
    let mut running = container.exec_on_a_terminal(&["python"])?;
    let mut seen = 0;
    running.wait_for_stdout(">>> ", &mut seen)?;
    running.write(b"open('/tmp/made').read()\n")?;
    running.wait_for_stdout("'first'", &mut seen)?;
    running.wait_for_stdout(">>> ", &mut seen)?;
    running.write(b"\x04")?;
    running.finish()?.expect_code(0).map(drop)
}
