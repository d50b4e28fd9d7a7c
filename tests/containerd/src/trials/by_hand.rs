//! `wasm-interp` on a real image, unpacked or as an OCI archive, without containerd.

use std::fs;
use std::path::Path;

use crate::Outcome;
use crate::guests::HELLO;
use crate::world::World;

fn text(path: &Path) -> String {
    path.display().to_string()
}

pub(super) fn run_does_what_the_shim_does(world: &World) -> Outcome {
    let notes = world.folder("notes")?;
    fs::write(notes.join("note.txt"), "kept by the host")?;
    world.with_files(HELLO, |rootfs| {
        let mount = format!("src={},dst=/data,ro", notes.display());
        let run = [
            "run",
            "--mount",
            &mount,
            "--env",
            "WHO=you",
            "--memory",
            "128M",
            &text(rootfs),
            "--",
        ];
        let script = ["/app/hello.py", "--exit", "3", "one"];
        world
            .wasm_interp(&[&run[..], &script[..]].concat())?
            .expect_code(3)?
            .expect_stdout("hello you, from Python 3.13")?
            .expect_stdout(r#"words: ["one"]"#)?
            .expect_stdout(r#"note: "kept by the host""#)?;
        let missing = ["/app/nowhere.py"];
        world
            .wasm_interp(&[&run[..], &missing[..]].concat())?
            .expect_failure()?
            .expect_stderr(&["/app/nowhere.py", "add the file to the image or a mount"])?;
        Ok(())
    })
}

pub(super) fn inspect_says_what_run_would_do(world: &World) -> Outcome {
    world.with_files(HELLO, |rootfs| {
        let told = world
            .wasm_interp(&["inspect", &text(rootfs), "--", "/app/hello.py", "one"])?
            .expect_code(0)?;
        for part in [
            "/usr/local/bin/python3.13",
            "/app/hello.py",
            "#!/usr/bin/env python",
        ] {
            if !told.stdout.contains(part) {
                return Err(format!("expected {part:?} in the plan: {told}").into());
            }
        }
        Ok(())
    })
}

pub(super) fn an_archive_brings_its_configuration_and_is_unpacked_once(world: &World) -> Outcome {
    let archive = text(&world.archive("hello"));
    // ENTRYPOINT, WORKDIR and ENV are the image's.
    let first = world.wasm_interp(&["run", &archive])?.expect_code(0)?;
    let hello = "hello world, from Python 3.13";
    first.expect_stdout(hello)?.expect_stderr(&["unpacking"])?;
    let second = world
        .wasm_interp(&[
            "run", "--env", "WHO=you", &archive, "--", "python", "hello.py", "one",
        ])?
        .expect_code(0)?
        .expect_stdout("hello you, from Python 3.13")?
        .expect_stdout(r#"words: ["one"]"#)?;
    if second.stderr.contains("unpacking") {
        return Err(format!("an image is unpacked twice: {second}").into());
    }
    world
        .wasm_interp(&["inspect", &archive])?
        .expect_code(0)?
        .expect_stdout("/usr/local/bin/python3.13")?;
    world
        .wasm_interp(&["run", "--image", "localhost/none:1", &archive])?
        .expect_code(125)?
        .expect_stderr(&["localhost/none:1", "localhost/wasm-interp/hello:latest"])?;
    Ok(())
}

/// A script that asks for a file's attributes until it has used a second of CPU time.
const ASKING: &str = "\
import os, time
while time.process_time() < 1:
    for _ in range(100):
        os.stat('/usr/local/lib/python3.13/os.py')
";

pub(super) fn profile_says_which_function_of_python_called_the_kernel(world: &World) -> Outcome {
    let profile = world.folder("profile")?.join("asking.folded");
    let archive = text(&world.archive("python"));
    world
        .wasm_interp(&[
            "run",
            "--profile",
            &text(&profile),
            &archive,
            "--",
            "python",
            "-c",
            ASKING,
        ])?
        .expect_code(0)?
        .expect_stderr(&["profile: ", " lost: ", &text(&profile)])?;
    let stacks = fs::read_to_string(&profile)?;
    let (mut in_kernel, mut from_stat) = (0, 0);
    for line in stacks.lines() {
        let (stack, samples) = line.rsplit_once(' ').ok_or("a line without a number")?;
        let samples: u64 = samples.parse()?;
        if stack.ends_with(";[kernel]") {
            in_kernel += samples;
            if stack.contains(";_PyEval_EvalFrameDefault;") && stack.contains(";os_stat;") {
                from_stat += samples;
            }
        }
    }
    if in_kernel == 0 || 2 * from_stat <= in_kernel {
        return Err(format!("os_stat has {from_stat} of {in_kernel} samples: {stacks}").into());
    }
    Ok(())
}
