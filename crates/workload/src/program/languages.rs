//! The languages: one row each, with the extensions of its scripts and its interpreters' names.

use std::path::Path;

/// What is known of a language before the image is read.
struct Language {
    /// Extensions of its scripts, in lower case.
    extensions: &'static [&'static str],
    /// Names of its interpreters in images, in order of preference.
    interpreters: &'static [&'static str],
}

/// To add a language, add a row.
const LANGUAGES: &[Language] = &[
    Language {
        extensions: &["py"],
        interpreters: &["python", "python3"],
    },
    Language {
        extensions: &["rb"],
        interpreters: &["ruby"],
    },
    Language {
        extensions: &["php"],
        interpreters: &["php"],
    },
    Language {
        extensions: &["js", "mjs"],
        interpreters: &["qjs", "node"],
    },
    Language {
        extensions: &["pl"],
        interpreters: &["perl"],
    },
    Language {
        extensions: &["lua"],
        interpreters: &["lua"],
    },
];

/// The names of the interpreters for a script's extension.
pub(super) fn interpreters(script: &Path) -> Option<&'static [&'static str]> {
    let extension = extension(script)?;
    LANGUAGES
        .iter()
        .find(|language| language.extensions.contains(&extension.as_str()))
        .map(|language| language.interpreters)
}

/// The script's extension, in lower case.
pub(super) fn extension(script: &Path) -> Option<String> {
    Some(script.extension()?.to_str()?.to_ascii_lowercase())
}
