//! A registry of one image, for a client that pulls it: the image has every name there. Knows as much of HTTP and of
//! the distribution API as containerd asks for.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;

use nix::sched::{CloneFlags, setns};
use serde_json::Value;

use crate::Outcome;

/// How a TLS handshake begins.
const TLS: u8 = 0x16;

/// The first manifest of an archive, and its blobs by digest.
struct ServedImage {
    media_type: String,
    digest: String,
    blobs: HashMap<String, Vec<u8>>,
}

/// Serves the archive's image at `address` in the network of the process `pid`, until this program ends. It listens when
/// this returns.
pub fn serve(archive: &Path, pid: i32, address: SocketAddr) -> Outcome {
    let image = ServedImage::read(archive)?;
    let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
    // The namespace is the thread's; a socket stays in the one that it was made in.
    let listener = thread::spawn(move || -> io::Result<TcpListener> {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        TcpListener::bind(address)
    })
    .join()
    .map_err(|_| "the thread that binds the registry's socket panicked")?
    .map_err(|error| format!("cannot listen at {address}: {error}"))?;
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // A client that goes away is no business of the others'.
            let _ = image.answer(client);
        }
    });
    Ok(())
}

impl ServedImage {
    fn read(archive: &Path) -> Outcome<Self> {
        let mut blobs = HashMap::new();
        let mut index = Value::Null;
        for entry in tar::Archive::new(File::open(archive)?).entries()? {
            let mut entry = entry?;
            let path = entry.path()?.display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            if path == "index.json" {
                index = serde_json::from_slice(&content)?;
            } else if let Some(digest) = path.strip_prefix("blobs/") {
                blobs.insert(digest.replace('/', ":"), content);
            }
        }
        let manifest = &index["manifests"][0];
        let field = |name: &str| -> Outcome<String> {
            let text = manifest[name].as_str();
            text.map(str::to_owned)
                .ok_or_else(|| format!("no manifest with a {name} in {}", archive.display()).into())
        };
        Ok(Self {
            media_type: field("mediaType")?,
            digest: field("digest")?,
            blobs,
        })
    }

    /// One request; the connection ends with the response.
    fn answer(&self, mut client: TcpStream) -> io::Result<()> {
        let mut first = [0];
        // containerd tries TLS first, and HTTP where the answer to that is one of HTTP.
        if client.peek(&mut first)? == 1 && first[0] == TLS {
            // What is not read would make the end of the connection a reset.
            let _part_of_the_handshake = client.read(&mut [0; 1 << 14])?;
            client.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")?;
            return client.shutdown(Shutdown::Both);
        }
        let mut lines = BufReader::new(client.try_clone()?).lines();
        let request = lines.next().transpose()?.unwrap_or_default();
        while lines
            .next()
            .transpose()?
            .is_some_and(|line| !line.is_empty())
        {}
        let mut words = request.split(' ');
        let (method, path) = (words.next(), words.next().unwrap_or_default());
        let last = path.rsplit('/').next().unwrap_or_default();
        let (kind, digest) = if path.contains("/manifests/") {
            (self.media_type.as_str(), self.digest.as_str())
        } else {
            ("application/octet-stream", last)
        };
        let (status, body) = match self.blobs.get(digest) {
            _ if path == "/v2/" => ("200 OK", &b"{}"[..]),
            Some(blob) => ("200 OK", blob.as_slice()),
            None => ("404 Not Found", &[][..]),
        };
        write!(
            client,
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
             Docker-Content-Digest: {digest}\r\nConnection: close\r\n\r\n",
            body.len()
        )?;
        if method == Some("GET") {
            client.write_all(body)?;
        }
        client.shutdown(Shutdown::Write)
    }
}
