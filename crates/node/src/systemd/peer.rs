//! One D-Bus conversation without a bus, as systemd's private socket has it. Called by `systemd`.
//!
//! The types and their encoding are zbus's; the connection is not, because systemd sends its
//! well-known name as the sender of each answer, which only a bus may have, and which zbus therefore
//! refuses to read (docs/decisions/0014). What is left is the D-Bus specification's handshake, and a
//! message out and one in.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zbus::wire::serialized::{Context, Data};
use zbus::wire::{LE, to_bytes};
use zbus::{DynamicType, Type, Variant};

/// An answer takes milliseconds; a machine under load some seconds.
const ANSWER: Duration = Duration::from_secs(30);
/// The specification's limit of a message.
const MESSAGE_MOST: u32 = 128 << 20;

/// Kinds of messages, and fields of their headers.
const CALL: u8 = 1;
const RETURN: u8 = 2;
const ERROR: u8 = 3;
const FIELD_PATH: u8 = 1;
const FIELD_INTERFACE: u8 = 2;
const FIELD_MEMBER: u8 = 3;
const FIELD_ERROR_NAME: u8 = 4;
const FIELD_REPLY_SERIAL: u8 = 5;
const FIELD_SIGNATURE: u8 = 8;

/// Of an answer: endianness, kind, flags, version, length of the body, serial, fields.
type Header<'a> = (u8, u8, u8, u8, u32, u32, Vec<(u8, Variant<'a>)>);

/// A call was not answered.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It did not let us in.
    #[error("it does not let this user in: {0:?}")]
    Refused(String),
    /// What was sent or came is not as it should be.
    #[error("it does not speak D-Bus as expected: {0}")]
    Protocol(#[from] zbus::Error),
    /// Nothing sensible came.
    #[error("it sent a message of {0} bytes")]
    Size(u32),
    /// It said no.
    #[error("{text} ({name})")]
    Said {
        /// The error's name.
        name: String,
        /// Its words.
        text: String,
    },
}

/// An open connection.
pub(super) struct Peer {
    stream: BufReader<UnixStream>,
    serial: u32,
}

impl Peer {
    /// Connects and shows who we are; the kernel vouches for it.
    pub(super) fn connect(socket: &Path) -> Result<Self, PeerError> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_write_timeout(Some(ANSWER))?;
        let mut peer = Self {
            stream: BufReader::new(stream),
            serial: 0,
        };
        let digits = nix::unistd::geteuid().to_string();
        let user: String = digits.bytes().map(|byte| format!("{byte:02x}")).collect();
        // Both lines at once, as systemd's own clients do: a call that reaches it together with the
        // second line would lie there unread until something follows.
        peer.send(format!("\0AUTH EXTERNAL {user}\r\nBEGIN\r\n").as_bytes())?;
        let mut answer = String::new();
        (&mut peer.stream).take(1024).read_line(&mut answer)?;
        if !answer.starts_with("OK ") {
            return Err(PeerError::Refused(answer.trim_end().to_owned()));
        }
        Ok(peer)
    }

    /// One call and its answer.
    pub(super) fn call<B, R>(
        &mut self,
        path: &str,
        interface: &str,
        method: &str,
        body: &B,
    ) -> Result<R, PeerError>
    where
        B: Serialize + DynamicType,
        R: DeserializeOwned + Type,
    {
        self.serial += 1;
        let body_bytes = encode(body)?;
        let mut fields = Vec::new();
        let arguments = body.signature().to_string_no_parens();
        for (field, kind, text) in [
            (FIELD_PATH, b'o', path),
            (FIELD_INTERFACE, b's', interface),
            (FIELD_MEMBER, b's', method),
            (FIELD_SIGNATURE, b'g', &arguments),
        ] {
            write_field(&mut fields, field, kind, text);
        }
        let mut message = vec![b'l', CALL, 0, 1];
        for number in [length(&body_bytes), self.serial, length(&fields)] {
            message.extend(number.to_le_bytes());
        }
        message.extend(fields);
        message.resize(message.len().next_multiple_of(8), 0);
        message.extend(body_bytes);
        self.send(&message)?;
        loop {
            let (kind, answers, error, body) = self.receive()?;
            match kind {
                RETURN if answers == Some(self.serial) => return decode(&body),
                ERROR if answers == Some(self.serial) => {
                    // An error's first argument is its words, if it has any.
                    let text = decode::<(String,)>(&body).unwrap_or_default().0;
                    return Err(PeerError::Said {
                        name: error.unwrap_or_default(),
                        text,
                    });
                }
                // A signal, meant for whoever wants to know.
                _ => {}
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// The next message: its kind, what it answers, its error's name, its body.
    #[allow(clippy::type_complexity)]
    fn receive(&mut self) -> Result<(u8, Option<u32>, Option<String>, Vec<u8>), PeerError> {
        // Up to and including the length of the fields.
        let mut bytes = vec![0; 16];
        self.stream.read_exact(&mut bytes)?;
        let number = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let (body, fields) = (number(4), number(12));
        if body > MESSAGE_MOST || fields > MESSAGE_MOST {
            return Err(PeerError::Size(body.max(fields)));
        }
        let start = (16 + fields as usize).next_multiple_of(8);
        bytes.resize(start + body as usize, 0);
        self.stream.read_exact(&mut bytes[16..])?;
        let body = bytes.split_off(start);
        let data = Data::new(bytes, Context::new(LE, 0));
        let header: Header<'_> = data.deserialize()?.0;
        let (mut answers, mut error) = (None, None);
        for (field, value) in header.6 {
            match (field, value) {
                (FIELD_REPLY_SERIAL, Variant::U32(serial)) => answers = Some(serial),
                (FIELD_ERROR_NAME, Variant::Str(name)) => error = Some(name.to_string()),
                _ => {}
            }
        }
        Ok((header.1, answers, error, body))
    }
}

/// One field of a header. By hand, since a signature of several arguments is none that a value may
/// have. The fields begin at a multiple of eight, so that their padding is the same from there.
fn write_field(fields: &mut Vec<u8>, field: u8, kind: u8, text: &str) {
    fields.resize(fields.len().next_multiple_of(8), 0);
    fields.extend([field, 1, kind, 0]);
    match kind {
        // A signature's length is one byte; ours are short.
        b'g' => fields.push(u8::try_from(text.len()).unwrap_or(u8::MAX)),
        _ => fields.extend(length(text.as_bytes()).to_le_bytes()),
    }
    fields.extend(text.as_bytes());
    fields.push(0);
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

fn encode<T: Serialize + DynamicType>(value: &T) -> Result<Vec<u8>, PeerError> {
    let data = to_bytes(Context::new(LE, 0), value)?;
    Ok(data.bytes().to_vec())
}

fn decode<T: DeserializeOwned + Type>(bytes: &[u8]) -> Result<T, PeerError> {
    let data = Data::new(bytes, Context::new(LE, 0));
    Ok(data.deserialize()?.0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// An answer as systemd 252 sends it, with the sender that zbus refuses.
    fn answer(kind: u8, fields: &[(u8, u8, &str)], body: &[u8]) -> Vec<u8> {
        let mut all = vec![FIELD_REPLY_SERIAL, 1, b'u', 0, 1, 0, 0, 0];
        for (field, kind, text) in fields {
            write_field(&mut all, *field, *kind, text);
        }
        write_field(&mut all, 7, b's', "org.freedesktop.systemd1");
        let mut message = vec![b'l', kind, 1, 1];
        for number in [length(body), 9, length(&all)] {
            message.extend(number.to_le_bytes());
        }
        message.extend(all);
        message.resize(message.len().next_multiple_of(8), 0);
        message.extend(body);
        message
    }

    fn conversation(answers: Vec<Vec<u8>>) -> (Result<(String,), PeerError>, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("private");
        let listener = UnixListener::bind(&socket).unwrap();
        let systemd = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut said = vec![0; 1024];
            let count = stream.read(&mut said).unwrap();
            let said = &said[..count];
            assert!(said.starts_with(b"\0AUTH EXTERNAL "), "{said:?}");
            assert!(said.ends_with(b"\r\nBEGIN\r\n"), "{said:?}");
            stream
                .write_all(b"OK 0123456789abcdef0123456789abcdef\r\n")
                .unwrap();
            for answer in answers {
                stream.write_all(&answer).unwrap();
            }
            let mut call = Vec::new();
            stream.read_to_end(&mut call).unwrap();
            call
        });
        let mut peer = Peer::connect(&socket).unwrap();
        let answer = peer.call(
            "/a/b",
            "c.D",
            "E",
            &("unit", vec![("x", Variant::from(1u32))]),
        );
        drop(peer);
        (answer, systemd.join().unwrap())
    }

    #[test]
    fn a_call_is_as_the_specification_has_it() {
        let signal = answer(4, &[(FIELD_MEMBER, b's', "Reloading")], b"");
        let good = answer(RETURN, &[(FIELD_SIGNATURE, b'g', "s")], b"\x02\0\0\0ok\0");
        let (answer, call) = conversation(vec![signal, good]);
        assert_eq!(answer.unwrap().0, "ok");
        assert_eq!(call[..4], *b"l\x01\0\x01");
        let text = String::from_utf8_lossy(&call);
        for part in ["/a/b", "c.D", "sa(sv)\0", "unit"] {
            assert!(text.contains(part), "{part} in {text:?}");
        }
    }

    #[test]
    fn a_refusal_has_a_name_and_words() {
        let fields = [
            (FIELD_ERROR_NAME, b's', "x.UnitExists"),
            (FIELD_SIGNATURE, b'g', "s"),
        ];
        let (answer, _) = conversation(vec![answer(ERROR, &fields, b"\x04\0\0\0busy\0")]);
        assert_eq!(answer.unwrap_err().to_string(), "busy (x.UnitExists)");
    }
}
