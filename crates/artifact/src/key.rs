//! [`Key`]: the name of an artifact in the store.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::recipe;

/// Names an artifact: `<sha256 of the module or component>-<recipe>`.
///
/// The kind is not part of it: the digest covers the layer field, and one recipe is for both.
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
            recipe: recipe::id(),
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

/// A text is not a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot parse {0:?} as the key of an artifact: it is not <64 hex digits>-<16 hex digits>")]
pub struct ParseKeyError(String);

impl FromStr for Key {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        let parse = || {
            let (wasm, recipe) = text.split_once('-')?;
            let recipe_fits = recipe.len() == 16 && recipe.bytes().all(|b| b.is_ascii_hexdigit());
            let wasm = wasm.parse().ok()?;
            recipe_fits.then(|| Self {
                wasm,
                recipe: recipe.to_owned(),
            })
        };
        parse().ok_or_else(|| ParseKeyError(text.to_owned()))
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
mod tests {
    use super::*;

    #[test]
    fn only_the_text_of_a_key_parses_as_a_key() {
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
    }
}
