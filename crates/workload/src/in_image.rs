//! Finds the Wasm programs that containers of an image will run, as far as the image alone tells. `wasm-interp
//! node prewarm` calls it before there is a container. The rules are those of [`crate::decide()`].

use std::collections::BTreeSet;
use std::path::Path;

use oci_spec::runtime::Spec;
use thiserror::Error;

use crate::causes::{shown, with_causes};
use crate::error::PlanError;
use crate::plan::Planned;
use crate::program::magic::{self, FileFormat};
use crate::program::{DEFAULT_PATH, text};
use crate::resolve::decide;
use crate::view::{View, ViewError};
use wasm_interp_policy::Policy;

/// The most directories of a PATH that are searched, names in each directory, and programs: an image
/// must not keep a node busy. A full Debian has 1,500 names in `/usr/bin`.
const DIRECTORIES: usize = 32;
const NAMES: usize = 8192;
const PROGRAMS: usize = 16;

/// A Wasm program of an image.
#[derive(Debug)]
pub struct ImageModule<F> {
    /// Its path in the image, without symlinks.
    pub path: String,
    /// The module, open at its start.
    pub file: F,
}

/// Why no Wasm program of an image was found.
#[derive(Debug, Error)]
pub enum ImageModulesError {
    /// The image has none.
    #[error(
        "the image has no Wasm interpreter: {command}, and no file on its PATH ({path}) is a Wasm \
         module; build the image from one that has an interpreter",
        path = shown(path)
    )]
    None {
        /// What its ENTRYPOINT and CMD name, in words.
        command: String,
        /// The PATH.
        path: String,
    },
    /// The image has too many to compile them all.
    #[error(
        "more than {PROGRAMS} files on its PATH ({path}) are Wasm modules; name one of them in its \
         ENTRYPOINT or CMD",
        path = shown(path)
    )]
    TooMany {
        /// The PATH.
        path: String,
    },
    /// The program search failed.
    #[error(transparent)]
    Path(#[from] PlanError),
    /// The image's files cannot be read.
    #[error(transparent)]
    View(#[from] ViewError),
}

/// The Wasm program that `spec`, which is made of an image's configuration, runs. If it runs none (no command,
/// a native program, or a script that a volume will bring), every Wasm program on its PATH.
///
/// # Errors
/// [`ImageModulesError::None`] if there is no such program.
pub fn modules_in_image<V: View>(
    spec: &Spec,
    view: &V,
) -> Result<Vec<ImageModule<V::File>>, ImageModulesError> {
    let command = match decide(spec, &Policy::default(), view) {
        Ok(Planned::Wasm(plan, file)) => {
            let path = plan.interpreter.path;
            return Ok(vec![ImageModule { path, file }]);
        }
        Ok(Planned::Native(native)) => {
            format!(
                "its command is the native program {}",
                shown(&native.interpreter.path)
            )
        }
        Err(PlanError::NoArguments) => "it has neither ENTRYPOINT nor CMD".to_owned(),
        Err(error) => with_causes(&error),
    };
    let process = spec.process().as_ref();
    let env = process.and_then(|process| process.env().as_deref());
    let path = env
        .unwrap_or_default()
        .iter()
        .rev()
        .find_map(|entry| entry.strip_prefix("PATH="))
        .unwrap_or(DEFAULT_PATH);
    let cwd = process.map_or(Path::new("/"), |process| process.cwd());
    let found = on_path(path, cwd, view)?;
    if found.is_empty() {
        let path = path.to_owned();
        return Err(ImageModulesError::None { command, path });
    }
    Ok(found)
}

/// Every Wasm program on a PATH, without duplicates.
fn on_path<V: View>(
    path: &str,
    cwd: &Path,
    view: &V,
) -> Result<Vec<ImageModule<V::File>>, ImageModulesError> {
    let mut directories = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for directory in path.split(':').take(DIRECTORIES) {
        // As in execvp(3) an empty entry is the working directory.
        let directory = Path::new("/").join(cwd).join(directory);
        let Some(directory) = there(view.resolve(&directory))? else {
            continue;
        };
        // Several names of one directory, such as /bin and /usr/bin, cost the look-ups of its files once.
        let directory = directory.path;
        if !directories.insert(directory.clone()) {
            continue;
        }
        let Some(names) = there(view.names(&directory, NAMES))? else {
            continue;
        };
        for name in names {
            let Some(resolved) = there(view.resolve(&directory.join(name)))? else {
                continue;
            };
            if !seen.insert(resolved.path.clone()) {
                continue;
            }
            let Some(file) = module(&resolved.path, view)? else {
                continue;
            };
            if found.len() == PROGRAMS {
                let path = path.to_owned();
                return Err(ImageModulesError::TooMany { path });
            }
            let path = text(&resolved.path)?;
            found.push(ImageModule { path, file });
        }
    }
    Ok(found)
}

/// The file, if it is a Wasm program.
fn module<V: View>(path: &Path, view: &V) -> Result<Option<V::File>, ImageModulesError> {
    let Some(mut file) = there(view.open(path))? else {
        return Ok(None);
    };
    let head = magic::read(&mut file).map_err(|source| PlanError::Read {
        path: path.to_owned(),
        source,
    })?;
    Ok(matches!(head, FileFormat::Wasm(_)).then_some(file))
}

/// `None` if the file does not exist, or if a shell would not run it.
fn there<T>(looked: Result<T, ViewError>) -> Result<Option<T>, ViewError> {
    match looked {
        Ok(value) => Ok(Some(value)),
        Err(ViewError::NotFound { .. } | ViewError::NotRegular { .. } | ViewError::Loop { .. }) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::fake::{FakeImage, FakeView};

    fn found(args: &[&str], files: &str) -> Result<Vec<String>, String> {
        found_on("PATH=/usr/local/bin:/bin:/nowhere:", args, files)
    }

    fn found_on(path: &str, args: &[&str], files: &str) -> Result<Vec<String>, String> {
        let spec = serde_json::json!({
            "ociVersion": "1.1.0",
            "process": {
                "args": args, "cwd": "/app", "user": { "uid": 0, "gid": 0 },
                "env": [path],
            },
            "root": { "path": "rootfs" },
        });
        let spec = serde_json::from_value(spec).unwrap();
        let image: FakeImage = serde_json::from_str(&format!(r#"{{"files":{files}}}"#)).unwrap();
        let view = FakeView::new(&image, &spec).unwrap();
        modules_in_image(&spec, &view)
            .map(|found| found.into_iter().map(|module| module.path).collect())
            .map_err(|error| error.to_string())
    }

    /// An image must not keep a node busy.
    #[test]
    fn directory_of_several_names_is_searched_once() {
        let mut files = String::from(r#""/bin/a": "wasm", "/b": {"symlink": "bin"}"#);
        for name in 0..2000 {
            files += &format!(r#", "/bin/{name}": "native""#);
        }
        let path = format!("PATH={}", ["/bin", "/b", "/bin/."].repeat(10).join(":"));
        let looked_up = found_on(&path, &["x"], &format!("{{{files}}}"));
        assert_eq!(looked_up, Ok(vec!["/bin/a".to_owned()]));
    }

    const LANGUAGE: &str = r#"{
        "/usr/local/bin/python.wasm": "wasm", "/usr/local/bin/python3.wasm": {"symlink": "python.wasm"},
        "/usr/local/bin/dangling": {"symlink": "/nowhere"}, "/usr/local/bin/loop": {"symlink": "loop"},
        "/usr/local/bin/fifo": "fifo", "/usr/local/bin/lib": "directory", "/bin/sh": "native",
        "/bin/qjs": "wasm", "/app/extra": "wasm", "/opt/other.wasm": "wasm",
        "/app/main.py": {"text": "print(1)"}, "/app/page.wasm": "component"
    }"#;

    #[test]
    fn module_that_the_command_runs_is_chosen() {
        let python = Ok(vec!["/usr/local/bin/python.wasm".to_owned()]);
        assert_eq!(found(&["python", "-m", "http.server"], LANGUAGE), python);
        assert_eq!(found(&["main.py"], LANGUAGE), python);
    }

    #[test]
    fn without_a_wasm_command_each_module_on_the_path_is_chosen_once() {
        let all = [
            "/usr/local/bin/python.wasm",
            "/bin/qjs",
            "/app/extra",
            "/app/page.wasm",
        ];
        let all = all.map(str::to_owned);
        // No command, a native program, and a script that a volume will bring.
        for args in [&[][..], &["sh"], &["/data/main.py"]] {
            assert_eq!(found(args, LANGUAGE), Ok(all.to_vec()), "{args:?}");
        }
    }

    #[test]
    fn image_without_modules_is_refused_with_the_reason() {
        let native =
            r#"{"/bin/sh": "native", "/app": "directory", "/bin/data.wasm": {"text": "x"}}"#;
        for (args, reason) in [
            (&[][..], "it has neither ENTRYPOINT nor CMD"),
            (&["sh"], "its command is the native program /bin/sh"),
            (&["main.py"], "main.py"),
        ] {
            let error = found(args, native).unwrap_err();
            assert!(
                error.contains(reason) && error.contains("/nowhere"),
                "{error}"
            );
        }
    }

    #[test]
    fn image_with_too_many_modules_is_refused() {
        let files: Vec<_> = (0..17).map(|n| format!(r#""/bin/{n}": "wasm""#)).collect();
        let error = found(&[], &format!("{{{}}}", files.join(","))).unwrap_err();
        assert!(error.contains("more than 16"), "{error}");
    }
}
