//! The names that containerd gives for stdin, stdout and stderr: a path, a URI or nothing. Pure.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::info::RUNTIME_NAME;

/// A stream cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StdioError {
    #[error(
        "cannot open {path:?} for the container's {stream}: {source}; look at what created the \
         container"
    )]
    Open {
        stream: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "cannot make a terminal: {0}; look at the host's /dev/pts and at the limit of open files"
    )]
    Terminal(#[source] io::Error),
    #[error("cannot change the owner of a stream to that of the options IoUid and IoGid: {0}")]
    Owner(#[source] io::Error),
    #[error("cannot copy to the log {path:?}: {source}; look at the limit of open files")]
    Copy { path: PathBuf, source: io::Error },
    #[error("cannot set the size of the terminal: {0}")]
    Resize(#[source] io::Error),
    #[error(
        "cannot start the logging program {program:?}: {source}; look at its path, its permissions \
         and the node's limits"
    )]
    StartLogger { program: PathBuf, source: io::Error },
    #[error(
        "the logging program {program:?} is not ready after {} s: {}; look at what it waits for",
        .limit.as_secs_f64(),
        .readiness.missing()
    )]
    LoggerTimeout {
        program: PathBuf,
        readiness: LoggerReadiness,
        limit: Duration,
    },
    #[error(
        "the logging program {program:?} ended or closed descriptor 5 before it was ready: \
         binary-v2:// wants one byte there; look at why it ended"
    )]
    LoggerNotReady { program: PathBuf },
    #[error("the create was cancelled while the logging program {program:?} was not ready")]
    LoggerCancelled { program: PathBuf },
    #[error(
        "{stream} {uri:?} is not supported by {RUNTIME_NAME}; give a FIFO, a file path, \
         file:///PATH, or as stdout binary:///PROGRAM or binary-v2:///PROGRAM"
    )]
    Scheme { stream: &'static str, uri: String },
}

impl StdioError {
    pub(crate) fn is_unsupported(&self) -> bool {
        matches!(self, Self::Scheme { .. })
    }
}

/// What containerd calls the streams of one process. A stream without a name is `/dev/null`.
#[derive(Clone, Debug, Default)]
pub(crate) struct StdioPaths {
    /// Whether a terminal is between them.
    pub(crate) terminal: bool,
    pub(crate) stdin: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// When a logging program is ready. Until then the container is not created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoggerReadiness {
    /// `binary`: when descriptor 5 is closed or written to. A program that dies is ready too.
    Closed,
    /// `binary-v2`: when one byte is written to descriptor 5.
    Byte,
}

impl LoggerReadiness {
    fn missing(self) -> &'static str {
        match self {
            Self::Closed => "it has not closed descriptor 5",
            Self::Byte => "it has not written a byte to descriptor 5",
        }
    }
}

/// A program of the node that reads the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProgramUri {
    pub(super) readiness: LoggerReadiness,
    /// Absolute.
    pub(super) path: PathBuf,
    pub(super) arguments: Vec<OsString>,
}

/// Where one stream leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StreamTarget {
    Null,
    /// A FIFO or a file.
    Path(PathBuf),
    /// A log file, created if it does not exist.
    LogFile(PathBuf),
    /// One for both stdout and stderr. Only stdout names it.
    Program(ProgramUri),
}

impl StreamTarget {
    pub(super) fn parse(stream: &'static str, name: &str) -> Result<Self, StdioError> {
        if name.is_empty() {
            return Ok(Self::Null);
        }
        if name.starts_with('/') {
            return Ok(Self::Path(name.into()));
        }
        let unsupported = || StdioError::Scheme {
            stream,
            uri: name.to_owned(),
        };
        let uri = Uri::parse(name).ok_or_else(unsupported)?;
        let program = |readiness| {
            Self::Program(ProgramUri {
                readiness,
                path: uri.path(),
                arguments: uri.arguments(),
            })
        };
        match (uri.scheme.as_str(), stream) {
            ("file", "stdout" | "stderr") => Ok(Self::LogFile(uri.path())),
            ("binary", "stdout") => Ok(program(LoggerReadiness::Closed)),
            ("binary-v2", "stdout") => Ok(program(LoggerReadiness::Byte)),
            _ => Err(unsupported()),
        }
    }
}

/// The parts of a URI without a host that are used here.
struct Uri<'a> {
    scheme: String,
    /// With escapes. Begins with a slash.
    path: &'a str,
    query: &'a str,
}

impl<'a> Uri<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let rest = rest.split_once('#').map_or(rest, |(rest, _fragment)| rest);
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        path.starts_with('/').then(|| Self {
            scheme: scheme.to_ascii_lowercase(),
            path,
            query,
        })
    }

    fn path(&self) -> PathBuf {
        OsString::from_vec(percent_decode(self.path)).into()
    }

    /// Each key of the query and its first value, as containerd gives them to a logging program. A key without
    /// a value has the empty one. They keep the order of the query; containerd's has none.
    fn arguments(&self) -> Vec<OsString> {
        let decode = |text: &str| percent_decode(&text.replace('+', " "));
        let mut arguments: Vec<[Vec<u8>; 2]> = Vec::new();
        for pair in self.query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let key = decode(key);
            if arguments.iter().all(|[known, _]| *known != key) {
                arguments.push([key, decode(value)]);
            }
        }
        let words = arguments.into_iter().flatten();
        words.map(OsString::from_vec).collect()
    }
}

/// Decodes `%20` and the like. Leaves what is not an escape as it is.
fn percent_decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escape = tail
            .get(..2)
            .filter(|digits| *first == b'%' && digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escape {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsupported_uris_are_refused_by_name() {
        for (stream, name) in [
            ("stdout", "npipe:////./pipe/log"),
            ("stdout", "binary://logger?x=y"),
            ("stdout", "file://log"),
            ("stdout", "log"),
            ("stdin", "file:///tmp/x"),
            ("stdin", "binary:///usr/bin/logger"),
            ("stderr", "binary:///usr/bin/logger"),
        ] {
            let error = StreamTarget::parse(stream, name).expect_err("not supported");
            assert!(error.is_unsupported());
            let start = format!("{stream} {name:?} is not supported");
            assert!(error.to_string().starts_with(&start), "{error}");
        }
    }

    #[test]
    fn program_gets_each_key_and_its_first_value_in_order() {
        for (uri, readiness, path, arguments) in [
            (
                "binary:///bin/log%20er?id=1&out=/tmp/a+b&id=2",
                LoggerReadiness::Closed,
                "/bin/log er",
                &["id", "1", "out", "/tmp/a b"][..],
            ),
            (
                "binary-v2:///bin/sh?-c=printf%20x%20%3E%265",
                LoggerReadiness::Byte,
                "/bin/sh",
                &["-c", "printf x >&5"],
            ),
            // As containerd: a key without a value has an empty one.
            (
                "BINARY:///bin/echo?test&#part",
                LoggerReadiness::Closed,
                "/bin/echo",
                &["test", ""],
            ),
            (
                "binary:///bin/echo",
                LoggerReadiness::Closed,
                "/bin/echo",
                &[],
            ),
        ] {
            let expected = StreamTarget::Program(ProgramUri {
                readiness,
                path: path.into(),
                arguments: arguments.iter().map(OsString::from).collect(),
            });
            assert_eq!(StreamTarget::parse("stdout", uri).expect(uri), expected);
        }
    }

    /// `ctr --log-uri` passes on what a person has typed, and containerd takes the path of the URI alone.
    #[test]
    fn query_and_fragment_are_no_part_of_a_log_files_path() {
        for uri in ["file:///var/log/a%23b", "file:///var/log/a%23b?x=y#z"] {
            let target = StreamTarget::parse("stderr", uri).expect(uri);
            assert_eq!(target, StreamTarget::LogFile("/var/log/a#b".into()));
        }
    }

    #[test]
    fn percent_escapes_are_decoded_and_other_percent_signs_stay() {
        assert_eq!(percent_decode("/a%20b%2"), b"/a b%2");
        assert_eq!(percent_decode("/%zz/%+1/%C3%A9"), "/%zz/%+1/é".as_bytes());
        assert_eq!(percent_decode("%ff"), [0xff]);
    }
}
