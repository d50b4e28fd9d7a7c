//! The reason of an end that a container did not choose, where Kubernetes looks for it.
//!
//! Used by the shim and by the runner on a termination log that is already open; finding one is the
//! shim's business.

use std::{
    fs::File,
    io::{Result, Write},
};

/// The kubelet reads no more (`MaxContainerTerminationMessageLength`).
pub const MAX: usize = 4096;

/// Writes `text` to `file`, unless the container has said something there itself.
///
/// # Errors
/// Those of the file.
pub fn note(mut file: &File, text: &str) -> Result<()> {
    if file.metadata()?.len() > 0 {
        return Ok(());
    }
    file.write_all(&text.as_bytes()[..text.floor_char_boundary(MAX)])
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Seek};

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
    fn what_the_container_has_said_stays() {
        assert_eq!(noted("mine", "reason"), "mine");
    }

    #[test]
    fn a_failure_is_told() {
        let file = tempfile::NamedTempFile::new().expect("file");
        let read_only = fs::File::open(file.path()).expect("open");
        note(&read_only, "reason").expect_err("it cannot be written");
    }
}
