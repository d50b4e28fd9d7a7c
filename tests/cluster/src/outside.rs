//! The part of this program that stays on the machine: it starts the other part in namespaces of its
//! own (process ids, mounts, network), passes on how that ended, and takes everything away.
//!
//! Whatever happens inside, one SIGKILL ends it: the kernel ends every process of a namespace with its
//! first one. If this part itself is killed, the kernel does the same.

use std::process::{Child, Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use libtest_mimic::{Arguments, Trial};
use wasm_interp_test_support::signals::clean_up_on_signal;

use crate::keep;
use crate::leftovers::{self, Leftovers};
use crate::settings::ClusterSettings;

/// Set once a signal has asked for the end.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Runs this program again, inside, and looks at what is left.
pub(crate) fn run(settings: &ClusterSettings) -> ExitCode {
    let before = Leftovers::record(settings.run.name());
    if let Err(error) = std::fs::create_dir(settings.run.folder()) {
        eprintln!("cannot make {}: {error}", settings.run.folder().display());
        return ExitCode::FAILURE;
    }
    let on_signal = {
        let (settings, before) = (settings.clone(), before.clone());
        move || {
            ENDING.store(true, Ordering::SeqCst);
            leftovers::sweep(&settings.run, &before);
            keep::forget(&settings);
        }
    };
    let started =
        clean_up_on_signal("taking the cluster away", on_signal).and_then(|()| start(settings));
    let mut child = match started {
        Ok(child) => child,
        Err(error) => {
            eprintln!("cannot start in namespaces: {error}");
            leftovers::sweep(&settings.run, &before);
            return ExitCode::FAILURE;
        }
    };
    if settings.keep
        && let Err(error) = keep::write_pids(settings, child.id())
    {
        eprintln!("cannot tell how the cluster is reached: {error}");
    }
    let ended = child.wait();
    if ENDING.load(Ordering::SeqCst) {
        // The other thread is cleaning up and ends this process.
        loop {
            thread::park();
        }
    }
    let settings = settings.clone();
    let ending = Trial::test("nothing_is_left_behind", move || {
        // The nodes' cgroups outlive their processes by nature; they are ours alone.
        leftovers::remove_cgroups(&settings.run);
        let mut left = before.what_is_new();
        // Inside has a /run of its own: what is new in the machine's, without our name, is others'.
        left.retain(|line| line.contains(settings.run.name()));
        leftovers::sweep(&settings.run, &before);
        if left.is_empty() {
            return Ok(());
        }
        Err(format!("left behind:\n  {}", left.join("\n  ")).into())
    });
    let failed = libtest_mimic::run(&Arguments::default(), vec![ending]).has_failed();
    match ended {
        Ok(status) if status.success() && !failed => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cannot wait for what runs inside: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(settings: &ClusterSettings) -> std::io::Result<Child> {
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare"])
        .args(["--mount", "--net", "--pid", "--ipc", "--fork"])
        .args(["--kill-child", "--mount-proc", "--propagation", "private"])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env("WASM_INTERP_E2E_NAME", settings.run.name())
        .spawn()
}
