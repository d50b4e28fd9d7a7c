//! The publisher's log. The publisher has no log of its own, so it sends its lines to the client, which
//! writes them into its log: that of containerd for the shim, stderr for the command line.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::AsFd as _;

use log::{LevelFilter, Log, Metadata, Record};

use crate::protocol::{self, PublishResponse, WhenFull};

/// A longer line is cut.
const MAX_LINE: usize = 4 << 10;

struct Relay;

/// Sends what this process logs over descriptor 0 from now on, up to `level`.
pub(super) fn install(level: LevelFilter) {
    // This fails if a logger is installed already. The lines then go to it.
    let _ = log::set_logger(&Relay);
    log::set_max_level(level);
}

fn cut(mut line: String) -> String {
    line.truncate(line.floor_char_boundary(MAX_LINE));
    line
}

impl Log for Relay {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = PublishResponse::Log {
                level: record.level(),
                message: cut(record.args().to_string()),
            };
            // The client may be gone or may not read. A log line must not stop a compile.
            let _ = protocol::send(io::stdin().as_fd(), &line, &[], WhenFull::Fail);
        }
    }

    fn flush(&self) {}
}
