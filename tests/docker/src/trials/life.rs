//! What Docker does to a container that runs.

use std::fs;

use wasm_interp_test_support::command::wait_for;
use wasm_interp_test_support::guests::PYTHON;
use wasm_interp_test_support::{Outcome, expect, expect_equal};

use super::containers::{python, same, shell};
use crate::engine::{DockerContainer, Engine, OURS};

const SLEEPS: &str = "echo ready; exec busybox sleep 3600";
const GUEST_SLEEPS: &str = "import time; print('ready'); time.sleep(3600)";

/// A container of each kind that runs under our runtime.
fn both(engine: &Engine) -> Outcome<[DockerContainer<'_>; 2]> {
    let containers = [shell(engine, OURS, SLEEPS), python(engine, GUEST_SLEEPS)];
    for container in &containers {
        container.detach()?;
        container.wait_for_logs("ready")?;
    }
    Ok(containers)
}

pub(super) fn stop_kill_and_restart_match_runc(engine: &Engine) -> Outcome {
    let scripts = [
        "trap 'echo bye; exit 4' TERM; echo ready; while :; do busybox sleep 0.1; done",
        "trap '' TERM; echo ready; while :; do busybox sleep 0.1; done",
    ];
    for script in scripts {
        same("stop and restart", |runtime| {
            let container = shell(engine, runtime, script);
            container.detach()?;
            container.wait_for_logs("ready")?;
            let mut answers = Vec::new();
            container.done(&["stop", "--time", "1"], &[])?;
            answers.push(container.state()?);
            container.done(&["start"], &[])?;
            wait_for("the second start", || {
                Ok((container.logs()?.matches("ready").count() == 2).then_some(()))
            })?;
            answers.push(container.state()?);
            container.done(&["restart", "--time", "1"], &[])?;
            wait_for("the third start", || {
                Ok((container.logs()?.matches("ready").count() == 3).then_some(()))
            })?;
            container.done(&["kill", "--signal", "KILL"], &[])?;
            container.wait_for_state("exited 137")?;
            answers.push(container.logs()?);
            let again = container.verb(&["kill"], &[])?;
            answers.push(format!(
                "{} {}",
                again.code,
                again.stderr.contains("is not running")
            ));
            answers.push(container.done(&["wait"], &[])?);
            Ok(answers)
        })?;
    }
    // A guest without a handler ends at once.
    let container = python(engine, GUEST_SLEEPS);
    container.detach()?;
    container.wait_for_logs("ready")?;
    container.done(&["stop"], &[])?;
    expect(container.state()?.as_str(), "exited 143")?;
    container.done(&["restart"], &[])?;
    wait_for("the second start", || {
        Ok((container.logs()?.matches("ready").count() == 2).then_some(()))
    })?;
    container.done(&["kill"], &[])?;
    container.wait_for_state("exited 137")
}

pub(super) fn logs_match_runc(engine: &Engine) -> Outcome {
    same("logs", |runtime| {
        let script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; \
                      echo bad >&2; printf last";
        let container = shell(engine, runtime, script);
        container.detach()?;
        container.wait_for_state("exited 0")?;
        let all = container.verb(&["logs"], &[])?.expect_code(0)?;
        let tail = container
            .verb(&["logs", "--tail", "2"], &[])?
            .expect_code(0)?;
        Ok(vec![
            all.stdout,
            all.stderr,
            // The two streams have no order between them.
            (tail.stdout.lines().count() + tail.stderr.lines().count()).to_string(),
        ])
    })?;
    let script =
        "import sys\nfor i in range(3000): print('line', i)\nprint('bad', file=sys.stderr)";
    let container = python(engine, script);
    container.detach()?;
    container.wait_for_state("exited 0")?;
    let all = container.verb(&["logs"], &[])?.expect_code(0)?;
    let lines: String = (0..3000).map(|number| format!("line {number}\n")).collect();
    expect_equal("logs of a guest", all.stdout.as_str(), lines.as_str())?;
    expect(all.stderr.as_str(), "bad\n")
}

/// What `docker top` says of a container's processes: their commands.
fn commands(container: &DockerContainer<'_>) -> Outcome<Vec<String>> {
    let listed = container.done(&["top"], &["-o", "pid,args"])?;
    let lines = listed.lines().skip(1);
    let words = lines.map(|line| {
        line.split_whitespace()
            .skip(1)
            .collect::<Vec<_>>()
            .join(" ")
    });
    Ok(words.collect())
}

pub(super) fn top_lists_the_processes(engine: &Engine) -> Outcome {
    same("top", |runtime| {
        let container = shell(engine, runtime, "busybox sleep 3600 & echo ready; wait");
        container.detach()?;
        container.wait_for_logs("ready")?;
        let mut all = commands(&container)?;
        all.sort();
        Ok(all)
    })?;
    let container = python(engine, GUEST_SLEEPS);
    container.detach()?;
    container.wait_for_logs("ready")?;
    let listed = commands(&container)?;
    expect(&listed.len(), &1)?;
    expect(&listed[0].starts_with("python -u -c"), &true)
}

pub(super) fn files_are_copied_in_and_out(engine: &Engine) -> Outcome {
    for container in both(engine)? {
        let folder = engine.trial_folder()?;
        fs::write(folder.join("in"), "of the host")?;
        let (from, to) = (folder.join("in"), folder.join("out"));
        let inside = format!("{}:/tmp/in", container.name);
        engine
            .docker(&["cp", &from.display().to_string(), &inside])?
            .expect_code(0)?;
        engine
            .docker(&["cp", &inside, &to.display().to_string()])?
            .expect_code(0)?;
        expect(fs::read_to_string(&to)?.as_str(), "of the host")?;
        // Also out of a container that has ended.
        container.done(&["kill"], &[])?;
        container.wait_for_state("exited 137")?;
        fs::remove_file(&to)?;
        engine
            .docker(&["cp", &inside, &to.display().to_string()])?
            .expect_code(0)?;
        expect(fs::read_to_string(&to)?.as_str(), "of the host")?;
    }
    // The program sees what was copied.
    let container = python(engine, GUEST_SLEEPS);
    container.detach()?;
    container.wait_for_logs("ready")?;
    let folder = engine.trial_folder()?;
    fs::write(folder.join("in"), "copied")?;
    let inside = format!("{}:/tmp/in", container.name);
    engine
        .docker(&["cp", &folder.join("in").display().to_string(), &inside])?
        .expect_code(0)?;
    container
        .verb(
            &["exec"],
            &["python", "-c", "print(open('/tmp/in').read())"],
        )?
        .expect_code(0)?
        .expect_stdout("copied")
        .map(drop)
}

pub(super) fn stats_have_figures(engine: &Engine) -> Outcome {
    let template = "{{.PIDs}}|{{.MemUsage}}|{{.CPUPerc}}|{{.BlockIO}}|{{.NetIO}}";
    let limited = ["--memory", "64m"];
    same("stats", |runtime| {
        let container =
            shell(engine, runtime, "busybox sleep 3600 & echo ready; wait").options(&limited);
        container.detach()?;
        container.wait_for_logs("ready")?;
        let stats = container.done(&["stats", "--no-stream", "--format", template], &[])?;
        let fields: Vec<_> = stats.trim().split('|').collect();
        expect(&fields.len(), &5)?;
        let [pids, memory, cpu, ..] = fields[..] else {
            return Err(format!("no figures: {stats}").into());
        };
        let used = memory.split(" / ").next().unwrap_or_default();
        Ok(vec![
            pids.to_owned(),
            format!("limit {}", memory.ends_with("/ 64MiB")),
            format!("used {}", used != "0B" && used != "--"),
            format!("cpu {}", cpu.ends_with('%') && cpu != "--"),
        ])
    })?;
    let container = python(engine, GUEST_SLEEPS).options(&limited);
    container.detach()?;
    container.wait_for_logs("ready")?;
    let stats = container.done(
        &[
            "stats",
            "--no-stream",
            "--format",
            "{{.PIDs}} {{.MemUsage}}",
        ],
        &[],
    )?;
    expect(&stats.starts_with("1 "), &true)?;
    expect(&stats.trim().ends_with("/ 64MiB"), &true)
}

pub(super) fn pause_matches_runc(engine: &Engine) -> Outcome {
    let answers = |container: &DockerContainer<'_>| -> Outcome<Vec<String>> {
        container.detach()?;
        container.wait_for_logs("ready")?;
        let mut answers = Vec::new();
        container.done(&["pause"], &[])?;
        answers.push(container.state()?);
        let exec = container.verb(&["exec"], &["sh", "-c", "true"])?;
        answers.push(format!(
            "{} {}",
            exec.code,
            exec.stderr.contains("is paused")
        ));
        answers.push(container.verb(&["pause"], &[])?.code.to_string());
        container.done(&["unpause"], &[])?;
        answers.push(container.state()?);
        container.done(&["pause"], &[])?;
        container.done(&["kill"], &[])?;
        container.wait_for_state("exited 137")?;
        Ok(answers)
    };
    same("pause", |runtime| answers(&shell(engine, runtime, SLEEPS)))?;
    let native = answers(&shell(engine, OURS, SLEEPS))?;
    let guest = answers(&python(engine, GUEST_SLEEPS))?;
    expect_equal("a guest that is paused", &guest, &native)
}

pub(super) fn update_matches_runc(engine: &Engine) -> Outcome {
    let limits = [
        "--memory",
        "64m",
        "--memory-swap",
        "64m",
        "--cpus",
        "0.5",
        "--pids-limit",
        "50",
    ];
    same("update", |runtime| {
        let container =
            shell(engine, runtime, SLEEPS).options(&["--memory", "32m", "--memory-swap", "32m"]);
        container.detach()?;
        container.wait_for_logs("ready")?;
        container.done(&[&["update"], &limits[..]].concat(), &[])?;
        let id = container.inspect("{{.Id}}")?;
        let mut values = Vec::new();
        for (controller, files) in [
            ("memory", ["memory.limit_in_bytes", "memory.max"]),
            ("cpu", ["cpu.cfs_quota_us", "cpu.max"]),
            ("pids", ["pids.max", "pids.max"]),
        ] {
            let folder = engine.cgroup(controller, &id);
            let found = files
                .iter()
                .find_map(|file| fs::read_to_string(folder.join(file)).ok());
            values.push(found.ok_or_else(|| format!("no limit in {}", folder.display()))?);
        }
        Ok(values)
    })?;
    // A guest's own ceiling follows.
    let script = "import os, time\nprint('ready')\n\
                  while not os.path.exists('/tmp/go'): time.sleep(0.05)\n\
                  try: b = bytearray(96 << 20); print('enough')\n\
                  except MemoryError: print('MemoryError')";
    for (limit, printed) in [("64m", "MemoryError"), ("256m", "enough")] {
        let container =
            python(engine, script).options(&["--memory", "128m", "--memory-swap", "128m"]);
        container.detach()?;
        container.wait_for_logs("ready")?;
        container.done(&["update", "--memory", limit, "--memory-swap", limit], &[])?;
        container.done(&["exec"], &["python", "-c", "open('/tmp/go', 'w')"])?;
        container.wait_for_logs(printed)?;
        container.wait_for_state("exited 0")?;
    }
    Ok(())
}

pub(super) fn restart_policies_match_runc(engine: &Engine) -> Outcome {
    let count = "{{.RestartCount}}";
    same("restart policies", |runtime| {
        let container =
            shell(engine, runtime, "echo run; exit 3").options(&["--restart", "on-failure:2"]);
        container.detach()?;
        wait_for("the last restart", || {
            let ended = container.inspect(count)? == "2" && container.state()? == "exited 3";
            Ok(ended.then_some(()))
        })?;
        Ok(vec![container.logs()?])
    })?;
    for container in [
        shell(engine, OURS, SLEEPS).options(&["--restart", "always"]),
        python(engine, GUEST_SLEEPS).options(&["--restart", "always"]),
    ] {
        container.detach()?;
        container.wait_for_logs("ready")?;
        let pid: i32 = container.inspect("{{.State.Pid}}")?.parse()?;
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGKILL,
        )?;
        wait_for("the restart", || {
            let again =
                container.inspect(count)? == "1" && container.logs()?.matches("ready").count() == 2;
            Ok(again.then_some(()))
        })?;
        container.wait_for_state("running 0")?;
        // A stop is not undone.
        container.done(&["stop", "--time", "0"], &[])?;
        expect(container.inspect("{{.State.Status}}")?.as_str(), "exited")?;
    }
    Ok(())
}

pub(super) fn health_is_checked(engine: &Engine) -> Outcome {
    let status = "{{.State.Health.Status}}";
    let wait_for_health = |container: &DockerContainer<'_>, health: &str| {
        wait_for(&format!("{} to be {health}", container.name), || {
            Ok((container.inspect(status)? == health).then_some(()))
        })
    };
    let often = [
        "--health-interval",
        "200ms",
        "--health-retries",
        "2",
        "--health-timeout",
        "20s",
    ];
    same("health", |runtime| {
        let check = ["--health-cmd", "echo checked; [ -e /tmp/well ]"];
        let container = shell(engine, runtime, SLEEPS).options(&[&check[..], &often].concat());
        container.detach()?;
        wait_for_health(&container, "unhealthy")?;
        let log = container.inspect("{{(index .State.Health.Log 0).Output}}")?;
        container.done(&["exec"], &["sh", "-c", "echo >/tmp/well"])?;
        wait_for_health(&container, "healthy")?;
        Ok(vec![log, container.state()?])
    })?;
    // An image says how a guest is checked: it has no shell.
    let base = python(engine, "print('base')");
    base.run()?.expect_code(0)?;
    let check = r#"HEALTHCHECK CMD ["python", "-c", "open('/tmp/well')"]"#;
    let image = format!("localhost/test/{}:1", base.name);
    engine
        .docker(&["commit", "--change", check, &base.name, &image])?
        .expect_code(0)?;
    let container = engine
        .container(OURS, PYTHON)
        .image(&image)
        .options(&often)
        .arguments(&["python", "-u", "-c", GUEST_SLEEPS]);
    container.detach()?;
    wait_for_health(&container, "unhealthy")?;
    container.done(&["exec"], &["python", "-c", "open('/tmp/well', 'w')"])?;
    wait_for_health(&container, "healthy")
}
