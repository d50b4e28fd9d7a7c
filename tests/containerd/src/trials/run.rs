//! `ctr run` of scripts, with the options that people use.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use crate::Outcome;
use crate::guests::{AS_USER, ECHO, HELLO, PYTHON};
use crate::world::World;

pub(super) fn hello_prints(world: &World) -> Outcome {
    world
        .container(HELLO)
        .arguments(&["/app/hello.py", "one", "two words"])
        .run()?
        .expect_code(0)?
        .expect_stdout("hello world, from Python 3.13")?
        .expect_stdout(r#"words: ["one", "two words"]"#)?
        .expect_stdout("letters: 11, counted by SQLite")?
        .expect_stdout("date: 2")?;
    Ok(())
}

pub(super) fn mounts_have_the_rights_of_their_options(world: &World) -> Outcome {
    let folder = world.folder("mounts")?;
    for (file, content) in [
        ("note.txt", "kept by the host"),
        ("inside.txt", "in a folder"),
    ] {
        fs::write(folder.join(file), content)?;
    }
    let writable = world.folder("writable")?;
    let script = r#"
import json
answers = {}
def attempt(name, act):
    try:
        answers[name] = act()
    except OSError as error:
        answers[name] = "refused"
attempt("read a file mount", lambda: open("/data/note.txt").read())
attempt("read a folder", lambda: open("/ro/inside.txt").read())
attempt("write a read-only file", lambda: open("/data/note.txt", "w").write("x"))
attempt("write a read-only folder", lambda: open("/ro/new.txt", "w").write("x"))
attempt("write past the mount", lambda: open("/rw/../ro/new.txt", "w").write("x"))
attempt("write a writable folder", lambda: open("/rw/new.txt", "w").write("made by the guest"))
print(json.dumps(answers))
"#;
    let finished = world
        .container(PYTHON)
        .mount(&folder.join("note.txt"), "/data/note.txt", "rbind:ro")
        .mount(&folder, "/ro", "rbind:ro")
        .mount(&writable, "/rw", "rbind:rw")
        .arguments(&["python", "-c", script])
        .run()?
        .expect_code(0)?;
    for answer in [
        r#""read a file mount": "kept by the host""#,
        r#""read a folder": "in a folder""#,
        r#""write a read-only file": "refused""#,
        r#""write a read-only folder": "refused""#,
        r#""write past the mount": "refused""#,
        r#""write a writable folder": 17"#,
    ] {
        if !finished.stdout.contains(answer) {
            return Err(format!("expected {answer}: {finished}").into());
        }
    }
    let made = fs::read_to_string(writable.join("new.txt"))?;
    if made != "made by the guest" || folder.join("new.txt").exists() {
        return Err(
            format!("the host sees {made:?} and perhaps a file in a read-only mount").into(),
        );
    }
    Ok(())
}

pub(super) fn environment_reaches_the_script(world: &World) -> Outcome {
    world
        .container(HELLO)
        .options(&["--env", "WHO=you and = me"])
        .run()?
        .expect_code(0)?
        .expect_stdout("hello you and = me, from")?;
    Ok(())
}

pub(super) fn a_read_only_root_cannot_be_written(world: &World) -> Outcome {
    let script = r#"
import os
for path in "/new.txt", "/etc/passwd", "/tmp/new.txt":
    try:
        with open(path, "a") as file:
            file.write("x")
        print(path, "written")
    except OSError:
        print(path, "refused")
"#;
    let container = |options: &[&str]| {
        world
            .container(PYTHON)
            .options(options)
            .arguments(&["python", "-c", script])
            .run()
    };
    container(&["--read-only"])?
        .expect_code(0)?
        .expect_stdout("/new.txt refused\n/etc/passwd refused\n/tmp/new.txt written")?;
    container(&[])?
        .expect_code(0)?
        .expect_stdout("/new.txt written\n/etc/passwd written\n/tmp/new.txt written")?;
    Ok(())
}

pub(super) fn memory_limit_is_a_memory_error(world: &World) -> Outcome {
    let script = r#"
import sys
try:
    held = bytearray(1_000_000_000)
    print("held", len(held))
except MemoryError:
    print("no memory, told gracefully")
    sys.exit(3)
"#;
    world
        .container(PYTHON)
        .options(&["--memory-limit", "134217728"])
        .arguments(&["python", "-c", script])
        .run()?
        .expect_code(3)?
        .expect_stdout("no memory, told gracefully")?;
    Ok(())
}

pub(super) fn files_are_made_as_the_user(world: &World) -> Outcome {
    let option: &[&str] = &["--user", "1234:4321"];
    let with_option = world.ctr_has_user_option()?.then_some((PYTHON, option));
    for (image, options) in [(AS_USER, &[] as &[&str])].into_iter().chain(with_option) {
        let folder = world.folder("user")?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
        let write = || {
            world
                .container(image)
                .mount(&folder, "/out", "rbind:rw")
                .options(options)
                .arguments(&["python", "-c", "open('/out/made', 'w').write('x')"])
                .run()
        };
        write()?
            .expect_code(1)?
            .expect_stderr(&["PermissionError"])?;
        chown(&folder, Some(1234), None)?;
        write()?.expect_code(0)?;
        let made = fs::metadata(folder.join("made"))?;
        if (made.uid(), made.gid()) != (1234, 4321) {
            return Err(format!("made as {}:{}, not as 1234:4321", made.uid(), made.gid()).into());
        }
    }
    Ok(())
}

pub(super) fn relative_scripts_work_from_the_cwd(world: &World) -> Outcome {
    let folder = world.folder("cwd")?;
    fs::write(
        folder.join("main.py"),
        "import os, sys\nprint(os.getcwd(), open('beside.txt').read(), os.environ['PWD'])\n",
    )?;
    fs::write(folder.join("beside.txt"), "beside")?;
    world
        .container(PYTHON)
        .mount(&folder, "/srv/app", "rbind:ro")
        .options(&["--cwd", "/srv/app"])
        .arguments(&["python", "main.py"])
        .run()?
        .expect_code(0)?
        .expect_stdout("/srv/app beside /srv/app")?;
    Ok(())
}

pub(super) fn exit_codes_come_through(world: &World) -> Outcome {
    for code in [0, 3, 126, 130, 255] {
        world
            .container(HELLO)
            .arguments(&["/app/hello.py", "--exit", &code.to_string()])
            .run()?
            .expect_code(code)?;
    }
    Ok(())
}

pub(super) fn standard_input_is_read_to_its_end(world: &World) -> Outcome {
    world
        .container(ECHO)
        .run_with_stdin(b"first\nsecond\n")?
        .expect_code(0)?
        .expect_stdout("first\nsecond\n")?;
    world
        .container(HELLO)
        .arguments(&["/app/hello.py", "--stdin"])
        .run_with_stdin(b"a\nb\n")?
        .expect_code(0)?
        .expect_stdout(r#"stdin: ["a", "b"]"#)?;
    Ok(())
}

/// Guards against a standard output on /dev/null that cannot be written to: CPython ends with 120.
pub(super) fn output_without_a_reader_is_no_error(world: &World) -> Outcome {
    let container = world.container(PYTHON).options(&["--null-io"]).arguments(&[
        "python",
        "-c",
        "import sys; print(1); sys.exit(3)",
    ]);
    container.run()?.expect_code(3)?;
    Ok(())
}

/// Guards the list of design decision 7: no /proc, no /sys, no device but the few.
pub(super) fn nothing_of_the_host_is_seen(world: &World) -> Outcome {
    let script = r#"
import os
print(sorted(os.listdir("/dev")))
for path in "/proc", "/sys":
    print(path, os.listdir(path) if os.path.isdir(path) else [])
"#;
    world
        .container(PYTHON)
        .arguments(&["python", "-c", script])
        .run()?
        .expect_code(0)?
        // `ctr` mounts a tmpfs on /dev/shm, which is a grant like any other.
        .expect_stdout(
            "['fd', 'full', 'null', 'random', 'shm', 'stderr', 'stdin', 'stdout', 'urandom', \
             'zero']\n/proc []\n/sys []\n",
        )?;
    Ok(())
}
