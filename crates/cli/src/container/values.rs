//! Values of the command line's options, each read once into a type that says what it is.

use std::env;

/// An environment variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: String,
}

/// A user and a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// An amount of memory, as the OCI spec counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) i64);

pub(super) fn variable(text: &str) -> Result<Variable, String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, value.to_owned()),
        None => {
            let value = env::var(text)
                .map_err(|_| format!("{text} is not set in this shell: write {text}=VALUE"))?;
            (text, value)
        }
    };
    if name.is_empty() {
        return Err("the name is empty: write NAME=VALUE".to_owned());
    }
    Ok(Variable {
        name: name.to_owned(),
        value,
    })
}

pub(super) fn user(text: &str) -> Result<User, String> {
    let (uid, gid) = text.split_once(':').unwrap_or((text, "0"));
    match (uid.parse(), gid.parse()) {
        (Ok(uid), Ok(gid)) => Ok(User { uid, gid }),
        _ => Err("users and groups are given by number, as in 1000:1000".to_owned()),
    }
}

pub(super) fn bytes(text: &str) -> Result<Bytes, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit
        .to_ascii_uppercase()
        .trim_end_matches('B')
        .trim_end_matches('I')
    {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => return Err(format!("unit {unit:?} is not known: use K, M or G")),
    };
    number
        .parse::<i64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .filter(|bytes| *bytes > 0)
        .map(Bytes)
        .ok_or_else(|| format!("{text:?} is not an amount of memory: write 64M, for example"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_memory() {
        for (text, expected) in [
            ("1024", 1024),
            ("64M", 64 << 20),
            ("64MiB", 64 << 20),
            ("2g", 2 << 30),
            ("1kb", 1024),
        ] {
            assert_eq!(bytes(text), Ok(Bytes(expected)), "{text}");
        }
        for text in ["", "M", "-1", "0", "1.5G", "9T", "9999999999G"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn users_are_numbers() {
        assert_eq!(user("1000"), Ok(User { uid: 1000, gid: 0 }));
        assert_eq!(user("1000:50"), Ok(User { uid: 1000, gid: 50 }));
        assert!(user("app").unwrap_err().contains("by number"));
        assert!(user("1:").is_err());
    }

    #[test]
    fn variables_keep_what_follows_the_first_equals() {
        let parsed = variable("A=b=c").unwrap();
        assert_eq!((parsed.name.as_str(), parsed.value.as_str()), ("A", "b=c"));
        assert!(variable("=x").is_err());
        assert!(
            variable("WASM_INTERP_SURELY_UNSET")
                .unwrap_err()
                .contains("not set")
        );
    }
}
