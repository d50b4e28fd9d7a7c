//! Paths of Unix sockets in rules.

use std::fmt;

/// Bytes of the longest path that a socket's address holds (unix(7)).
pub(crate) const LONGEST_PATH: usize = 108;

/// The path of a Unix socket, in which `*` stands for any text without `/`; or any path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnixPattern(Pattern);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Pattern {
    /// `*`.
    Any,
    /// Absolute, without empty components, `.` and `..`.
    Path(String),
}

/// What is wrong with a text for a path.
pub(crate) enum PathProblem {
    Empty,
    Abstract,
    Relative,
    NotPlain { plain: String },
    Long,
}

impl UnixPattern {
    /// Any path.
    #[must_use]
    pub fn any() -> Self {
        Self(Pattern::Any)
    }

    pub(crate) fn parse(text: &str) -> Result<Self, PathProblem> {
        if text == "*" {
            return Ok(Self::any());
        }
        match text.as_bytes() {
            [] => return Err(PathProblem::Empty),
            [b'@', ..] => return Err(PathProblem::Abstract),
            [b'/', ..] => {}
            _ => return Err(PathProblem::Relative),
        }
        if !is_plain(text.as_bytes()) {
            let mut kept: Vec<&str> = Vec::new();
            for part in text.split('/') {
                match part {
                    "" | "." => {}
                    ".." => {
                        kept.pop();
                    }
                    part => kept.push(part),
                }
            }
            let plain = match kept.as_slice() {
                [] => "/run/app.sock".to_owned(),
                kept => format!("/{}", kept.join("/")),
            };
            return Err(PathProblem::NotPlain { plain });
        }
        if text.len() > LONGEST_PATH {
            return Err(PathProblem::Long);
        }
        Ok(Self(Pattern::Path(text.to_owned())))
    }

    /// Whether `path`, absolute and without symlinks, fits. A path that is not plain never does.
    #[must_use]
    pub fn matches(&self, path: &[u8]) -> bool {
        is_plain(path)
            && match &self.0 {
                Pattern::Any => true,
                Pattern::Path(pattern) => fits(pattern.as_bytes(), path),
            }
    }

    /// Whether every path that `other` matches fits this pattern too.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Pattern::Any, _) => true,
            (Pattern::Path(_), Pattern::Any) => false,
            // A `*` of the other pattern fits only a `*` of this one, which takes all that it stands for.
            (Pattern::Path(pattern), Pattern::Path(other)) => {
                fits(pattern.as_bytes(), other.as_bytes())
            }
        }
    }
}

impl fmt::Display for UnixPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Pattern::Any => "*",
            Pattern::Path(path) => path,
        })
    }
}

/// Absolute, not `/` itself, without NUL, empty components, `.` and `..`.
pub(crate) fn is_plain(path: &[u8]) -> bool {
    let Some((b'/', rest)) = path.split_first() else {
        return false;
    };
    !rest.contains(&0)
        && rest
            .split(|byte| *byte == b'/')
            .all(|part| !matches!(part, b"" | b"." | b".."))
}

/// Whether `text` fits `pattern`, whose `*` stand for any bytes but `/`. Takes at most the product of both lengths.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    // The last `*`, and how far the text is read if it stands for one more byte.
    let mut retry = None;
    while read < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                retry = Some((at, read));
                at += 1;
            }
            Some(byte) if *byte == text[read] => {
                at += 1;
                read += 1;
            }
            _ => match retry {
                Some((star, from)) if text[from] != b'/' => {
                    retry = Some((star, from + 1));
                    at = star + 1;
                    read = from + 1;
                }
                _ => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn star_stands_for_any_text_without_a_slash() {
        for (pattern, path, expected) in [
            ("/run/app.sock", "/run/app.sock", true),
            ("/run/app.sock", "/run/app.sock2", false),
            ("/run/db/*", "/run/db/a", true),
            ("/run/db/*", "/run/db/.s.PGSQL.5432", true),
            ("/run/db/*", "/run/db/a/b", false),
            ("/run/db/*", "/run/db/", false),
            ("/run/db/*", "/run/db", false),
            ("/run/*/s", "/run/a/s", true),
            ("/run/*/s", "/run/a/b/s", false),
            ("/run/*.sock", "/run/a.sock.sock", true),
            ("/run/*.sock", "/run/.sock", true),
            ("/run/a*b*c", "/run/abbc", true),
            ("/run/a*b*c", "/run/acb", false),
            ("/*/*", "/a/b", true),
            ("/*/*", "/a", false),
            ("*", "/any/where", true),
            ("*", "relative", false),
            ("*", "/run/../etc/x", false),
            ("*", "/run//x", false),
            ("*", "/run/./x", false),
            ("*", "\0abstract", false),
            ("*", "/run/a\0b", false),
            ("*", "", false),
            ("*", "/", false),
            ("/run/db/*", "/run/db/..", false),
        ] {
            let Ok(parsed) = UnixPattern::parse(pattern) else {
                panic!("{pattern}");
            };
            assert_eq!(
                parsed.matches(path.as_bytes()),
                expected,
                "{pattern} {path}"
            );
        }
    }
}
