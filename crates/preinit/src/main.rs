//! `wasm-interp-preinit`, for the build of images: runs a module's initialization once, and writes a module
//! whose memory is as it was then. Nodes never run it.
//!
//! The module exports two functions besides `_start`:
//! - `preinit: () -> ()` calls its constructors and initializes it, without arguments of a container;
//! - `resume: () -> i32` is called by the new `_start`. It goes on from there, with the container's arguments,
//!   and answers 0 if that was the program. Any other answer is the address of its heap, `&__heap_base`: then
//!   memory up to there becomes as it was before `preinit`, and the old `_start` is called.
//!
//! [`host`] is what a module gets during `preinit`: the system interface of guests, with answers that are the
//! same on every machine. [`confine`] is where it runs. [`snapshot`] runs it, [`restart`] adds the new `_start`.

mod confine;
mod host;
mod restart;
mod snapshot;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Run a module's initialization when its image is built.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
struct Arguments {
    /// The module, which exports `preinit`, `resume` and `_start`
    module: PathBuf,
    /// Where the module with initialized memory is written
    output: PathBuf,
    /// The root file system that the module sees, read-only
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// A variable of its environment
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    environment: Vec<(String, String)>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a variable is NAME=VALUE".to_owned()),
    }
}

/// Why there is no initialized module.
#[derive(Debug, thiserror::Error)]
enum PreinitError {
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, #[source] std::io::Error),
    #[error("cannot write {0}: {1}")]
    Write(PathBuf, #[source] std::io::Error),
    #[error("cannot compile {0}: {1:#}")]
    Compile(PathBuf, #[source] wasmtime::Error),
    #[error("cannot enter {0}: {1}")]
    Confine(PathBuf, #[source] confine::ConfineError),
    #[error("cannot initialize {0}: {1}")]
    Snapshot(PathBuf, #[source] snapshot::SnapshotError),
    #[error("cannot give {0} its new _start: {1}")]
    Restart(PathBuf, #[source] restart::RestartError),
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wasm-interp-preinit: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), PreinitError> {
    let Arguments {
        module: path,
        output,
        root,
        environment,
    } = arguments;
    let wasm = fs::read(&path).map_err(|error| PreinitError::Read(path.clone(), error))?;
    let module = snapshot::Initializable::compile(&wasm)
        .map_err(|error| PreinitError::Compile(path.clone(), error))?;
    // As a container would name it.
    let name = match path.strip_prefix(&root) {
        Ok(inside) => PathBuf::from("/").join(inside),
        Err(_) => path.clone(),
    };
    // What the module sees hides where the result goes.
    let result =
        fs::File::create(&output).map_err(|error| PreinitError::Write(output.clone(), error))?;
    confine::enter(&root).map_err(|error| PreinitError::Confine(root, error))?;
    let initialized = module
        .initialize(&name, environment)
        .map_err(|error| PreinitError::Snapshot(path.clone(), error))?;
    let restartable = restart::restartable(&wasm, &initialized)
        .map_err(|error| PreinitError::Restart(path, error))?;
    write(&result, &restartable).map_err(|error| PreinitError::Write(output, error))
}

fn write(mut file: &fs::File, bytes: &[u8]) -> std::io::Result<()> {
    std::io::Write::write_all(&mut file, bytes)
}
