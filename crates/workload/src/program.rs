//! Which interpreter runs, and with which arguments: the rules by which `process.args` becomes a
//! Wasm module or a native program of the container. Where both are there, Wasm is meant. Called by [`crate::resolve`]; looks at files through the view only.

use std::path::{Component, Path, PathBuf};

use crate::error::PlanError;
use crate::magic::{self, Head};
use crate::plan::Found;
use crate::shebang::Shebang;
use crate::view::{FileKind, View, ViewError};

/// Where a bare name is looked for if the environment has no `PATH`; what `runc` and shells use.
pub(crate) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How many scripts may name one another as interpreters, as in the kernel (`exec_binprm`).
const MAX_SCRIPTS: usize = 5;

/// Options of interpreters that take the program itself, or read it from stdin: no script follows.
const PROGRAM_OPTIONS: &[&str] = &["-", "-c", "-e", "-m", "-r"];

/// Extensions of scripts, and the names by which images know their interpreters, best first.
const EXTENSIONS: &[(&[&str], &[&str])] = &[
    (&["py"], &["python", "python3"]),
    (&["rb"], &["ruby"]),
    (&["php"], &["php"]),
    (&["js", "mjs"], &["qjs", "node"]),
    (&["pl"], &["perl"]),
    (&["lua"], &["lua"]),
];

/// What `process.args` stands for.
pub(crate) enum Target<F> {
    Module(Program<F>),
    Native(Elf),
}

/// A program that the kernel runs by itself, from the spec's own arguments.
pub(crate) struct Elf {
    /// Path of the program, or of the script's interpreter, without symlinks.
    pub(crate) path: PathBuf,
    pub(crate) found: Found,
}

/// The Wasm program of a container.
pub(crate) struct Program<F> {
    /// Path of the module, without symlinks.
    pub(crate) path: PathBuf,
    /// The module, open at its start.
    pub(crate) file: F,
    pub(crate) found: Found,
    pub(crate) argv: Vec<String>,
    /// Variables that the script's first line sets.
    pub(crate) env: Vec<(String, String)>,
}

/// What the rules look with.
pub(crate) struct Finder<'a, V> {
    pub(crate) view: &'a V,
    pub(crate) cwd: &'a Path,
    /// Value of `PATH`.
    pub(crate) search: &'a str,
}

/// A file that the rules came upon.
struct Hit<F> {
    /// Without symlinks.
    path: PathBuf,
    /// A path by which the guest gets there too.
    name: PathBuf,
    head: Head,
    file: F,
}

impl<V: View> Finder<'_, V> {
    /// Finds the program of `args`, whose interpreter `annotation` may name.
    pub(crate) fn find(
        &self,
        args: &[String],
        annotation: Option<&str>,
    ) -> Result<Target<V::File>, PlanError> {
        let first = args.first().ok_or(PlanError::NoArguments)?;
        if let Some(value) = annotation {
            return self.annotated(value, first, args).map(Target::Module);
        }
        let (hit, found) = self.command(first)?;
        match &hit.head {
            Head::Module => {
                let argv = self.operand_from_cwd(args)?;
                Ok(Target::Module(module(hit, found, argv)))
            }
            Head::Script(_) => self.script(hit, args),
            Head::Other => self
                .extension(&hit, first, &args[1..], Vec::new())
                .map(Target::Module),
            _ => native(hit, found).map(Target::Native),
        }
    }

    /// The annotation names the interpreter. What the user wrote stays, and a script in first
    /// place, which has no interpreter before it, gets one.
    fn annotated(
        &self,
        value: &str,
        first: &str,
        args: &[String],
    ) -> Result<Program<V::File>, PlanError> {
        if !value.starts_with('/') {
            return Err(PlanError::RelativeAnnotation {
                value: value.to_owned(),
            });
        }
        let hit = self
            .at(value)?
            .ok_or_else(|| PlanError::AnnotatedNotFound {
                value: value.to_owned(),
            })?;
        match hit.head {
            Head::Module => {}
            Head::Component | Head::Precompiled => return Err(unfit(&hit)),
            _ => return Err(PlanError::NotWasm { path: hit.name }),
        }
        let script = if first.contains('/') || interpreters(Path::new(first)).is_some() {
            self.at(first)?
        } else {
            None
        };
        let argv = match script.map(|script| (script.name, script.head)) {
            Some((script, Head::Script(_) | Head::BadScript(_) | Head::Other)) => {
                let front = [value.to_owned(), text(&script)?];
                front.into_iter().chain(args[1..].iter().cloned()).collect()
            }
            _ => self.operand_from_cwd(args)?,
        };
        Ok(module(
            hit,
            Found::Annotation {
                value: value.to_owned(),
            },
            argv,
        ))
    }

    /// `args` with the script that an interpreter is given made absolute: a guest starts in `/`,
    /// whatever the spec's cwd, because WASI has no working directory to give it.
    ///
    /// The script is the first operand, if it is a file of the working directory. Words that are
    /// no such file are passed over, because they may be the value of an option (`-W error
    /// main.py`), up to the option after which no script follows. So are words that cannot be
    /// looked up, because only the guest knows whether they are meant as paths at all.
    fn operand_from_cwd(&self, args: &[String]) -> Result<Vec<String>, PlanError> {
        let mut argv = args.to_vec();
        if self.cwd == Path::new("/") {
            return Ok(argv);
        }
        for word in argv.iter_mut().skip(1) {
            if PROGRAM_OPTIONS.contains(&word.as_str()) || word.starts_with('/') {
                break;
            }
            if word.is_empty() || word.starts_with('-') {
                continue;
            }
            if let Ok(Some(script)) = self.at(word) {
                *word = text(&script.name)?;
                break;
            }
        }
        Ok(argv)
    }

    /// What `args[0]` stands for.
    fn command(&self, first: &str) -> Result<(Hit<V::File>, Found), PlanError> {
        if first.contains('/') {
            let hit = match self.at(first)? {
                Some(hit) => Some(hit),
                None => self.at(&with_wasm(first))?.filter(not_native),
            };
            let missing = || PlanError::FileNotFound {
                path: self.absolute(first),
            };
            return Ok((hit.ok_or_else(missing)?, Found::ExactPath));
        }
        if let Some(hit) = self.on_path(first)? {
            return Ok((
                hit,
                Found::SearchPath {
                    name: first.to_owned(),
                },
            ));
        }
        // `CMD ["main.py"]` beside a WORKDIR: the name says that it is a script or a module, and
        // nothing on the PATH is meant.
        let is_file_name = interpreters(Path::new(first)).is_some() || first.ends_with(".wasm");
        let here = is_file_name.then(|| self.at(first)).transpose()?.flatten();
        if let Some(hit) = here.filter(not_native) {
            return Ok((hit, Found::ExactPath));
        }
        Err(PlanError::ProgramNotFound {
            name: first.to_owned(),
            looked_for: vec![first.to_owned(), with_wasm(first)],
            search: self.search.to_owned(),
        })
    }

    /// A script whose first line names its interpreter, which may be a script in turn.
    fn script(&self, script: Hit<V::File>, args: &[String]) -> Result<Target<V::File>, PlanError> {
        let origin = text(&script.name)?;
        let mut env = Vec::new();
        // What follows the script that is looked at, and the line that led to the module.
        let mut rest = args[1..].to_vec();
        let mut first_line = None;
        let mut current = script;
        for _ in 0..MAX_SCRIPTS {
            let Head::Script(line) = &current.head else {
                break;
            };
            let found = Found::Shebang {
                script: origin.clone(),
                line: first_line.get_or_insert_with(|| line.clone()).clone(),
            };
            let kernels = self.at(line.split([' ', '\t']).next().unwrap_or_default());
            let shebang = match Shebang::parse(line) {
                Ok(shebang) => shebang,
                Err(why) => {
                    // A native env understands more than we do.
                    return match kernels.ok().flatten().map(|hit| native(hit, found)) {
                        Some(Ok(elf)) => Ok(Target::Native(elf)),
                        _ => Err(PlanError::Shebang {
                            script: current.name,
                            why,
                        }),
                    };
                }
            };
            env.extend(shebang.env);
            let Some(hit) = self.interpreter(&shebang.interpreter)? else {
                let looked_for = self.interpreter_names(&shebang.interpreter);
                return self
                    .extension(&current, &args[0], &rest, looked_for)
                    .map(Target::Module);
            };
            let mut argv = vec![shebang.interpreter];
            argv.extend(shebang.args);
            argv.push(text(&current.name)?);
            argv.append(&mut rest);
            match hit.head {
                Head::Module => {
                    return Ok(Target::Module(Program {
                        env,
                        ..module(hit, found, argv)
                    }));
                }
                Head::Script(_) => {
                    rest = argv.split_off(1);
                    current = hit;
                }
                Head::Other => return Err(PlanError::NotRunnable { path: hit.name }),
                _ => {
                    let elf = native(hit, found)?;
                    return match kernels? {
                        Some(_) => Ok(Target::Native(elf)),
                        None => Err(PlanError::Shebang {
                            script: current.name,
                            why: "its interpreter is a native program, which the kernel finds by the line's own path alone, and nothing is there; correct the path",
                        }),
                    };
                }
            }
        }
        let why = "scripts name one another as interpreters more than five deep; name the interpreter itself";
        Err(PlanError::Shebang {
            script: origin.into(),
            why,
        })
    }

    /// A script whose extension belongs to an interpreter on the PATH. `looked_for` is what was
    /// tried before.
    fn extension(
        &self,
        script: &Hit<V::File>,
        written: &str,
        rest: &[String],
        mut looked_for: Vec<String>,
    ) -> Result<Program<V::File>, PlanError> {
        let interpreters = interpreters(&script.name);
        if interpreters.is_none() && looked_for.is_empty() {
            return Err(PlanError::NotRunnable {
                path: script.name.clone(),
            });
        }
        for name in interpreters.into_iter().flatten() {
            // A native program of that name, say of a full distribution's image, is not meant.
            if let Some(hit) = self.search(name, |head| {
                matches!(head, Head::Module | Head::Precompiled)
            })? {
                if hit.head != Head::Module {
                    return Err(unfit(&hit));
                }
                let path = text(&script.name)?;
                let extension = extension(&script.name).unwrap_or_default();
                let front = [(*name).to_owned(), path.clone()];
                let argv = front.into_iter().chain(rest.iter().cloned()).collect();
                return Ok(module(
                    hit,
                    Found::Extension {
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

    /// The interpreter that a script's first line names: at its path, with `.wasm` appended, or,
    /// because images put interpreters where they like, by its name on the PATH. A native program
    /// at its path is what is left if none of these is Wasm.
    fn interpreter(&self, named: &str) -> Result<Option<Hit<V::File>>, PlanError> {
        let mut elf = None;
        if named.contains('/') {
            match self.at(named)? {
                Some(hit) if hit.head == Head::Native => elf = Some(hit),
                Some(hit) => return Ok(Some(hit)),
                None => {}
            }
            if let Some(hit) = self.at(&with_wasm(named))?.filter(not_native) {
                return Ok(Some(hit));
            }
        }
        match (named.rsplit('/').next(), elf) {
            (None | Some(""), elf) => Ok(elf),
            (Some(name), None) => self.on_path(name),
            (Some(name), elf) => Ok(self.search(name, is_module)?.or(elf)),
        }
    }

    /// What [`Finder::interpreter`] tries, for the error.
    fn interpreter_names(&self, named: &str) -> Vec<String> {
        let name = named.rsplit('/').next().unwrap_or(named);
        let mut names = vec![named.to_owned(), with_wasm(named)];
        if name != named {
            names.extend([name.to_owned(), with_wasm(name)]);
        }
        names
    }

    /// `name`, then `name.wasm`, in each directory of the PATH. A native program gives way to a Wasm
    /// module further on.
    fn on_path(&self, name: &str) -> Result<Option<Hit<V::File>>, PlanError> {
        match self.search(name, |_| true)? {
            Some(hit) if hit.head == Head::Native => {
                Ok(self.search(name, is_module)?.or(Some(hit)))
            }
            hit => Ok(hit),
        }
    }

    fn search(
        &self,
        name: &str,
        fits: impl Fn(&Head) -> bool,
    ) -> Result<Option<Hit<V::File>>, PlanError> {
        for directory in self.search.split(':') {
            for file in [name.to_owned(), with_wasm(name)] {
                // As in execvp(3) an empty entry is the working directory.
                let path = self.cwd.join(directory).join(&file);
                match self.hit(&path) {
                    // No kernel looks for a program by a name that has .wasm appended.
                    Ok(Some(hit)) if file != name && hit.head == Head::Native => {}
                    Ok(Some(hit)) if fits(&hit.head) => return Ok(Some(hit)),
                    Ok(_) | Err(PlanError::NotAFile { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(None)
    }

    /// The file at a path that may be relative to the working directory; `None` if nothing is there.
    fn at(&self, path: &str) -> Result<Option<Hit<V::File>>, PlanError> {
        self.hit(&self.absolute(path))
    }

    fn hit(&self, path: &Path) -> Result<Option<Hit<V::File>>, PlanError> {
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
        let head = magic::read(&mut file).map_err(|source| PlanError::Read {
            path: path.to_owned(),
            source,
        })?;
        // A guest's own path resolution refuses to climb out of a grant, even into another one.
        let climbs = path.components().any(|part| part == Component::ParentDir);
        let name = if resolved.detour || climbs {
            resolved.path.clone()
        } else {
            path.to_owned()
        };
        Ok(Some(Hit {
            path: resolved.path,
            name,
            head,
            file,
        }))
    }

    /// `path` from the root, without `.`.
    fn absolute(&self, path: &str) -> PathBuf {
        self.cwd.join(path).components().collect()
    }
}

fn module<F>(hit: Hit<F>, found: Found, argv: Vec<String>) -> Program<F> {
    Program {
        path: hit.path,
        file: hit.file,
        found,
        argv,
        env: Vec::new(),
    }
}

/// The program that the kernel runs, unless it is none that may be.
fn native<F>(hit: Hit<F>, found: Found) -> Result<Elf, PlanError> {
    let precompiled = hit.name.extension().is_some_and(|name| name == "cwasm");
    if hit.head != Head::Native || precompiled {
        return Err(unfit(&hit));
    }
    Ok(Elf {
        path: hit.path,
        found,
    })
}

fn not_native<F>(hit: &Hit<F>) -> bool {
    hit.head != Head::Native
}

fn is_module(head: &Head) -> bool {
    *head == Head::Module
}

/// Why a file that is no module and no script does not run.
fn unfit<F>(hit: &Hit<F>) -> PlanError {
    let path = hit.name.clone();
    match hit.head {
        Head::Component => PlanError::Component { path },
        Head::Precompiled => PlanError::Precompiled { path },
        Head::Native
            if path
                .extension()
                .is_some_and(|extension| extension == "cwasm") =>
        {
            PlanError::Precompiled { path }
        }
        Head::BadScript(bad) => PlanError::Shebang {
            script: path,
            why: bad.why(),
        },
        Head::Module | Head::Script(_) | Head::Native | Head::Other => {
            PlanError::NotRunnable { path }
        }
    }
}

fn interpreters(script: &Path) -> Option<&'static [&'static str]> {
    let extension = extension(script)?;
    EXTENSIONS
        .iter()
        .find(|(extensions, _)| extensions.contains(&extension.as_str()))
        .map(|(_, interpreters)| *interpreters)
}

fn extension(script: &Path) -> Option<String> {
    Some(script.extension()?.to_str()?.to_ascii_lowercase())
}

fn with_wasm(name: &str) -> String {
    format!("{name}.wasm")
}

/// `path` as a guest is told it.
pub(crate) fn text(path: &Path) -> Result<String, PlanError> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| PlanError::NotUtf8 {
            path: path.to_owned(),
        })
}
