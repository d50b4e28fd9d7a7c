//! Finds the interpreter and its arguments: the rules by which `process.args` becomes a Wasm program, which is a
//! module or a component, or a native program of the container. If the container has both, Wasm wins. Called by
//! [`crate::resolve`]; reads files through the view only.

mod languages;
pub(crate) mod magic;
pub(crate) mod shebang;

use std::path::{Component, Path, PathBuf};

use self::languages::{extension, interpreters};
use self::magic::FileFormat;
use self::shebang::Shebang;
use crate::error::PlanError;
use crate::plan::{FoundBy, GuestKind};
use crate::view::{FileKind, View, ViewError};

/// The search path for a bare name if the environment has no `PATH`. `runc` and shells use the same.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The longest chain of scripts that are the interpreters of one another, as in the kernel (`exec_binprm`).
const MAX_SCRIPTS: usize = 5;

/// The most directories of the PATH that are searched: an image must not keep a node busy.
const MAX_DIRECTORIES: usize = 256;

/// The most words of a command that are looked up to find a script among them.
const MAX_OPERANDS: usize = 256;

/// Options with which an interpreter takes its program from the command line or from stdin. No script
/// follows them.
const PROGRAM_OPTIONS: &[&str] = &["-", "-c", "-e", "-m", "-r"];

/// The program that `process.args` names.
pub(crate) enum AnyProgram<F> {
    Wasm(WasmProgram<F>),
    Native(NativeProgram),
}

/// A native program. The kernel runs it with the arguments of the spec.
pub(crate) struct NativeProgram {
    /// Path of the program, or of the script's interpreter, without symlinks.
    pub(crate) path: PathBuf,
    pub(crate) found: FoundBy,
}

/// The Wasm program of a container.
pub(crate) struct WasmProgram<F> {
    /// Path of the program, without symlinks.
    pub(crate) path: PathBuf,
    pub(crate) kind: GuestKind,
    /// The program, open at its start.
    pub(crate) file: F,
    pub(crate) found: FoundBy,
    pub(crate) argv: Vec<String>,
    /// Variables that the script's first line sets.
    pub(crate) env: Vec<(String, String)>,
}

/// The inputs of the rules.
pub(crate) struct ProgramSearch<'a, V> {
    pub(crate) view: &'a V,
    pub(crate) cwd: &'a Path,
    /// Value of `PATH`.
    pub(crate) search: &'a str,
}

/// A file that the rules found.
struct Candidate<F> {
    /// Without symlinks.
    path: PathBuf,
    /// A path by which the guest gets there too.
    name: PathBuf,
    format: FileFormat,
    file: F,
}

impl<V: View> ProgramSearch<'_, V> {
    /// Finds the program of `args`, whose interpreter `annotation` may name.
    pub(crate) fn find(
        &self,
        args: &[String],
        annotation: Option<&str>,
    ) -> Result<AnyProgram<V::File>, PlanError> {
        let first = args.first().ok_or(PlanError::NoArguments)?;
        if let Some(value) = annotation {
            return self.annotated(value, first, args).map(AnyProgram::Wasm);
        }
        let (candidate, found) = self.command(first)?;
        match &candidate.format {
            FileFormat::Wasm(kind) => {
                let kind = *kind;
                let argv = self.operand_from_cwd(args)?;
                Ok(AnyProgram::Wasm(wasm(candidate, kind, found, argv)))
            }
            FileFormat::Script(_) => self.script(candidate, args),
            FileFormat::Other => self
                .extension(&candidate, first, &args[1..], Vec::new())
                .map(AnyProgram::Wasm),
            _ => native(candidate, found).map(AnyProgram::Native),
        }
    }

    /// The annotation names the interpreter. The user's arguments stay as they are. If the first one is
    /// a script, the interpreter is put before it.
    fn annotated(
        &self,
        value: &str,
        first: &str,
        args: &[String],
    ) -> Result<WasmProgram<V::File>, PlanError> {
        if !value.starts_with('/') {
            return Err(PlanError::RelativeAnnotation {
                value: value.to_owned(),
            });
        }
        let candidate = self
            .at(value)?
            .ok_or_else(|| PlanError::AnnotatedNotFound {
                value: value.to_owned(),
            })?;
        let kind = match candidate.format {
            FileFormat::Wasm(kind) => kind,
            FileFormat::Precompiled => return Err(unfit(&candidate)),
            _ => {
                return Err(PlanError::NotWasm {
                    path: candidate.name,
                });
            }
        };
        let script = if first.contains('/') || interpreters(Path::new(first)).is_some() {
            self.at(first)?
        } else {
            None
        };
        let argv = match script.map(|script| (script.name, script.format)) {
            Some((
                script,
                FileFormat::Script(_) | FileFormat::BadScript(_) | FileFormat::Other,
            )) => {
                let front = [value.to_owned(), text(&script)?];
                front.into_iter().chain(args[1..].iter().cloned()).collect()
            }
            _ => self.operand_from_cwd(args)?,
        };
        Ok(wasm(
            candidate,
            kind,
            FoundBy::Annotation {
                value: value.to_owned(),
            },
            argv,
        ))
    }

    /// `args` with the script that an interpreter is given made absolute: a guest starts in `/`,
    /// whatever the spec's cwd, because WASI has no working directory to give it.
    ///
    /// The script is the first operand that is a file of the working directory. The search skips words
    /// that are no such file, because they may be the value of an option (`-W error main.py`). It also
    /// skips words that cannot be looked up, because only the guest knows whether they are paths. It
    /// ends at an option after which no script follows, and after [`MAX_OPERANDS`] words.
    fn operand_from_cwd(&self, args: &[String]) -> Result<Vec<String>, PlanError> {
        let mut argv = args.to_vec();
        if self.cwd == Path::new("/") {
            return Ok(argv);
        }
        for word in argv.iter_mut().skip(1).take(MAX_OPERANDS) {
            if PROGRAM_OPTIONS.contains(&word.as_str()) || word.starts_with('/') {
                break;
            }
            if word.is_empty() || word.starts_with('-') {
                continue;
            }
            match self.at(word) {
                Ok(Some(script)) => {
                    *word = text(&script.name)?;
                    break;
                }
                Err(PlanError::View(
                    error @ (ViewError::TooMuchWork { .. } | ViewError::Cancelled),
                )) => return Err(error.into()),
                Ok(None) | Err(_) => {}
            }
        }
        Ok(argv)
    }

    /// The program that `args[0]` names.
    fn command(&self, first: &str) -> Result<(Candidate<V::File>, FoundBy), PlanError> {
        if first.contains('/') {
            let candidate = match self.at(first)? {
                Some(candidate) => Some(candidate),
                None => self.at(&with_wasm(first))?.filter(not_native),
            };
            let missing = || PlanError::FileNotFound {
                path: self.absolute(first),
            };
            return Ok((candidate.ok_or_else(missing)?, FoundBy::ExactPath));
        }
        if let Some(candidate) = self.on_path(first)? {
            return Ok((
                candidate,
                FoundBy::SearchPath {
                    name: first.to_owned(),
                },
            ));
        }
        // `CMD ["main.py"]` with a WORKDIR: the extension shows that this is a script or a Wasm program of
        // the working directory, not a name on the PATH.
        let is_file_name = interpreters(Path::new(first)).is_some() || first.ends_with(".wasm");
        let here = is_file_name.then(|| self.at(first)).transpose()?.flatten();
        if let Some(candidate) = here.filter(not_native) {
            return Ok((candidate, FoundBy::ExactPath));
        }
        Err(PlanError::ProgramNotFound {
            name: first.to_owned(),
            looked_for: vec![first.to_owned(), with_wasm(first)],
            search: self.search.to_owned(),
        })
    }

    /// A script whose first line names its interpreter. The interpreter may be a script too.
    fn script(
        &self,
        script: Candidate<V::File>,
        args: &[String],
    ) -> Result<AnyProgram<V::File>, PlanError> {
        let origin = text(&script.name)?;
        let mut env = Vec::new();
        // The arguments after the current script, and the line that led to the interpreter.
        let mut rest = args[1..].to_vec();
        let mut first_line = None;
        let mut current = script;
        for _ in 0..MAX_SCRIPTS {
            let FileFormat::Script(line) = &current.format else {
                break;
            };
            let found = FoundBy::Shebang {
                script: origin.clone(),
                line: first_line.get_or_insert_with(|| line.clone()).clone(),
            };
            let kernels = self.at(line.split([' ', '\t']).next().unwrap_or_default());
            let shebang = match Shebang::parse(line) {
                Ok(shebang) => shebang,
                Err(why) => {
                    // A native env may accept options that this parser does not.
                    return match kernels
                        .ok()
                        .flatten()
                        .map(|candidate| native(candidate, found))
                    {
                        Some(Ok(native_program)) => Ok(AnyProgram::Native(native_program)),
                        _ => Err(PlanError::Shebang {
                            script: current.name,
                            why,
                        }),
                    };
                }
            };
            env.extend(shebang.env);
            let Some(candidate) = self.interpreter(&shebang.interpreter)? else {
                let looked_for = self.interpreter_names(&shebang.interpreter);
                return self
                    .extension(&current, &args[0], &rest, looked_for)
                    .map(AnyProgram::Wasm);
            };
            let mut argv = vec![shebang.interpreter];
            argv.extend(shebang.args);
            argv.push(text(&current.name)?);
            argv.append(&mut rest);
            match candidate.format {
                FileFormat::Wasm(kind) => {
                    return Ok(AnyProgram::Wasm(WasmProgram {
                        env,
                        ..wasm(candidate, kind, found, argv)
                    }));
                }
                FileFormat::Script(_) => {
                    rest = argv.split_off(1);
                    current = candidate;
                }
                FileFormat::Other => {
                    return Err(PlanError::NotRunnable {
                        path: candidate.name,
                    });
                }
                _ => {
                    let native_program = native(candidate, found)?;
                    return match kernels? {
                        Some(_) => Ok(AnyProgram::Native(native_program)),
                        None => Err(PlanError::Shebang {
                            script: current.name,
                            why: "its interpreter is a native program, which the kernel looks for \
                                  only at the path in the line, and there is no file; correct \
                                  the path",
                        }),
                    };
                }
            }
        }
        let why = "more than five scripts are the interpreters of one another; name the \
                   interpreter itself";
        Err(PlanError::Shebang {
            script: origin.into(),
            why,
        })
    }

    /// A script whose extension belongs to an interpreter on the PATH. `looked_for` has the names that
    /// were tried before.
    fn extension(
        &self,
        script: &Candidate<V::File>,
        written: &str,
        rest: &[String],
        mut looked_for: Vec<String>,
    ) -> Result<WasmProgram<V::File>, PlanError> {
        let interpreters = interpreters(&script.name);
        if interpreters.is_none() && looked_for.is_empty() {
            return Err(PlanError::NotRunnable {
                path: script.name.clone(),
            });
        }
        for name in interpreters.into_iter().flatten() {
            // A native program of that name, for example in an image of a full distribution, is skipped.
            if let Some(candidate) = self.search(name, |head| {
                matches!(head, FileFormat::Wasm(_) | FileFormat::Precompiled)
            })? {
                let FileFormat::Wasm(kind) = candidate.format else {
                    return Err(unfit(&candidate));
                };
                let path = text(&script.name)?;
                let extension = extension(&script.name).unwrap_or_default();
                let front = [(*name).to_owned(), path.clone()];
                let argv = front.into_iter().chain(rest.iter().cloned()).collect();
                return Ok(wasm(
                    candidate,
                    kind,
                    FoundBy::Extension {
                        script: path,
                        extension,
                    },
                    argv,
                ));
            }
            for tried in [(*name).to_owned(), with_wasm(name)] {
                if !looked_for.contains(&tried) {
                    looked_for.push(tried);
                }
            }
        }
        Err(PlanError::NoInterpreter {
            script: written.to_owned(),
            looked_for,
            search: self.search.to_owned(),
        })
    }

    /// The interpreter that a script's first line names: the file at its path, the same with `.wasm`
    /// appended, or its name on the PATH, because images install interpreters in different folders.
    /// If none of these is Wasm, a native program at its path.
    fn interpreter(&self, named: &str) -> Result<Option<Candidate<V::File>>, PlanError> {
        let mut native_program = None;
        if named.contains('/') {
            match self.at(named)? {
                Some(candidate) if candidate.format == FileFormat::Native => {
                    native_program = Some(candidate);
                }
                Some(candidate) => return Ok(Some(candidate)),
                None => {}
            }
            if let Some(candidate) = self.at(&with_wasm(named))?.filter(not_native) {
                return Ok(Some(candidate));
            }
        }
        match (named.rsplit('/').next(), native_program) {
            (None | Some(""), native_program) => Ok(native_program),
            (Some(name), None) => self.on_path(name),
            (Some(name), native_program) => Ok(self.search_if_short(name)?.or(native_program)),
        }
    }

    /// What [`ProgramSearch::interpreter`] tries, for the error.
    fn interpreter_names(&self, named: &str) -> Vec<String> {
        let name = named.rsplit('/').next().unwrap_or(named);
        let mut names = vec![named.to_owned(), with_wasm(named)];
        if name != named {
            names.extend([name.to_owned(), with_wasm(name)]);
        }
        names
    }

    /// `name`, then `name.wasm`, in each directory of the PATH. A Wasm module in a later directory takes
    /// precedence over a native program.
    fn on_path(&self, name: &str) -> Result<Option<Candidate<V::File>>, PlanError> {
        match self.search(name, |_| true)? {
            Some(candidate) if candidate.format == FileFormat::Native => {
                Ok(self.search_if_short(name)?.or(Some(candidate)))
            }
            candidate => Ok(candidate),
        }
    }

    /// A Wasm module of this name, for a caller that has a native program: without one, that is what runs,
    /// also if the PATH is too long to be searched to its end.
    fn search_if_short(&self, name: &str) -> Result<Option<Candidate<V::File>>, PlanError> {
        match self.search(name, is_wasm) {
            Err(PlanError::LongSearchPath { .. }) => Ok(None),
            found => found,
        }
    }

    fn search(
        &self,
        name: &str,
        fits: impl Fn(&FileFormat) -> bool,
    ) -> Result<Option<Candidate<V::File>>, PlanError> {
        for (searched, directory) in self.search.split(':').enumerate() {
            if searched == MAX_DIRECTORIES {
                return Err(PlanError::LongSearchPath {
                    name: name.to_owned(),
                    most: MAX_DIRECTORIES,
                });
            }
            for file in [name.to_owned(), with_wasm(name)] {
                // As in execvp(3) an empty entry is the working directory.
                let path = self.cwd.join(directory).join(&file);
                match self.candidate(&path) {
                    // A native program never has .wasm appended to its name.
                    Ok(Some(candidate))
                        if file != name && candidate.format == FileFormat::Native => {}
                    Ok(Some(candidate)) if fits(&candidate.format) => return Ok(Some(candidate)),
                    Ok(_) | Err(PlanError::NotAFile { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(None)
    }

    /// The file at a path that may be relative to the working directory; `None` if there is none.
    fn at(&self, path: &str) -> Result<Option<Candidate<V::File>>, PlanError> {
        self.candidate(&self.absolute(path))
    }

    fn candidate(&self, path: &Path) -> Result<Option<Candidate<V::File>>, PlanError> {
        let resolved = match self.view.resolve(path) {
            Ok(resolved) => resolved,
            Err(ViewError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if resolved.kind != FileKind::Regular {
            return Err(PlanError::NotAFile {
                path: path.to_owned(),
            });
        }
        let mut file = self.view.open(&resolved.path)?;
        let format = magic::read(&mut file).map_err(|source| PlanError::Read {
            path: path.to_owned(),
            source,
        })?;
        // WASI refuses a path that climbs out of a grant, even if it leads into another grant.
        let climbs = path.components().any(|part| part == Component::ParentDir);
        let name = if resolved.detour || climbs {
            resolved.path.clone()
        } else {
            path.to_owned()
        };
        Ok(Some(Candidate {
            path: resolved.path,
            name,
            format,
            file,
        }))
    }

    /// `path` from the root, without `.`.
    fn absolute(&self, path: &str) -> PathBuf {
        self.cwd.join(path).components().collect()
    }
}

fn wasm<F>(
    candidate: Candidate<F>,
    kind: GuestKind,
    found: FoundBy,
    argv: Vec<String>,
) -> WasmProgram<F> {
    WasmProgram {
        path: candidate.path,
        kind,
        file: candidate.file,
        found,
        argv,
        env: Vec::new(),
    }
}

/// The native program at `path`, or why it cannot run.
fn native<F>(candidate: Candidate<F>, found: FoundBy) -> Result<NativeProgram, PlanError> {
    let precompiled = candidate
        .name
        .extension()
        .is_some_and(|name| name == "cwasm");
    if candidate.format != FileFormat::Native || precompiled {
        return Err(unfit(&candidate));
    }
    Ok(NativeProgram {
        path: candidate.path,
        found,
    })
}

fn not_native<F>(candidate: &Candidate<F>) -> bool {
    candidate.format != FileFormat::Native
}

fn is_wasm(head: &FileFormat) -> bool {
    matches!(head, FileFormat::Wasm(_))
}

/// Why a file that is neither Wasm nor a script does not run.
fn unfit<F>(candidate: &Candidate<F>) -> PlanError {
    let path = candidate.name.clone();
    match candidate.format {
        FileFormat::Precompiled => PlanError::Precompiled { path },
        FileFormat::Native
            if path
                .extension()
                .is_some_and(|extension| extension == "cwasm") =>
        {
            PlanError::Precompiled { path }
        }
        FileFormat::BadScript(bad) => PlanError::Shebang {
            script: path,
            why: bad.why(),
        },
        FileFormat::Wasm(_) | FileFormat::Script(_) | FileFormat::Native | FileFormat::Other => {
            PlanError::NotRunnable { path }
        }
    }
}

fn with_wasm(name: &str) -> String {
    format!("{name}.wasm")
}

/// `path` as text for a guest.
pub(crate) fn text(path: &Path) -> Result<String, PlanError> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| PlanError::NotUtf8 {
            path: path.to_owned(),
        })
}
