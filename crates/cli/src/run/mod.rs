//! `wasm-interp run`: runs a container without containerd, with the same pipeline as the shim
//! ([`wasm_interp_launch`]). It always removes the container. If this process is killed, the kernel ends the
//! container too, and only an empty directory and an empty cgroup remain.

mod profile;
pub(crate) mod progress;
mod scratch;
mod supervise;

use std::env;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::process::{self, ExitCode};
use std::sync::Arc;

use oci_spec::runtime::Spec;
use thiserror::Error;
use wasm_interp_launch::{LaunchError, Pipeline, Place, PlannedContainer};
use wasm_interp_runner_client::{Lifetime, RunnerError, SessionKeyring};
use wasm_interp_workload::{open_root, printable, with_causes};

use self::profile::{ProfileFile, ProfileFileError, ProfileTarget, Recording, RecordingError};
use self::progress::Compiling;
use self::scratch::{Scratch, ScratchError};
use self::supervise::{Signals, SuperviseError};
use crate::container::{self, ContainerArgs, ContainerError, Shape};

/// Run a container without containerd.
///
/// The container gets namespaces, a cgroup and no capabilities, like a pod. It reaches only what its
/// spec and the options given here grant. With --listen, --connect or --network a Wasm guest uses this
/// machine's network; without them it has none. The root filesystem does not change:
/// the command discards what the guest writes to it, so mount a directory for files to keep.
/// An image (an OCI archive or layout) brings its ENV, ENTRYPOINT, WORKDIR and USER, and is unpacked into
/// the cache once. A root filesystem brings none of these: give them with --env, --workdir and --user.
/// A bundle runs as its config.json says.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) container: ContainerArgs,

    /// Write where the guest's CPU time goes: a flame graph (.svg) or folded stacks (.folded or .txt).
    ///
    /// The kernel samples the guest from outside, 999 times per second of CPU time. Frames are the functions of the
    /// interpreter, not of the script; in brackets, host is what runs the guest, and kernel its system calls. Time in which
    /// the guest waits is not in it.
    #[arg(long, value_name = "FILE", value_parser = profile::target)]
    profile: Option<ProfileTarget>,
}

const EXAMPLES: &str = "\
Exits with the guest's code; 128 and the signal's number if a signal ended it, 134 if it trapped,
125 if it could not be started.

Examples:
  wasm-interp run dist/images/hello.tar
  wasm-interp run --mount src=.,dst=/app,ro --workdir /app dist/images/python.tar -- python main.py
  wasm-interp run --mount src=.,dst=/app -e LANG=C.UTF-8 ./rootfs -- python /app/main.py
  wasm-interp run --listen tcp:8080 --connect tcp:localhost:5432 ./rootfs -- /app/server.wasm
  wasm-interp run --profile main.svg --mount src=.,dst=/app ./rootfs -- python /app/main.py
  wasm-interp run --env MODE=test --user 1000 --memory 128M ./rootfs -- /app/main.py
  wasm-interp run /path/to/bundle";

/// Why `run` failed.
#[derive(Debug, Error)]
pub(crate) enum RunError {
    #[error("cannot run a container: namespaces and cgroups need root; use sudo")]
    NotRoot,
    #[error(
        "cannot run this bundle: it is a pod sandbox, which has no program; name the bundle of a \
         container"
    )]
    Sandbox,
    #[error(transparent)]
    Container(#[from] ContainerError),
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    #[error(transparent)]
    Launch(#[from] LaunchError),
    #[error(transparent)]
    Runner(#[from] RunnerError),
    #[error(transparent)]
    Supervise(#[from] SuperviseError),
    #[error(
        "cannot profile {path:?}: it is a native program; leave out --profile, and use perf record \
         from outside"
    )]
    NativeProfile { path: String },
    #[error(transparent)]
    ProfileFile(#[from] ProfileFileError),
    #[error(transparent)]
    Recording(#[from] RecordingError),
}

/// Runs the container, and returns its exit code.
pub(crate) fn run(args: &RunArgs) -> Result<ExitCode, RunError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(RunError::NotRoot);
    }
    // First, so that a wrong path costs no time.
    let mut profile_file = args.profile.as_ref().map(ProfileFile::create).transpose()?;
    let mut container = args.container.container()?;
    container::warn(&container.warnings);
    let mut signals = Signals::catch()?;
    let scratch = Scratch::new()?;
    if container.shape == Shape::Rootfs {
        container.set_rootfs(&scratch.overlay(&container.rootfs)?);
        if let Some(term) = terminal_type() {
            container::set_terminal_type(&mut container.spec, &term);
        }
    }
    let id = scratch.id();
    container::set_cgroup(&mut container.spec, &id);

    let mut pipeline = Pipeline::of_this_node(|store| store)?;
    pipeline.runner = pipeline.runner.with_lifetime(Lifetime::Callers);
    pipeline.host_network = container.host_network();
    let root = open_root(&container.rootfs).map_err(LaunchError::from)?;
    let planned = pipeline.plan(&container.spec, root, Arc::default())?;
    match (&planned, container.shape) {
        (PlannedContainer::Sandbox, _) => return Err(RunError::Sandbox),
        (PlannedContainer::Native(native), _) if profile_file.is_some() => {
            let path = native.interpreter.path.clone();
            return Err(RunError::NativeProfile { path });
        }
        (PlannedContainer::Native(_), Shape::Rootfs) => {
            if args.container.network.is_some() {
                // Rules hold for host functions, which a native program does not need.
                eprintln!(
                    "wasm-interp: no network for {:?}: it is a native program, and rules hold only \
                     for Wasm",
                    args.container.target()
                );
                container::separate_network(&mut container.spec);
            }
            container::add_kernel_file_systems(&mut container.spec);
        }
        _ => {}
    }
    let mut compiling = Compiling::default();
    let prepared = pipeline.prepare(&container.spec, planned, &mut |module, progress| {
        if let Some(signal) = signals.ending() {
            // The compile goes on without this process.
            compiling.end();
            drop(profile_file.take());
            scratch.remove();
            process::exit(128 + signal);
        }
        compiling.show(module, progress);
    });
    compiling.end();
    let prepared = prepared?;
    if let Some(reason) = prepared.uncached() {
        eprintln!(
            "wasm-interp: cannot keep the native code: {}",
            printable(reason)
        );
    }

    let state = scratch.state()?;
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let place = Place {
        id: &id,
        bundle: &scratch.bundle()?,
        state: &state,
        stdio: [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
        termination_message: None,
        ceiling: None,
        console: None,
        // Its user reads the stream to which they are written too.
        refusals: None,
        keyring: SessionKeyring::Own,
    };
    let init = supervise::adopt(|| {
        let created = pipeline.create(&prepared, &container.rootfs, &place, &mut |_| ())?;
        container::warn(&created.warnings);
        Ok::<_, RunError>(created.pid)
    })?;
    let runner = &pipeline.runner;
    let sampled = profile_file.as_ref().and(prepared.artifact());
    let outcome = sampled
        .map(|code| Recording::begin(init, &code.file))
        .transpose()
        .map_err(RunError::from)
        .and_then(|recording| {
            runner.start(&id, &state, &mut |_| ())?;
            Ok((supervise::wait(init, &mut signals)?, recording))
        });
    let deleted = runner.delete(&id, &state, true, &mut |_| ());
    let (code, recording) = outcome?;
    for warning in deleted? {
        eprintln!("wasm-interp: {}", printable(&warning));
    }
    let (Some(file), Some(recording)) = (profile_file, recording) else {
        return Ok(ExitCode::from(code));
    };
    let written = recording.end().map_err(RunError::from).and_then(|profile| {
        let told = file.write(&profile, &title(&container.spec));
        Ok(told?)
    });
    Ok(ExitCode::from(match written {
        Ok(told) => {
            eprintln!("wasm-interp: {told}");
            code
        }
        // The container has run: 125 would deny that, and 0 that something is missing.
        Err(error) => {
            eprintln!("wasm-interp: {}", printable(&with_causes(&error)));
            code.max(1)
        }
    }))
}

/// The type of this process's terminal, if the program reads from it and writes to it.
fn terminal_type() -> Option<String> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return None;
    }
    env::var("TERM").ok()
}

/// What ran, for the title of a profile.
fn title(spec: &Spec) -> String {
    let args = spec
        .process()
        .as_ref()
        .and_then(|process| process.args().clone());
    printable(&args.unwrap_or_default().join(" "))
}
