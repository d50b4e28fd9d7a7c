//! Native programs under our runtime: sidecars and init containers of a pod are. Whatever can be,
//! is held to what runc answers for the same container.

use std::fs;

use serde_json::Value;

use super::lifecycle;
use crate::Outcome;
use crate::command::{Running, wait_for};
use crate::guests::{NATIVE, NATIVE_AS_USER, PYTHON};
use crate::world::{CtrContainer, OURS, RUNC, World};

/// Prints `ready`, and has a process beside itself.
const IDLE: &str = "busybox sleep 3600 & echo ready; wait";

pub(super) fn shell<'world>(
    world: &'world World,
    runtime: &'static str,
    script: &str,
) -> CtrContainer<'world> {
    world
        .container(NATIVE)
        .runtime(runtime)
        .arguments(&["sh", "-c", script])
}

/// Fails unless ours gives what runc gives, and says what only one gives.
pub(super) fn same<T: PartialEq + std::fmt::Debug>(
    what: &str,
    mut under: impl FnMut(&'static str) -> Outcome<Vec<T>>,
) -> Outcome {
    let (mut runc, ours) = (under(RUNC)?, under(OURS)?);
    if runc == ours {
        return Ok(());
    }
    // runc's shim has lost the end of an output now and then: what it says the second time counts.
    runc = under(RUNC)?;
    if runc == ours {
        return Ok(());
    }
    let only = |one: &[T], other: &[T]| {
        let lines: Vec<String> = one
            .iter()
            .filter(|line| !other.contains(line))
            .map(|line| format!("{line:?}"))
            .collect();
        lines.join("\n  ")
    };
    // The first that differs, too: the same lines may come in another order.
    let at = runc
        .iter()
        .zip(&ours)
        .take_while(|(one, other)| one == other);
    let at = at.count();
    Err(format!(
        "{what}: only under runc\n  {}\nonly under ours\n  {}\n\
         number {at}: {:?} under runc, {:?} under ours",
        only(&runc, &ours),
        only(&ours, &runc),
        runc.get(at),
        ours.get(at)
    )
    .into())
}

pub(super) fn the_lifecycle_matches_runc(world: &World) -> Outcome {
    same("answers", |runtime| {
        lifecycle::life(&shell(
            world,
            runtime,
            "echo ready; exec busybox sleep 3600",
        ))
    })
}

/// All that a program can find out of its process, its mounts and its devices. Of the signals that
/// it ignores runc passes on what it was started with; ours are the runner's tests' business.
pub(super) fn process_and_files_match_runc(world: &World) -> Outcome {
    let script = r#"
        busybox grep -E '^(Uid|Gid|Groups|Umask|Sig(Blk|Cgt)|Cap...|NoNewPrivs|Seccomp):' /proc/self/status
        busybox tr '\0' '\n' </proc/1/environ
        pwd; ulimit -a; busybox hostname
        busybox cat /proc/1/oom_score_adj /proc/1/cmdline
        echo; busybox awk '{ print $5, $6, $(NF-2) }' /proc/self/mountinfo | busybox sort
        busybox stat -c '%n %a %u %g %t %T %N' /dev/* | busybox grep -v core
        busybox ls /proc/self/fd /proc/sys /proc/acpi /sys /sys/fs/cgroup
        for path in /proc/keys /proc/kcore /proc/timer_list; do busybox head -c1 $path | busybox wc -c; done
        echo x >/proc/sys/kernel/domainname; echo x >/proc/sysrq-trigger; echo $?
        busybox mknod /tmp/loop b 7 0; busybox dd if=/tmp/loop count=0; busybox id
        busybox ip link | busybox grep -c lo
    "#;
    for options in [
        &[][..],
        &["--user", "1000:1000", "--cwd", "/srv/new"],
        &["--read-only", "--seccomp", "--allow-new-privs"],
        &["--cap-add", "CAP_SYS_TIME", "--cap-drop", "CAP_MKNOD"],
        &["--device", "/dev/fuse", "--rlimit-nofile", "100"],
    ] {
        // Not every ctr knows every option.
        let known = world.daemon().ctr(&["run", "--help"])?.stdout;
        if options
            .iter()
            .any(|option| option.starts_with("--") && !known.contains(option))
        {
            continue;
        }
        same(&format!("with {options:?}"), |runtime| {
            let finished = shell(world, runtime, script).options(options).run()?;
            // What ctr itself has to say begins with the time.
            let said = finished
                .stderr
                .lines()
                .filter(|line| !line.starts_with("time="));
            let lines = finished.stdout.lines().chain(said);
            Ok(lines.map(str::to_owned).collect::<Vec<_>>())
        })?;
    }
    Ok(())
}

pub(super) fn exit_codes_and_signals_match_runc(world: &World) -> Outcome {
    for code in ["0", "3", "125", "255"] {
        same(&format!("exit {code}"), |runtime| {
            Ok(vec![
                shell(world, runtime, &format!("exit {code}")).run()?.code,
            ])
        })?;
    }
    // Process 1 of a pid namespace has no default actions: TERM alone does not end it.
    same("signals", |runtime| {
        let container = shell(
            world,
            runtime,
            "trap 'echo hup' HUP; trap 'exit 9' USR1; echo ready; \
         while :; do busybox sleep 0.1; done",
        );
        container.detach()?;
        container.wait_for_output("ready")?;
        for signal in ["SIGTERM", "SIGHUP"] {
            container.signal(signal)?;
        }
        container.wait_for_output("hup")?;
        container.signal("SIGUSR1")?;
        container.wait_for_status("STOPPED")?;
        let code = container.delete()?;
        container.remove()?;
        Ok(vec![code])
    })
}

pub(super) fn a_missing_program_fails_as_under_runc(world: &World) -> Outcome {
    for (runtime, hint) in [(RUNC, ""), (OURS, "name a program")] {
        world
            .container(NATIVE)
            .runtime(runtime)
            .arguments(&["nowhere"])
            .run()?
            .expect_failure()?
            .expect_stderr(&[
                r#"exec: "nowhere": executable file not found in $path"#,
                hint,
            ])?;
    }
    Ok(())
}

/// The runtime spec: a capability that cannot be granted is a warning, not an error.
pub(super) fn an_unknown_capability_is_one_warning(world: &World) -> Outcome {
    const NAME: &str = "CAP_FROM_THE_FUTURE";
    let options = ["--cap-add", NAME];
    same("capabilities", |runtime| {
        let script = "busybox grep ^Cap /proc/self/status";
        let container = shell(world, runtime, script).options(&options);
        let finished = container.run()?.expect_code(0)?;
        Ok(finished.stdout.lines().map(str::to_owned).collect())
    })?;
    let program = shell(world, OURS, "echo there").options(&options);
    let script = world
        .container(PYTHON)
        .arguments(&["python", "-c", "print('there')"])
        .options(&options);
    for container in [program, script] {
        let id = container.id.clone();
        container.run()?.expect_code(0)?.expect_stdout("there\n")?;
        let warnings = world.wait_for_log("a warning", |log| {
            let mine = format!("id=\"{id}\"");
            let lines = log.lines();
            let count = lines
                .filter(|line| line.contains(NAME) && line.contains(&mine))
                .count();
            (count > 0).then_some(count)
        })?;
        if warnings != 1 {
            return Err(format!("{warnings} warnings of {NAME} for {id}").into());
        }
    }
    Ok(())
}

pub(super) fn stdio_and_processes_work(world: &World) -> Outcome {
    // A user other than root may open its own output by name.
    let script = "busybox cat; echo done >/dev/stderr; echo out >/dev/stdout";
    world
        .container(NATIVE_AS_USER)
        .arguments(&["sh", "-c", script])
        .run_with_stdin(b"hello\n")?
        .expect_code(0)?
        .expect_stdout("hello\nout\n")?
        .expect_stderr(&["done"])?;

    let container = shell(world, OURS, IDLE);
    container.detach()?;
    container.wait_for_output("ready")?;
    let pid = container.pid()?;
    let listed = container.task(&["ps"], &[])?.expect_code(0)?.stdout;
    if listed.lines().count() != 3 {
        return Err(format!("expected a header and two processes:\n{listed}").into());
    }
    container.task(&["metrics"], &[])?.expect_code(0)?;
    let mut open: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd"))?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<std::io::Result<_>>()?;
    open.sort();
    if open != ["0", "1", "2", "10"] && open != ["0", "1", "2"] {
        return Err(format!("it has descriptors {open:?}").into());
    }
    container
        .task(&["kill", "--all", "--signal", "SIGKILL"], &[])?
        .expect_code(0)?;
    container.wait_for_status("STOPPED")?;
    container.delete_expecting(137)?;
    container.remove()
}

/// While it runs and at its end; CRI takes the reason of the exit from the event before it.
pub(super) fn the_out_of_memory_event_precedes_the_exit(world: &World) -> Outcome {
    let listener = Running::start(world.daemon().ctr_command(&["events"]), None)?;
    lifecycle::wait_for_listener(world, &listener, NATIVE)?;
    let hungry = "x=x; while :; do x=$x$x; done";
    let folder = world.folder("go-on")?;
    // The second kill comes after the event of the first: of two at once there is one event.
    let script = format!(
        "(echo 1000 >/proc/self/oom_score_adj; sh -c '{hungry}'); echo ready; \
         until [ -e /data/told ]; do busybox sleep 0.05; done; {hungry}"
    );
    let container = shell(world, OURS, &script)
        .options(&["--memory-limit", "33554432"])
        .mount(&folder, "/data", "rbind:ro");
    container.detach()?;
    container.wait_for_output("ready")?;
    let seen =
        || -> Outcome<Vec<String>> { Ok(lifecycle::topics(&listener.stdout()?, &container.id)) };
    wait_for("the event of the first kill", || {
        Ok((seen()?.len() >= 3).then_some(()))
    })?;
    fs::write(folder.join("told"), "")?;
    container.wait_for_status("STOPPED")?;
    container.delete_expecting(137)?;
    let expected = ["create", "start", "oom", "exit", "delete"].map(|e| format!("/tasks/{e}"));
    wait_for("the events of its life", || {
        Ok((seen()?.last() == expected.last()).then_some(()))
    })?;
    container.remove()?;
    let topics = seen()?;
    listener.end()?;
    // The kernel may kill more than one process at a time.
    let kills = topics.iter().filter(|topic| **topic == expected[2]).count();
    let mut order = topics.clone();
    order.dedup();
    if order != expected || kills < 2 {
        return Err(format!("events came as {topics:?}").into());
    }
    Ok(())
}

pub(super) fn the_policy_can_forbid_native_programs(world: &World) -> Outcome {
    let policy = world.daemon().policy();
    fs::write(&policy, r#"{ "native": "deny" }"#)?;
    let refused = shell(world, OURS, "exit 0").run();
    fs::remove_file(&policy)?;
    refused?.expect_failure()?.expect_stderr(&[
        "/bin/sh",
        "native: deny",
        "failed precondition",
    ])?;
    shell(world, OURS, "exit 0").run()?.expect_code(0)?;
    Ok(())
}

pub(super) fn the_command_line_runs_native_programs(world: &World) -> Outcome {
    let folder = world.folder("rootfs")?;
    fs::create_dir(folder.join("bin"))?;
    for name in ["busybox", "sh"] {
        fs::copy(world.busybox(), folder.join("bin").join(name))?;
    }
    let rootfs = folder.display().to_string();
    let script = ["--", "sh", "-c", "busybox head -n1 /proc/1/status; exit 7"];
    let wasm_interp = |verb: &[&str]| world.wasm_interp(&[verb, &[&rootfs], &script].concat());
    wasm_interp(&["run"])?
        .expect_code(7)?
        .expect_stdout("Name:\tsh")?;
    wasm_interp(&["inspect"])?
        .expect_code(0)?
        .expect_stdout("/bin/sh")?
        .expect_stdout("a native program")?;
    let told = wasm_interp(&["inspect", "--json"])?.expect_code(0)?;
    let told: Value = serde_json::from_str(&told.stdout)?;
    if told["native"]["interpreter"]["path"] != "/bin/sh" {
        return Err(format!("inspect says {told}").into());
    }
    Ok(())
}
