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
use zbus::{DynamicType, ObjectPath, Signature, Type, Variant};

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

/// Endianness, kind, flags, version, length of the body, serial, fields.
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
        peer.send(format!("\0AUTH EXTERNAL {user}\r\n").as_bytes())?;
        let mut answer = String::new();
        (&mut peer.stream).take(1024).read_line(&mut answer)?;
        if !answer.starts_with("OK ") {
            return Err(PeerError::Refused(answer.trim_end().to_owned()));
        }
        peer.send(b"BEGIN\r\n")?;
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
        let path = ObjectPath::try_from(path)?;
        let header: Header<'_> = (
            b'l',
            CALL,
            0,
            1,
            u32::try_from(body_bytes.len()).unwrap_or(u32::MAX),
            self.serial,
            vec![
                (FIELD_PATH, path.into()),
                (FIELD_INTERFACE, interface.into()),
                (FIELD_MEMBER, method.into()),
                (FIELD_SIGNATURE, arguments(&body.signature())?.into()),
            ],
        );
        let mut message = encode(&header)?;
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
        let header: Header<'_> = data.deserialize().map_err(zbus::Error::from)?.0;
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

/// A body's signature: its arguments, not one structure of them.
fn arguments(signature: &Signature) -> Result<Signature, PeerError> {
    Ok(Signature::try_from(signature.to_string_no_parens().as_str()).map_err(zbus::Error::from)?)
}

fn encode<T: Serialize + DynamicType>(value: &T) -> Result<Vec<u8>, PeerError> {
    let data = to_bytes(Context::new(LE, 0), value).map_err(zbus::Error::from)?;
    Ok(data.bytes().to_vec())
}

fn decode<T: DeserializeOwned + Type>(bytes: &[u8]) -> Result<T, PeerError> {
    let data = Data::new(bytes, Context::new(LE, 0));
    Ok(data.deserialize().map_err(zbus::Error::from)?.0)
}
