//! C programs of the SDK, and a Rust program. Each is compiled for Wasm and natively, runs under our runtime and under runc, and
//! has to print the same.

use std::path::Path;

use crate::Outcome;
use crate::command::wait_for;
use crate::guests::{C_PROGRAMS, POSIX, ZONES};
use crate::lines::difference;
use crate::world::{CtrContainer, RUNC, World};

/// Time zones that need no file.
const RULES: &[&str] = &[
    "JST-9",
    "<+0330>-3:30",
    "CET-1CEST,M3.5.0,M10.5.0/3",
    "AEST-10AEDT,M10.1.0,M4.1.0/3",
    "XXX4YYY,J60/0,300/25",
];

pub(super) fn guest<'world>(
    world: &'world World,
    name: &str,
    arguments: &[&str],
) -> CtrContainer<'world> {
    let program = format!("/wasm/{name}.wasm");
    world
        .container(C_PROGRAMS)
        .arguments(&[&[program.as_str()], arguments].concat())
}

pub(super) fn native<'world>(
    world: &'world World,
    name: &str,
    arguments: &[&str],
) -> CtrContainer<'world> {
    let program = format!("/native/{name}");
    world
        .container(C_PROGRAMS)
        .runtime(RUNC)
        .arguments(&[&[program.as_str()], arguments].concat())
}

/// Runs a program both ways, each with a folder of its own at `/data`, and compares what they print.
pub(super) fn same(world: &World, name: &str, arguments: &[&str], options: &[&str]) -> Outcome {
    same_but_for(world, name, arguments, options, ("", ""))
}

/// The same, where the guest prints the first text instead of the second.
fn same_but_for(
    world: &World,
    name: &str,
    arguments: &[&str],
    options: &[&str],
    (other, usual): (&str, &str),
) -> Outcome {
    let print = |container: CtrContainer<'_>| -> Outcome<String> {
        let folder = world.folder("data")?;
        let finished = container
            .options(options)
            .mount(&folder, "/data", "rbind:rw")
            .run()?;
        Ok(finished.expect_code(0)?.stdout)
    };
    let mut expected = print(native(world, name, arguments))?;
    let mut printed = print(guest(world, name, arguments))?;
    if !other.is_empty() {
        printed = printed.replace(other, usual);
    }
    // Of a native program under containerd 1.7 and its shim for runc, the last line was missing once.
    if printed.len() > expected.len() && printed.starts_with(&expected) {
        expected = print(native(world, name, arguments))?;
    }
    match difference(
        &format!("{name} {arguments:?} {options:?}"),
        &printed,
        &expected,
    ) {
        None => Ok(()),
        Some(difference) => Err(difference.into()),
    }
}

/// [`same`] as another user, where `ctr` has the option.
fn same_as_user(world: &World, name: &str, arguments: &[&str], options: &[&str]) -> Outcome {
    match as_user(world, options)? {
        Some(options) => same(world, name, arguments, &options),
        None => Ok(()),
    }
}

/// The options with another user, where `ctr` has the option for it.
fn as_user<'a>(world: &World, options: &[&'a str]) -> Outcome<Option<Vec<&'a str>>> {
    let options = [options, &["--user", "1000:1000"]].concat();
    Ok(world.ctr_has_user_option()?.then_some(options))
}

pub(super) fn attributes_of_files_are_the_kernels(world: &World) -> Outcome {
    same(world, "attributes", &["/data"], &[])?;
    same_as_user(world, "attributes", &["/data"], &[])?;
    // On the container's own file system.
    same(world, "attributes", &["/tmp"], &[])
}

pub(super) fn set_id_bits_are_refused(world: &World) -> Outcome {
    let folder = world.folder("data")?;
    guest(world, "attributes", &["/data", "set-id"])
        .mount(&folder, "/data", "rbind:rw")
        .run()?
        .expect_code(0)?
        .expect_stdout(
            "folder: mode 40755 uid 0 gid 0 nlink 2 size 0\n\
             chmod(\"file\", 04755): EPERM\n\
             chmod(\"file\", 02755): EPERM\n\
             chmod(\"folder\", 02755): EPERM\n\
             fchmod(fd, 06755): EPERM\n\
             open(\"new\", O_CREAT | O_WRONLY, 04755): EPERM\n\
             access(\"new\", F_OK): ENOENT\n\
             mkfifo(\"new\", 02644): EPERM\n\
             access(\"new\", F_OK): ENOENT\n\
             chmod(\"file\", 01711): ok\n\
             file: mode 101711 uid 0 gid 0 nlink 1 size 0\n\
             fchmod(1, 0666): EPERM\n\
             fchown(1, getuid(), getgid()): EPERM\n\
             futimens(1, NULL): EPERM\n",
        )?;
    Ok(())
}

pub(super) fn paths_start_at_the_working_directory(world: &World) -> Outcome {
    same(world, "paths", &["/data"], &["--cwd", "/start"])?;
    same_as_user(world, "paths", &["/data"], &["--cwd", "/start"])?;
    same(world, "paths", &["/tmp"], &[])
}

pub(super) fn questions_of_the_wasi_suite_have_linux_answers(world: &World) -> Outcome {
    let arguments = ["/data", "one", "two"];
    let options = ["--env", "ASKED=yes"];
    same(world, "questions", &arguments, &options)?;
    same_as_user(world, "questions", &arguments, &options)?;
    // On the container's own file system.
    same(world, "questions", &["/tmp", "one", "two"], &options)
}

pub(super) fn questions_of_rust_have_linux_answers(world: &World) -> Outcome {
    let options = ["--env", "ASKED=yes"];
    for (name, but_for) in [
        ("rust_questions", ("", "")),
        // The plain C library has no modes.
        (
            "rust_questions_plain",
            ("read-only: true", "read-only: false"),
        ),
    ] {
        let ask = |folder: &str, options: &[&str]| {
            let arguments = ["files", folder, "one", "two"];
            same_but_for(world, name, &arguments, options, but_for)
        };
        ask("/data", &options)?;
        if let Some(options) = as_user(world, &options)? {
            ask("/data", &options)?;
        }
        // On the container's own file system.
        ask("/tmp", &options)?;
    }
    let start = ["--cwd", "/start"];
    same(world, "rust_questions", &["directory", "/data"], &start)
}

pub(super) fn rust_programs_end_by_exit_code_or_panic(world: &World) -> Outcome {
    for name in ["rust_questions", "rust_questions_plain"] {
        for container in [guest, native] {
            container(world, name, &["exit", "7"])
                .run()?
                .expect_code(7)?
                .expect_stdout("not flushed by a line's end")?;
            container(world, name, &["return", "9"])
                .run()?
                .expect_code(9)?;
        }
        // Of process 1 of a container SIGABRT has no code of its own, so only the guest's is known.
        guest(world, name, &["panic"])
            .run()?
            .expect_code(134)?
            .expect_stdout("before\n")?
            .expect_stderr(&["as asked"])?;
    }
    Ok(())
}

pub(super) fn rust_program_reads_its_input_to_the_end(world: &World) -> Outcome {
    guest(world, "rust_questions", &["lines"])
        .run_with_stdin("one\n\nthr\u{e9}e".as_bytes())?
        .expect_code(0)?
        .expect_stdout("1: one\n2: \n3: thr\u{e9}e\n12 bytes\nio::stdin().read(&mut[0;10]): 0\n")?;
    Ok(())
}

pub(super) fn locks_of_one_process_are_the_kernels(world: &World) -> Outcome {
    same(world, "locks", &[], &[])
}

pub(super) fn locks_hold_between_containers(world: &World) -> Outcome {
    for kind in ["flock", "record", "lockf", "description"] {
        let folder = world.folder("locks")?;
        let locks = |verb| holds(guest(world, "locks", &[verb, kind, "/data/lock"]), &folder);
        let holder = locks("hold");
        holder.detach()?;
        holder.wait_for_output("locked")?;

        locks("try")
            .run()?
            .expect_code(0)?
            .expect_stdout("try: EAGAIN\n")?;
        // The lock is the kernel's, so a native program sees it too.
        holds(
            native(world, "locks", &["try", kind, "/data/lock"]),
            &folder,
        )
        .run()?
        .expect_code(0)?
        .expect_stdout("try: EAGAIN\n")?;

        let waiter = locks("wait");
        waiter.detach()?;
        waiter.wait_for_output("waiting")?;
        if waiter.output()?.contains("locked") {
            return Err(format!("{kind}: a second container got the lock").into());
        }
        holder.signal("SIGKILL")?;
        waiter.wait_for_output("locked")?;
        holder.wait_for_status("STOPPED")?;
        holder.delete_expecting(137)?;
        waiter.wait_for_status("STOPPED")?;
        waiter.delete_expecting(0)?;
    }
    Ok(())
}

fn holds<'world>(container: CtrContainer<'world>, folder: &Path) -> CtrContainer<'world> {
    container.mount(folder, "/data", "rbind:rw")
}

pub(super) fn term_ends_a_guest_that_waits_for_a_lock(world: &World) -> Outcome {
    for kind in ["flock", "record"] {
        let folder = world.folder("locks")?;
        let locks = |verb| holds(guest(world, "locks", &[verb, kind, "/data/lock"]), &folder);
        let holder = locks("hold");
        holder.detach()?;
        holder.wait_for_output("locked")?;
        let waiter = locks("wait");
        waiter.detach()?;
        waiter.wait_for_output("waiting")?;
        let pid = waiter.pid()?.to_string();
        // It says that it waits before it does. The kernel lists who waits behind an arrow.
        wait_for("the guest to wait in the kernel", || {
            let locks = std::fs::read_to_string("/proc/locks")?;
            let mut waiting = locks.lines().filter(|line| line.contains("->"));
            let waits = waiting.any(|line| line.split_whitespace().any(|word| word == pid));
            Ok(waits.then_some(()))
        })?;
        waiter.end_by("SIGTERM", 143)?;
        holder.remove()?;
    }
    Ok(())
}

pub(super) fn signals_are_those_of_a_native_program(world: &World) -> Outcome {
    let options = [
        "--annotation",
        "wasm-interp.io/listen=unix:/data/*",
        "--annotation",
        "wasm-interp.io/connect=unix:/data/*",
    ];
    same(world, "signals", &["/data"], &options)
}

pub(super) fn copies_and_fills_are_those_of_a_native_program(world: &World) -> Outcome {
    same(world, "memory", &[], &[])
}

pub(super) fn jumps_are_those_of_a_native_program(world: &World) -> Outcome {
    same(world, "jumps", &[], &[])
}

pub(super) fn term_ends_a_program_by_its_handler(world: &World) -> Outcome {
    // Waiting, and computing; then what it does not handle.
    for (verb, signal, code, output) in [
        ("graceful", "SIGTERM", 7, "ready\ngoodbye\n"),
        ("busy", "SIGTERM", 3, "ready\ngot 15\n"),
        ("default", "SIGTERM", 143, "ready\n"),
        ("busy", "SIGINT", 130, "ready\n"),
        ("deaf", "SIGKILL", 137, "ready\n"),
    ] {
        let container = guest(world, "signals", &[verb]);
        container.detach()?;
        container.wait_for_output("ready")?;
        container.end_by(signal, code)?;
        let printed = container.output()?;
        if printed != output {
            return Err(format!("{verb} at {signal} prints {printed:?}").into());
        }
        container.remove()?;
    }
    Ok(())
}

pub(super) fn process_clocks_count_seconds_of_cpu(world: &World) -> Outcome {
    same(world, "clocks", &[], &[])
}

pub(super) fn local_time_follows_tz(world: &World) -> Outcome {
    let zones = [RULES, ZONES, &["-", ":Europe/Berlin"]].concat();
    same(world, "zones", &zones, &[])
}

pub(super) fn users_and_groups_are_the_images(world: &World) -> Outcome {
    same(world, "identity", &[], &[])?;
    same_as_user(world, "identity", &[], &[])
}

pub(super) fn mappings_are_memory_and_copies_of_files(world: &World) -> Outcome {
    same(world, "mappings", &["/data"], &[])
}

pub(super) fn system_log_gets_what_a_native_program_sends(world: &World) -> Outcome {
    let options = [
        "--annotation",
        "wasm-interp.io/listen=unix:/dev/log",
        "--annotation",
        "wasm-interp.io/connect=unix:/dev/log",
    ];
    same(world, "syslog", &[], &options)
}

pub(super) fn example_image_shows_its_container(world: &World) -> Outcome {
    let finished = world.container(POSIX).run()?.expect_code(0)?;
    for text in [
        "user 0 (root), group 0, process 1, in /srv\n",
        "umask 022, a temporary file has mode 600 and belongs to 0:0\n",
        // The moon landing, in the zone of the image: half a year before 1970.
        "now it has mode 644, and was changed at 1969-07-20 21:17:40 CET\n",
        "it is locked, on a file system with names of up to 255 bytes\n",
    ] {
        if !finished.stdout.contains(text) {
            return Err(format!("expected {text:?} on stdout: {finished}").into());
        }
    }
    Ok(())
}
