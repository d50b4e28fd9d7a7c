//! Formats an error for people: in one line, with all its causes, and cut to a length. All executables
//! use it wherever an error leaves the program.

use std::error::Error;

/// The error and its causes in one line. A cause that the text contains already is not repeated.
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

/// The text, cut to `longest` bytes. A text that was cut ends with `…`, so `longest` has to be at least its length.
#[must_use]
pub fn shortened(text: &str, longest: usize) -> String {
    if text.len() <= longest {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(longest.saturating_sub('…'.len_utf8()));
    format!("{}…", &text[..end])
}

/// The text with its control characters escaped. Paths and errors may contain text from an image. Characters that move
/// the cursor, end the line or change the direction of text must not reach a terminal, the journal or an event.
#[must_use]
pub fn printable(text: &str) -> String {
    let is_active = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}')
            || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        if is_active(c) {
            printable.extend(c.escape_default());
        } else {
            printable.push(c);
        }
    }
    printable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_between_characters() {
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
