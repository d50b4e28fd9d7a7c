//! The names that containerd gives for stdin, stdout and stderr: a path, a URI or nothing. Pure.
#![forbid(unsafe_code)]

use std::io;
use std::path::PathBuf;

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
    #[error("cannot set the size of the terminal: {0}")]
    Resize(#[source] io::Error),
    #[error(
        "{stream} {uri:?} is not supported by {RUNTIME_NAME}; give a FIFO, a file path or \
         file://PATH"
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

/// Where one stream leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StreamTarget {
    Null,
    /// A FIFO or a file.
    Path(PathBuf),
    /// A log file, created if it does not exist.
    LogFile(PathBuf),
}

impl StreamTarget {
    pub(super) fn parse(stream: &'static str, name: &str) -> Result<Self, StdioError> {
        if name.is_empty() {
            return Ok(Self::Null);
        }
        if name.starts_with('/') {
            return Ok(Self::Path(name.into()));
        }
        match name.strip_prefix("file://") {
            Some(path) if path.starts_with('/') && stream != "stdin" => {
                Ok(Self::LogFile(percent_decode(path).into()))
            }
            _ => Err(StdioError::Scheme {
                stream,
                uri: name.to_owned(),
            }),
        }
    }
}

/// Decodes `%20` and the like in the path of a URI. Leaves what is not an escape as it is.
fn percent_decode(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        let escape = tail
            .get(..2)
            .filter(|_| *first == b'%')
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
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsupported_uris_are_refused_by_name() {
        for (stream, name) in [
            ("stdout", "binary:///usr/bin/logger?x=y"),
            ("stdin", "file:///tmp/x"),
        ] {
            let error = StreamTarget::parse(stream, name).expect_err("not supported");
            assert!(error.is_unsupported());
            let start = format!("{stream} {name:?} is not supported");
            assert!(error.to_string().starts_with(&start), "{error}");
        }
    }

    #[test]
    fn percent_escapes_are_decoded_and_other_percent_signs_stay() {
        assert_eq!(percent_decode("/a%20b%2"), "/a b%2");
        assert_eq!(percent_decode("/%zz/%C3%A9"), "/%zz/é");
    }
}
