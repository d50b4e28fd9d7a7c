//! Formats an error for people: with all its causes, cut to a length, and without what acts on a terminal. All executables
//! use it wherever an error leaves the program.

use std::error::Error;
use std::fmt::Debug;

/// The longest text of an error, in bytes. containerd takes messages of 4 MiB, and people read none of them.
const LONGEST_ERROR: usize = 4096;

/// The longest name, path or list in an error, in bytes.
const LONGEST_NAME: usize = 1024;

/// The error and its causes in at most 4096 bytes. A cause that the text contains already is not repeated. Control
/// characters but line ends are escaped. A text that is too long keeps its beginning, which clients act on, and its end, which says what to do.
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
    // Errors of TOML show the line.
    let text = escaped(&text, is_active_in_lines, |c| {
        c.escape_default().to_string()
    });
    without_middle(text, LONGEST_ERROR)
}

/// A name or a path of an image or a spec for the text of an error: escaped, in quotes, and no longer than a name.
pub(crate) fn quoted(name: &(impl Debug + ?Sized)) -> String {
    without_middle(format!("{name:?}"), LONGEST_NAME)
}

/// The same for a text that has no quotes.
pub(crate) fn shown(text: &str) -> String {
    without_middle(printable(text), LONGEST_NAME)
}

/// The same for a list of names.
pub(crate) fn listed(names: &[impl AsRef<str>]) -> String {
    let names: Vec<_> = names.iter().map(|name| shown(name.as_ref())).collect();
    without_middle(names.join(", "), LONGEST_NAME)
}

/// The text, cut to `longest` bytes where it is in the middle: three quarters of its beginning stay.
fn without_middle(text: String, longest: usize) -> String {
    if text.len() <= longest {
        return text;
    }
    let tail = longest / 4;
    let head = longest - tail - '…'.len_utf8();
    let begin = text.floor_char_boundary(head);
    let end = text.ceil_char_boundary(text.len() - tail);
    format!("{}…{}", &text[..begin], &text[end..])
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
    escaped(text, is_active, |c| c.escape_default().to_string())
}

/// The same for JSON, where such a character is within a string: a JSON library escapes only some of them.
#[must_use]
pub fn printable_json(json: &str) -> String {
    // All of them are beneath U+10000, so one unit of UTF-16 is enough.
    escaped(json, is_active_in_lines, |c| {
        format!("\\u{:04x}", u32::from(c))
    })
}

fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}')
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// In a text that may have several lines.
fn is_active_in_lines(c: char) -> bool {
    c != '\n' && is_active(c)
}

fn escaped(text: &str, acts: impl Fn(char) -> bool, escape: impl Fn(char) -> String) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if acts(c) {
            escaped.push_str(&escape(c));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_for_people_acts_on_their_terminal() {
        let name = "a\u{1b}]0;x\u{7}\r\u{9b}2J\u{202e}b\u{7f}ü";
        let acts = |text: &str| text.chars().any(is_active_in_lines);
        let error = std::io::Error::other(name);
        for text in [with_causes(&error), printable(name), shown(name)] {
            assert_eq!(text, r"a\u{1b}]0;x\u{7}\r\u{9b}2J\u{202e}b\u{7f}ü");
        }
        let json = serde_json::to_string_pretty(&[name]).unwrap();
        let escaped = printable_json(&json);
        assert!(acts(&json) && !acts(&escaped), "{escaped}");
        let read: [String; 1] = serde_json::from_str(&escaped).unwrap();
        assert_eq!(read, [name]);
    }

    #[test]
    fn error_and_names_in_it_have_a_limit_and_keep_both_ends() {
        let name = "\u{1}ü".repeat(1 << 20);
        let error = crate::PlanError::ProgramNotFound {
            name: name.clone(),
            looked_for: vec![name.clone(), format!("{name}.wasm")],
            search: name.clone(),
        };
        // Clients look for runc's words.
        let text = with_causes(&error);
        assert!(text.len() <= LONGEST_ERROR, "{}", text.len());
        let words = "\": executable file not found in $PATH: looked for ";
        assert!(
            text.starts_with("exec: \"") && text.contains(words),
            "{text}"
        );
        let way_out = "or set the annotation wasm-interp.io/interpreter (wasm-interp run: \
                       --interpreter)";
        assert!(text.ends_with(way_out), "{text}");
        let error = std::io::Error::other(name);
        let text = with_causes(&error);
        assert!(
            text.len() <= LONGEST_ERROR && text.len() > LONGEST_ERROR - 16,
            "{}",
            text.len()
        );
        assert_eq!(quoted("a\u{1b}"), "\"a\\u{1b}\"");
    }

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
