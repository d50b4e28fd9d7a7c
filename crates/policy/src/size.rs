//! The grammar of sizes: a whole number of bytes, or a number with a unit, as in `64M`, `512MiB`
//! or `2Gi`. The policy file and every option that takes a size use it.

use std::fmt;

use serde::de::{Deserializer, Error, Visitor};

/// A text is not a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseSizeError {
    /// No number, or an unknown unit.
    #[error(
        "cannot parse {0:?} as a size; write a whole number of bytes, or one with a unit: 64M, \
         64MiB, 2G"
    )]
    Malformed(String),
    /// More than 64 bits.
    #[error("cannot use the size {0:?}: it is larger than 16 EiB; give a smaller one")]
    TooLarge(String),
}

/// Parses a size in bytes. Units are K, M, G and T in either case, alone or followed by `B`, `i` or
/// `iB`; all of them are powers of 1024. There is no space before the unit.
///
/// # Errors
/// If the text is not a size, or larger than 64 bits hold.
pub fn parse_size(text: &str) -> Result<u64, ParseSizeError> {
    let malformed = || ParseSizeError::Malformed(text.to_owned());
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "ki" | "kib" => 10,
        "m" | "mb" | "mi" | "mib" => 20,
        "g" | "gb" | "gi" | "gib" => 30,
        "t" | "tb" | "ti" | "tib" => 40,
        _ => return Err(malformed()),
    };
    if number.is_empty() {
        return Err(malformed());
    }
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| ParseSizeError::TooLarge(text.to_owned()))
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size: bytes, or a text such as \"64MiB\"")
    }

    fn visit_u64<E: Error>(self, bytes: u64) -> Result<u64, E> {
        Ok(bytes)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        parse_size(text).map_err(E::custom)
    }
}

/// For `#[serde(deserialize_with)]`: a number of bytes, or a text that [`parse_size`] takes.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_any(SizeVisitor)
}

/// As [`deserialize`], for a setting that may be `null`.
pub(crate) fn deserialize_option<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u64>, D::Error> {
    struct OptionVisitor;
    impl<'de> Visitor<'de> for OptionVisitor {
        type Value = Option<u64>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("null, or a size: bytes, or a text such as \"64MiB\"")
        }

        fn visit_none<E: Error>(self) -> Result<Option<u64>, E> {
            Ok(None)
        }

        fn visit_unit<E: Error>(self) -> Result<Option<u64>, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<Option<u64>, D::Error> {
            deserialize(value).map(Some)
        }
    }
    deserializer.deserialize_option(OptionVisitor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("1024", 1024),
            ("512B", 512),
            ("1kb", 1 << 10),
            ("64M", 64 << 20),
            ("500MiB", 500 << 20),
            ("64mi", 64 << 20),
            ("2g", 2 << 30),
            ("2Gi", 2 << 30),
            ("1T", 1 << 40),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_the_way_out() {
        for text in [
            "", "M", "-1", "+1", "1.5G", "10 M", "10P", "1MM", "1ib", "1iM",
        ] {
            let error = parse_size(text).unwrap_err().to_string();
            assert!(error.contains("write a whole number of bytes"), "{error}");
        }
        for text in ["18446744073709551616", "99999999999G"] {
            let refused = parse_size(text);
            assert_eq!(refused, Err(ParseSizeError::TooLarge(text.to_owned())));
        }
    }
}
