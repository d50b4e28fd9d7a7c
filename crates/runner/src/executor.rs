//! What libcontainer calls inside the container, as its init process.
//!
//! Given to libcontainer by `container::create`. By the time of [`Executor::validate`] the
//! namespaces, the root, the user and the seccomp filter are in place; [`Executor::exec`] never
//! returns.
#![forbid(unsafe_code)]

use std::{collections::HashMap, fs::File, os::fd::RawFd, rc::Rc};

use libcontainer::workload::{
    Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};
use oci_spec::runtime::Spec;
use wasm_interp_runner::{
    client::{EXIT_START_FAILED, Lifetime},
    reason,
};

use crate::{
    apparmor::Profile,
    guest::Prepared,
    native::Program,
    pause,
    sys::{self, OnSignal},
    wire,
};

/// What the init process is to do.
#[derive(Clone)]
pub(crate) struct Init {
    pub(crate) task: Task,
    pub(crate) profile: Option<Rc<Profile>>,
    pub(crate) lifetime: Lifetime,
    /// Where the reason of an end is noted that the container did not choose.
    pub(crate) reasons: Option<Rc<File>>,
}

/// The init process's task.
#[derive(Clone)]
pub(crate) enum Task {
    /// Run this guest.
    Guest(Rc<Prepared>),
    /// Become this program.
    Program(Rc<Program>),
    /// Hold the pod's namespaces.
    Pause,
}

impl Task {
    fn name(&self) -> &str {
        match self {
            Self::Guest(guest) => {
                let path = guest.plan().interpreter.path.as_str();
                path.rsplit('/').next().unwrap_or(path)
            }
            Self::Program(program) => program.short_name(),
            Self::Pause => "pause",
        }
    }

    /// From here on a signal ends the process, also while it waits for `start`.
    fn prepare(&self) -> std::io::Result<()> {
        // The caller reads the answer to the end; this process has no part in it.
        sys::close_inherited(wire::ANSWER);
        sys::forbid_dumps()?;
        sys::make_null_writable()?;
        sys::set_name(self.name())?;
        match self {
            // A program has actions of its own from exec on.
            Self::Guest(_) | Self::Program(_) => sys::end_on(
                &[libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT],
                OnSignal::ExitWithItsNumber,
            ),
            Self::Pause => {
                pause::prepare()?;
                sys::end_on(&[libc::SIGTERM, libc::SIGINT], OnSignal::ExitSuccessfully)
            }
        }
    }
}

impl Init {
    /// Descriptors that stay open while it runs, sorted; preopens are opened after the others are
    /// closed.
    fn keeps(&self) -> Vec<RawFd> {
        let mut keeps = vec![sys::STDIN, sys::STDOUT, sys::STDERR];
        if let Task::Guest(_) = self.task {
            // Wasmtime maps the initial image of the guest's memory from it.
            keeps.push(wire::ARTIFACT);
        }
        // Closed by the exec of a program.
        keeps.extend(self.reasons.as_ref().map(|_| wire::REASONS));
        keeps
    }

    /// Ends this process.
    fn end(&self, code: i32, text: Option<&str>) -> ! {
        if let Some(text) = text {
            // Nobody is left to hear of a failure to say why.
            let _ = sys::write_all(sys::standard(sys::STDERR), text.as_bytes());
            if let Some(file) = &self.reasons {
                let _ = reason::note(file, text);
            }
        }
        sys::exit_now(code)
    }

    /// Lets go of what belongs to the host.
    fn detach(&self) -> Result<(), String> {
        if self.lifetime == Lifetime::Callers {
            // By now the parent is the caller: the runner that made this process has ended.
            sys::end_with_parent().map_err(|e| format!("end with the caller: {e}"))?;
        }
        sys::close_all_except(&self.keeps())
            .map_err(|e| format!("close the host's descriptors: {e}"))
    }
}

impl Executor for Init {
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        let refused = ExecutorValidationError::ArgValidationError;
        if let Some(profile) = &self.profile {
            match self.task {
                Task::Program(_) => profile.enter_on_exec(),
                Task::Guest(_) | Task::Pause => profile.enter(),
            }
            .map_err(|e| refused(e.to_string()))?;
        }
        // Once its working directory is made, where that is missing.
        if let Task::Program(program) = &self.task {
            program.find().map_err(refused)?;
        }
        self.task
            .prepare()
            .map_err(|e| refused(format!("prepare the init process: {e}")))
    }

    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        // The guest's environment is in its plan; this process needs none.
        Ok(())
    }

    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        let failure = match self.detach() {
            Err(failure) => failure,
            Ok(()) => match &self.task {
                Task::Guest(guest) => {
                    let (code, text) = guest.run();
                    self.end(code, text.as_deref())
                }
                Task::Program(program) => match program.exec() {
                    Err(error) => error,
                },
                Task::Pause => match pause::wait() {
                    Err(error) => format!("wait for signals: {error}"),
                },
            },
        };
        self.end(
            EXIT_START_FAILED,
            Some(&format!("wasm-interp: {failure}\n")),
        )
    }
}
