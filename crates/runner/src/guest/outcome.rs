//! How a guest ended, as an exit code and in words for the container's standard error.
//!
//! Pure: `Prepared::run` prints and exits.
#![forbid(unsafe_code)]

use std::fmt::Write;

use wasm_interp_runner_client::{EXIT_START_FAILED, EXIT_TRAP, NoRoom};
use wasm_interp_workload::Plan;
use wasmtime::{Trap, WasmBacktrace};

const MIB: u64 = 1024 * 1024;

/// How a guest ended, if not by `proc_exit` or `wasi:cli/exit`, which end the process on the spot.
#[derive(Debug)]
pub(super) enum GuestOutcome {
    /// `_start` returned, or `run` with success.
    Returned,
    /// `run` of a component returned an error, of which the interface says no more.
    Unsuccessful,
    /// The guest did something that WebAssembly forbids.
    Trapped {
        error: wasmtime::Error,
        /// The last allocation that its ceiling refused.
        refused: Option<NoRoom>,
    },
    /// What it needs to begin with is more than its ceiling.
    NoMemory(NoRoom),
    /// It never came to run.
    NotStarted(String),
}

/// A failure to instantiate: the program's own start function trapped, or it could not be started. `refused` is what the
/// ceiling has refused.
pub(super) fn of_instantiation(error: wasmtime::Error, refused: Option<NoRoom>) -> GuestOutcome {
    if error.is::<Trap>() {
        GuestOutcome::Trapped {
            error,
            refused: None,
        }
    } else if let Some(refused) = refused.filter(|refused| refused.limit < u64::MAX) {
        GuestOutcome::NoMemory(refused)
    } else {
        GuestOutcome::NotStarted(format!("make its memory and tables: {error:#}"))
    }
}

impl GuestOutcome {
    /// Exit code, and what to say.
    pub(super) fn report(&self, plan: &Plan) -> (i32, Option<String>) {
        let interpreter = &plan.interpreter.path;
        match self {
            Self::Returned => (0, None),
            Self::Unsuccessful => (1, None),
            Self::NoMemory(NoRoom { asked, limit }) => {
                let text = format!(
                    "wasm-interp: {interpreter} could not be started: its memory and tables need \
                     at least {} MiB, and the container's memory limit leaves its guests {} MiB; \
                     raise the limit (wasm-interp run: --memory, in a pod: \
                     resources.limits.memory)\n",
                    asked.div_ceil(MIB),
                    limit / MIB
                );
                (EXIT_START_FAILED, Some(text))
            }
            Self::NotStarted(reason) => {
                let mut text =
                    format!("wasm-interp: {interpreter} could not be started: {reason}\n");
                if let Some(limit) = plan.limits.memory_bytes {
                    let _ = writeln!(
                        text,
                        "wasm-interp: the container's memory limit leaves the guest {} KiB, where \
                         a page is 64 KiB; if that is less than it needs to start, raise the limit",
                        limit / 1024
                    );
                }
                (EXIT_START_FAILED, Some(text))
            }
            Self::Trapped { error, refused } => (EXIT_TRAP, Some(trap(plan, error, *refused))),
        }
    }
}

fn trap(plan: &Plan, error: &wasmtime::Error, refused: Option<NoRoom>) -> String {
    let trap = error.downcast_ref::<Trap>();
    let cause = trap.map_or_else(|| error.root_cause().to_string(), ToString::to_string);
    let mut text = format!("wasm-interp: {} trapped: {cause}\n", plan.interpreter.path);
    // Writing to a String cannot fail.
    if trap == Some(&Trap::StackOverflow) {
        let _ = writeln!(
            text,
            "wasm-interp: the guest used up its stack of {} KiB, most often by recursion that is \
             too deep; the interpreter did not notice in time to report it as an error of the \
             language",
            plan.limits.stack_bytes / 1024
        );
    }
    if let Some(NoRoom { asked, limit }) = refused.filter(|refused| refused.limit < u64::MAX) {
        let _ = writeln!(
            text,
            "wasm-interp: before that the guest asked for memory and was refused: the container's \
             guests would have had {} MiB in all, and its memory limit leaves them {} MiB",
            asked.div_ceil(MIB),
            limit / MIB
        );
    }
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
        let _ = writeln!(text, "{backtrace}");
    }
    text
}
