//! The edit of a text by lines. [`toml_edit`] writes every line end as `\n` and ends the last line, so only the lines that
//! it changes are taken from it: all others stay byte for byte.

/// `original` with the lines in which `edited` differs. Its line ends stay, and that of new lines is the one of the
/// first line. The last line is ended if it was before, so that the removal of what was added gives the same bytes.
pub(crate) fn merge(original: &str, edited: &str) -> String {
    splice(original, edited, |_| false)
}

/// [`merge`] for an edit that removes lines. Of those, comments stay unless they are ours.
pub(crate) fn without(original: &str, edited: &str, is_ours: impl Fn(&str) -> bool) -> String {
    splice(original, edited, |line| {
        line.trim_start().starts_with('#') && !is_ours(line)
    })
}

fn splice(original: &str, edited: &str, stays: impl Fn(&str) -> bool) -> String {
    let before: Vec<&str> = original.split_inclusive('\n').collect();
    let after: Vec<&str> = edited.split_inclusive('\n').collect();
    let same = |(one, other): &(&&str, &&str)| content(one) == content(other);
    let start = before.iter().zip(&after).take_while(same).count();
    let end = before[start..]
        .iter()
        .rev()
        .zip(after[start..].iter().rev())
        .take_while(same)
        .count();
    let (removed, tail) = before[start..].split_at(before.len() - start - end);
    let added = &after[start..after.len() - end];
    let line_end = match before.first() {
        Some(first) if first.ends_with("\r\n") => "\r\n",
        _ => "\n",
    };
    let mut text = before[..start].concat();
    // The last line of the original may have no end.
    let end_line = |text: &mut String| {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push_str(line_end);
        }
    };
    for line in removed {
        if added.is_empty() && stays(content(line)) {
            text.push_str(line);
        }
    }
    for line in added {
        end_line(&mut text);
        text.push_str(line.strip_suffix('\n').unwrap_or(line));
        text.push_str(line_end);
    }
    if !tail.is_empty() {
        end_line(&mut text);
        text.push_str(&tail.concat());
    }
    if original.is_empty() || original.ends_with('\n') {
        end_line(&mut text);
    } else {
        text.truncate(without_end(&text).len());
    }
    text
}

/// A line without its end, and without the mark at the beginning of a file, which `toml_edit` leaves out too.
fn content(line: &str) -> &str {
    let line = line.strip_prefix('\u{feff}').unwrap_or(line);
    without_end(line)
}

/// A line, or a text, without its last line end.
fn without_end(text: &str) -> &str {
    match text.strip_suffix('\n') {
        Some(line) => line.strip_suffix('\r').unwrap_or(line),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unchanged_lines_keep_their_ends() {
        let original = "a\r\nb\nc\r\n";
        assert_eq!(merge(original, "a\nb\nc\n"), original);
        let merged = merge(original, "a\nb\nnew\nc\n");
        assert_eq!(merged, "a\r\nb\nnew\r\nc\r\n");
        assert_eq!(merge(&merged, "a\nb\nc\n"), original);
        assert_eq!(merge("", "new\n"), "new\n");
    }

    #[test]
    fn last_line_is_ended_if_it_was_before() {
        assert_eq!(merge("a", "a\nb\n"), "a\nb");
        assert_eq!(merge("a\nb", "a\n"), "a");
        assert_eq!(merge("a\n", "a\nb\n"), "a\nb\n");
    }

    #[test]
    fn only_our_comments_are_removed() {
        let is_ours = |line: &str| line == "# ours";
        let text = "a\n# theirs\n# ours\n[b]\nc\n";
        assert_eq!(without(text, "a\nc\n", is_ours), "a\n# theirs\nc\n");
    }
}
