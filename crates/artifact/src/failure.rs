//! What can go wrong between a module and its native code, in words that name the way out.
//!
//! [`Refusal`] and [`Failure`] travel as JSON from the confined compiler through the publisher to
//! whoever asked; [`ArtifactError`] adds the module's name.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Why a file is not a program that can run here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", tag = "refusal", deny_unknown_fields)]
pub enum Refusal {
    /// An ELF file.
    #[error(
        "it is precompiled native code, which skips the sandbox; \
         ship the WebAssembly module itself: the node compiles it once"
    )]
    Precompiled,
    /// A component.
    #[error("it is a WebAssembly component; compile the program as a module for wasm32-wasip1")]
    Component,
    /// WAT.
    #[error("it is WebAssembly text; assemble it first, for instance with wat2wasm")]
    Text,
    /// Anything else that does not begin as Wasm does.
    #[error("it is not WebAssembly: a module begins with \"\\0asm\"")]
    NotWasm,
    /// Larger than the node compiles.
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
    /// Begins as a module and is none.
    #[error("it is not a valid WebAssembly module: {reason}")]
    Invalid {
        /// The validator's words.
        reason: String,
    },
    /// Asks for what no grant offers.
    #[error(
        "it imports what no grant offers: {}; only functions of WASI preview 1 \
         (wasi_snapshot_preview1) can be granted", .imports.join(", ")
    )]
    Imports {
        /// `module.name (what it is)`, each once, in the order of the module.
        imports: Vec<String>,
    },
    /// Has no entry.
    #[error("it exports no function _start without parameters and results, so it is not a command{}",
        if *.reactor { "; it exports _initialize: a reactor, to be linked as a command instead" } else { "" })]
    NoStart {
        /// Whether it is a reactor.
        reactor: bool,
    },
}

/// Why there is no native code for a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", tag = "failure", deny_unknown_fields)]
pub enum Failure {
    /// The module is at fault.
    #[error("{refusal}")]
    Refused {
        /// Why.
        refusal: Refusal,
    },
    /// The compiler could not cope with a valid module.
    #[error("the compiler gave up: {reason}")]
    Compiler {
        /// Its words.
        reason: String,
    },
    /// Wall-clock limit.
    #[error(
        "compiling it took longer than the {seconds} s that a node allows; make the module smaller, or optimize it less"
    )]
    TimeLimit {
        /// The limit.
        seconds: u64,
    },
    /// Memory limit.
    #[error("compiling it needs more than the {} MiB of memory that a node allows; make the module smaller, or split its largest functions", .bytes >> 20)]
    MemoryLimit {
        /// The limit.
        bytes: u64,
    },
    /// The confined compiler ended without an answer.
    #[error("the compiler ended without an answer: {how}")]
    Crashed {
        /// Exit status and the last it said.
        how: String,
    },
    /// The file is not what it was when it was asked for.
    #[error("it changed while being read; write it under another name and rename it into place")]
    Changed,
    /// The machine is at fault.
    #[error("{act}: {reason}")]
    System {
        /// What was tried.
        act: String,
        /// What the kernel said.
        reason: String,
    },
}

impl Failure {
    pub(crate) fn system(act: impl Into<String>, error: &dyn std::fmt::Display) -> Self {
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
    #[error("cannot read {name}")]
    Read {
        /// The module.
        name: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// There is no native code for it.
    #[error("cannot compile {name}: {failure}")]
    Compile {
        /// The module.
        name: String,
        /// Why.
        failure: Failure,
    },
    /// The compiler's executable does not start.
    #[error("cannot compile {name}: cannot start the compiler {}; it is installed beside the shim", .compiler.display())]
    Start {
        /// The module.
        name: String,
        /// Where it was looked for.
        compiler: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The publisher ended without an answer.
    #[error("cannot compile {name}: the compiler {} ended without an answer: {how}", .compiler.display())]
    Lost {
        /// The module.
        name: String,
        /// The compiler.
        compiler: PathBuf,
        /// Exit status.
        how: String,
    },
}

impl ArtifactError {
    /// The refusal, where the module itself is at fault.
    #[must_use]
    pub const fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Compile {
                failure: Failure::Refused { refusal },
                ..
            } => Some(refusal),
            _ => None,
        }
    }
}
