//! Makes one sentence of libcontainer's error and its log.
//!
//! Installed by `container`. libcontainer's forked processes send no more than the outermost words
//! of an error to their parent (`failed to prepare rootfs`); the cause is only in their
//! log events. This module collects those through a pipe that all of them inherit.
#![forbid(unsafe_code)]

use std::{
    fmt::{Debug, Write as _},
    os::fd::OwnedFd,
    sync::Arc,
};

use nix::{errno::Errno, fcntl::OFlag, unistd::pipe2};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};
use wasm_interp_workload::with_causes;

/// The reading end of the log: errors, in the order in which they were logged.
pub(crate) struct Diagnostics {
    pipe: OwnedFd,
}

impl Diagnostics {
    /// Collects the error events of this process and of its children from now on.
    pub(crate) fn collect() -> std::io::Result<Self> {
        let (pipe, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        tracing::subscriber::set_global_default(Recorder {
            pipe: Arc::new(write),
        })
        .map_err(std::io::Error::other)?;
        Ok(Self { pipe })
    }

    /// `error` with its causes, and the innermost cause that was logged.
    pub(crate) fn explain(&self, error: &dyn std::error::Error) -> String {
        self.complete(with_causes(error))
    }

    /// `text` with the innermost cause that was logged.
    pub(crate) fn complete(&self, mut text: String) -> String {
        if let Some(first) = self.first() {
            // The innermost comes first in the log: each caller logs after its callee.
            if !text.contains(&first) {
                text.push_str(": ");
                text.push_str(&first);
            }
        }
        text
    }

    fn first(&self) -> Option<String> {
        let mut log = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(n) = nix::unistd::read(&self.pipe, &mut buffer) {
            if n == 0 {
                break;
            }
            log.extend_from_slice(&buffer[..n]);
        }
        String::from_utf8_lossy(&log)
            .lines()
            .next()
            .map(str::to_owned)
    }
}

struct Recorder {
    pipe: Arc<OwnedFd>,
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() == Level::ERROR
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut words = EventText::default();
        event.record(&mut words);
        let line = words.line();
        // It fails if the pipe is full, and only the first line is used.
        let _ = nix::unistd::write(&*self.pipe, line.as_bytes());
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// An event's message and fields.
#[derive(Default)]
struct EventText {
    message: String,
    objects: Vec<String>,
    causes: Vec<String>,
}

impl EventText {
    fn line(self) -> String {
        let mut line = self.message;
        if !self.objects.is_empty() {
            let _ = write!(line, " ({})", self.objects.join(", "));
        }
        for cause in self.causes {
            if !line.contains(&cause) {
                let _ = write!(line, ": {cause}");
            }
        }
        let mut line = line.replace('\n', " ");
        line.push('\n');
        line
    }
}

impl Visit for EventText {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let value = readable(&format!("{value:?}"));
        match field.name() {
            "message" => self.message = value,
            "err" | "error" | "e" => self.causes.push(value),
            name => self.objects.push(format!("{name} {value}")),
        }
    }
}

/// The message in the `Debug` text of an error: of `Syscall(Nix(EPERM))` only the errno matters.
fn readable(dump: &str) -> String {
    let mut text = dump.to_owned();
    // Os { code: 2, kind: NotFound, message: "No such file or directory" }
    while let Some(start) = text.find("Os { code: ") {
        let Some(length) = text[start..].find(" }") else {
            break;
        };
        let inner = &text[start..start + length];
        let message = inner
            .split_once("message: \"")
            .and_then(|(_, rest)| rest.strip_suffix('"'))
            .unwrap_or("unknown error")
            .to_owned();
        text.replace_range(start..start + length + 2, &message);
    }
    // Wrapper(Wrapper(cause)): the innermost parenthesis of nothing but wrappers.
    let mut inner = text.as_str();
    while let Some((name, rest)) = inner.split_once('(') {
        let wrapper =
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        match rest.strip_suffix(')') {
            Some(within) if wrapper => inner = within,
            _ => break,
        }
    }
    match (1..200)
        .map(Errno::from_raw)
        .find(|errno| format!("{errno:?}") == inner)
    {
        Some(errno) => format!("{} ({inner})", errno.desc()),
        None => inner.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_text_of_an_error_becomes_its_message() {
        for (dump, words) in [
            ("Syscall(Nix(EPERM))", "Operation not permitted (EPERM)"),
            (
                "Io(Os { code: 2, kind: NotFound, message: \"No such file or directory\" })",
                "No such file or directory",
            ),
            ("\"/srv/data\"", "\"/srv/data\""),
            ("plain words (with more)", "plain words (with more)"),
        ] {
            assert_eq!(readable(dump), words);
        }
    }

    #[test]
    fn error_with_its_causes_repeats_no_cause() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::io::Error);
        let error = Outer(std::io::Error::other("inner"));
        assert_eq!(with_causes(&error), "outer: inner");
    }
}
