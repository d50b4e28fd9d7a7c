//! Parses the text of a `config.json` into a [`Spec`], with a warning for each value that it leaves out.
//!
//! Every program that reads a bundle calls this: the shim, `wasm-interp run` and `inspect`, the runner.
//! It has no side effects. The parser's types are closed enums, while programs in Go write the spec,
//! and those may be newer than this one. One rule decides what happens to a value that the types
//! cannot represent:
//!
//! | the value | what happens | example |
//! |---|---|---|
//! | without it the container can do less | it is left out, with a [`SpecWarning`] | an unknown capability |
//! | the runtime spec says to ignore it | it is left out, with a [`SpecWarning`] | an unknown field, another platform's part |
//! | it may protect something, or the program may rely on it | [`SpecParseError`] | an unknown seccomp action, namespace or resource limit, `nonewprivileges` for `noNewPrivileges` |
//! | it is another spelling of a known value | it is read as that value, without a warning | `null` or `""` where Go leaves out a field |
#![forbid(unsafe_code)]

mod error;
mod tolerate;
mod unknown;
mod warning;
mod zero;

#[cfg(test)]
mod tests;

use oci_spec::runtime::{LinuxResources, Spec};
use serde::Deserialize;
use serde_json::{Value, json};

pub use self::error::SpecParseError;
pub use self::warning::SpecWarning;
use self::warning::{LONGEST_NAME, Warnings};
use crate::causes::shortened;

/// Parses the text of a `config.json`. The warnings are sorted and without duplicates.
///
/// # Errors
/// If the text is not JSON, or holds a value that must not be left out and that this version cannot honour.
pub fn parse_spec(text: &[u8]) -> Result<(Spec, Vec<SpecWarning>), SpecParseError> {
    spec_of(serde_json::from_slice(text).map_err(SpecParseError::Json)?)
}

/// As [`parse_spec`], of a text that is parsed already.
pub(crate) fn spec_of(mut value: Value) -> Result<(Spec, Vec<SpecWarning>), SpecParseError> {
    let mut warnings = Warnings::default();
    zero::remove(&mut value);
    tolerate::tolerate(&mut value, &mut warnings)?;
    let spec: Spec = read(&value)?;
    unknown::report(&value, &spec, &mut warnings)?;
    Ok((spec, warnings.into_list()))
}

/// Parses the text of a spec's `linux.resources`, as an update of a running container has it. Fields are named
/// as in the spec.
///
/// # Errors
/// Those of [`parse_spec`].
pub fn parse_resources(text: &[u8]) -> Result<(LinuxResources, Vec<SpecWarning>), SpecParseError> {
    let resources: Value = serde_json::from_slice(text).map_err(SpecParseError::Json)?;
    let spec = json!({"ociVersion": "1.0.2", "linux": {"resources": resources}});
    let (spec, warnings) = spec_of(spec)?;
    let resources = spec.linux().as_ref().and_then(|l| l.resources().clone());
    Ok((resources.unwrap_or_default(), warnings))
}

/// Deserializes. An error names its field.
fn read<'de, T: Deserialize<'de>>(value: &'de Value) -> Result<T, SpecParseError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let field = match error.path().to_string().as_str() {
            "." => "the spec".to_owned(),
            path => shortened(path, LONGEST_NAME),
        };
        SpecParseError::Value {
            field,
            problem: tolerate::in_words_of_the_spec(&error.into_inner().to_string()),
        }
    })
}
