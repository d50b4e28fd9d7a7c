//! The registry of the cluster's network, and a door to it that asks for a name and a password.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use crate::Outcome;
use crate::addresses::{PRIVATE_REGISTRY, REGISTRY};
use crate::command::{self, Finished, wait_for};
use crate::images;
use crate::settings::ClusterSettings;

/// Who may come in.
pub(crate) const USER: &str = "puller";
pub(crate) const PASSWORD: &str = "sesame";
/// The two, as a client sends them.
const CREDENTIALS: &str = "cHVsbGVyOnNlc2FtZQ==";
/// An image that is only there, behind the door.
pub(crate) const PRIVATE: &str = "10.213.0.1:5001/test/private:1";

/// Opens the door and pushes [`PRIVATE`], which traps.
pub(crate) fn fill(settings: &ClusterSettings) -> Outcome {
    let listener = TcpListener::bind(PRIVATE_REGISTRY)?;
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            thread::spawn(move || {
                // A client that goes away is no business of the others'.
                let _ = serve(client);
            });
        }
    });
    push(settings, PRIVATE, "unreachable")?;
    Ok(())
}

/// Pushes an image that has a guest which begins with `start`, as `name` behind the door; returns its digest.
pub(crate) fn push(settings: &ClusterSettings, name: &str, start: &str) -> Outcome<String> {
    let layout = tempfile::tempdir_in(settings.run.folder())?;
    let archive = images::archive_of(settings, "pushed", start)?;
    tar::Archive::new(File::open(archive)?).unpack(layout.path())?;
    let layout = layout.path().display().to_string();
    let target = name.replace(PRIVATE_REGISTRY, REGISTRY);
    let crane = |words: &[&str]| -> Outcome<Finished> {
        let mut crane = Command::new(settings.components.join("crane"));
        crane.args(words).env("HOME", settings.run.folder());
        command::run(crane, None)
    };
    wait_for("the registry to take an image", || {
        let pushed = crane(&["push", "--insecure", &layout, &target])?;
        Ok((pushed.code == 0).then_some(()))
    })?;
    let digest = crane(&["digest", "--insecure", &target])?.expect_code(0)?;
    Ok(digest.stdout.trim().to_owned())
}

/// One request, passed on if it has the credentials; the connection ends with the answer.
fn serve(mut client: TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if client.read(&mut byte)? == 0 || head.len() > 1 << 16 {
            return Ok(());
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let known = head.lines().any(|line| {
        line.split_once(": ").is_some_and(|(name, value)| {
            name.eq_ignore_ascii_case("authorization") && value == format!("Basic {CREDENTIALS}")
        })
    });
    if !known {
        client.write_all(
            b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"test\"\r\n\
              Content-Length: 0\r\nConnection: close\r\n\r\n",
        )?;
        return client.shutdown(Shutdown::Write);
    }
    let mut registry = TcpStream::connect(REGISTRY)?;
    let end = head.len() - 2;
    write!(registry, "{}Connection: close\r\n\r\n", &head[..end])?;
    io::copy(&mut registry, &mut client)?;
    client.shutdown(Shutdown::Write)
}
