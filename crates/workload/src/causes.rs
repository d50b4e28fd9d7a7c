//! An error as a person reads it: in one line, down to its cause. Used by all three executables
//! wherever an error leaves the program.

use std::error::Error;

/// The error and what led to it in one line; a cause that the text names already is not repeated.
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}
