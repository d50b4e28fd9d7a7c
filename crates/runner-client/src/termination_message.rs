//! Writes why a container was ended to its termination log, where Kubernetes reads it.
//!
//! The shim and the runner call this with an open termination log. The shim finds and opens it.

use std::{
    fs::File,
    io::{Result, Seek, SeekFrom, Write},
};

/// The kubelet reads no more (`MaxContainerTerminationMessageLength`).
pub const MAX: usize = 4096;

/// Writes `text` to `file`, unless the container has written to it.
///
/// # Errors
/// Those of the file.
pub fn note(mut file: &File, text: &str) -> Result<()> {
    // Not by stat: a guest's process may make few system calls, and this one it may.
    if file.seek(SeekFrom::End(0))? > 0 {
        return Ok(());
    }
    file.write_all(&text.as_bytes()[..text.floor_char_boundary(MAX)])
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn noted(before: &str, text: &str) -> String {
        let mut file = tempfile::tempfile().expect("file");
        file.write_all(before.as_bytes()).expect("fill it");
        note(&file, text).expect("note");
        file.rewind().expect("rewind");
        std::io::read_to_string(file).expect("read")
    }

    #[test]
    fn a_reason_is_cut_between_characters_at_what_the_kubelet_reads() {
        assert_eq!(noted("", "short"), "short");
        let text = noted("", &"€".repeat(MAX));
        assert_eq!(text, "€".repeat(MAX / 3));
    }

    #[test]
    fn text_that_the_container_wrote_stays() {
        assert_eq!(noted("mine", "reason"), "mine");
    }

    #[test]
    fn failure_to_write_the_termination_log_is_returned() {
        let file = tempfile::NamedTempFile::new().expect("file");
        let read_only = fs::File::open(file.path()).expect("open");
        note(&read_only, "reason").expect_err("it cannot be written");
    }
}
