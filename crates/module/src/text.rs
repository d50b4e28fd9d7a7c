//! Texts of refusals: what comes from a module may have any length and any characters, and be as many as it likes.
#![forbid(unsafe_code)]

/// The most unknown imports that are named; others are only counted. The publisher limits the size of
/// a refusal.
pub(crate) const MAX_NAMED: usize = 100;
/// The most characters of a text from the module.
const MAX_TEXT: usize = 80;

/// A text from the module, shortened and escaped for a message: it may have any length and any characters.
pub(crate) fn clipped(text: &str) -> String {
    let mut characters = text.chars().flat_map(char::escape_debug);
    let mut clipped: String = characters.by_ref().take(MAX_TEXT).collect();
    if characters.next().is_some() {
        clipped.push('…');
    }
    clipped
}

/// Lines of a refusal, each once. Only the first ones are kept.
#[derive(Default)]
pub(crate) struct Named {
    lines: Vec<String>,
    /// The number of those that are not kept.
    more: usize,
}

impl Named {
    pub(crate) fn add(&mut self, line: String) {
        if self.lines.contains(&line) {
            return;
        }
        if self.lines.len() < MAX_NAMED {
            self.lines.push(line);
        } else {
            self.more += 1;
        }
    }

    /// What to say, if there is anything.
    pub(crate) fn lines(mut self) -> Option<Vec<String>> {
        if self.more > 0 {
            self.lines.push(format!("and {} more", self.more));
        }
        (!self.lines.is_empty()).then_some(self.lines)
    }
}
