//! SHA-256 of files and bytes. Every name in the store contains such a digest.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The bytes of a file that are hashed at a time. So many that the system calls take little of the time.
const CHUNK: usize = 1 << 20;

/// SHA-256 of some bytes; 64 hex digits as text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of bytes in memory.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Of a whole file, from its first byte; the descriptor's offset is neither used nor moved.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn of_file(file: &File) -> io::Result<Self> {
        Self::while_reading(file, |_| Ok(()))
    }

    /// Of a whole file; `each` gets every chunk. Reading stops at the file's length at the beginning,
    /// because a writer could otherwise make the file grow without end.
    pub(crate) fn while_reading(
        file: &File,
        mut each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<Self> {
        let mut hash = Sha256::new();
        let mut chunk = vec![0; CHUNK];
        let mut offset = 0;
        let length = file.metadata()?.len();
        loop {
            if offset > length {
                return Err(io::Error::other("it grows while it is read"));
            }
            match file.read_at(&mut chunk, offset) {
                Ok(0) => return Ok(Self(hash.finalize().into())),
                Ok(read) => {
                    hash.update(&chunk[..read]);
                    each(&chunk[..read])?;
                    offset += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{self}")
    }
}

/// A text is not a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot parse {0:?} as a SHA-256: it is not 64 hex digits")]
pub struct ParseDigestError(String);

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        let error = || ParseDigestError(text.to_owned());
        let digits = text.as_bytes();
        // from_str_radix takes a sign, which is no hex digit.
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(error());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| error())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| error())?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Digest {
    type Error = ParseDigestError;

    fn try_from(text: String) -> Result<Self, ParseDigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_is_of_the_files_bytes_and_parses_from_its_text() {
        let file = tempfile::tempfile().unwrap();
        let bytes = vec![7; CHUNK + 3];
        file.write_all_at(&bytes, 0).unwrap();
        let digest = Digest::of_file(&file).unwrap();
        assert_eq!(digest, Digest::of_bytes(&bytes));
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }

    #[test]
    fn empty_digest_is_the_published_constant() {
        let expected = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of_bytes(b"").to_string(), expected);
    }

    #[test]
    fn a_sign_is_not_a_hex_digit() {
        let digest = Digest::of_bytes(b"x").to_string();
        assert!(format!("+{}", &digest[1..]).parse::<Digest>().is_err());
    }
}
