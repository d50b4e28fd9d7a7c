//! `wasm-interp node prewarm`: native code before the first container, out of a real containerd's images.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::Outcome;
use crate::command::{self, Finished, Running, wait_for};
use crate::guests::{HELLO, IDLE, NATIVE, PYTHON, PYTHON_WASM};
use crate::world::World;

fn prewarm(world: &World, arguments: &[&str]) -> Outcome<Finished> {
    command::run(world.prewarm_command(arguments), None)
}

/// The snapshots and leases in containerd, by name.
fn held(world: &World) -> Outcome<BTreeSet<String>> {
    let mut held = BTreeSet::new();
    for list in [["snapshots", "ls"], ["leases", "ls"]] {
        let listed = world.daemon().ctr(&list)?.expect_code(0)?.stdout;
        let names = listed.lines().skip(1);
        held.extend(names.filter_map(|line| line.split_whitespace().next().map(str::to_owned)));
    }
    Ok(held)
}

fn entries(world: &World) -> Outcome<usize> {
    let list = world
        .wasm_interp(&["cache", "ls", "--json"])?
        .expect_code(0)?;
    let list: Value = serde_json::from_str(&list.stdout)?;
    Ok(list.as_array().map_or(0, Vec::len))
}

pub(super) fn the_first_container_of_a_prewarmed_image_compiles_nothing(world: &World) -> Outcome {
    // Not the folder itself, which anybody may write to: the store refuses that.
    let cache = world.folder("cache")?.join("store");
    world.with_cache(&cache, |world| {
        let before = held(world)?;
        let report = prewarm(world, &["--json", PYTHON])?.expect_code(0)?;
        let report: Value = serde_json::from_str(&report.stdout)?;
        let interpreter = &report["images"][0]["interpreters"][0];
        if report["outcome"] != "done"
            || report["changed"] != true
            || interpreter["path"] != PYTHON_WASM
            || interpreter["compile-seconds"].as_f64().is_none()
        {
            return Err(format!("not compiled: {report}").into());
        }
        if entries(world)? != 1 {
            return Err("the store has not one entry".into());
        }

        // Another image, whose script names the same interpreter: there is nothing left to do.
        prewarm(world, &[PYTHON, HELLO])?
            .expect_code(0)?
            .expect_stdout("found        native code of /usr/local/bin/python3.13 of")?
            .expect_stdout("2 images prewarmed: all native code was in the store")?;
        let left: Vec<_> = held(world)?.difference(&before).cloned().collect();
        if !left.is_empty() {
            return Err(format!("left in containerd: {left:?}").into());
        }

        let container = world.container(HELLO);
        let id = container.id.clone();
        container.run()?.expect_code(0)?.expect_stdout("hello")?;
        let of_it = world.wait_for_log("a line that says that it is created", |log| {
            let lines = log.lines();
            let of_it: Vec<_> = lines
                .filter(|line| line.contains(&format!("id=\"{id}\"")))
                .map(str::to_owned)
                .collect();
            let mut created = of_it.iter().filter(|line| line.contains("created"));
            created
                .any(|line| line.contains("origin="))
                .then_some(of_it)
        })?;
        let cached = of_it
            .iter()
            .any(|line| line.contains("created") && line.contains("cached"));
        if !cached || of_it.iter().any(|line| line.contains("stage=")) {
            return Err(format!("not from the store:\n{}", of_it.join("\n")).into());
        }
        if entries(world)? != 1 {
            return Err("the container added to the store".into());
        }
        Ok(())
    })
}

pub(super) fn a_failed_prewarm_is_reported_and_the_others_go_on(world: &World) -> Outcome {
    let absent = "localhost/test/absent:1";
    let before = held(world)?;
    prewarm(world, &[NATIVE, absent, "Not An Image", IDLE])?
        .expect_failure()?
        .expect_stdout("/bin/guest.wasm of localhost/test/idle:1")?
        .expect_stderr(&[
            "cannot prewarm 3 of 4 images",
            &format!(
                "{NATIVE}: the image has no Wasm interpreter: its command is the native program"
            ),
            &format!("{absent}: cannot find the image in containerd's namespace"),
            "Not An Image: cannot parse the image's name",
        ])?;
    // Of others' containers, which come and go meanwhile.
    let ours = |held: &BTreeSet<String>| -> Vec<String> {
        let ours = held.iter().filter(|name| name.contains("prewarm"));
        ours.cloned().collect()
    };
    let left = ours(&held(world)?);
    if left != ours(&before) {
        return Err(format!("left in containerd: {left:?}").into());
    }

    // Here is no CRI, and so nothing that pulls.
    let address = world.daemon().socket().display().to_string();
    world
        .wasm_interp(&["node", "prewarm", "--address", &address, absent])?
        .expect_failure()?
        .expect_stderr(&[absent, "containerd runs without its CRI plugin"])?;
    let namespaces = world
        .daemon()
        .ctr(&["namespaces", "ls", "--quiet"])?
        .expect_code(0)?;
    if namespaces.stdout.contains("k8s.io") {
        return Err("a question made a namespace in containerd".into());
    }
    Ok(())
}

pub(super) fn a_prewarm_that_is_killed_leaves_nothing_in_containerd(world: &World) -> Outcome {
    let cache = world.folder("cache")?.join("store");
    world.with_cache(&cache, |world| {
        let prewarming = Running::start(world.prewarm_command(&[PYTHON]), None)?;
        // It is compiled then: the files have been looked at.
        wait_for("the compiler", || {
            let compiles = fs::read_dir(&cache).is_ok() && is_compiling(world.name())?;
            Ok(compiles.then_some(()))
        })?;
        let finished = prewarming.end()?;
        if finished.code != 137 {
            return Err(format!("it ended before it was killed: {finished}").into());
        }
        let left = held(world)?;
        if left.iter().any(|name| name.contains("prewarm")) {
            return Err(format!("left in containerd: {left:?}").into());
        }
        // The compile goes on without it.
        wait_for("the native code", || {
            Ok((entries(world)? == 1).then_some(()))
        })
    })
}

/// Whether a confined compiler of this run is at work.
fn is_compiling(run: &str) -> Outcome<bool> {
    for entry in fs::read_dir("/proc")? {
        let process = entry?.path();
        let of_this_run = fs::read_link(process.join("exe"))
            .is_ok_and(|executable| executable.to_string_lossy().contains(run));
        let line = fs::read(process.join("cmdline")).unwrap_or_default();
        if of_this_run && String::from_utf8_lossy(&line).contains("compile-confined") {
            return Ok(true);
        }
    }
    Ok(false)
}
