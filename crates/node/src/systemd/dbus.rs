//! A D-Bus connection without a bus, as systemd's private socket has it. Called by `systemd`.
//!
//! The types and their encoding are zbus's. The connection is not, because systemd sends its well-known name as the
//! sender of each reply. Only a bus may have such a name, so zbus refuses the message
//! (docs/internals/decisions/0014). This module does the handshake of the D-Bus specification, and sends and receives
//! messages.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zbus::wire::serialized::{Context, Data};
use zbus::wire::{LE, to_bytes};
use zbus::{DynamicType, Type, Variant};

/// Limit for a reply, which usually takes milliseconds.
const REPLY_LIMIT: Duration = Duration::from_secs(30);
/// The specification's limit for a message.
const MESSAGE_LIMIT: u32 = 128 << 20;

/// Message types and header fields of the specification.
const CALL: u8 = 1;
const RETURN: u8 = 2;
const ERROR: u8 = 3;
const FIELD_PATH: u8 = 1;
const FIELD_INTERFACE: u8 = 2;
const FIELD_MEMBER: u8 = 3;
const FIELD_ERROR_NAME: u8 = 4;
const FIELD_REPLY_SERIAL: u8 = 5;
const FIELD_SIGNATURE: u8 = 8;

/// The header of a message: endianness, type, flags, version, length of the body, serial, fields.
type Header<'a> = (u8, u8, u8, u8, u32, u32, Vec<(u8, Variant<'a>)>);

/// A call failed.
#[derive(Debug, thiserror::Error)]
pub enum DbusError {
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The handshake failed.
    #[error("it refuses this user: {0:?}")]
    Refused(String),
    /// A message is not valid.
    #[error("it does not speak D-Bus as expected: {0}")]
    Protocol(#[from] zbus::Error),
    /// A message is too long.
    #[error("it sent a message of {0} bytes")]
    Size(u32),
    /// It replied with an error.
    #[error("{text} ({name})")]
    Reply {
        /// The error's name.
        name: String,
        /// Its text.
        text: String,
    },
}

/// An open connection.
pub(super) struct DbusConnection {
    stream: BufReader<UnixStream>,
    serial: u32,
}

impl DbusConnection {
    /// Connects and authenticates by the user id that the kernel reports.
    pub(super) fn connect(socket: &Path) -> Result<Self, DbusError> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(REPLY_LIMIT))?;
        stream.set_write_timeout(Some(REPLY_LIMIT))?;
        let mut connection = Self {
            stream: BufReader::new(stream),
            serial: 0,
        };
        let user = hex::encode(nix::unistd::geteuid().to_string());
        // Both lines at once, as systemd's own clients do. systemd would not read a call that arrives together with the
        // second line until more bytes follow.
        connection.send(format!("\0AUTH EXTERNAL {user}\r\nBEGIN\r\n").as_bytes())?;
        let mut reply = String::new();
        (&mut connection.stream).take(1024).read_line(&mut reply)?;
        if !reply.starts_with("OK ") {
            return Err(DbusError::Refused(reply.trim_end().to_owned()));
        }
        Ok(connection)
    }

    /// Makes a call and waits for its reply.
    pub(super) fn call<B, R>(
        &mut self,
        path: &str,
        interface: &str,
        method: &str,
        body: &B,
    ) -> Result<R, DbusError>
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
            let (kind, replies_to, error, body) = self.receive()?;
            match kind {
                RETURN if replies_to == Some(self.serial) => return decode(&body),
                ERROR if replies_to == Some(self.serial) => {
                    // The first argument of an error is its text.
                    let text = decode::<(String,)>(&body).unwrap_or_default().0;
                    return Err(DbusError::Reply {
                        name: error.unwrap_or_default(),
                        text,
                    });
                }
                // A signal.
                _ => {}
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Receives the next message: its type, the serial that it replies to, the name of its error, its body.
    #[allow(clippy::type_complexity)]
    fn receive(&mut self) -> Result<(u8, Option<u32>, Option<String>, Vec<u8>), DbusError> {
        // Up to and including the length of the fields.
        let mut bytes = vec![0; 16];
        self.stream.read_exact(&mut bytes)?;
        let number = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let (body, fields) = (number(4), number(12));
        if body > MESSAGE_LIMIT || fields > MESSAGE_LIMIT {
            return Err(DbusError::Size(body.max(fields)));
        }
        let start = (16 + fields as usize).next_multiple_of(8);
        bytes.resize(start + body as usize, 0);
        self.stream.read_exact(&mut bytes[16..])?;
        let body = bytes.split_off(start);
        let data = Data::new(bytes, Context::new(LE, 0));
        let header: Header<'_> = data.deserialize()?.0;
        let (mut replies_to, mut error) = (None, None);
        for (field, value) in header.6 {
            match (field, value) {
                (FIELD_REPLY_SERIAL, Variant::U32(serial)) => replies_to = Some(serial),
                (FIELD_ERROR_NAME, Variant::Str(name)) => error = Some(name.to_string()),
                _ => {}
            }
        }
        Ok((header.1, replies_to, error, body))
    }
}

/// Writes one field of a header. zbus cannot write it: the signature of several arguments is not the signature of a
/// value. The fields begin at a multiple of eight, so their padding is relative to the first.
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

fn encode<T: Serialize + DynamicType>(value: &T) -> Result<Vec<u8>, DbusError> {
    let data = to_bytes(Context::new(LE, 0), value)?;
    Ok(data.bytes().to_vec())
}

fn decode<T: DeserializeOwned + Type>(bytes: &[u8]) -> Result<T, DbusError> {
    let data = Data::new(bytes, Context::new(LE, 0));
    Ok(data.deserialize()?.0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// A reply as systemd 252 sends it, with the sender that zbus refuses.
    fn reply(kind: u8, fields: &[(u8, u8, &str)], body: &[u8]) -> Vec<u8> {
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

    fn conversation(replies: Vec<Vec<u8>>) -> (Result<(String,), DbusError>, Vec<u8>) {
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
            for reply in replies {
                stream.write_all(&reply).unwrap();
            }
            let mut call = Vec::new();
            stream.read_to_end(&mut call).unwrap();
            call
        });
        let mut connection = DbusConnection::connect(&socket).unwrap();
        let reply = connection.call(
            "/a/b",
            "c.D",
            "E",
            &("unit", vec![("x", Variant::from(1u32))]),
        );
        drop(connection);
        (reply, systemd.join().unwrap())
    }

    #[test]
    fn call_is_encoded_as_the_specification_says() {
        let signal = self::reply(4, &[(FIELD_MEMBER, b's', "Reloading")], b"");
        let good = self::reply(RETURN, &[(FIELD_SIGNATURE, b'g', "s")], b"\x02\0\0\0ok\0");
        let (reply, call) = conversation(vec![signal, good]);
        assert_eq!(reply.unwrap().0, "ok");
        assert_eq!(call[..4], *b"l\x01\0\x01");
        let text = String::from_utf8_lossy(&call);
        for part in ["/a/b", "c.D", "sa(sv)\0", "unit"] {
            assert!(text.contains(part), "{part} in {text:?}");
        }
    }

    #[test]
    fn error_reply_has_a_name_and_a_text() {
        let fields = [
            (FIELD_ERROR_NAME, b's', "x.UnitExists"),
            (FIELD_SIGNATURE, b'g', "s"),
        ];
        let (reply, _) = conversation(vec![self::reply(ERROR, &fields, b"\x04\0\0\0busy\0")]);
        assert_eq!(reply.unwrap_err().to_string(), "busy (x.UnitExists)");
    }
}
