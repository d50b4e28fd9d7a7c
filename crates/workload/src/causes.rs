//! An error as a person reads it: in one line, down to its cause, and no longer than its place has room.
//! Used by all executables wherever an error leaves the program.

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

/// As much of a text as fits into `longest` bytes, which are at least those of the `…` that says it goes on.
#[must_use]
pub fn shortened(text: &str, longest: usize) -> String {
    if text.len() <= longest {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(longest.saturating_sub('…'.len_utf8()));
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_where_its_place_ends() {
        assert_eq!(shortened("short", 1024), "short");
        for text in ["x".repeat(5000), "ü".repeat(5000)] {
            let cut = shortened(&text, 1024);
            assert!(
                cut.len() <= 1024 && cut.len() > 1018 && cut.ends_with('…'),
                "{}",
                cut.len()
            );
        }
    }
}
