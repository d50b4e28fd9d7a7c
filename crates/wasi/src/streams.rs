//! `/dev/stdin`, `/dev/stdout`, `/dev/stderr` and `/dev/fd/N`: the guest's own descriptors.
//!
//! Elsewhere these are links into `/proc/self/fd`, which a guest does not have and which would lead
//! to the runner's descriptors. So a path that leads there names nothing, and only then, when the
//! kernel has not found a file, is it looked at here: where its last link points. Opening gives the
//! guest a second number for the same open file, as BSD does: no permission on the file is needed,
//! and nothing is emptied.
#![forbid(unsafe_code)]

use std::{
    ffi::{CStr, CString},
    os::fd::{AsRawFd as _, BorrowedFd},
};

use rustix::{fs::readlinkat, io::Errno as Kernel};

use crate::{abi::types::Fd, guest::Guest, limits, paths::Follow};

impl Guest {
    /// The descriptor that `path` stands for, if its links are followed and the kernel, which answers
    /// with `error`, has found no file.
    pub(crate) fn stream_behind(
        &self,
        error: Kernel,
        directory: BorrowedFd<'_>,
        path: &CStr,
        follow: Follow,
    ) -> Option<Fd> {
        let may_be_stream = matches!(error, Kernel::NOENT | Kernel::LOOP | Kernel::NOTDIR);
        if follow == Follow::No || !may_be_stream {
            return None;
        }
        self.stream(directory, path)
    }

    /// The descriptor that `path` stands for, its links followed.
    ///
    /// One system call where the path is no link, which is what programs ask for most often.
    fn stream(&self, directory: BorrowedFd<'_>, path: &CStr) -> Option<Fd> {
        let mut from = directory;
        let mut path = path.to_bytes().to_vec();
        // A name from the root directory, as links have it.
        if from.as_raw_fd() == self.paths.root().as_raw_fd() {
            path.insert(0, b'/');
        }
        for _ in 0..limits::LINKS {
            if path.first() == Some(&b'/') {
                if let Some(fd) = descriptor(&path) {
                    return Some(fd);
                }
                from = self.paths.root();
            }
            path = self.linked(from, &path)?;
        }
        None
    }

    /// Replaces the last link of `path` by what it holds: the path itself, or for `/dev/fd/N` the
    /// directory of a number.
    fn linked(&self, from: BorrowedFd<'_>, path: &[u8]) -> Option<Vec<u8>> {
        let split = path.iter().rposition(|&byte| byte == b'/');
        if let Some(target) = self.target(from, path) {
            let directory = &path[..split.map_or(0, |slash| slash + 1)];
            return Some(joined(directory, target.as_bytes()));
        }
        let slash = split.filter(|&slash| slash > 0 && number(&path[slash + 1..]).is_some())?;
        let parent = &path[..slash];
        let target = self.target(from, parent)?;
        let above = parent.iter().rposition(|&byte| byte == b'/');
        let above = &parent[..above.map_or(0, |slash| slash + 1)];
        Some([&joined(above, target.as_bytes())[..], &path[slash..]].concat())
    }

    /// What a link holds.
    fn target(&self, from: BorrowedFd<'_>, path: &[u8]) -> Option<CString> {
        let place = self.paths.place(from, &CString::new(path).ok()?).ok()?;
        readlinkat(&place, place.name(), Vec::new()).ok()
    }
}

/// A link's text, as seen from the directory that the link is in.
fn joined(directory: &[u8], target: &[u8]) -> Vec<u8> {
    if target.first() == Some(&b'/') {
        target.to_vec()
    } else {
        [directory, target].concat()
    }
}

/// The descriptor that an absolute path without links names.
fn descriptor(path: &[u8]) -> Option<Fd> {
    let fd = match path {
        b"/dev/stdin" => 0,
        b"/dev/stdout" => 1,
        b"/dev/stderr" => 2,
        _ => {
            // 1 is the container's first process, which is the guest.
            let directories: [&[u8]; 5] = [
                b"/dev/fd/",
                b"/proc/self/fd/",
                b"/proc/thread-self/fd/",
                b"/proc/1/fd/",
                b"/proc/1/task/1/fd/",
            ];
            let within = |directory: &&[u8]| path.strip_prefix(*directory);
            number(directories.iter().find_map(within)?)?
        }
    };
    Some(Fd::from(fd))
}

fn number(name: &[u8]) -> Option<u32> {
    let digits = !name.is_empty() && name.iter().all(u8::is_ascii_digit);
    digits
        .then(|| std::str::from_utf8(name).ok()?.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_descriptors_are_known() {
        for (path, fd) in [
            ("/dev/stdin", Some(0)),
            ("/dev/stderr", Some(2)),
            ("/dev/fd/17", Some(17)),
            ("/proc/self/fd/1", Some(1)),
            ("/proc/1/fd/2", Some(2)),
            ("/proc/2/fd/2", None),
            ("/dev/fd/", None),
            ("/dev/fd/+1", None),
            ("/dev/fd/1/x", None),
            ("/dev/fd/99999999999", None),
            ("/dev/stdout2", None),
        ] {
            assert_eq!(descriptor(path.as_bytes()).map(u32::from), fd, "{path}");
        }
    }
}
