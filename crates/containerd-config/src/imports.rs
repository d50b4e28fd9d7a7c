//! The imports of a configuration file. containerd reads only the files that the main file names: a folder of drop-ins
//! that it does not name has no effect.

use std::path::{Path, PathBuf};

use toml_edit::{Array, Item, value};

use crate::edit::parse;
use crate::error::ConfigError;

/// The folders from which the file imports every `*.toml`, in the order of the file.
///
/// # Errors
/// If the text is not TOML.
pub fn folders(path: &Path, text: &str) -> Result<Vec<PathBuf>, ConfigError> {
    let document = parse(path, text)?;
    let imports = document.get("imports").and_then(Item::as_array);
    Ok(imports
        .into_iter()
        .flatten()
        .filter_map(|import| import.as_str())
        .map(|import| resolve(path, import))
        .filter(|import| import.file_name().is_some_and(|name| name == "*.toml"))
        .filter_map(|import| import.parent().map(Path::to_owned))
        // A pattern in the folder names no single folder.
        .filter(|folder| !folder.to_string_lossy().contains('*'))
        .collect())
}

/// The text with absolute imports, so that it means the same in any folder.
///
/// # Errors
/// If the text is not TOML.
pub fn absolute(path: &Path, text: &str) -> Result<String, ConfigError> {
    rewrite(path, text, |import| vec![import])
}

/// The text with absolute imports that imports `candidate` in place of the drop-in. An import of the drop-in's folder
/// becomes a list of the files in it, `beside`, in containerd's order. `None` if another pattern matches the drop-in too.
///
/// # Errors
/// If the text is not TOML.
pub fn replacing(
    path: &Path,
    text: &str,
    drop_in: &Path,
    beside: &[PathBuf],
    candidate: &Path,
) -> Result<Option<String>, ConfigError> {
    let whole_folder = drop_in.with_file_name("*.toml");
    let mut named: Vec<_> = beside.iter().filter(|file| *file != drop_in).collect();
    let drop_in = drop_in.to_owned();
    named.push(&drop_in);
    named.sort();
    let replacement = |file: &PathBuf| match *file == drop_in {
        true => candidate.to_owned(),
        false => file.clone(),
    };
    let mut matches_twice = false;
    let text = rewrite(path, text, |import| {
        if import == whole_folder {
            return named.iter().map(|file| replacement(file)).collect();
        }
        matches_twice |= may_match(&import, &drop_in);
        vec![replacement(&import)]
    })?;
    Ok((!matches_twice).then_some(text))
}

/// Whether the import is a pattern that may match that file. In doubt it says yes.
fn may_match(import: &Path, file: &Path) -> bool {
    const WILD: [char; 3] = ['*', '?', '['];
    // A component of a pattern matches exactly one component of a path.
    if import.components().count() != file.components().count() {
        return false;
    }
    let import = import.to_string_lossy();
    let Some(wild) = import.find(WILD) else {
        return false;
    };
    let name = import.rsplit('/').next().unwrap_or_default();
    let same_name = file.file_name().is_some_and(|there| there == name);
    file.to_string_lossy().starts_with(&import[..wild]) && (same_name || name.contains(WILD))
}

fn rewrite(
    path: &Path,
    text: &str,
    replace: impl FnMut(PathBuf) -> Vec<PathBuf>,
) -> Result<String, ConfigError> {
    let mut document = parse(path, text)?;
    let imports: Vec<PathBuf> = document
        .get("imports")
        .and_then(Item::as_array)
        .into_iter()
        .flatten()
        .filter_map(|import| import.as_str())
        .map(|import| resolve(path, import))
        .flat_map(replace)
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
mod tests {
    use super::*;

    #[test]
    fn only_imports_of_whole_folders_count() {
        let text = "version = 3\nimports = ['/etc/containerd/conf.d/*.toml', 'more/*.toml', \
                    '/x/one.toml', '/y/*/*.toml', '/z/a*.toml']\n";
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
    fn copy_in_another_folder_imports_the_same_files() {
        let path = Path::new("/etc/containerd/config.toml");
        let text = "version = 3\nimports = [\"more/*.toml\"]\n";
        assert_eq!(
            absolute(path, text).unwrap(),
            "version = 3\nimports = [\"/etc/containerd/more/*.toml\"]\n"
        );
        assert_eq!(absolute(path, "version = 3\n").unwrap(), "version = 3\n");
    }

    #[test]
    fn candidate_is_imported_in_the_drop_ins_place() {
        let replaced = |imports: &str| {
            let beside = ["/c/d/z.toml", "/c/d/a.toml", "/c/d/ours.toml"].map(PathBuf::from);
            let text = format!("imports = [{imports}]\n");
            let [path, ours, candidate] = ["/c/c.toml", "/c/d/ours.toml", "/run/x"].map(Path::new);
            replacing(path, &text, ours, &beside, candidate).unwrap()
        };
        let all = "\"/c/d/a.toml\", \"/run/x\", \"/c/d/z.toml\"";
        for (imports, becomes) in [
            (
                "'/x/*.toml', 'd/*.toml', '*.toml'",
                format!("\"/x/*.toml\", {all}, \"/c/*.toml\""),
            ),
            (
                "'d/*.toml', 'd/ours.toml', '/c/*/other.toml'",
                format!("{all}, \"/run/x\", \"/c/*/other.toml\""),
            ),
        ] {
            let wanted = format!("imports = [{becomes}]\n");
            assert_eq!(replaced(imports), Some(wanted), "{imports}");
        }
        for other in ["/c/*/ours.toml", "d/o*", "/c/?/[a-z]*.toml"] {
            assert_eq!(replaced(&format!("'d/*.toml', '{other}'")), None, "{other}");
        }
    }
}
