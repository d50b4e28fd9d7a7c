//! Adds our table to a configuration file, and removes it.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use toml_edit::{Array, DocumentMut, Item, Table, TableLike, value};

use crate::error::ConfigError;
use crate::lines;
use crate::runtime::{ANNOTATIONS, HANDLER, RUNTIME_TYPE, ShimLocation};
use crate::version::ConfigVersion;

pub(crate) const COMMENT: &str =
    "# Added by `wasm-interp node install`; `wasm-interp node uninstall` takes it out.";

/// Behind a version that the file did not have.
const VERSION_COMMENT: &str = " # by `wasm-interp node install`";

const DEFAULT_COMMENT: &str = "# containerd's own default, which it drops once the file lists a \
                               runtime: by `wasm-interp node install`.";

pub(crate) fn parse(path: &Path, text: &str) -> Result<DocumentMut, ConfigError> {
    text.parse().map_err(|source| ConfigError::Toml {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

/// The version of the file; `None` if the file has no setting at all.
///
/// # Errors
/// If it is not TOML, or its version is not supported.
pub fn version(path: &Path, text: &str) -> Result<Option<ConfigVersion>, ConfigError> {
    let document = parse(path, text)?;
    if document.is_empty() {
        return Ok(None);
    }
    // For containerd, a file without a version has version 1.
    let number = document.get("version").map_or(Some(1), Item::as_integer);
    match number.and_then(ConfigVersion::of) {
        Some(version) => Ok(Some(version)),
        None => Err(ConfigError::Version {
            path: path.to_owned(),
            found: document.get("version").map_or_else(
                || "1 (none is given)".into(),
                |item| item.to_string().trim().to_owned(),
            ),
        }),
    }
}

/// The text with our table. `fallback` is the version for a file that is empty or missing. `defaults` are runtimes of
/// containerd's defaults, which the file has to list too.
///
/// # Errors
/// If the text cannot be edited: it is not TOML, has another version, or a value where a table has to be.
pub fn with_runtime(
    path: &Path,
    text: &str,
    shim: &ShimLocation,
    fallback: ConfigVersion,
    defaults: &Map<String, Value>,
) -> Result<String, ConfigError> {
    let (versioned, version) = match version(path, text)? {
        Some(version) => (text.to_owned(), version),
        None => {
            // The last line may be a comment without a line end.
            let end = if text.is_empty() || text.ends_with('\n') {
                ""
            } else {
                "\n"
            };
            let line = format!("version = {}{VERSION_COMMENT}\n", fallback.number());
            (format!("{text}{end}{line}"), fallback)
        }
    };
    let mut document = parse(path, &versioned)?;
    let runtimes = descend(path, document.as_table_mut(), version)?;
    for (name, runtime) in defaults {
        let mut table = toml_edit::ser::to_document(runtime)
            .map_err(|source| ConfigError::Default {
                name: name.clone(),
                source: Box::new(source),
            })?
            .as_table()
            .clone();
        table
            .decor_mut()
            .set_prefix(format!("\n{DEFAULT_COMMENT}\n"));
        runtimes.insert(name, Item::Table(table));
    }
    let ours = entry(path, runtimes, HANDLER, || {
        let mut table = Table::new();
        table.decor_mut().set_prefix(format!("\n{COMMENT}\n"));
        table
    })?;
    fill(ours, shim);
    Ok(lines::merge(text, &document.to_string()))
}

/// The text without our table, and without a version that only our table needed; `None` if the text does not have our
/// table.
pub(crate) fn without_runtime(path: &Path, text: &str) -> Result<Option<String>, ConfigError> {
    let mut document = parse(path, text)?;
    let mut found = false;
    for version in [ConfigVersion::V2, ConfigVersion::V3] {
        if let Some(runtimes) = find(document.as_table_mut(), version) {
            found |= runtimes.remove(HANDLER).is_some();
        }
    }
    if !found {
        return Ok(None);
    }
    let rest = lines::without(text, &document.to_string(), |line| line == COMMENT);
    if !has_only_our_version(&document) {
        return Ok(Some(rest));
    }
    let is_version = |line: &&str| line.trim_end().ends_with(VERSION_COMMENT);
    let without_version: String = rest
        .split_inclusive('\n')
        .filter(|line| !is_version(line))
        .collect();
    Ok(Some(lines::merge(&rest, &without_version)))
}

/// Whether the only setting is a version that was added for our table.
fn has_only_our_version(document: &DocumentMut) -> bool {
    let mut printed = document.iter().filter(|(_, item)| match item {
        Item::Table(table) => !is_unprinted(table),
        _ => true,
    });
    let Some(("version", Item::Value(version))) = printed.next() else {
        return false;
    };
    let comment = version.decor().suffix().and_then(|suffix| suffix.as_str());
    printed.next().is_none() && comment.is_some_and(|text| text.trim_end() == VERSION_COMMENT)
}

/// Whether the table is one that was made on the way to ours.
fn is_unprinted(table: &Table) -> bool {
    table.is_implicit()
        && table.iter().all(|(_, item)| match item {
            Item::Table(table) => is_unprinted(table),
            _ => false,
        })
}

/// The drop-in with our table. If it is unchanged since a job wrote it, it is written again in `version`. Otherwise it
/// keeps its version and everything that an administrator added, also in our table.
///
/// # Errors
/// See [`with_runtime`].
pub fn drop_in(
    path: &Path,
    text: &str,
    version: ConfigVersion,
    shim: &ShimLocation,
) -> Result<String, ConfigError> {
    let is_untouched = configured(path, text)?.is_some_and(|shim| {
        let written =
            [ConfigVersion::V2, ConfigVersion::V3].map(|version| new_drop_in(version, &shim));
        written.iter().any(|written| written == text)
    });
    if text.trim().is_empty() || is_untouched {
        return Ok(new_drop_in(version, shim));
    }
    with_runtime(path, text, shim, version, &Map::new())
}

/// The drop-in without our table; `Some(None)` if nothing else was in it, and `None` if it does not have our table.
pub(crate) fn drop_in_without_runtime(
    path: &Path,
    text: &str,
) -> Result<Option<Option<String>>, ConfigError> {
    let Some(rest) = without_runtime(path, text)? else {
        return Ok(None);
    };
    // A file that an installation made begins with our line, which stays when an administrator adds to the file.
    let Some(rest) = rest.strip_prefix(COMMENT) else {
        return Ok(Some(Some(rest)));
    };
    let rest = rest.trim_start_matches(['\r', '\n']).to_owned();
    let is_ours =
        |line: &str| line.is_empty() || line.split('=').next().map(str::trim) == Some("version");
    let nothing_else = rest.lines().map(str::trim).all(is_ours);
    Ok(Some((!nothing_else).then_some(rest)))
}

/// A drop-in that has only our table.
pub(crate) fn new_drop_in(version: ConfigVersion, shim: &ShimLocation) -> String {
    let mut table = Table::new();
    fill(&mut table, shim);
    format!(
        "{COMMENT}\nversion = {}\n\n[plugins.\"{}\".containerd.runtimes.{HANDLER}]\n{table}",
        version.number(),
        version.plugin()
    )
}

/// The shim that our table in the text names; `None` if the text does not have our table.
///
/// # Errors
/// If the text is not TOML.
pub fn configured(path: &Path, text: &str) -> Result<Option<ShimLocation>, ConfigError> {
    let mut document = parse(path, text)?;
    for version in [ConfigVersion::V2, ConfigVersion::V3] {
        let ours = find(document.as_table_mut(), version)
            .and_then(|runtimes| runtimes.get(HANDLER))
            .and_then(Item::as_table_like);
        if let Some(ours) = ours {
            let path = ours.get("runtime_path").and_then(Item::as_str);
            return Ok(Some(match path {
                Some(path) if !path.is_empty() => ShimLocation::Path(PathBuf::from(path)),
                _ => ShimLocation::Link,
            }));
        }
    }
    Ok(None)
}

fn fill(table: &mut dyn TableLike, shim: &ShimLocation) {
    let annotations = || value(Array::from_iter([ANNOTATIONS]));
    set(table, "runtime_type", value(RUNTIME_TYPE));
    match shim {
        ShimLocation::Path(path) => set(
            table,
            "runtime_path",
            value(path.to_string_lossy().as_ref()),
        ),
        ShimLocation::Link => {
            table.remove("runtime_path");
        }
    }
    set(table, "pod_annotations", annotations());
    set(table, "container_annotations", annotations());
}

/// Sets a value. If it is set already, it keeps its formatting.
fn set(table: &mut dyn TableLike, key: &str, wanted: Item) {
    let same = |there: &Item| there.to_string().trim() == wanted.to_string().trim();
    if !table.get(key).is_some_and(same) {
        table.insert(key, wanted);
    }
}

fn steps(version: ConfigVersion) -> [&'static str; 4] {
    ["plugins", version.plugin(), "containerd", "runtimes"]
}

fn find(table: &mut Table, version: ConfigVersion) -> Option<&mut dyn TableLike> {
    let mut at: &mut dyn TableLike = table;
    for step in steps(version) {
        at = at.get_mut(step)?.as_table_like_mut()?;
    }
    Some(at)
}

fn descend<'a>(
    path: &Path,
    table: &'a mut Table,
    version: ConfigVersion,
) -> Result<&'a mut dyn TableLike, ConfigError> {
    let mut at: &mut dyn TableLike = table;
    for step in steps(version) {
        at = entry(path, at, step, || {
            let mut table = Table::new();
            table.set_implicit(true);
            table
        })?;
    }
    Ok(at)
}

fn entry<'a>(
    path: &Path,
    table: &'a mut dyn TableLike,
    key: &str,
    make: impl FnOnce() -> Table,
) -> Result<&'a mut dyn TableLike, ConfigError> {
    if table.get(key).is_none() {
        table.insert(key, Item::Table(make()));
    }
    table
        .get_mut(key)
        .and_then(Item::as_table_like_mut)
        .ok_or_else(|| ConfigError::NotATable {
            path: path.to_owned(),
            key: key.to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/etc/containerd/config.toml";
    const KUBEADM: &str = "\
# by hand
version = 2
[plugins]
  [plugins.\"io.containerd.grpc.v1.cri\"] # the CRI
    sandbox_image = 'pause'
    [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]
      runtime_type = \"io.containerd.runc.v2\"
      [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]
        SystemdCgroup = true

[grpc]
  address = \"/run/containerd/containerd.sock\"
";

    fn shim(path: &str) -> ShimLocation {
        ShimLocation::Path(path.into())
    }

    fn add(text: &str, path: &str) -> String {
        with_runtime(
            Path::new(PATH),
            text,
            &shim(path),
            ConfigVersion::V3,
            &Map::new(),
        )
        .unwrap()
    }

    fn remove(text: &str) -> Option<String> {
        without_runtime(Path::new(PATH), text).unwrap()
    }

    #[test]
    fn everything_but_our_table_stays_byte_for_byte() {
        let added = add(KUBEADM, "/a");
        let ours = "
# Added by `wasm-interp node install`; `wasm-interp node uninstall` takes it out.
[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.wasm-interp]
runtime_type = \"io.containerd.wasm-interp.v1\"
runtime_path = \"/a\"
pod_annotations = [\"wasm-interp.io/*\"]
container_annotations = [\"wasm-interp.io/*\"]
";
        assert!(added.contains(ours), "{added}");
        assert_eq!(added.replace(ours, ""), KUBEADM);
        assert_eq!(remove(&added).as_deref(), Some(KUBEADM));
        assert_eq!(remove(KUBEADM), None);
    }

    #[test]
    fn second_install_changes_nothing_and_an_upgrade_only_the_path() {
        let one = add(KUBEADM, "/a");
        assert_eq!(add(&one, "/a"), one);
        assert_eq!(add(&one, "/b"), one.replace("\"/a\"", "\"/b\""));
        let path = Path::new(PATH);
        assert_eq!(configured(path, &one).unwrap(), Some(shim("/a")));
        assert_eq!(configured(path, KUBEADM).unwrap(), None);
    }

    #[test]
    fn default_runtime_that_our_table_would_drop_is_listed() {
        let options = serde_json::json!({ "SystemdCgroup": false });
        let runc = serde_json::json!({ "runc": { "runtime_type": "r", "options": options } });
        let text = with_runtime(
            Path::new(PATH),
            "version = 2\n",
            &shim("/a"),
            ConfigVersion::V2,
            runc.as_object().unwrap(),
        )
        .unwrap();
        assert!(
            text.contains(
                "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\noptions = { \
                 SystemdCgroup = false }\nruntime_type = \"r\"\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn drop_in_with_additions_keeps_them() {
        let path = Path::new("/etc/containerd/conf.d/wasm-interp.toml");
        let with = |text: &str| drop_in(path, text, ConfigVersion::V3, &shim("/b")).unwrap();
        let without = |text: &str| drop_in_without_runtime(path, text).unwrap();
        let ours = with("");
        assert_eq!(without(&ours), Some(None));
        // A newer containerd reads another version.
        assert_eq!(with(&new_drop_in(ConfigVersion::V2, &shim("/a"))), ours);
        let theirs = "# RemainingRelease for later.\nversion = 3\n";
        assert_eq!(without(theirs), None);
        let both = with(theirs);
        assert!(both.starts_with(theirs), "{both}");
        assert_eq!(without(&both), Some(Some(theirs.to_owned())));
    }

    #[test]
    fn every_spelling_of_tables_is_edited() {
        for text in [
            "version = 3\n\
             plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.runtime_type = 'x'\n",
            "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\ncontainerd = { runtimes = { \
             runc = { runtime_type = 'x' } } }\n",
            "version = 4\n[plugins.'io.containerd.cri.v1.runtime'.containerd]\n\
             default_runtime_name = 'runc'\n",
            "version = 3\n",
            "# nothing but words\n",
            "# nothing but words, and no end of the line",
            "",
        ] {
            let added = add(text, "/a");
            let path = Path::new(PATH);
            assert_eq!(
                configured(path, &added).unwrap(),
                Some(shim("/a")),
                "{added}"
            );
            assert_eq!(remove(&added).as_deref(), Some(text), "{added}");
        }
    }

    #[test]
    fn line_ends_and_a_missing_last_one_stay() {
        let windows = KUBEADM.replace('\n', "\r\n");
        let mixed = KUBEADM.replacen('\n', "\r\n", 3);
        for text in [
            windows.as_str(),
            &mixed,
            KUBEADM.trim_end(),
            windows.trim_end(),
            "\u{feff}version = 2\r\n",
            "version = 2",
            "# words\r\n# and more",
        ] {
            let added = add(text, "/a");
            assert_eq!(
                configured(Path::new(PATH), &added).unwrap(),
                Some(shim("/a")),
                "{added:?}"
            );
            let upgraded = add(&added, "/b");
            assert_eq!(upgraded, added.replace("\"/a\"", "\"/b\""));
            assert_eq!(remove(&upgraded).as_deref(), Some(text), "{added:?}");
        }
        assert_eq!(
            add(&windows, "/a"),
            add(KUBEADM, "/a").replace('\n', "\r\n")
        );
    }

    #[test]
    fn version_that_was_added_stays_with_what_was_written_below_it() {
        let with_theirs = add("# words\n", "/a") + "[debug]\nlevel = \"info\"\n";
        assert_eq!(
            remove(&with_theirs).unwrap(),
            "# words\nversion = 3 # by `wasm-interp node install`\n[debug]\nlevel = \"info\"\n"
        );
    }

    #[test]
    fn comments_of_others_around_our_table_stay() {
        let added = add("version = 2\n", "/a");
        let theirs = added.replace(COMMENT, &format!("# theirs\n{COMMENT}")) + "# the end\n";
        let removed = remove(&theirs).unwrap();
        assert_eq!(removed, "version = 2\n# theirs\n# the end\n");
    }

    #[test]
    fn unknown_versions_are_refused_with_the_way_out() {
        for text in [
            "[grpc]\n",
            "version = 1\n",
            "version = 5\n",
            "version = 'two'\n",
        ] {
            let error = with_runtime(
                Path::new(PATH),
                text,
                &ShimLocation::Link,
                ConfigVersion::V2,
                &Map::new(),
            )
            .unwrap_err();
            assert!(
                error.to_string().contains("containerd config migrate"),
                "{error}"
            );
        }
        let error = add_error("version = 2\nplugins = 3\n");
        assert!(error.contains("\"plugins\" is not a table"), "{error}");
        let error = add_error("version = \n");
        assert!(
            error.contains("cannot parse /etc/containerd/config.toml as TOML"),
            "{error}"
        );
    }

    fn add_error(text: &str) -> String {
        with_runtime(
            Path::new(PATH),
            text,
            &ShimLocation::Link,
            ConfigVersion::V2,
            &Map::new(),
        )
        .unwrap_err()
        .to_string()
    }
}
