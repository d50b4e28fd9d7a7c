//! Templates of k3s and RKE2: Go templates of a TOML file. They cannot be edited by structure, so our table is a block
//! between two marker lines at the end.

use std::path::{Path, PathBuf};

use toml_edit::DocumentMut;

use crate::edit;
use crate::runtime::{HANDLER, ShimLocation};
use crate::version::ConfigVersion;

const FIRST: &str =
    "# >>> wasm-interp: by `wasm-interp node install`; `wasm-interp node uninstall` takes it out";
const LAST: &str = "# <<< wasm-interp";
/// A template that changes nothing.
const PLAIN: &str = "{{ template \"base\" . }}\n";

/// The template with our block at its end, which has the line ends of the template. A missing template becomes
/// one that changes nothing.
#[must_use]
pub fn with_runtime(text: Option<&str>, version: ConfigVersion, shim: &ShimLocation) -> String {
    let mut text = without_runtime(text.unwrap_or(PLAIN));
    let table = edit::new_drop_in(version, shim);
    // Without the version: the template has one.
    let table = &table[table.find("[plugins").unwrap_or(0)..];
    let block = format!("\n{FIRST}\n{table}{LAST}\n");
    let is_ended = text.is_empty() || text.ends_with('\n');
    let block = match is_ended {
        true => block,
        // The block has no last line end either: this says how the template ended.
        false => format!("\n{}", block.trim_end_matches('\n')),
    };
    let has_windows_ends = text
        .lines()
        .next()
        .is_some_and(|line| text[line.len()..].starts_with("\r\n"));
    match has_windows_ends {
        true => text.push_str(&block.replace('\n', "\r\n")),
        false => text.push_str(&block),
    }
    text
}

/// The template without our block.
#[must_use]
pub fn without_runtime(text: &str) -> String {
    let Some(start) = text.find(FIRST) else {
        return text.to_owned();
    };
    let end = text[start..]
        .find(LAST)
        .map_or(text.len(), |at| start + at + LAST.len());
    // All line ends that were added are as that of our first line. A carriage return before them may be the template's.
    let added = match text[start + FIRST.len()..].starts_with('\r') {
        true => "\r\n",
        false => "\n",
    };
    let mut before = without_line_end(&text[..start], added);
    if end == text.len() {
        before = without_line_end(before, added);
    }
    let after = &text[end..];
    let rest = after.strip_prefix(added);
    let after = rest.or_else(|| after.strip_prefix('\n')).unwrap_or(after);
    format!("{before}{after}")
}

fn without_line_end<'a>(text: &'a str, line_end: &str) -> &'a str {
    let rest = text.strip_suffix(line_end);
    rest.or_else(|| text.strip_suffix('\n')).unwrap_or(text)
}

/// Whether the template has our block.
#[must_use]
pub fn has_runtime(text: &str) -> bool {
    text.contains(FIRST)
}

/// The shim that our block names; `None` if the template does not have our block.
#[must_use]
pub fn configured(text: &str) -> Option<ShimLocation> {
    let block = &text[text.find(FIRST)?..];
    let block = &block[..block.find(LAST).unwrap_or(block.len())];
    if let Ok(found) = edit::configured(Path::new("our block"), block) {
        return found;
    }
    // By lines, if an administrator has written more of the template into our block.
    let path = block.lines().find_map(|line| {
        let line: DocumentMut = line.parse().ok()?;
        Some(PathBuf::from(line.get("runtime_path")?.as_str()?))
    });
    Some(path.map_or(ShimLocation::Link, ShimLocation::Path))
}

/// Whether the template changes nothing.
#[must_use]
pub fn is_plain(text: &str) -> bool {
    text.trim() == PLAIN.trim()
}

/// Whether the template has a table of our name outside our block.
#[must_use]
pub fn has_foreign_runtime(text: &str) -> bool {
    let rest = without_runtime(text);
    ["", "\"", "'"]
        .iter()
        .any(|quote| rest.contains(&format!("runtimes.{quote}{HANDLER}{quote}]")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_is_added_and_removed_without_a_trace() {
        let shim = ShimLocation::Path("/a \\ \"b\".d".into());
        for text in [
            "{{ template \"base\" . }}\n",
            "{{ template \"base\" . }}\n[x]\ny = 1\n",
            "",
            "{{ template \"base\" . }}",
            "{{ template \"base\" . }}\r\n[x]\r\ny = 1\r\n",
            "{{ template \"base\" . }}\r\n[x]\r\ny = 1",
            "\n",
            // A lone carriage return ends no line.
            "{{ template \"base\" . }}\r",
            "{{ template \"base\" . }}\r\n[x]\r",
            "\r",
        ] {
            let added = with_runtime(Some(text), ConfigVersion::V3, &shim);
            assert!(has_runtime(&added), "{added}");
            assert_eq!(configured(&added).as_ref(), Some(&shim));
            assert_eq!(with_runtime(Some(&added), ConfigVersion::V3, &shim), added);
            assert_eq!(without_runtime(&added), text);
        }
        assert_eq!(
            with_runtime(None, ConfigVersion::V2, &ShimLocation::Link),
            "{{ template \"base\" . }}

# >>> wasm-interp: by `wasm-interp node install`; `wasm-interp node uninstall` takes it out
[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.wasm-interp]
runtime_type = \"io.containerd.wasm-interp.v1\"
pod_annotations = [\"wasm-interp.io/*\"]
container_annotations = [\"wasm-interp.io/*\"]
# <<< wasm-interp
"
        );
    }

    #[test]
    fn shim_is_found_in_a_block_with_more_of_the_template() {
        let shim = ShimLocation::Path("/a \"b\"".into());
        let added = with_runtime(None, ConfigVersion::V3, &shim);
        let changed = added.replace(LAST, &format!("{{{{ if .X }}}}\n{LAST}"));
        assert_eq!(configured(&changed), Some(shim));
        let lines = ShimLocation::Path("/a\nb".into());
        let added = with_runtime(None, ConfigVersion::V3, &lines);
        assert_eq!(configured(&added), Some(lines));
    }

    #[test]
    fn block_has_the_line_ends_of_the_template() {
        let shim = ShimLocation::Link;
        let added = with_runtime(Some("[x]\r\n"), ConfigVersion::V3, &shim);
        assert_eq!(added.matches('\n').count(), added.matches("\r\n").count());
    }

    #[test]
    fn lines_after_the_block_stay() {
        let shim = ShimLocation::Path("/a".into());
        let added = with_runtime(None, ConfigVersion::V3, &shim) + "[later]\n";
        assert_eq!(
            without_runtime(&added),
            "{{ template \"base\" . }}\n[later]\n"
        );
        assert!(has_foreign_runtime(
            "[plugins.x.containerd.runtimes.wasm-interp]\n"
        ));
        assert!(has_foreign_runtime(
            "[plugins.x.containerd.runtimes.'wasm-interp']\n"
        ));
        assert!(!has_foreign_runtime(&added));
    }
}
