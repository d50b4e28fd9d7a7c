//! What the guests of the pod are refused, as lines in the shim's log for the node's operator.
//!
//! Each guest's process has a pipe for it, and here a task per pipe, which waits in the event loop. What
//! comes may be an attacker's ([`RefusalReader`]): so the text is a field of the line, and after each line
//! the task neither reads nor waits for a second. Begun by `launch`.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use log::warn;
use wasm_interp_runner_client::RefusalReader;

use crate::sys;

/// How long no other line of the same process is logged.
const PAUSE: Duration = Duration::from_secs(1);

/// The log of one process of a container.
#[derive(Debug)]
pub(crate) struct RefusalLog {
    reader: RefusalReader,
    /// The process's end.
    writer: OwnedFd,
    namespace: String,
    id: String,
    /// Empty for the init process.
    exec_id: String,
}

impl RefusalLog {
    pub(crate) fn new(namespace: &str, id: &str, exec_id: &str) -> io::Result<Self> {
        let (reader, writer) = RefusalReader::new()?;
        Ok(Self {
            reader,
            writer,
            namespace: namespace.to_owned(),
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
        })
    }

    /// Logs from now on, until the process has ended. To be called when the process is made, within the
    /// runtime.
    pub(crate) fn begin(self) {
        let Self {
            reader,
            writer,
            namespace,
            id,
            exec_id,
        } = self;
        drop(writer);
        tokio::spawn(async move {
            let (namespace, id, exec_id) = (&*namespace, &*id, &*exec_id);
            let log = |refusal: &str| {
                if exec_id.is_empty() {
                    warn!(id, namespace, refusal; "{REFUSED}");
                } else {
                    warn!(id, exec_id, namespace, refusal; "{REFUSED}");
                }
            };
            let pause = || tokio::time::sleep(PAUSE);
            if let Err(error) = follow(&reader, log, pause).await {
                warn!(id, namespace, error:%; "cannot log what a guest is refused");
            }
        });
    }
}

const REFUSED: &str = "a guest's use of the network is refused";

impl AsFd for RefusalLog {
    /// What the process writes to.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.writer.as_fd()
    }
}

/// Logs each line that comes, and pauses after it, until the writer has ended.
async fn follow<P: Future<Output = ()>>(
    reader: &RefusalReader,
    mut log: impl FnMut(&str),
    mut pause: impl FnMut() -> P,
) -> io::Result<()> {
    loop {
        {
            // Only meanwhile does what is written wake this process.
            let watched = sys::readable(reader.as_fd())?;
            drop(watched.readable().await?);
        }
        match reader.read() {
            Ok(Some(line)) => {
                log(&line);
                pause().await;
            }
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::fs::File;
    use std::io::Write;

    use super::*;

    fn followed(writes: impl FnOnce(&mut File)) -> Vec<String> {
        let (reader, writer) = RefusalReader::new().expect("a pipe");
        let mut writer = File::from(writer);
        writes(&mut writer);
        drop(writer);
        let events = RefCell::new(Vec::new());
        let log = |line: &str| events.borrow_mut().push(line.to_owned());
        let pause = || {
            events.borrow_mut().push("pause".to_owned());
            std::future::ready(())
        };
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(follow(&reader, log, pause))
            .expect("to its end");
        events.into_inner()
    }

    #[test]
    fn each_line_is_followed_by_a_pause() {
        let events = followed(|writer| {
            for line in ["first", "second"] {
                writer.write_all(line.as_bytes()).expect("write");
            }
        });
        assert_eq!(events, ["first", "pause", "second", "pause"]);
    }

    /// One byte per packet or per call: what fits into the pipe is all that comes.
    #[test]
    fn flood_is_one_line_per_pause() {
        let mut written = 0;
        let events = followed(|writer| {
            while writer.write_all(b"\n").is_ok() {
                written += 1;
            }
        });
        assert_eq!(events.len(), 2 * written);
        assert!(events.iter().step_by(2).all(|line| line == "\\n"));
        assert!(events.iter().skip(1).step_by(2).all(|line| line == "pause"));
    }
}
