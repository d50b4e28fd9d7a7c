//! The errors for a module without native code. Each names the way out.
//!
//! The confined compiler sends a [`ModuleRefusal`] or a [`CompileFailure`] as JSON through the
//! publisher to the client; [`ArtifactError`] adds the module's name.
#![forbid(unsafe_code)]

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Why a file is not a program that can run here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", tag = "refusal", deny_unknown_fields)]
pub enum ModuleRefusal {
    /// An ELF file.
    #[error(
        "it is precompiled native code, which skips the sandbox; \
         ship the WebAssembly module itself: the node compiles it once"
    )]
    Precompiled,
    /// WAT.
    #[error("it is WebAssembly text; assemble it first, for instance with wat2wasm")]
    Text,
    /// Anything else that does not begin with the magic bytes of Wasm.
    #[error(
        "it is not WebAssembly: a module or component begins with \"\\0asm\"; name the .wasm \
         file of the interpreter"
    )]
    NotWasm,
    /// It is larger than the node allows.
    #[error(
        "it is {} MiB large, the node compiles modules of up to {} MiB; strip its debug \
         information and load data from files", .bytes.div_ceil(1 << 20), .max_bytes >> 20
    )]
    TooLarge {
        /// The module's size.
        bytes: u64,
        /// The limit.
        max_bytes: u64,
    },
    /// It begins with the magic bytes of a module but is not valid.
    #[error("it is not a valid WebAssembly module: {reason}; build it again for wasm32-wasip1")]
    Invalid {
        /// The validator's message.
        reason: String,
    },
    /// It imports what no grant offers.
    #[error(
        "it imports what no grant offers: {}; a module gets functions of \
         wasi_snapshot_preview1 and wasm_interp_posix_v1", .imports.join(", ")
    )]
    Imports {
        /// `module.name (what it is)`, each once, in the order of the module.
        imports: Vec<String>,
    },
    /// It begins with the magic bytes of a component but is not valid.
    #[error("it is not a valid WebAssembly component: {reason}; build it again for wasm32-wasip2")]
    InvalidComponent {
        /// The validator's message.
        reason: String,
    },
    /// It is a component that imports what no grant offers.
    #[error(
        "it imports what no grant offers: {}; a component gets the interfaces of wasi:cli, \
         wasi:clocks, wasi:filesystem, wasi:io, wasi:random and wasi:sockets, in the versions \
         0.2.0 to {newest}", .imports.join(", ")
    )]
    Interfaces {
        /// `package/interface@version (what is wrong with it)`, each once, in the order of the component.
        imports: Vec<String>,
        /// The newest version that is offered.
        newest: String,
    },
    /// It is a component that is no command.
    #[error(
        "it exports no wasi:cli/run of WASI 0.2, so it is not a command; {}; build it as a \
         command, as for wasm32-wasip2",
        if .exports.is_empty() {
            "it exports nothing".to_owned()
        } else {
            format!("it exports {}", .exports.join(", "))
        }
    )]
    NoRun {
        /// The names of its exports.
        exports: Vec<String>,
    },
    /// It is a component whose `wasi:cli/run` is not that of a command.
    #[error(
        "its export {export} has no function run of the type func() -> result, so it is not a \
         command; build it as a command, as for wasm32-wasip2"
    )]
    WrongRun {
        /// The name of the export.
        export: String,
    },
    /// It has no entry function.
    #[error(
        "it exports no function _start without parameters and results, so it is not a command{}",
        if *.reactor {
            "; it exports _initialize, so it is a reactor: link it as a command"
        } else {
            "; link it as a command"
        }
    )]
    NoStart {
        /// Whether it is a reactor.
        reactor: bool,
    },
}

/// Why there is no native code for a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", tag = "failure", deny_unknown_fields)]
pub enum CompileFailure {
    /// The module is refused.
    #[error("{refusal}")]
    Refused {
        /// Why.
        refusal: ModuleRefusal,
    },
    /// The compiler failed on a valid module.
    #[error("the compiler failed: {reason}; report this with the module")]
    Compiler {
        /// Its message.
        reason: String,
    },
    /// Wall-clock limit.
    #[error(
        "compiling it took longer than the {seconds} s that a node allows; make the module \
         smaller, or optimize it less"
    )]
    TimeLimit {
        /// The limit.
        seconds: u64,
    },
    /// Memory limit.
    #[error(
        "compiling it needs more than the {} MiB of memory that a node allows; make the module \
         smaller, or split its largest functions",
        .bytes >> 20
    )]
    MemoryLimit {
        /// The limit.
        bytes: u64,
    },
    /// The confined compiler ended without a result.
    #[error("the compiler ended without a result: {how}; see the kernel's log (dmesg)")]
    Crashed {
        /// The exit status, and the text on stderr.
        how: String,
    },
    /// The file changed after its digest was taken.
    #[error("it changed while being read; write it under another name and rename it into place")]
    Changed,
    /// A system call failed.
    #[error("{act}: {reason}")]
    System {
        /// What was attempted.
        act: String,
        /// The cause.
        reason: String,
    },
}

impl CompileFailure {
    /// A failure of a system call.
    pub fn system(act: impl Into<String>, error: &dyn std::fmt::Display) -> Self {
        Self::System {
            act: act.into(),
            reason: error.to_string(),
        }
    }
}

/// Why [`crate::Store::get`] has no artifact.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The module's file cannot be read.
    #[error("cannot read {name}: {source}; check the file")]
    Read {
        /// The module.
        name: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// There is no native code for it.
    #[error("cannot compile {name}: {failure}")]
    Compile {
        /// The module.
        name: String,
        /// Why.
        failure: CompileFailure,
    },
    /// The compiler's executable does not start.
    #[error(
        "cannot compile {name}: cannot start the compiler {}; install all executables of a release \
         in one folder",
        .compiler.display()
    )]
    Start {
        /// The module.
        name: String,
        /// Its path.
        compiler: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The publisher ended without a response, or its response made no sense.
    #[error(
        "cannot compile {name}: the compiler {} did not respond: {how}; install all executables of \
         a release in one folder",
        .compiler.display()
    )]
    NoResponse {
        /// The module.
        name: String,
        /// The compiler.
        compiler: PathBuf,
        /// Exit status, or what is wrong with the response.
        how: String,
    },
}

impl ArtifactError {
    /// The refusal, if the module itself is at fault.
    #[must_use]
    pub const fn refusal(&self) -> Option<&ModuleRefusal> {
        match self {
            Self::Compile {
                failure: CompileFailure::Refused { refusal },
                ..
            } => Some(refusal),
            _ => None,
        }
    }
}
