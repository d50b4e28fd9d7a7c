//! Shows the progress of a compile in one line. Only on a terminal, and only if the compile takes long
//! enough to be noticed.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use wasm_interp_artifact::{CompileProgress, CompileStage};
use wasm_interp_workload::printable;

/// Shorter waits are not shown.
const NOTICED: Duration = Duration::from_millis(500);

/// The progress line.
pub(crate) struct Compiling {
    to_terminal: bool,
    /// Tenths of a second on the screen.
    shown: Option<u128>,
}

impl Default for Compiling {
    fn default() -> Self {
        Self {
            to_terminal: io::stderr().is_terminal(),
            shown: None,
        }
    }
}

impl Compiling {
    pub(crate) fn show(&mut self, module: &str, progress: CompileProgress) {
        let tenths = progress.elapsed.as_millis() / 100;
        if !self.to_terminal || progress.elapsed < NOTICED || self.shown == Some(tenths) {
            return;
        }
        self.shown = Some(tenths);
        let act = match progress.stage {
            CompileStage::Compiling => "compiling (once on this machine)",
            CompileStage::Waiting => "waiting for another compile of",
            CompileStage::Queued => "waiting for other compiles before",
        };
        self.print(format_args!(
            "\r\x1b[K{act} {} {}.{} s",
            printable(module),
            tenths / 10,
            tenths % 10
        ));
    }

    /// Clears the line before the guest writes to the terminal.
    pub(crate) fn end(&mut self) {
        if self.shown.take().is_some() {
            self.print(format_args!("\r\x1b[K"));
        }
    }

    fn print(&mut self, text: std::fmt::Arguments<'_>) {
        let mut stderr = io::stderr();
        // If the terminal is gone, the run continues.
        self.to_terminal = stderr.write_fmt(text).and_then(|()| stderr.flush()).is_ok();
    }
}
