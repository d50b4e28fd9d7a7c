//! `docker run`.

use wasm_interp_test_support::guests::{NATIVE, PYTHON};
use wasm_interp_test_support::{Outcome, expect};

use super::containers::{python, same, shell};
use crate::engine::{Engine, NAMED, OURS};

/// What Docker says itself ends with a line about its help.
fn said(text: &str) -> String {
    text.lines()
        .filter(|line| !line.contains("See 'docker run --help'"))
        .collect::<Vec<_>>()
        .join("\n")
}

pub(super) fn output_exit_codes_and_options_match_runc(engine: &Engine) -> Outcome {
    let see = "busybox grep -E '^(Uid|Gid|Groups|Umask|SigBlk|SigCgt|Cap...|NoNewPrivs|Seccomp):' \
               /proc/self/status; busybox env | busybox sort; pwd; ulimit -n; busybox hostname; \
               busybox awk '{ print $5, $(NF-2) }' /proc/self/mountinfo | busybox sort; \
               busybox cat /etc/hosts; busybox ls /proc/self/fd; busybox ip link | busybox wc -l; \
               busybox cat /proc/1/cmdline; busybox ls /dev; touch /tmp/a /a; \
               busybox id; busybox df /dev/shm | busybox tail -n 1";
    let folder = engine.trial_folder()?;
    std::fs::write(folder.join("file"), "of the host\n")?;
    let volume = format!("{}:/volume:ro", folder.display());
    let cases: [(&[&str], &str); 9] = [
        (&[], "echo out; echo err >&2; exit 3"),
        (&[], "kill -TERM $$"),
        (&["--hostname", "fixed"], see),
        (
            &["--hostname", "fixed", "--user", "1000:1000", "--env", "A=b"],
            see,
        ),
        (
            &["--hostname", "fixed", "--privileged"],
            "busybox grep Cap /proc/self/status",
        ),
        (
            &[
                "--hostname",
                "fixed",
                "--read-only",
                "--workdir",
                "/srv/new",
            ],
            see,
        ),
        (
            &[
                "--hostname",
                "fixed",
                "--cap-drop",
                "ALL",
                "--security-opt",
                "no-new-privileges",
            ],
            see,
        ),
        (
            &["--volume", &volume],
            "busybox cat /volume/file; echo x >/volume/file",
        ),
        (
            &["--ulimit", "nofile=100:100"],
            "ulimit -n; busybox cat /proc/1/comm",
        ),
    ];
    for (options, script) in cases {
        same(&format!("with {options:?}"), |runtime| {
            let container = shell(engine, runtime, script).options(options);
            let finished = container.run()?;
            let name = container.name.clone();
            let id = container.inspect("{{.Id}}")?;
            let all = format!("{}{}", finished.stdout, said(&finished.stderr));
            let all = all.replace(&id, "ID").replace(&name, "NAME");
            let mut lines: Vec<_> = all.lines().map(str::to_owned).collect();
            lines.push(finished.code.to_string());
            lines.push(container.state()?);
            Ok(lines)
        })?;
    }
    Ok(())
}

/// Docker makes these of words in the error.
pub(super) fn programs_that_cannot_run_are_127_and_126(engine: &Engine) -> Outcome {
    for (program, words) in [
        ("nowhere", "executable file not found in $PATH"),
        ("/nowhere", "no such file or directory"),
        ("/etc", ""),
        ("/etc/hosts", "permission denied"),
    ] {
        same(program, |runtime| {
            let container = engine.container(runtime, NATIVE).arguments(&[program]);
            let finished = container.run()?;
            let told = finished.stderr.contains(words);
            Ok(vec![
                finished.code.to_string(),
                format!("{words}: {told}"),
                container.state()?,
            ])
        })?;
    }
    Ok(())
}

pub(super) fn guest_has_what_it_is_told(engine: &Engine) -> Outcome {
    let folder = engine.trial_folder()?;
    std::fs::write(folder.join("file"), "of the host")?;
    let volume = format!("{}:/volume", folder.display());
    let script = "import os, sys\n\
                  of = [open(file).read() for file in ('/volume/file', '/etc/hostname')]\n\
                  print(os.getcwd(), os.environ['A'], *of)\n\
                  open('/volume/made', 'w').write('by the guest')\n\
                  print('bad', file=sys.stderr)\nsys.exit(9)";
    let container = python(engine, script).options(&[
        "--env",
        "A=b",
        "--volume",
        &volume,
        "--workdir",
        "/tmp",
        "--hostname",
        "fixed",
    ]);
    container
        .run()?
        .expect_code(9)?
        .expect_stdout("/tmp b of the host fixed\n")?
        .expect_stderr(&["bad"])?;
    let made = std::fs::read_to_string(folder.join("made"))?;
    expect(made.as_str(), "by the guest")?;
    expect(container.state()?.as_str(), "exited 9")
}

pub(super) fn runtime_can_have_a_name_of_the_daemons(engine: &Engine) -> Outcome {
    engine
        .container(NAMED, PYTHON)
        .arguments(&["python", "-c", "print('named')"])
        .run()?
        .expect_code(0)?
        .expect_stdout("named\n")
        .map(drop)
}

/// They say what a guest is granted.
pub(super) fn annotations_reach_the_runtime(engine: &Engine) -> Outcome {
    python(engine, "print('not reached')")
        .options(&["--annotation", "wasm-interp.io/listen=no rule"])
        .run()?
        .expect_failure()?
        .expect_stderr(&["wasm-interp.io/listen"])
        .map(drop)
}

pub(super) fn standard_input_is_read_to_its_end(engine: &Engine) -> Outcome {
    same("standard input", |runtime| {
        let container = shell(engine, runtime, "busybox cat; echo end");
        let finished = container.run_with_stdin(b"one\ntwo")?;
        Ok(vec![finished.stdout, finished.code.to_string()])
    })?;
    let script = "import sys; print(sys.stdin.read().upper())";
    python(engine, script)
        .run_with_stdin(b"one\ntwo")?
        .expect_code(0)?
        .expect_stdout("ONE\nTWO\n")
        .map(drop)
}

pub(super) fn terminal_matches_runc(engine: &Engine) -> Outcome {
    same("a terminal", |runtime| {
        let script = "[ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo a terminal; read line; \
                      echo got $line; exit 5";
        let container = shell(engine, runtime, script);
        let mut running = container.run_on_a_terminal()?;
        let mut seen = 0;
        running.wait_for_stdout("a terminal", &mut seen)?;
        running.write(b"hello\n")?;
        running.wait_for_stdout("got hello", &mut seen)?;
        let finished = running.finish()?;
        let lines = finished
            .stdout
            .lines()
            .filter(|line| !line.trim().is_empty());
        let mut lines: Vec<_> = lines.map(|line| line.trim().to_owned()).collect();
        lines.push(finished.code.to_string());
        Ok(lines)
    })
}

pub(super) fn python_is_usable_by_hand(engine: &Engine) -> Outcome {
    let container = engine.container(OURS, PYTHON).arguments(&["python"]);
    let mut running = container.run_on_a_terminal()?;
    let mut seen = 0;
    running.wait_for_stdout(">>> ", &mut seen)?;
    running.write(b"print(6 * 7)\n")?;
    running.wait_for_stdout("42", &mut seen)?;
    running.wait_for_stdout(">>> ", &mut seen)?;
    running.write(b"1 / 0\n")?;
    running.wait_for_stdout("ZeroDivisionError", &mut seen)?;
    running.wait_for_stdout(">>> ", &mut seen)?;
    // End of file.
    running.write(b"\x04")?;
    running.finish()?.expect_code(0).map(drop)
}
