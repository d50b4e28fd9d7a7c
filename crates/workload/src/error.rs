//! The errors of planning. Each names the way out. Callers map [`ErrorKind`] to the codes of their
//! protocol, which this module does not know.

use std::io;
use std::path::PathBuf;

use thiserror::Error;
use wasm_interp_network::RuleListError;

use crate::INTERPRETER_ANNOTATION;
use crate::causes::{listed, quoted, shown};
use crate::dev::DevMountError;
use crate::error_kind::ErrorKind;
use crate::view::ViewError;

/// Why [`crate::decide()`] has no plan for a container.
#[derive(Debug, Error)]
pub enum PlanError {
    /// `process` is absent.
    #[error("cannot run the container: its spec has no process; add one with args and cwd")]
    NoProcess,
    /// `process.args` is absent or empty.
    #[error(
        "cannot run the container: its spec has no process.args; set ENTRYPOINT or CMD in the \
         image, or command in the pod"
    )]
    NoArguments,
    /// A string holds a NUL byte, at which C would end it.
    #[error(
        "cannot use {what} {value}: it holds a NUL byte; remove it",
        value = quoted(value)
    )]
    Nul {
        /// Which part of the spec.
        what: &'static str,
        /// The string.
        value: String,
    },
    /// An entry of `process.env` has no name or no `=`.
    #[error(
        "cannot use environment entry {entry}: it is not of the form NAME=value; correct it in \
         the spec",
        entry = quoted(entry)
    )]
    MalformedEnv {
        /// The entry.
        entry: String,
    },
    /// `process.cwd` is relative.
    #[error(
        "cannot use working directory {cwd}: it is not absolute; name it from /",
        cwd = quoted(cwd)
    )]
    RelativeCwd {
        /// The directory.
        cwd: PathBuf,
    },
    /// `process.cwd` is a file.
    #[error(
        "cannot use working directory {cwd}: it is not a directory in the container; correct \
         WORKDIR",
        cwd = quoted(cwd)
    )]
    CwdIsNoDirectory {
        /// The directory.
        cwd: PathBuf,
    },
    /// A value of `linux.resources.unified` cannot be read.
    #[error(
        "cannot use cgroup setting {name}={value}: it is neither a number of bytes nor max; \
         correct it",
        value = quoted(value)
    )]
    MalformedLimit {
        /// Name of the setting.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// A guest cannot get this path.
    #[error(
        "cannot use path {path}: it is not UTF-8, and WASI paths are; rename it in the image",
        path = quoted(path)
    )]
    NotUtf8 {
        /// The path.
        path: PathBuf,
    },
    /// The annotation holds a relative path.
    #[error(
        "cannot use annotation {INTERPRETER_ANNOTATION}={value}: it is not an absolute path; \
         give the path of the .wasm in the container",
        value = quoted(value)
    )]
    RelativeAnnotation {
        /// Its value.
        value: String,
    },
    /// An annotation about the network that cannot be read.
    #[error("cannot use annotation {annotation}: {source}")]
    NetworkRules {
        /// Its key.
        annotation: String,
        /// What is wrong with it, and the way out.
        source: RuleListError,
    },
    /// An annotation takes the network away, and another one for the same containers grants some of it.
    #[error(
        "cannot use annotation {none}=none: it contradicts {rules}, which grants a part of the \
         network; remove one of them"
    )]
    NetworkNone {
        /// Key of the first.
        none: String,
        /// Key of the second.
        rules: String,
    },
    /// An annotation asks for more of the network than the node's policy allows.
    #[error(
        "cannot grant {what} of annotation {annotation}: this node's policy allows {allowed}; \
         ask for less, or have the node's administrator add it to {setting} in policy.json",
        what = quoted(what)
    )]
    NetworkCeiling {
        /// Key of the annotation.
        annotation: String,
        /// The rule or the mode that exceeds the ceiling.
        what: String,
        /// What the ceiling allows of its kind.
        allowed: String,
        /// The setting that holds the ceiling.
        setting: String,
    },
    /// The annotation names a file that does not exist.
    #[error(
        "cannot find the interpreter {value} of annotation {INTERPRETER_ANNOTATION}: it is not \
         in the container; correct the annotation or add the file",
        value = quoted(value)
    )]
    AnnotatedNotFound {
        /// Value of the annotation.
        value: String,
    },
    /// `args[0]` is a bare name that is not on the PATH.
    #[error(
        "exec: {name}: executable file not found in $PATH: looked for {} on PATH={search}; name \
         a program, a .wasm or a script of the image in command, or set the annotation \
         {INTERPRETER_ANNOTATION} (wasm-interp run: --interpreter)",
        listed(looked_for),
        search = shown(search),
        name = quoted(name)
    )]
    ProgramNotFound {
        /// The name.
        name: String,
        /// File names that were tried in each directory.
        looked_for: Vec<String>,
        /// The search path.
        search: String,
    },
    /// A name is in none of the directories of the PATH that are searched, and there are more.
    #[error(
        "cannot look for {name}: PATH has more than {most} directories, and it is in none of the \
         first {most}; shorten PATH in the image or in env",
        name = quoted(name)
    )]
    LongSearchPath {
        /// The name.
        name: String,
        /// How many directories are searched.
        most: usize,
    },
    /// `args[0]` is the path of a file that does not exist.
    #[error(
        "exec: {path}: no such file or directory in the container; correct command, or add the \
         file to the image or a mount",
        path = quoted(path)
    )]
    FileNotFound {
        /// The path, absolute.
        path: PathBuf,
    },
    /// `args[0]` is a directory, a device or the like. Docker makes 126 of runc's words.
    #[error(
        "exec: {path}: permission denied: it is not a regular file; correct command",
        path = quoted(path)
    )]
    NotAFile {
        /// The path, absolute.
        path: PathBuf,
    },
    /// A script whose interpreter is not in the image.
    #[error(
        "no interpreter for {script} in the image: looked for {} on PATH={search}; set the \
         annotation {INTERPRETER_ANNOTATION} (wasm-interp run: --interpreter) or name the .wasm \
         in command",
        listed(looked_for),
        search = shown(search),
        script = quoted(script)
    )]
    NoInterpreter {
        /// The script as the user wrote it.
        script: String,
        /// Paths and file names that were tried.
        looked_for: Vec<String>,
        /// The search path.
        search: String,
    },
    /// A file that is neither Wasm nor a script whose interpreter is known. Docker makes 126 of runc's
    /// words.
    #[error(
        "exec: {path}: permission denied: it is neither a program nor WebAssembly nor a script \
         that names its interpreter; make a #! line with the interpreter its first line, or name \
         the interpreter in the annotation {INTERPRETER_ANNOTATION} (wasm-interp run: \
         --interpreter)",
        path = quoted(path)
    )]
    NotRunnable {
        /// The file.
        path: PathBuf,
    },
    /// A `#!` line that is not usable.
    #[error(
        "cannot use the #! line of {script}: {why}",
        script = quoted(script)
    )]
    Shebang {
        /// The script.
        script: PathBuf,
        /// What is wrong with it, and the way out.
        why: &'static str,
    },
    /// An annotated interpreter that is no WebAssembly.
    #[error(
        "cannot use {path} as interpreter: it is not WebAssembly; name the interpreter's .wasm",
        path = quoted(path)
    )]
    NotWasm {
        /// The file.
        path: PathBuf,
    },
    /// An ELF program on a node whose policy has `native: deny`.
    #[error(
        "cannot run {path}: it is a native program, and this node's policy allows only Wasm \
         (native: deny in policy.json); use the .wasm build of it, the cluster's default runtime, \
         or another node",
        path = quoted(path)
    )]
    NativeDenied {
        /// The file.
        path: PathBuf,
    },
    /// Native code in Wasmtime's format.
    #[error(
        "cannot run {path}: it is precompiled native code, which would skip the sandbox; ship \
         the .wasm, which the node compiles once",
        path = quoted(path)
    )]
    Precompiled {
        /// The file.
        path: PathBuf,
    },
    /// A file could not be read.
    #[error(
        "cannot read {path} in the container: {source}; check the file system beneath it",
        path = quoted(path)
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The runtime would make devices in files that are not the container's own.
    #[error(transparent)]
    Dev(#[from] DevMountError),
    /// The container's files could not be read.
    #[error(transparent)]
    View(#[from] ViewError),
}

impl PlanError {
    /// The class that a caller's protocol reports.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoProcess
            | Self::NoArguments
            | Self::Nul { .. }
            | Self::MalformedEnv { .. }
            | Self::RelativeCwd { .. }
            | Self::CwdIsNoDirectory { .. }
            | Self::MalformedLimit { .. }
            | Self::RelativeAnnotation { .. }
            | Self::NetworkRules { .. }
            | Self::NetworkNone { .. }
            | Self::LongSearchPath { .. }
            | Self::NotAFile { .. }
            | Self::Dev(_) => ErrorKind::InvalidArgument,
            Self::AnnotatedNotFound { .. }
            | Self::ProgramNotFound { .. }
            | Self::FileNotFound { .. }
            | Self::NoInterpreter { .. } => ErrorKind::NotFound,
            Self::NotUtf8 { .. }
            | Self::NotRunnable { .. }
            | Self::Shebang { .. }
            | Self::NotWasm { .. }
            | Self::NativeDenied { .. }
            | Self::NetworkCeiling { .. }
            | Self::Precompiled { .. }
            | Self::Read { .. } => ErrorKind::FailedPrecondition,
            Self::View(error) => error.kind(),
        }
    }
}
