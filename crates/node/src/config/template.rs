//! Templates of k3s and RKE2: Go templates that give TOML. They cannot be edited by structure, so
//! ours is a block between two lines at the end.

use super::{Shim, Version, edit};
use crate::names::HANDLER;

const FIRST: &str =
    "# >>> wasm-interp: by `wasm-interp node install`; `wasm-interp node uninstall` takes it out";
const LAST: &str = "# <<< wasm-interp";
/// What a template is that changes nothing.
const PLAIN: &str = "{{ template \"base\" . }}\n";

/// The template with our block at its end; an absent template is the plain one.
pub(crate) fn with_runtime(text: Option<&str>, version: Version, shim: &Shim) -> String {
    let mut text = without_runtime(text.unwrap_or(PLAIN));
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let table = edit::new_drop_in(version, shim);
    // The table alone: the template has its own version.
    let table = &table[table.find("[plugins").unwrap_or(0)..];
    format!("{text}\n{FIRST}\n{table}{LAST}\n")
}

/// The template without our block.
pub(crate) fn without_runtime(text: &str) -> String {
    let Some(start) = text.find(FIRST) else {
        return text.to_owned();
    };
    let end = text[start..]
        .find(LAST)
        .map_or(text.len(), |at| start + at + LAST.len());
    let before = text[..start].strip_suffix('\n').unwrap_or(&text[..start]);
    let after = text[end..].strip_prefix('\n').unwrap_or(&text[end..]);
    format!("{before}{after}")
}

/// Whether our block is in it.
pub(crate) fn has_runtime(text: &str) -> bool {
    text.contains(FIRST)
}

/// The shim that our block names, if it is there.
pub(crate) fn configured(text: &str) -> Option<Shim> {
    let block = &text[text.find(FIRST)?..];
    let block = &block[..block.find(LAST).unwrap_or(block.len())];
    let path = block
        .lines()
        .find_map(|line| line.strip_prefix("runtime_path = "))
        .map(|path| path.trim_matches('"').into());
    Some(path.map_or(Shim::Link, Shim::Path))
}

/// Whether it is what we would have made of nothing.
pub(crate) fn is_plain(text: &str) -> bool {
    text.trim() == PLAIN.trim()
}

/// Whether somebody else's lines in it make a table of our name.
pub(crate) fn has_foreign_runtime(text: &str) -> bool {
    without_runtime(text).contains(&format!("runtimes.{HANDLER}]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_goes_in_and_out_without_a_trace() {
        let shim = Shim::Path("/a".into());
        for text in [
            "{{ template \"base\" . }}\n",
            "{{ template \"base\" . }}\n[x]\ny = 1\n",
            "",
        ] {
            let added = with_runtime(Some(text), Version::V3, &shim);
            assert!(has_runtime(&added), "{added}");
            assert_eq!(configured(&added).as_ref(), Some(&shim));
            assert_eq!(with_runtime(Some(&added), Version::V3, &shim), added);
            assert_eq!(without_runtime(&added), text);
        }
        assert_eq!(
            with_runtime(None, Version::V2, &Shim::Link),
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
    fn lines_after_the_block_stay() {
        let shim = Shim::Path("/a".into());
        let added = with_runtime(None, Version::V3, &shim) + "[later]\n";
        assert_eq!(
            without_runtime(&added),
            "{{ template \"base\" . }}\n[later]\n"
        );
        assert!(has_foreign_runtime(
            "[plugins.x.containerd.runtimes.wasm-interp]\n"
        ));
        assert!(!has_foreign_runtime(&added));
    }
}
