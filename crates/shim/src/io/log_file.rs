//! A log file: a pipe is between it and the process, and the shim copies, as containerd's shim for runc does.
//!
//! So a process can neither read nor truncate its log, and any user may open `/dev/stdout` by name. The copying
//! needs no thread while nothing is printed, and no memory. Where the file cannot be written, as on a full disk, the
//! output is dropped: the process goes on.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use log::warn;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};

use super::terminal::set_nonblocking;
use crate::sys;

/// How much is copied at once: half of what a pipe holds.
const BUFFER: usize = 32 * 1024;

/// The log of a process that does not run yet.
#[derive(Debug)]
pub(super) struct NewLog {
    path: PathBuf,
    file: File,
    /// Opened with `O_NONBLOCK`.
    pipe: OwnedFd,
}

impl NewLog {
    /// A log in this file, which is open for appending. Returns the process's end too.
    pub(super) fn new(path: &Path, file: File) -> io::Result<(Self, OwnedFd)> {
        let (pipe, end) = pipe2(OFlag::O_CLOEXEC)?;
        set_nonblocking(&pipe)?;
        let log = Self {
            path: path.to_owned(),
            file,
            pipe,
        };
        Ok((log, end))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a line of the shim's own, after what the pipe holds.
    pub(super) fn report(&self, text: &str) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        while let Ok(length @ 1..) = nix::unistd::read(&self.pipe, &mut buffer) {
            (&self.file).write_all(&buffer[..length])?;
        }
        (&self.file).write_all(format!("{text}\n").as_bytes())
    }

    /// Begins to copy. To be called within the runtime.
    pub(super) fn start(self) -> io::Result<LogCopy> {
        let pipe = sys::register(self.pipe, Interest::READABLE)?;
        let (asked, questions) = watch::channel(0);
        let (answers, answered) = watch::channel(0);
        let target = LogTarget {
            path: self.path,
            file: Arc::new(self.file),
            failing: false,
        };
        let copying = tokio::spawn(async move {
            copy(&pipe, target, questions, &answers).await;
            answers.send_replace(u64::MAX);
        });
        Ok(LogCopy {
            asked,
            answered,
            copying,
        })
    }
}

/// A log that is copied. Its drop ends that.
#[derive(Debug)]
pub(super) struct LogCopy {
    /// How often it was asked whether all is written.
    asked: watch::Sender<u64>,
    /// How many of these questions have their answer.
    answered: watch::Receiver<u64>,
    copying: JoinHandle<()>,
}

impl LogCopy {
    /// Waits until all that is printed up to this call is in the file. Others may print on.
    pub(super) fn written(&self) -> impl Future<Output = ()> + use<> {
        self.asked.send_modify(|asked| *asked += 1);
        let question = *self.asked.borrow();
        let mut answered = self.answered.clone();
        async move {
            // An error means that it copies no more.
            let _ = answered.wait_for(|&answered| answered >= question).await;
        }
    }
}

impl Drop for LogCopy {
    fn drop(&mut self) {
        self.copying.abort();
    }
}

struct LogTarget {
    path: PathBuf,
    file: Arc<File>,
    /// Whether the last write failed.
    failing: bool,
}

impl LogTarget {
    /// Writes on a thread that may block: a disk may be slow, and never says so before.
    async fn write(&mut self, bytes: Vec<u8>) {
        let file = Arc::clone(&self.file);
        let written = spawn_blocking(move || (&*file).write_all(&bytes)).await;
        let written = written
            .map_err(io::Error::other)
            .and_then(|written| written);
        if let Err(error) = &written
            && !self.failing
        {
            warn!(
                path:% = self.path.display(), error:%;
                "cannot write a container's log; its output is lost until the file can be written"
            );
        }
        self.failing = written.is_err();
    }
}

/// Copies until no process has the other end of the pipe open. A question has its answer when all that was in the
/// pipe at its time is written.
async fn copy(
    pipe: &AsyncFd<OwnedFd>,
    mut target: LogTarget,
    mut questions: watch::Receiver<u64>,
    answers: &watch::Sender<u64>,
) {
    let mut answered = 0;
    // A question, and how much of the output before it is still in the pipe.
    let mut open: Option<(u64, usize)> = None;
    loop {
        let asked = *questions.borrow_and_update();
        if open.is_none() && asked > answered {
            let unread = sys::unread(pipe.get_ref().as_fd());
            open = Some((asked, unread.unwrap_or(0)));
        }
        if let Some((question, 0)) = open {
            answered = question;
            answers.send_replace(question);
            open = None;
            continue;
        }
        let mut buffer = vec![0; BUFFER];
        match nix::unistd::read(pipe.get_ref(), &mut buffer) {
            Ok(0) => return,
            Ok(length) => {
                buffer.truncate(length);
                target.write(buffer).await;
                open = open.map(|(question, left)| (question, left.saturating_sub(length)));
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                drop(buffer);
                tokio::select! {
                    ready = pipe.readable() => match ready {
                        // The next read tells what there is.
                        Ok(mut ready) => ready.clear_ready(),
                        Err(error) => return cannot_read(&target.path, &error),
                    },
                    asked = questions.changed() => if asked.is_err() {
                        return;
                    }
                }
            }
            Err(errno) => return cannot_read(&target.path, &errno.into()),
        }
    }
}

fn cannot_read(path: &Path, error: &io::Error) {
    warn!(path:% = path.display(), error:%; "cannot read the output for a container's log");
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    const LONG: Duration = Duration::from_secs(120);

    /// A log in a new file, the process's end, and the file's path.
    fn log(dir: &Path) -> (NewLog, File, PathBuf) {
        let path = dir.join("log");
        let file = File::options().append(true).create(true).open(&path);
        let (log, end) = NewLog::new(&path, file.expect("open")).expect("a pipe");
        (log, end.into(), path)
    }

    async fn in_time<T>(what: impl Future<Output = T>) -> T {
        tokio::time::timeout(LONG, what).await.expect("in time")
    }

    #[tokio::test]
    async fn what_was_printed_before_the_question_is_in_the_file_though_others_print_on() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (log, mut process, path) = log(dir.path());
        let another = process.try_clone().expect("dup");
        let log = log.start().expect("start");
        // More than the pipe holds, from a thread: the process waits for the copying.
        let lines = "a line of the log\n".repeat(20_000);
        let text = lines.clone();
        let printed = spawn_blocking(move || process.write_all(text.as_bytes()));
        in_time(printed).await.expect("join").expect("print");
        in_time(log.written()).await;
        assert_eq!(fs::read_to_string(&path).expect("read"), lines);

        (&another).write_all(b"later\n").expect("print");
        in_time(log.written()).await;
        assert_eq!(fs::read_to_string(&path).expect("read"), lines + "later\n");
        drop(another);
        in_time(async {
            while !log.copying.is_finished() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        // Also after the end of the pipe.
        in_time(log.written()).await;
    }

    #[tokio::test]
    async fn nothing_printed_is_written_at_once() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (log, _process, path) = log(dir.path());
        let log = log.start().expect("start");
        in_time(log.written()).await;
        // The copying waits by now.
        tokio::task::yield_now().await;
        let (first, second) = (log.written(), log.written());
        in_time(first).await;
        in_time(second).await;
        assert_eq!(fs::read_to_string(path).expect("read"), "");
    }

    /// As on a full disk. runc's shim stops reading then, and the process hangs.
    #[tokio::test]
    async fn file_that_cannot_be_written_does_not_stop_the_process() {
        let full = Path::new("/dev/full");
        let file = File::options().append(true).open(full).expect("open");
        let (log, process) = NewLog::new(full, file).expect("a pipe");
        let log = log.start().expect("start");
        let printed = spawn_blocking(move || File::from(process).write_all(&[b'x'; 1 << 20]));
        in_time(printed).await.expect("join").expect("print");
        in_time(log.written()).await;
    }

    #[test]
    fn report_follows_what_was_printed_before() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (log, mut process, path) = log(dir.path());
        process.write_all(b"from a hook\n").expect("print");
        log.report("the reason").expect("report");
        let text = fs::read_to_string(path).expect("read");
        assert_eq!(text, "from a hook\nthe reason\n");
    }
}
