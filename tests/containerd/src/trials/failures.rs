//! What goes wrong, and whether its text says what to do.

use crate::Outcome;
use crate::guests::{BROKEN, IDLE, IMPORTS, NO_INTERPRETER, PRECOMPILED, PYTHON, TRAP};
use crate::world::World;

pub(super) fn a_trap_is_not_a_kill(world: &World) -> Outcome {
    world
        .container(TRAP)
        .run()?
        .expect_code(134)?
        .expect_stderr(&["unreachable"])?;
    Ok(())
}

pub(super) fn a_missing_interpreter_is_named(world: &World) -> Outcome {
    world
        .container(NO_INTERPRETER)
        .run()?
        .expect_failure()?
        .expect_stderr(&[
            "no interpreter for \"/app/main.py\"",
            "looked for",
            "wasm-interp.io/interpreter",
        ])?;
    Ok(())
}

pub(super) fn a_missing_script_is_named(world: &World) -> Outcome {
    world
        .container(PYTHON)
        .arguments(&["/app/nowhere.py"])
        .run()?
        .expect_failure()?
        .expect_stderr(&["/app/nowhere.py", "add the file to the image or a mount"])?;
    // Where the interpreter was named, the missing script is for it to report.
    world
        .container(PYTHON)
        .arguments(&["python", "/app/nowhere.py"])
        .run()?
        .expect_code(2)?
        .expect_stderr(&["/app/nowhere.py", "no such file"])?;
    Ok(())
}

pub(super) fn a_broken_module_is_named(world: &World) -> Outcome {
    world
        .container(BROKEN)
        .run()?
        .expect_failure()?
        .expect_stderr(&["/bin/guest.wasm", "not a valid"])?;
    Ok(())
}

pub(super) fn a_precompiled_file_is_refused(world: &World) -> Outcome {
    world
        .container(PRECOMPILED)
        .run()?
        .expect_failure()?
        .expect_stderr(&["/bin/guest.wasm", "precompiled", "ship the .wasm"])?;
    Ok(())
}

pub(super) fn unknown_imports_are_listed(world: &World) -> Outcome {
    world
        .container(IMPORTS)
        .run()?
        .expect_failure()?
        .expect_stderr(&[
            "/bin/guest.wasm",
            "launch_missiles",
            "wasm_interp_posix_v1.fork",
        ])?;
    Ok(())
}

pub(super) fn a_failed_create_leaves_its_id_free(world: &World) -> Outcome {
    let mut broken = world.container(BROKEN);
    broken.id = format!("{}-again", broken.id);
    let id = broken.id.clone();
    broken.run()?.expect_failure()?;
    let mut good = world.container(IDLE);
    good.id = id;
    good.detach()?;
    good.remove()
}
