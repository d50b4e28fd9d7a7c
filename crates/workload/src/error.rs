//! Why there is no plan, in words that say what to do. Callers map [`ErrorKind`] to their
//! protocol's codes; nothing here knows that protocol.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::INTERPRETER_ANNOTATION;
use crate::view::ViewError;

/// What class of failure an error belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request contradicts itself or the OCI runtime spec.
    InvalidArgument,
    /// Something that the request names is not there.
    NotFound,
    /// The request is sound, and this version cannot serve it.
    Unimplemented,
    /// The image or the node is not in the state that the request needs.
    FailedPrecondition,
}

/// Why [`crate::decide()`] has no plan for a container.
#[derive(Debug, Error)]
pub enum PlanError {
    /// `process` is absent.
    #[error("the container's spec has no process: give it one with args and cwd")]
    NoProcess,
    /// `process.args` is absent or empty.
    #[error(
        "the container's spec has no process.args: set ENTRYPOINT or CMD in the image, or command in the pod"
    )]
    NoArguments,
    /// `process.terminal` is true.
    #[error("a terminal (tty) is not supported yet: start it without tty")]
    Terminal,
    /// A string would end early where C reads it.
    #[error("{what} {value:?} holds a NUL byte: remove it")]
    Nul {
        /// Which part of the spec.
        what: &'static str,
        /// The string.
        value: String,
    },
    /// An entry of `process.env` has no name or no `=`.
    #[error("environment entry {entry:?} is not of the form NAME=value: correct it in the spec")]
    MalformedEnv {
        /// The entry.
        entry: String,
    },
    /// `process.cwd` is relative.
    #[error("working directory {cwd:?} is not absolute: name it from /")]
    RelativeCwd {
        /// The directory.
        cwd: PathBuf,
    },
    /// `process.cwd` is a file.
    #[error("working directory {cwd:?} is not a directory in the container: correct WORKDIR")]
    CwdIsNoDirectory {
        /// The directory.
        cwd: PathBuf,
    },
    /// A value of `linux.resources.unified` cannot be read.
    #[error("cgroup setting {name}={value:?} is neither a number of bytes nor max: correct it")]
    MalformedLimit {
        /// Name of the setting.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// A path cannot be handed to a guest.
    #[error("path {path:?} is not UTF-8, and WASI paths are: rename it in the image")]
    NotUtf8 {
        /// The path.
        path: PathBuf,
    },
    /// The annotation holds a relative path.
    #[error(
        "annotation {INTERPRETER_ANNOTATION}={value:?} is not an absolute path: give the path of the .wasm in the container"
    )]
    RelativeAnnotation {
        /// Its value.
        value: String,
    },
    /// The annotation names a file that is not there.
    #[error(
        "no interpreter {value:?} in the container, which annotation {INTERPRETER_ANNOTATION} names: correct the annotation or add the file"
    )]
    AnnotatedNotFound {
        /// Value of the annotation.
        value: String,
    },
    /// `args[0]` is a bare name that is nowhere on the PATH.
    #[error(
        "exec: {name:?}: executable file not found in $PATH: looked for {} on PATH={search}; name a program, a .wasm or a script of the image in command, or set the annotation {INTERPRETER_ANNOTATION}",
        looked_for.join(", ")
    )]
    ProgramNotFound {
        /// The name.
        name: String,
        /// File names that were tried in each directory.
        looked_for: Vec<String>,
        /// The search path.
        search: String,
    },
    /// `args[0]` is a path where nothing is.
    #[error(
        "exec: {path:?}: no such file or directory in the container: correct command, or add the file to the image or a mount"
    )]
    FileNotFound {
        /// The path, absolute.
        path: PathBuf,
    },
    /// `args[0]` is a directory, a device or the like.
    #[error("{path:?} is not a regular file, so it cannot be run: correct command")]
    NotAFile {
        /// The path, absolute.
        path: PathBuf,
    },
    /// A script whose interpreter is not in the image.
    #[error(
        "no interpreter for {script:?} in the image: looked for {} on PATH={search}; set the annotation {INTERPRETER_ANNOTATION} or name the .wasm in command",
        looked_for.join(", ")
    )]
    NoInterpreter {
        /// The script as the user wrote it.
        script: String,
        /// Paths and file names that were tried.
        looked_for: Vec<String>,
        /// The search path.
        search: String,
    },
    /// A file that is neither Wasm nor a script whose interpreter is known.
    #[error(
        "{path:?} is neither a program nor a Wasm module nor a script that names its interpreter: start it with a #! line, or set the annotation {INTERPRETER_ANNOTATION}"
    )]
    NotRunnable {
        /// The file.
        path: PathBuf,
    },
    /// A `#!` line that cannot be followed.
    #[error("the #! line of {script:?} cannot be followed: {why}")]
    Shebang {
        /// The script.
        script: PathBuf,
        /// What is wrong with it, and the way out.
        why: &'static str,
    },
    /// An annotated interpreter that is no Wasm module.
    #[error("{path:?} is not a Wasm module: name the interpreter's .wasm")]
    NotWasm {
        /// The file.
        path: PathBuf,
    },
    /// A component instead of a core module.
    #[error(
        "{path:?} is a WebAssembly component, and only core modules with WASI preview 1 run so far: use the interpreter's wasip1 build"
    )]
    Component {
        /// The file.
        path: PathBuf,
    },
    /// An ELF program on a node whose policy has `native: deny`.
    #[error(
        "{path:?} is a native program, and this node's policy allows only Wasm (native: deny in policy.json): use the .wasm build of it, the cluster's default runtime, or another node"
    )]
    NativeDenied {
        /// The file.
        path: PathBuf,
    },
    /// Native code in Wasmtime's format.
    #[error(
        "{path:?} is precompiled native code, which would skip the sandbox, so it is never loaded from an image: ship the .wasm, the node compiles it once"
    )]
    Precompiled {
        /// The file.
        path: PathBuf,
    },
    /// A file could not be read.
    #[error("cannot read {path:?} in the container: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The container's files could not be looked at.
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
            | Self::NotAFile { .. } => ErrorKind::InvalidArgument,
            Self::AnnotatedNotFound { .. }
            | Self::ProgramNotFound { .. }
            | Self::FileNotFound { .. }
            | Self::NoInterpreter { .. } => ErrorKind::NotFound,
            Self::Terminal | Self::Component { .. } => ErrorKind::Unimplemented,
            Self::NotUtf8 { .. }
            | Self::NotRunnable { .. }
            | Self::Shebang { .. }
            | Self::NotWasm { .. }
            | Self::NativeDenied { .. }
            | Self::Precompiled { .. }
            | Self::Read { .. } => ErrorKind::FailedPrecondition,
            Self::View(error) => error.kind(),
        }
    }
}
