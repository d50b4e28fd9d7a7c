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
    rewrite(path, text, |import| vec![import])
}

/// The same, importing `candidate` in the drop-in's place: where its folder is imported, the files in
/// there, `beside`, are named one by one, in containerd's order. `None` if another pattern takes the
/// drop-in too.
pub(crate) fn replacing(
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
    let in_its_place = |file: &PathBuf| match *file == drop_in {
        true => candidate.to_owned(),
        false => file.clone(),
    };
    let mut is_taken_twice = false;
    let text = rewrite(path, text, |import| {
        if import == whole_folder {
            return named.iter().map(|file| in_its_place(file)).collect();
        }
        is_taken_twice |= may_take(&import, &drop_in);
        vec![in_its_place(&import)]
    })?;
    Ok((!is_taken_twice).then_some(text))
}

/// Whether the import is a pattern that could take that file. Errs on the side of yes.
fn may_take(import: &Path, file: &Path) -> bool {
    const WILD: [char; 3] = ['*', '?', '['];
    // No part of a pattern matches more than one of a path.
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
    becomes: impl FnMut(PathBuf) -> Vec<PathBuf>,
) -> Result<String, ConfigError> {
    let mut document = parse(path, text)?;
    let imports: Vec<PathBuf> = document
        .get("imports")
        .and_then(Item::as_array)
        .into_iter()
        .flatten()
        .filter_map(|import| import.as_str())
        .map(|import| resolve(path, import))
        .flat_map(becomes)
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
            absolute(path, text).unwrap(),
            "version = 3\nimports = [\"/etc/containerd/more/*.toml\"]\n"
        );
        assert_eq!(absolute(path, "version = 3\n").unwrap(), "version = 3\n");
    }

    #[test]
    fn a_candidate_takes_the_drop_ins_place_among_the_others() {
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
