//! What a configuration file imports. containerd takes what the main file itself names and nothing
//! else: a folder that happens to be there is not read.

use std::path::{Path, PathBuf};

use toml_edit::{Array, Item, value};

use super::ConfigError;
use super::edit::parse;

/// Folders from which the file imports every `*.toml`, in its order.
pub(crate) fn folders(path: &Path, text: &str) -> Result<Vec<PathBuf>, ConfigError> {
    let document = parse(path, text)?;
    let imports = document.get("imports").and_then(Item::as_array);
    Ok(imports
        .into_iter()
        .flatten()
        .filter_map(|import| import.as_str())
        .map(|import| resolve(path, import))
        .filter(|import| import.file_name().is_some_and(|name| name == "*.toml"))
        .filter_map(|import| import.parent().map(Path::to_owned))
        // A pattern of folders names no folder of ours.
        .filter(|folder| !folder.to_string_lossy().contains('*'))
        .collect())
}

/// The text with its imports made absolute, so that it means the same wherever it lies.
pub(crate) fn absolute(path: &Path, text: &str) -> Result<String, ConfigError> {
    rewrite(path, text, None)
}

/// The same, importing one more file, last.
pub(crate) fn importing(path: &Path, text: &str, more: &Path) -> Result<String, ConfigError> {
    rewrite(path, text, Some(more))
}

fn rewrite(path: &Path, text: &str, more: Option<&Path>) -> Result<String, ConfigError> {
    let mut document = parse(path, text)?;
    let imports: Vec<PathBuf> = document
        .get("imports")
        .and_then(Item::as_array)
        .into_iter()
        .flatten()
        .filter_map(|import| import.as_str())
        .map(|import| resolve(path, import))
        .chain(more.map(Path::to_owned))
        .collect();
    if !imports.is_empty() {
        let imports = imports
            .iter()
            .map(|import| import.to_string_lossy().into_owned());
        document["imports"] = value(Array::from_iter(imports));
    }
    Ok(document.to_string())
}

fn resolve(path: &Path, import: &str) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).join(import)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_folders_take_a_file_of_ours() {
        let text = "version = 3\nimports = ['/etc/containerd/conf.d/*.toml', 'more/*.toml', '/x/one.toml', '/y/*/*.toml', '/z/a*.toml']\n";
        let path = Path::new("/etc/containerd/config.toml");
        assert_eq!(
            folders(path, text).unwrap(),
            [
                Path::new("/etc/containerd/conf.d"),
                Path::new("/etc/containerd/more")
            ]
        );
        assert!(folders(path, "version = 3\n").unwrap().is_empty());
    }

    #[test]
    fn a_copy_elsewhere_imports_the_same() {
        let path = Path::new("/etc/containerd/config.toml");
        let text = "version = 3\nimports = [\"more/*.toml\"]\n";
        assert_eq!(
            importing(path, text, Path::new("/run/x.toml")).unwrap(),
            "version = 3\nimports = [\"/etc/containerd/more/*.toml\", \"/run/x.toml\"]\n"
        );
        assert_eq!(absolute(path, "version = 3\n").unwrap(), "version = 3\n");
    }
}
