//! The edit of containerd's configuration, which belongs to the node's administrator.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use wasm_interp_containerd_config::{
    ConfigFileKind, ConfigVersion, HANDLER, ShimLocation, configured, drop_in, template,
    with_runtime,
};
use wasm_interp_fuzz::planted;

const PATH: &str = "/etc/containerd/config.toml";

/// Lines that fit each other. A table that is defined twice is refused, which is a result too.
const LINES: &[&str] = &[
    "version = 2",
    "version = 3 # by hand",
    "version = 4",
    "# words",
    "",
    "  ",
    "imports = ['/etc/containerd/conf.d/*.toml']",
    "[plugins]",
    "  [plugins.\"io.containerd.grpc.v1.cri\"] # the CRI",
    "[plugins.\"io.containerd.grpc.v1.cri\".containerd]",
    "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes]",
    "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]",
    "    [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]",
    "[plugins.\"io.containerd.cri.v1.runtime\".containerd]",
    "[plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.kata]",
    "[plugins.\"io.containerd.cri.v1.images\"]",
    "[grpc]",
    "[[more]]",
    "\tdefault_runtime_name = \"runc\"",
    "runtime_type = 'io.containerd.runc.v2'   # a comment",
    "SystemdCgroup = true",
    "text = \"\"\"",
    "\"\"\"",
    "list = [ 1,",
    "  2, # two",
    "]",
    "inline = { a = 1, b = { c = 'd' } }",
    "a.b.c = 1",
];

#[derive(Debug, arbitrary::Arbitrary)]
enum Input<'a> {
    Lines {
        /// Each with whether its end is that of Windows.
        lines: Vec<(u8, bool)>,
        last_is_ended: bool,
        kind: u8,
        shim: Option<&'a str>,
        version: u8,
    },
    Text {
        text: &'a str,
        kind: u8,
        shim: Option<&'a str>,
        version: u8,
    },
}

fn kind(number: u8) -> ConfigFileKind {
    match number % 3 {
        0 => ConfigFileKind::Main,
        1 => ConfigFileKind::DropIn,
        _ => ConfigFileKind::Template,
    }
}

fn version(number: u8) -> ConfigVersion {
    match number % 3 {
        0 => ConfigVersion::V2,
        1 => ConfigVersion::V3,
        _ => ConfigVersion::V4,
    }
}

/// A path as a release's folder has it. Without control characters: a string of several lines has its file's line ends.
fn shim(path: Option<&str>) -> ShimLocation {
    match path {
        Some(path) if !path.is_empty() && !path.contains(char::is_control) => {
            ShimLocation::Path(path.into())
        }
        _ => ShimLocation::Link,
    }
}

/// What the text says; `None` if it is not TOML.
fn parsed(text: &str) -> Option<Value> {
    toml_edit::de::from_str(text).ok()
}

/// The settings without tables that are empty: those on the way to ours may stay in an inline table.
fn without_empty_tables(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .map(|(key, value)| (key, without_empty_tables(value)))
                .filter(|(_, value)| value.as_object().is_none_or(|map| !map.is_empty()))
                .collect(),
        ),
        other => other,
    }
}

/// Whether all lines of `text` are in `edited`, in their order and with their ends.
fn has_lines_of(edited: &str, text: &str) -> bool {
    let mut there = edited.split_inclusive('\n');
    let mut wanted = text.split_inclusive('\n').peekable();
    while let Some(line) = wanted.next() {
        let is_last = wanted.peek().is_none();
        // The last line gets an end when ours follow. A lone carriage return before it is no part of that end.
        let is_ended =
            |other: &str| ["\n", "\r\n"].contains(&other.strip_prefix(line).unwrap_or_default());
        let same = |other: &str| other == line || (is_last && is_ended(other));
        if !there.any(same) {
            return false;
        }
    }
    true
}

/// Whether bytes of others stay in every case.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bytes {
    Stay,
    /// Only what they say: the same name may be quoted in two ways, and a table may be inline.
    Meaning,
}

fn edit(
    text: &str,
    kind: ConfigFileKind,
    shim: &ShimLocation,
    version: ConfigVersion,
    bytes: Bytes,
) {
    let path = Path::new(PATH);
    let add = |text: &str| match kind {
        ConfigFileKind::Main => with_runtime(path, text, shim, version, &Map::new()),
        ConfigFileKind::DropIn => drop_in(path, text, version, shim),
        ConfigFileKind::Template => Ok(template::with_runtime(Some(text), version, shim)),
    };
    let Ok(added) = add(text) else { return };
    let found = match kind {
        ConfigFileKind::Template => template::configured(&added),
        _ => configured(path, &added).expect("the result is TOML"),
    };
    assert_eq!(found.as_ref(), Some(shim), "{added:?}");
    assert_eq!(add(&added).ok().as_ref(), Some(&added), "a second install");
    let removed = kind
        .without_runtime(path, &added)
        .expect("the result is TOML")
        .expect("our table is there");
    if text.contains(HANDLER) {
        // A table or a comment as we write them: it counts as ours.
        return;
    }
    if kind == ConfigFileKind::DropIn && text.trim().is_empty() {
        assert_eq!(removed, None, "nothing else was in the file");
        return;
    }
    if kind == ConfigFileKind::Template {
        assert!(
            added.starts_with(text) && has_lines_of(&added, text),
            "{added:?}"
        );
        let rest = template::without_runtime(&added);
        assert_eq!(rest, text);
        assert!(removed.as_deref() == Some(text) || template::is_plain(text));
        return;
    }
    let removed = removed.expect("a file with other settings stays");
    let (before, after) = (parsed(text), parsed(&removed));
    let meaning = |value: Option<Value>| value.map(without_empty_tables);
    assert_eq!(meaning(before), meaning(after), "{added:?}");
    if bytes == Bytes::Stay {
        assert!(has_lines_of(&added, text), "{added:?}");
        assert_eq!(removed, text, "{added:?}");
    }
    planted(text.contains("\r\n") && !text.ends_with('\n') && text.contains("[grpc]"));
}

fuzz_target!(|input: Input<'_>| match input {
    Input::Lines {
        lines,
        last_is_ended,
        kind: number,
        shim: path,
        version: of,
    } => {
        let mut text = String::new();
        for (line, windows) in lines {
            text += LINES[usize::from(line) % LINES.len()];
            text += if windows { "\r\n" } else { "\n" };
        }
        if !last_is_ended {
            text.truncate(text.trim_end_matches(['\r', '\n']).len());
        }
        edit(&text, kind(number), &shim(path), version(of), Bytes::Stay);
    }
    Input::Text {
        text,
        kind: number,
        shim: path,
        version: of,
    } => edit(text, kind(number), &shim(path), version(of), Bytes::Meaning),
});
