//! The line that says that a compile goes on, for a person who waits: only on a terminal, and only
//! once it has taken long enough to be noticed.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use wasm_interp_artifact::{Progress, Stage};

/// Waits shorter than this are not worth a word.
const NOTICED: Duration = Duration::from_millis(500);

/// What is shown while native code is made.
pub(crate) struct Compiling<'a> {
    module: &'a str,
    to_terminal: bool,
    /// Tenths of a second on the screen.
    shown: Option<u128>,
}

impl<'a> Compiling<'a> {
    pub(crate) fn new(module: &'a str) -> Self {
        Self {
            module,
            to_terminal: io::stderr().is_terminal(),
            shown: None,
        }
    }

    pub(crate) fn show(&mut self, progress: Progress) {
        let tenths = progress.elapsed.as_millis() / 100;
        if !self.to_terminal || progress.elapsed < NOTICED || self.shown == Some(tenths) {
            return;
        }
        self.shown = Some(tenths);
        let act = match progress.stage {
            Stage::Compiling => "compiling (once on this machine)",
            Stage::Waiting => "waiting for another compile of",
            Stage::Queued => "waiting for other compiles before",
        };
        let module = self.module;
        self.print(format_args!(
            "\r\x1b[K{act} {} {}.{} s",
            module,
            tenths / 10,
            tenths % 10
        ));
    }

    /// Leaves the screen to the guest.
    pub(crate) fn end(&mut self) {
        if self.shown.take().is_some() {
            self.print(format_args!("\r\x1b[K"));
        }
    }

    fn print(&mut self, text: std::fmt::Arguments<'_>) {
        let mut stderr = io::stderr();
        // A terminal that is gone must not end the run.
        self.to_terminal = stderr.write_fmt(text).and_then(|()| stderr.flush()).is_ok();
    }
}
