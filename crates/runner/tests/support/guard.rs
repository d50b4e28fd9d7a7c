//! Removes the containers of a test process that was interrupted or killed, where no `Drop` runs.
//!
//! The first container starts a guard: a process of this test's executable, in a process group of its own,
//! which reads from a pipe what containers exist. The kernel closes the pipe when the test process ends. The
//! guard then deletes the containers that are left.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, BufRead, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
};

use serde_json::{Value, json};

/// Set in the guard.
const IS_GUARD: &str = "RUNNER_TEST_IS_GUARD";

/// Tells the guard of a container before it is created.
pub(super) fn watch(id: &str, state: &Path, directory: &Path) {
    tell(&json!({ "watch": id, "state": state, "directory": directory }));
}

/// Tells the guard that nothing of the container is left.
pub(super) fn forget(id: &str) {
    tell(&json!({ "forget": id }));
}

fn tell(line: &Value) {
    static GUARD: OnceLock<Mutex<Child>> = OnceLock::new();
    let guard = GUARD.get_or_init(|| Mutex::new(start()));
    let mut guard = guard.lock().unwrap_or_else(PoisonError::into_inner);
    let pipe = guard.stdin.as_mut().expect("piped");
    writeln!(pipe, "{line}").expect("tell the guard");
}

fn start() -> Child {
    let name = format!("{}::delete_containers_of_an_ended_process", module());
    Command::new(env::current_exe().expect("this test"))
        .args(["--exact", &name, "--ignored"])
        .env(IS_GUARD, "")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("start the guard")
}

/// This module as the test harness names it: without the crate.
fn module() -> &'static str {
    module_path!().split_once("::").expect("a module").1
}

#[test]
#[ignore = "run by the first container of a test process"]
fn delete_containers_of_an_ended_process() {
    if env::var_os(IS_GUARD).is_none() {
        return;
    }
    let mut containers: BTreeMap<String, (PathBuf, PathBuf)> = BTreeMap::new();
    for line in io::stdin().lock().lines() {
        let line: Value = serde_json::from_str(&line.expect("read")).expect("JSON");
        let text = |field: &str| line[field].as_str().map(str::to_owned);
        let path = |field: &str| PathBuf::from(text(field).expect(field));
        if let Some(id) = text("forget") {
            containers.remove(&id);
        } else {
            let id = text("watch").expect("watch");
            containers.insert(id, (path("state"), path("directory")));
        }
    }
    for (id, (state, directory)) in containers {
        let deleted = super::programs::runner().delete(&id, &state, true, &mut |_| ());
        super::cgroups::remove_parents(&id);
        fs::remove_dir_all(&directory).expect("remove the directory");
        deleted.expect("delete");
    }
}
