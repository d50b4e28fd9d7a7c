//! The log of this process on stderr: what the artifact store and its publisher report besides a result,
//! for example that they evicted an entry. `main` installs it.

use std::io::{self, Write as _};

use log::{LevelFilter, Log, Metadata, Record};
use wasm_interp_workload::printable;

struct StderrLogger;

/// Prints log lines of this project's crates from now on.
pub(crate) fn install() {
    // It fails only if a logger is installed already, which this process does not do.
    let _ = log::set_logger(&StderrLogger);
    log::set_max_level(LevelFilter::Info);
}

impl Log for StderrLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level() && metadata.target().starts_with("wasm_interp")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            // If stderr is closed, there is no other place for a log.
            let _ = writeln!(
                io::stderr(),
                "wasm-interp: {}",
                printable(&record.args().to_string())
            );
        }
    }

    fn flush(&self) {}
}
