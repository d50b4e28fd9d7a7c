//! Puts executable files in place, by another process.
//!
//! A file that is open for writing cannot be executed (ETXTBSY). What a test writes itself may still be open in a process
//! that another thread of the test forks at that moment, until that process executes its own program.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

const INSTALL: [&str; 2] = ["-m", "755"];

/// Copies an executable.
///
/// # Panics
/// If install(1) fails.
pub fn copy(from: &Path, to: &Path) {
    let status = Command::new("install")
        .args(INSTALL)
        .args([from, to])
        .status();
    let status = status.expect("run install");
    assert!(
        status.success(),
        "copy {} to {}",
        from.display(),
        to.display()
    );
}

/// Writes an executable, as a script.
///
/// # Panics
/// If install(1) fails.
pub fn write(to: &Path, content: impl AsRef<[u8]>) {
    let mut install = Command::new("install")
        .args(INSTALL)
        .arg("/dev/stdin")
        .arg(to)
        .stdin(Stdio::piped())
        .spawn()
        .expect("run install");
    let mut stdin = install.stdin.take().expect("piped");
    stdin
        .write_all(content.as_ref())
        .expect("write the content");
    drop(stdin);
    let status = install.wait().expect("wait for install");
    assert!(status.success(), "write {}", to.display());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_place_can_be_executed() {
        let folder = tempfile::tempdir().expect("folder");
        let (script, copy_of_it) = (folder.path().join("script"), folder.path().join("copy"));
        write(&script, "#!/bin/sh\nexit 7\n");
        copy(&script, &copy_of_it);
        for program in [script, copy_of_it] {
            let status = Command::new(program).status().expect("run");
            assert_eq!(status.code(), Some(7));
        }
    }
}
