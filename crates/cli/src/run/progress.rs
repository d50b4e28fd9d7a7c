//! Shows the progress of a compile that takes long enough to be noticed: on a terminal in one line that changes,
//! elsewhere in a line per stage.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use wasm_interp_artifact::{CompileProgress, CompileStage};
use wasm_interp_workload::printable;

/// Shorter waits are not shown.
const NOTICED: Duration = Duration::from_millis(500);

/// Where progress is shown, and what was shown last.
pub(crate) enum Compiling {
    /// The tenths of a second on the screen.
    Terminal { shown: Option<u128> },
    /// The stage of the last line.
    Lines { told: Option<CompileStage> },
    /// Standard error cannot be written. The run continues.
    Gone,
}

impl Default for Compiling {
    fn default() -> Self {
        if io::stderr().is_terminal() {
            Self::Terminal { shown: None }
        } else {
            Self::Lines { told: None }
        }
    }
}

impl Compiling {
    pub(crate) fn show(&mut self, module: &str, progress: CompileProgress) {
        if let Some(text) = self.text(module, progress) {
            self.print(&text);
        }
    }

    /// Clears the line before the guest writes to the terminal.
    pub(crate) fn end(&mut self) {
        if let Self::Terminal { shown } = self
            && shown.take().is_some()
        {
            self.print("\r\x1b[K");
        }
    }

    /// What is to be written now, if anything.
    fn text(&mut self, module: &str, progress: CompileProgress) -> Option<String> {
        if progress.elapsed < NOTICED {
            return None;
        }
        let module = printable(module);
        let what = match progress.stage {
            CompileStage::Compiling => format!("compiling {module} (once on this machine)"),
            CompileStage::Waiting => format!("waiting for another compile of {module}"),
            CompileStage::Queued => format!("waiting for other compiles before {module}"),
        };
        match self {
            Self::Terminal { shown } => {
                let tenths = progress.elapsed.as_millis() / 100;
                let is_new = shown.replace(tenths) != Some(tenths);
                is_new.then(|| format!("\r\x1b[K{what} {}.{} s", tenths / 10, tenths % 10))
            }
            Self::Lines { told } => {
                let is_new = told.replace(progress.stage) != Some(progress.stage);
                is_new.then(|| format!("wasm-interp: {what}\n"))
            }
            Self::Gone => None,
        }
    }

    fn print(&mut self, text: &str) {
        let mut stderr = io::stderr();
        let written = stderr.write_all(text.as_bytes());
        if written.and_then(|()| stderr.flush()).is_err() {
            *self = Self::Gone;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(stage: CompileStage, millis: u64) -> CompileProgress {
        CompileProgress {
            stage,
            elapsed: Duration::from_millis(millis),
        }
    }

    #[test]
    fn a_file_gets_one_line_per_stage_of_a_long_compile() {
        let mut compiling = Compiling::Lines { told: None };
        let mut told = |stage, millis| compiling.text("/bin/python", progress(stage, millis));
        assert_eq!(told(CompileStage::Queued, 0), None);
        assert_eq!(told(CompileStage::Compiling, 499), None);
        assert_eq!(
            told(CompileStage::Compiling, 500).as_deref(),
            Some("wasm-interp: compiling /bin/python (once on this machine)\n")
        );
        assert_eq!(told(CompileStage::Compiling, 40_000), None);
        assert_eq!(
            told(CompileStage::Waiting, 41_000).as_deref(),
            Some("wasm-interp: waiting for another compile of /bin/python\n")
        );
    }

    #[test]
    fn a_terminal_gets_a_line_that_changes_each_tenth_of_a_second() {
        let mut compiling = Compiling::Terminal { shown: None };
        let mut told =
            |millis| compiling.text("/bin/\x1bpython", progress(CompileStage::Compiling, millis));
        assert_eq!(told(499), None);
        assert_eq!(
            told(1234).as_deref(),
            Some("\r\x1b[Kcompiling /bin/\\u{1b}python (once on this machine) 1.2 s")
        );
        assert_eq!(told(1299), None);
        assert!(told(1300).is_some());
    }
}
