//! The server's log: lines in logfmt, written to a FIFO that containerd copies to its own log.
//!
//! Installed by `serve`. It never blocks and never fails, because a log must not stop a container.
//! If containerd is down, the FIFO stays open at both ends, and lines that do not fit are lost.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::SystemTime;

use log::kv::{self, Key, Value, VisitSource};
use log::{LevelFilter, Log, Metadata, Record};

use wasm_interp_workload::shortened;

use crate::clock;
use crate::info::RUNTIME_NAME;

/// Opens the bundle's `log` at `path`, and logs there from now on.
pub(crate) fn install(path: &Path, debug: bool) -> io::Result<()> {
    let file = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)?;
    log::set_boxed_logger(Box::new(Logger { file })).map_err(io::Error::other)?;
    log::set_max_level(if debug {
        LevelFilter::Debug
    } else {
        LevelFilter::Info
    });
    Ok(())
}

/// The longest field of a line before it is escaped, in bytes.
const LONGEST_FIELD: usize = 8192;

struct Logger {
    file: File,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = format(record, SystemTime::now());
            // One write per line, so that lines of several shims do not mix. The module's doc says
            // why a failure is ignored.
            drop((&self.file).write_all(line.as_bytes()));
        }
    }

    fn flush(&self) {}
}

fn format(record: &Record<'_>, now: SystemTime) -> String {
    struct Fields(String);
    impl<'kvs> VisitSource<'kvs> for Fields {
        fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
            write!(self.0, " {key}={}", quote(&value.to_string()))?;
            Ok(())
        }
    }
    let mut fields = Fields(String::new());
    // The visitor writes to a string, which cannot fail.
    drop(record.key_values().visit(&mut fields));
    let level = match record.level() {
        log::Level::Warn => "warning".to_owned(),
        other => other.as_str().to_ascii_lowercase(),
    };
    format!(
        "time={} level={level} msg={} runtime={}{}\n",
        quote(&clock::rfc3339(now)),
        quote(&record.args().to_string()),
        RUNTIME_NAME,
        fields.0
    )
}

/// Escapes quotes and line ends: the text must neither end its field nor begin a line. Cuts it: a field may hold what
/// an image or a spec says.
fn quote(text: &str) -> String {
    format!("{:?}", shortened(text, LONGEST_FIELD))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn record_with_fields_and_line_ends_is_one_line() {
        let fields: &[(&str, &str)] = &[("id", "a\"b"), ("key", "k")];
        let record = Record::builder()
            .level(log::Level::Warn)
            .args(format_args!("first\nsecond"))
            .key_values(&fields)
            .build();
        assert_eq!(
            format(&record, UNIX_EPOCH),
            "time=\"1970-01-01T00:00:00.000000000Z\" level=warning msg=\"first\\nsecond\" \
             runtime=io.containerd.wasm-interp.v1 id=\"a\\\"b\" key=\"k\"\n"
        );
    }

    #[test]
    fn field_has_a_limit() {
        let long = "\u{1}".repeat(1 << 20);
        let fields: &[(&str, &str)] = &[("error", &long)];
        let line = format(
            &Record::builder()
                .args(format_args!("{long}"))
                .key_values(&fields)
                .build(),
            UNIX_EPOCH,
        );
        assert!(line.len() < 100_000, "{}", line.len());
        assert!(line.ends_with("…\"\n"));
    }
}
