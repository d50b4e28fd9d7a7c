//! What a guest is refused, on its way to the log of the runner's caller: a pipe.
//!
//! The guest's process writes one line per packet (`O_DIRECT` in pipe(2)), and loses lines that do not fit.
//! It holds its end for as long as it lives, also if native code of an attacker has taken its place. So
//! nothing that comes is trusted: a line is cut, and what is no plain text in it is escaped. Only the
//! reader decides how often it reads; meanwhile the pipe is full.
#![forbid(unsafe_code)]

use std::{
    fs::File,
    io::{Read, Result},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use crate::spawn;

/// The most characters of a line that is read.
pub const LONGEST_REFUSAL: usize = 1024;
/// The kernel splits what is longer.
const PACKET: usize = 4096;

/// Where the caller reads what a guest is refused.
#[derive(Debug)]
pub struct RefusalReader(File);

impl RefusalReader {
    /// The reader, and the end of the pipe to pass to the runner, to be closed when the process is made.
    ///
    /// # Errors
    /// If no pipe can be made.
    pub fn new() -> Result<(Self, OwnedFd)> {
        let (read, write) = spawn::pipe(libc::O_NONBLOCK | libc::O_DIRECT)?;
        Ok((Self(read.into()), write))
    }

    /// The next line: at most [`LONGEST_REFUSAL`] characters, none of which is a control character. `None`
    /// once the process has ended and all is read. Does not wait.
    ///
    /// # Errors
    /// [`WouldBlock`](std::io::ErrorKind::WouldBlock) if there is none yet.
    pub fn read(&self) -> Result<Option<String>> {
        let mut packet = [0; PACKET];
        let length = (&self.0).read(&mut packet)?;
        Ok((length > 0).then(|| plain(&packet[..length])))
    }
}

impl AsFd for RefusalReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The text of a packet, cut and escaped.
fn plain(packet: &[u8]) -> String {
    let text = String::from_utf8_lossy(packet);
    let mut line = String::new();
    let mut length = 0;
    for character in text.chars() {
        // A log quotes these by itself.
        let escaped: String = match character {
            '"' | '\'' | '\\' => character.into(),
            other => other.escape_debug().collect(),
        };
        // The last one says that there is more.
        let more = escaped.chars().count();
        if length + more >= LONGEST_REFUSAL {
            line.push('…');
            break;
        }
        line.push_str(&escaped);
        length += more;
    }
    line
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Write};

    use super::*;

    fn ends() -> (RefusalReader, File) {
        let (reader, end) = RefusalReader::new().expect("a pipe");
        (reader, end.into())
    }

    #[test]
    fn each_packet_is_one_line_until_the_writer_ends() {
        let (reader, mut writer) = ends();
        let none = reader.read().expect_err("nothing is there");
        assert_eq!(none.kind(), ErrorKind::WouldBlock);
        writer.write_all(b"add \"tcp:80\"").expect("write");
        writer.write_all(b"second").expect("write");
        drop(writer);
        let mut lines = Vec::new();
        while let Some(line) = reader.read().expect("read") {
            lines.push(line);
        }
        assert_eq!(lines, ["add \"tcp:80\"", "second"]);
    }

    #[test]
    fn hostile_packet_is_one_short_line_without_control_characters() {
        for packet in [
            vec![b'x'; PACKET],
            vec![b'\n'; PACKET],
            vec![0xff; PACKET],
            b"a\nlevel=error msg=forged\r\x1b[2J\0".repeat(100),
            "\u{202e}\u{2028}\u{85}\u{300}".repeat(400).into_bytes(),
            "\u{10ffff}".repeat(1024).into_bytes(),
        ] {
            let (reader, mut writer) = ends();
            writer.write_all(&packet).expect("write");
            let line = reader.read().expect("read").expect("a line");
            assert!(line.chars().count() <= LONGEST_REFUSAL, "{line}");
            let plain = |c: char| !c.is_control() && !"\u{202e}\u{2028}\u{300}".contains(c);
            assert!(line.chars().all(plain), "{line}");
        }
    }

    #[test]
    fn writer_does_not_wait_for_a_reader_and_loses_what_does_not_fit() {
        let (reader, mut writer) = ends();
        let mut written = 0;
        let full = loop {
            match writer.write_all(format!("line {written}").as_bytes()) {
                Ok(()) => written += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
        drop(writer);
        let mut read = 0;
        while let Some(line) = reader.read().expect("read") {
            assert_eq!(line, format!("line {read}"));
            read += 1;
        }
        assert_eq!(read, written);
    }
}
