//! What libcontainer calls inside the container, as its init process.
//!
//! Given to libcontainer by `container::create`. By the time of [`Executor::validate`] the
//! namespaces, the root, the user and the seccomp filter are in place; [`Executor::exec`] never
//! returns.
#![forbid(unsafe_code)]

use std::{collections::HashMap, os::fd::RawFd, rc::Rc};

use libcontainer::workload::{
    Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};
use oci_spec::runtime::Spec;
use wasm_interp_runner::client::{EXIT_START_FAILED, Lifetime};

use crate::{
    apparmor::Profile,
    guest::Prepared,
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
}

/// The init process's task.
#[derive(Clone)]
pub(crate) enum Task {
    /// Run this guest.
    Guest(Rc<Prepared>),
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
            Self::Pause => "pause",
        }
    }

    /// Descriptors that stay open while it runs, sorted; preopens are opened after the others are
    /// closed.
    fn keeps(&self) -> &'static [RawFd] {
        match self {
            // Wasmtime maps the initial image of the guest's memory from the artifact.
            Self::Guest(_) => &[sys::STDIN, sys::STDOUT, sys::STDERR, wire::ARTIFACT],
            Self::Pause => &[sys::STDIN, sys::STDOUT, sys::STDERR],
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
            Self::Guest(_) => sys::end_on(
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
    /// Lets go of what belongs to the host.
    fn detach(&self) -> Result<(), String> {
        if self.lifetime == Lifetime::Callers {
            // By now the parent is the caller: the runner that made this process has ended.
            sys::end_with_parent().map_err(|e| format!("end with the caller: {e}"))?;
        }
        sys::close_all_except(self.task.keeps())
            .map_err(|e| format!("close the host's descriptors: {e}"))
    }
}

impl Executor for Init {
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        if let Some(profile) = &self.profile {
            profile
                .enter()
                .map_err(|e| ExecutorValidationError::ArgValidationError(e.to_string()))?;
        }
        self.task.prepare().map_err(|e| {
            ExecutorValidationError::ArgValidationError(format!("prepare the init process: {e}"))
        })
    }

    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        // The guest's environment is in its plan; this process needs none.
        Ok(())
    }

    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        let failure = match self.detach() {
            Err(failure) => failure,
            Ok(()) => match &self.task {
                Task::Guest(guest) => guest.run(),
                Task::Pause => match pause::wait() {
                    Err(error) => format!("wait for signals: {error}"),
                },
            },
        };
        let text = format!("wasm-interp: {failure}\n");
        // Nobody is left to hear of a failure to say why.
        let _ = sys::write_all(sys::standard(sys::STDERR), text.as_bytes());
        sys::exit_now(EXIT_START_FAILED)
    }
}
