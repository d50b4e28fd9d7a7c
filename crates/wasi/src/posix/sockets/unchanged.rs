//! Directories in which a change would show: held against others who swap names while a path is used.
//!
//! The kernel sets a directory's change time before a change of its entries can be seen, and no program can
//! set it. So if it is the same before and after a call, the call has found the entries that were looked at
//! before. That holds only where a further change would get another time. Times have the resolution of a
//! clock tick, or of a second on old file systems: a directory that has changed just now is waited for.
#![forbid(unsafe_code)]

use std::{
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

use nix::time::{ClockId, clock_gettime};
use rustix::{
    event::{Timespec, poll},
    fs::{Stat, fstat},
};

use crate::{
    errno::{Errno, Result},
    wait::uninterrupted,
};

/// How long directories are waited for that change all the time, where a moment at the begin of a tick is enough, or
/// of a second.
const TICKS: Duration = Duration::from_millis(200);
const SECONDS: Duration = Duration::from_millis(1200);
const PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 1_000_000,
};

/// Seconds and nanoseconds.
type Time = (i64, i64);

/// Directories and their change times, of which a further change would differ.
#[derive(Debug)]
pub(super) struct Unchanged<'a> {
    directories: Vec<(BorrowedFd<'a>, Time)>,
}

impl<'a> Unchanged<'a> {
    /// Waits for the moment. ECONNABORTED if there is none.
    pub(super) fn since_now(directories: impl IntoIterator<Item = BorrowedFd<'a>>) -> Result<Self> {
        let directories: Vec<_> = directories.into_iter().collect();
        let started = Instant::now();
        loop {
            // The clock first: what changes after it has been read gets no earlier time.
            let now = now()?;
            let times: Vec<_> = directories
                .iter()
                .map(|&directory| Ok((directory, changed(&fstat(directory)?))))
                .collect::<rustix::io::Result<_>>()?;
            if times.iter().all(|&(_, time)| would_show(time, now)) {
                return Ok(Self { directories: times });
            }
            let seconds = times.iter().any(|(_, time)| time.1 == 0);
            if started.elapsed() >= if seconds { SECONDS } else { TICKS } {
                return Err(Errno::Connaborted);
            }
            // So short that a signal can wait: a call that does not block is not interrupted.
            uninterrupted(|| poll(&mut [], Some(&PAUSE)))?;
        }
    }

    /// Whether nothing has changed in any of them.
    pub(super) fn until_now(&self) -> bool {
        let Ok(now) = now() else {
            return false;
        };
        self.directories.iter().all(|&(directory, time)| {
            fstat(directory).is_ok_and(|stat| changed(&stat) == time) && would_show(time, now)
        })
    }
}

/// Whether a change at `now` or later gets another time than `time`.
fn would_show(time: Time, now: Time) -> bool {
    let (seconds, nanoseconds) = time;
    if seconds > now.0 + 1 {
        // The clock was set back. None gets this time until it has come again.
        return true;
    }
    if nanoseconds == 0 {
        // Perhaps all that the file system keeps are seconds.
        return seconds < now.0;
    }
    time < now
}

/// The clock that the kernel takes change times from.
fn now() -> Result<Time> {
    let now = clock_gettime(ClockId::CLOCK_REALTIME_COARSE)?;
    Ok((now.tv_sec(), now.tv_nsec()))
}

#[allow(clippy::unnecessary_cast)] // Numbers of files differ between machines.
fn changed(stat: &Stat) -> Time {
    (stat.st_ctime as i64, stat.st_ctime_nsec as i64)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        os::fd::AsFd as _,
    };

    use super::*;

    #[test]
    fn times_that_a_change_could_get_again_are_waited_for() {
        for (time, now, expected) in [
            ((9, 5), (9, 6), true),
            ((9, 6), (9, 6), false),
            ((9, 7), (9, 6), false),
            ((8, 999_999_999), (9, 0), true),
            // Of a file system with seconds alone.
            ((9, 0), (9, 999_999_999), false),
            ((9, 0), (10, 0), true),
            // The clock was set back, or its tick has come meanwhile.
            ((99, 5), (9, 6), true),
            ((10, 5), (9, 6), false),
        ] {
            assert_eq!(would_show(time, now), expected, "{time:?} at {now:?}");
        }
    }

    #[test]
    fn change_of_any_of_several_directories_shows_at_once() {
        let parent = tempfile::tempdir().expect("a directory");
        let inner = parent.path().join("inner");
        fs::create_dir(&inner).expect("a directory");
        let opened = [parent.path(), &inner].map(|path| File::open(path).expect("open"));
        let all = || opened.iter().map(|file| file.as_fd());
        for (round, path) in [(1, parent.path()), (2, &inner)] {
            let held = Unchanged::since_now(all()).expect("a moment");
            assert!(held.until_now());
            let name = path.join("a");
            fs::write(&name, "").expect("a file");
            fs::remove_file(&name).expect("remove");
            assert!(!held.until_now(), "{round}");
        }
    }
}
