//! Names of things by content: [`Digest`] of bytes, [`Key`] of an artifact.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// How much of a file is hashed at a time: large enough that system calls do not count.
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

    /// Of a whole file, handing every chunk on. Ends with the length that the file has at the
    /// beginning: whoever may write to it could make it grow for ever.
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
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{self}")
    }
}

/// Text that is no digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not 64 hex digits of a sha256")]
pub struct NotADigest(String);

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let wrong = || NotADigest(text.to_owned());
        let digits = text.as_bytes();
        // from_str_radix takes a sign, which is no hex digit.
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Digest {
    type Error = NotADigest;

    fn try_from(text: String) -> Result<Self, NotADigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// Names an artifact: `<sha256 of the module>-<recipe>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    wasm: Digest,
    recipe: String,
}

impl Key {
    /// The artifact of this content under this version's recipe.
    #[must_use]
    pub fn of(wasm: Digest) -> Self {
        Self {
            wasm,
            recipe: crate::recipe::id(),
        }
    }

    /// Content of the module.
    #[must_use]
    pub const fn wasm(&self) -> Digest {
        self.wasm
    }

    /// The [`crate::recipe::id`] it was made by.
    #[must_use]
    pub fn recipe(&self) -> &str {
        &self.recipe
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.wasm, self.recipe)
    }
}

/// Text that is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the key of an artifact: <64 hex digits>-<16 hex digits>")]
pub struct NotAKey(String);

impl FromStr for Key {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let parse = || {
            let (wasm, recipe) = text.split_once('-')?;
            let recipe_fits = recipe.len() == 16 && recipe.bytes().all(|b| b.is_ascii_hexdigit());
            let wasm = wasm.parse().ok()?;
            recipe_fits.then(|| Self {
                wasm,
                recipe: recipe.to_owned(),
            })
        };
        parse().ok_or_else(|| NotAKey(text.to_owned()))
    }
}

impl Serialize for Key {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn digest_of_a_file_is_that_of_its_bytes_and_survives_text() {
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
    fn what_is_no_key_is_refused() {
        let digest = Digest::of_bytes(b"x");
        assert_eq!(Key::of(digest).to_string().parse(), Ok(Key::of(digest)));
        for wrong in [
            "",
            "slot-0",
            "../x",
            &format!("{digest}"),
            &format!("{digest}-../.."),
        ] {
            assert!(wrong.parse::<Key>().is_err(), "{wrong}");
        }
        assert!(
            format!("+{}", &digest.to_string()[1..])
                .parse::<Digest>()
                .is_err()
        );
    }
}
