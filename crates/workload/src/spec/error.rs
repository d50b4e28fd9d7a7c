//! The errors of [`super::parse_spec`].

use thiserror::Error;

/// Why a `config.json` cannot be used.
#[derive(Debug, Error)]
pub enum SpecParseError {
    /// The text is not JSON.
    #[error("it is not JSON: {0}; correct it")]
    Json(#[source] serde_json::Error),
    /// This version cannot honour a value.
    #[error("{field}: {problem}; correct it in the spec")]
    Value {
        /// The value's field, for example `process.rlimits[0].type`.
        field: String,
        /// What is wrong with the value.
        problem: String,
    },
}
