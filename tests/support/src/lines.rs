//! Compares what a guest has printed with what the native program of the same source has.

use std::fmt::Write as _;

/// Lines that are shown before the first difference, and behind it.
const BEFORE: usize = 3;
const BEHIND: usize = 3;

/// Where the lines of a guest and of a native program first differ: that line of both in the first line, and then those
/// around it. `None` if they are the same.
///
/// ```text
/// sockets: line 43 is "select: 0" of the guest, "select: 1" natively
///       42   SO_RCVTIMEO: ok
///       43 g select: 0
///       43 n select: 1
/// ```
pub fn difference(what: &str, guest: &str, native: &str) -> Option<String> {
    let (guest, native): (Vec<&str>, Vec<&str>) =
        (guest.lines().collect(), native.lines().collect());
    if guest == native {
        return None;
    }
    let same = guest
        .iter()
        .zip(&native)
        .take_while(|(guest, native)| guest == native);
    let at = same.count();
    let line = |lines: &[&str], at: usize| {
        let line = lines.get(at);
        line.map_or_else(|| "missing".to_owned(), |line| format!("{line:?}"))
    };
    let mut text = format!(
        "{what}: line {} is {} of the guest, {} natively",
        at + 1,
        line(&guest, at),
        line(&native, at)
    );
    let mut show = |number: usize, whose: char, line: &str| {
        let _ = write!(text, "\n{:>8} {whose} {line}", number + 1);
    };
    let first = at.saturating_sub(BEFORE);
    for (number, line) in guest.iter().enumerate().take(at).skip(first) {
        show(number, ' ', line);
    }
    for number in at..at + BEHIND {
        match (guest.get(number), native.get(number)) {
            (Some(guest), Some(native)) if guest == native => show(number, ' ', guest),
            (guest, native) => {
                guest.into_iter().for_each(|line| show(number, 'g', line));
                native.into_iter().for_each(|line| show(number, 'n', line));
            }
        }
    }
    Some(text)
}

/// Panics with [`difference`] if there is one, or if the native program has printed nothing.
///
/// # Panics
/// If the lines differ.
#[track_caller]
pub fn assert_same(what: &str, guest: &str, native: &str) {
    assert!(
        !native.is_empty(),
        "{what}: the native program prints nothing"
    );
    if let Some(difference) = difference(what, guest, native) {
        panic!("{difference}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_difference_is_told_with_the_lines_around_it() {
        let (guest, native) = ("a\nb\nc\nd\ne\nf", "a\nb\nc\nd\nE\nf\ng");
        let told = [
            "p: line 5 is \"e\" of the guest, \"E\" natively",
            "       2   b",
            "       3   c",
            "       4   d",
            "       5 g e",
            "       5 n E",
            "       6   f",
            "       7 n g",
        ]
        .join("\n");
        assert_eq!(difference("p", guest, native).as_deref(), Some(&told[..]));
        assert_eq!(difference("p", guest, guest), None);
        let shorter = difference("p", "a", "a\nb");
        let told = "p: line 2 is missing of the guest, \"b\" natively\n       1   a\n       2 n b";
        assert_eq!(shorter.as_deref(), Some(told));
    }
}
