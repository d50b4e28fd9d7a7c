//! Applications of Python and JavaScript, each a component that its language's own tool has made: `images/components`. Both
//! have the same commands.

use std::fs;

use super::c_programs::native;
use super::sockets::{LoopbackNetwork, WEB, granted};
use crate::Outcome;
use crate::guests::{JAVASCRIPT_APP, PYTHON_APP};
use crate::world::{CtrContainer, World};

const APPS: [&str; 2] = [PYTHON_APP, JAVASCRIPT_APP];

fn app<'world>(world: &'world World, image: &str, words: &[&str]) -> CtrContainer<'world> {
    world
        .container(image)
        .arguments(&[&["app"], words].concat())
}

pub(super) fn arguments_environment_and_directory_are_the_containers(world: &World) -> Outcome {
    // CPython of componentize-py does not ask for its directory.
    for (image, directory) in [(PYTHON_APP, "/"), (JAVASCRIPT_APP, "/tmp")] {
        app(world, image, &["show", "one", "two words"])
            .options(&["--env", "GREETING=you and = me", "--cwd", "/tmp"])
            .run()?
            .expect_code(0)?
            .expect_stdout(&format!(
                "arguments: one two words\ngreeting: you and = me\ndirectory: {directory}\n"
            ))?;
    }
    Ok(())
}

pub(super) fn standard_input_is_read_to_its_end(world: &World) -> Outcome {
    for image in APPS {
        app(world, image, &["copy"])
            .run_with_stdin(b"one\ntwo\n")?
            .expect_code(0)?
            .expect_stdout("one\ntwo\n")?;
    }
    Ok(())
}

/// Python writes to its streams without a buffer, and believes that they take all.
pub(super) fn output_of_any_size_is_complete(world: &World) -> Outcome {
    let folder = world.folder("large")?;
    let text = "a line of the file\n".repeat(500_000);
    fs::write(folder.join("large.txt"), &text)?;
    for image in APPS {
        let finished = app(world, image, &["read", "/data/large.txt"])
            .mount(&folder, "/data", "rbind:ro")
            .run()?;
        let length = finished.stdout.len();
        if finished.code != 0 || finished.stdout != text {
            let (code, expected) = (finished.code, text.len());
            return Err(format!("{image}: {length} of {expected} bytes, code {code}").into());
        }
    }
    Ok(())
}

pub(super) fn exit_codes_come_through(world: &World) -> Outcome {
    for image in APPS {
        for code in [0, 3, 255] {
            app(world, image, &["code", &code.to_string()])
                .run()?
                .expect_code(code)?;
        }
    }
    // The last two are names that JavaScript's objects and Python's modules have.
    let unknown: [&[&str]; 4] = [
        &[],
        &["nothing-of-this-name"],
        &["constructor"],
        &["__name__"],
    ];
    for image in APPS {
        for words in unknown {
            app(world, image, words)
                .run()?
                .expect_code(2)?
                .expect_stderr(&["usage: app show|read|"])?;
        }
    }
    Ok(())
}

pub(super) fn mounts_have_the_rights_of_their_options(world: &World) -> Outcome {
    for image in APPS {
        let folder = world.folder("mounts")?;
        fs::write(folder.join("note.txt"), "kept by the host\n")?;
        let mounted = |words: &[&str]| {
            app(world, image, words)
                .mount(&folder, "/ro", "rbind:ro")
                .mount(&folder, "/rw", "rbind:rw")
                .run()
        };
        mounted(&["read", "/ro/note.txt"])?
            .expect_code(0)?
            .expect_stdout("kept by the host\n")?;
        for path in ["/ro/note.txt", "/ro/new.txt", "/rw/../ro/new.txt"] {
            mounted(&["write", path, "by the guest"])?.expect_code(1)?;
        }
        mounted(&["write", "/rw/note.txt", "by the guest"])?.expect_code(0)?;
        let note = fs::read_to_string(folder.join("note.txt"))?;
        if note != "kept by the host\nby the guest\n" || folder.join("new.txt").exists() {
            return Err(format!("{image}: the host reads {note:?}, or a file too much").into());
        }
        app(world, image, &["read", "/nowhere"])
            .run()?
            .expect_code(1)?;
    }
    Ok(())
}

pub(super) fn a_read_only_root_cannot_be_written(world: &World) -> Outcome {
    for image in APPS {
        for (path, code) in [("/new.txt", 1), ("/tmp/new.txt", 0)] {
            app(world, image, &["write", path, "x"])
                .options(&["--read-only"])
                .run()?
                .expect_code(code)?;
        }
    }
    Ok(())
}

pub(super) fn memory_limit_is_an_error_of_the_language(world: &World) -> Outcome {
    for (image, error) in [
        (PYTHON_APP, "MemoryError"),
        (JAVASCRIPT_APP, "out of memory"),
    ] {
        let limited = |mebibytes: &str| {
            app(world, image, &["allocate", mebibytes])
                .options(&["--memory-limit", "201326592"])
                .run()
        };
        limited("50")?
            .expect_code(0)?
            .expect_stdout("allocated: 50\n")?;
        limited("500")?.expect_code(1)?.expect_stderr(&[error])?;
    }
    Ok(())
}

pub(super) fn term_ends_an_application_at_once(world: &World) -> Outcome {
    for image in APPS {
        let waiting = app(world, image, &["wait"]);
        waiting.detach()?;
        waiting.wait_for_output("ready\n")?;
        waiting.end_by("SIGTERM", 143)?;
    }
    Ok(())
}

/// With the library of Python: sockets and names.
pub(super) fn python_reaches_what_is_granted(world: &World) -> Outcome {
    let network = LoopbackNetwork::new(world)?;
    let place = format!("tcp:{WEB}:8080");
    let server = network.join(native(world, "http", &[&place]));
    server.detach()?;
    server.wait_for_output("ready")?;
    let fetch = |rule: &str| {
        let fetch = app(world, PYTHON_APP, &["fetch", WEB, "8080"]);
        granted(network.join(fetch), "", rule).run()
    };
    fetch(&place)?
        .expect_code(0)?
        .expect_stdout("answer: HTTP/1.1 200 OK\n")?;
    fetch("tcp:127.0.0.1:8080")?
        .expect_code(1)?
        .expect_stderr(&["PermissionError", &place, "wasm-interp.io/connect"])?;
    server.end_by("SIGTERM", 0)
}
