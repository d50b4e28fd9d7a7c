//! Values of the command line's options, parsed into types.

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

/// An amount of memory in bytes, with the type of the OCI spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) i64);

pub(super) fn variable(text: &str) -> Result<Variable, String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, value.to_owned()),
        None => {
            let value = env::var(text).map_err(|_| {
                format!("cannot take {text} from this shell: it is not set; write {text}=VALUE")
            })?;
            (text, value)
        }
    };
    if name.is_empty() {
        return Err("cannot set a variable without a name; write NAME=VALUE".to_owned());
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
        _ => Err(format!(
            "cannot use {text:?} as a user; give user and group by number, as in 1000:1000"
        )),
    }
}

pub(super) fn bytes(text: &str) -> Result<Bytes, String> {
    let bytes = wasm_interp_workload::parse_size(text).map_err(|error| error.to_string())?;
    i64::try_from(bytes)
        .ok()
        .filter(|bytes| *bytes > 0)
        .map(Bytes)
        .ok_or_else(|| format!("cannot use {text:?} as a memory limit; write 64M, for example"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_limit_takes_units_of_1024() {
        for (text, expected) in [
            ("1024", 1024),
            ("64M", 64 << 20),
            ("64MiB", 64 << 20),
            ("2g", 2 << 30),
            ("1kb", 1024),
        ] {
            assert_eq!(bytes(text), Ok(Bytes(expected)), "{text}");
        }
        for text in ["", "M", "-1", "0", "1.5G", "9P", "9999999999G"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn user_is_given_by_number() {
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
