//! Our table in a configuration file, put in and taken out.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use toml_edit::{Array, DocumentMut, Item, Table, TableLike, value};

use super::{ConfigError, Shim, Version};
use crate::names::{ANNOTATIONS, HANDLER, RUNTIME_TYPE};

pub(super) const COMMENT: &str =
    "# Added by `wasm-interp node install`; `wasm-interp node uninstall` takes it out.";

const DEFAULT_COMMENT: &str = "# containerd's own default, which it drops once the file lists a runtime: by `wasm-interp node install`.";

pub(super) fn parse(path: &Path, text: &str) -> Result<DocumentMut, ConfigError> {
    text.parse().map_err(|source| ConfigError::Toml {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

/// The version that the file says, or `None` if it says nothing at all.
pub(crate) fn version(path: &Path, text: &str) -> Result<Option<Version>, ConfigError> {
    let document = parse(path, text)?;
    if document.is_empty() {
        return Ok(None);
    }
    // containerd takes a file without a version for version 1.
    let number = document.get("version").map_or(Some(1), Item::as_integer);
    match number.and_then(Version::of) {
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

/// The text with our table in it. `fallback` is the version of a file that is empty or absent.
/// `defaults` are runtimes to be listed beside ours, where nothing but containerd's default lists them.
pub(crate) fn with_runtime(
    path: &Path,
    text: &str,
    shim: &Shim,
    fallback: Version,
    defaults: &Map<String, Value>,
) -> Result<String, ConfigError> {
    let (text, version) = match version(path, text)? {
        Some(version) => (text.to_owned(), version),
        None => (format!("{text}version = {}\n", fallback.number()), fallback),
    };
    let mut document = parse(path, &text)?;
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
    Ok(document.to_string())
}

/// The text without our table, or `None` if it is not in there.
pub(crate) fn without_runtime(path: &Path, text: &str) -> Result<Option<String>, ConfigError> {
    let mut document = parse(path, text)?;
    let mut found = false;
    for version in [Version::V2, Version::V3] {
        if let Some(runtimes) = find(document.as_table_mut(), version) {
            found |= runtimes.remove(HANDLER).is_some();
        }
    }
    Ok(found.then(|| document.to_string()))
}

/// The drop-in with our table in it. One that is as we wrote it is made anew, in that version; others
/// keep theirs, and all that somebody has written there, in our table too.
pub(crate) fn drop_in(
    path: &Path,
    text: &str,
    version: Version,
    shim: &Shim,
) -> Result<String, ConfigError> {
    let is_untouched = configured(path, text)?.is_some_and(|shim| {
        let written = [Version::V2, Version::V3].map(|version| new_drop_in(version, &shim));
        written.iter().any(|written| written == text)
    });
    if text.trim().is_empty() || is_untouched {
        return Ok(new_drop_in(version, shim));
    }
    with_runtime(path, text, shim, version, &Map::new())
}

/// The drop-in without our table, `Some(None)` if nothing but what we wrote was in it; or `None` if
/// our table is not in there.
pub(crate) fn drop_in_without_runtime(
    path: &Path,
    text: &str,
) -> Result<Option<Option<String>>, ConfigError> {
    let Some(rest) = without_runtime(path, text)? else {
        return Ok(None);
    };
    // Ours says so in its first line, also if somebody has added to it since.
    let rest = match rest.strip_prefix(COMMENT) {
        Some(rest) => rest.trim_start_matches('\n').to_owned(),
        None => rest,
    };
    let is_ours =
        |line: &str| line.is_empty() || line.split('=').next().map(str::trim) == Some("version");
    let nothing_else = rest.lines().map(str::trim).all(is_ours);
    Ok(Some((!nothing_else).then_some(rest)))
}

/// What a drop-in file of ours holds.
pub(super) fn new_drop_in(version: Version, shim: &Shim) -> String {
    let mut table = Table::new();
    fill(&mut table, shim);
    format!(
        "{COMMENT}\nversion = {}\n\n[plugins.\"{}\".containerd.runtimes.{HANDLER}]\n{table}",
        version.number(),
        version.plugin()
    )
}

/// The shim that our table in there names, if it is there: `None` within means by its type.
pub(crate) fn configured(path: &Path, text: &str) -> Result<Option<Shim>, ConfigError> {
    let mut document = parse(path, text)?;
    for version in [Version::V2, Version::V3] {
        let ours = find(document.as_table_mut(), version)
            .and_then(|runtimes| runtimes.get(HANDLER))
            .and_then(Item::as_table_like);
        if let Some(ours) = ours {
            let path = ours.get("runtime_path").and_then(Item::as_str);
            return Ok(Some(match path {
                Some(path) if !path.is_empty() => Shim::Path(PathBuf::from(path)),
                _ => Shim::Link,
            }));
        }
    }
    Ok(None)
}

fn fill(table: &mut dyn TableLike, shim: &Shim) {
    let annotations = || value(Array::from_iter([ANNOTATIONS]));
    set(table, "runtime_type", value(RUNTIME_TYPE));
    match shim {
        Shim::Path(path) => set(
            table,
            "runtime_path",
            value(path.to_string_lossy().as_ref()),
        ),
        Shim::Link => {
            table.remove("runtime_path");
        }
    }
    set(table, "pod_annotations", annotations());
    set(table, "container_annotations", annotations());
}

/// Sets a value; one that is right already keeps its formatting.
fn set(table: &mut dyn TableLike, key: &str, wanted: Item) {
    let same = |there: &Item| there.to_string().trim() == wanted.to_string().trim();
    if !table.get(key).is_some_and(same) {
        table.insert(key, wanted);
    }
}

fn steps(version: Version) -> [&'static str; 4] {
    ["plugins", version.plugin(), "containerd", "runtimes"]
}

fn find(table: &mut Table, version: Version) -> Option<&mut dyn TableLike> {
    let mut at: &mut dyn TableLike = table;
    for step in steps(version) {
        at = at.get_mut(step)?.as_table_like_mut()?;
    }
    Some(at)
}

fn descend<'a>(
    path: &Path,
    table: &'a mut Table,
    version: Version,
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
#[allow(clippy::unwrap_used)]
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

    fn shim(path: &str) -> Shim {
        Shim::Path(path.into())
    }

    fn add(text: &str, path: &str) -> String {
        with_runtime(Path::new(PATH), text, &shim(path), Version::V3, &Map::new()).unwrap()
    }

    fn remove(text: &str) -> Option<String> {
        without_runtime(Path::new(PATH), text).unwrap()
    }

    #[test]
    fn all_that_is_not_ours_stays_byte_for_byte() {
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
    fn a_second_time_changes_nothing_and_an_upgrade_the_path_alone() {
        let one = add(KUBEADM, "/a");
        assert_eq!(add(&one, "/a"), one);
        assert_eq!(add(&one, "/b"), one.replace("\"/a\"", "\"/b\""));
        let path = Path::new(PATH);
        assert_eq!(configured(path, &one).unwrap(), Some(shim("/a")));
        assert_eq!(configured(path, KUBEADM).unwrap(), None);
    }

    #[test]
    fn a_default_that_listing_ours_drops_is_listed_too() {
        let runc = serde_json::json!({ "runc": { "runtime_type": "r", "options": { "SystemdCgroup": false } } });
        let text = with_runtime(
            Path::new(PATH),
            "version = 2\n",
            &shim("/a"),
            Version::V2,
            runc.as_object().unwrap(),
        )
        .unwrap();
        assert!(
            text.contains(
                "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\noptions = { SystemdCgroup = false }\nruntime_type = \"r\"\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_drop_in_is_ours_until_somebody_writes_in_it() {
        let path = Path::new("/etc/containerd/conf.d/wasm-interp.toml");
        let with = |text: &str| drop_in(path, text, Version::V3, &shim("/b")).unwrap();
        let without = |text: &str| drop_in_without_runtime(path, text).unwrap();
        let ours = with("");
        assert_eq!(without(&ours), Some(None));
        // A containerd that was replaced by a newer one reads another version.
        assert_eq!(with(&new_drop_in(Version::V2, &shim("/a"))), ours);
        let theirs = "# Kept for later.\nversion = 3\n";
        assert_eq!(without(theirs), None);
        let both = with(theirs);
        assert!(both.starts_with(theirs), "{both}");
        assert_eq!(without(&both), Some(Some(theirs.to_owned())));
    }

    #[test]
    fn every_way_to_write_tables() {
        for text in [
            "version = 3\nplugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.runtime_type = 'x'\n",
            "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\ncontainerd = { runtimes = { runc = { runtime_type = 'x' } } }\n",
            "version = 4\n[plugins.'io.containerd.cri.v1.runtime'.containerd]\ndefault_runtime_name = 'runc'\n",
            "version = 3\n",
            "# nothing but words\n",
            "",
        ] {
            let added = add(text, "/a");
            let path = Path::new(PATH);
            assert_eq!(
                configured(path, &added).unwrap(),
                Some(shim("/a")),
                "{added}"
            );
            let removed = remove(&added).unwrap();
            assert_eq!(configured(path, &removed).unwrap(), None, "{removed}");
            assert!(removed.starts_with(text.trim_end()), "{removed}");
        }
    }

    #[test]
    fn versions_that_cannot_be_edited_are_refused_with_the_way_out() {
        for text in [
            "[grpc]\n",
            "version = 1\n",
            "version = 5\n",
            "version = 'two'\n",
        ] {
            let error = with_runtime(Path::new(PATH), text, &Shim::Link, Version::V2, &Map::new())
                .unwrap_err();
            assert!(
                error.to_string().contains("containerd config migrate"),
                "{error}"
            );
        }
        let error = add_error("version = 2\nplugins = 3\n");
        assert!(
            error.contains("\"plugins\" as something else than a table"),
            "{error}"
        );
        let error = add_error("version = \n");
        assert!(
            error.contains("/etc/containerd/config.toml is not TOML"),
            "{error}"
        );
    }

    fn add_error(text: &str) -> String {
        with_runtime(Path::new(PATH), text, &Shim::Link, Version::V2, &Map::new())
            .unwrap_err()
            .to_string()
    }
}
