//! The code of a container's process that libcontainer calls inside the container.
//!
//! Given to libcontainer by `init`. By the time of [`Executor::validate`] the
//! namespaces, the root and the user are in place, and privileges are given up there;
//! [`Executor::exec`] never returns.
#![forbid(unsafe_code)]

use std::{
    cell::RefCell,
    collections::HashMap,
    fs::File,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    rc::Rc,
    sync::Arc,
};

use libcontainer::{
    container::State,
    hooks::run_hooks,
    utils::parse_env,
    workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError},
};
use oci_spec::runtime::Spec;
use wasm_interp_runner_client::{EXIT_START_FAILED, Lifetime, descriptors, termination_message};
use wasm_interp_wasi::LateMounts;
use wasm_interp_workload::{KernelFs, with_causes};

use crate::{
    apparmor::Profile,
    confine::Notes,
    guest::Prepared,
    native::NativeCommand,
    pause,
    privileges::Privileges,
    report::{Report, Reporter},
    rootfs::Arrivals,
    sys::{self, OnSignal},
    terminal::{self, Streams},
};

/// The init process, or a further one: what it runs, and with which privileges.
#[derive(Clone)]
pub(crate) struct InitProcess {
    pub(crate) task: InitTask,
    pub(crate) privileges: Rc<Privileges>,
    pub(crate) profile: Option<Rc<Profile>>,
    pub(crate) lifetime: Lifetime,
    /// The termination log. It gets the reason if the container is ended without its own doing.
    pub(crate) reasons: Option<Rc<File>>,
    /// Where the caller reads what a guest is refused, for its log.
    pub(crate) refusals: Option<Arc<OwnedFd>>,
    /// The highest number of a descriptor that the init process has inherited.
    pub(crate) highest: RawFd,
    /// The state of the container that hooks get, once it is made.
    pub(crate) state: Option<Rc<State>>,
    /// Whether a guest's paths can lead to what is mounted later.
    pub(crate) arrivals: Arrivals,
    pub(crate) streams: Streams,
    pub(crate) failures: Failures,
}

/// Where it is said that the process cannot run its program, once it is started.
#[derive(Clone)]
pub(crate) enum Failures {
    /// The reader of its standard error, and the termination log.
    Streams,
    /// The runner, which waits until the program runs. For a further process.
    Runner(Rc<RefCell<Reporter>>),
}

/// The init process's task.
#[derive(Clone)]
pub(crate) enum InitTask {
    /// Run this guest.
    Guest(Rc<Prepared>),
    /// Become this program.
    Program(Rc<NativeCommand>),
    /// Hold the pod's namespaces.
    Pause,
}

impl InitTask {
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

    /// Makes signals end the process from here on, also while it waits for `start`.
    fn prepare(&self) -> std::io::Result<()> {
        sys::forbid_dumps()?;
        sys::set_name(self.name())?;
        match self {
            // A program gets default actions when it is executed.
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

impl InitProcess {
    /// Closes what the process inherited and does not need to wait for `start`.
    ///
    /// Until then it is a process of the container: a process with CAP_SYS_PTRACE in the same pid
    /// namespace reaches what it holds through `/proc/PID/fd`, and an open directory of the host
    /// leads to all of the host. libcontainer still needs its sockets, and a pipe of its log.
    fn close_files(&self) -> std::io::Result<()> {
        // The caller reads the response to the end of the pipe, so this process must not hold it open.
        sys::close_inherited(descriptors::RESPONSE);
        sys::close_files_except(&self.keeps(), self.highest)
    }

    /// Descriptors that have to stay open while a further process joins its container.
    pub(crate) fn keeps_while_joining(&self, target: RawFd) -> Vec<RawFd> {
        let mut keeps = self.keeps();
        keeps.push(target);
        keeps.extend(self.profile.as_ref().map(|profile| profile.descriptor()));
        keeps.extend(self.privileges.descriptors());
        keeps
    }

    /// Descriptors that stay open while it runs, sorted; preopens are opened after the others are
    /// closed.
    fn keeps(&self) -> Vec<RawFd> {
        let mut keeps = vec![sys::STDIN, sys::STDOUT, sys::STDERR];
        if let InitTask::Guest(_) = self.task {
            // Wasmtime maps the initial image of the guest's memory from it.
            keeps.push(descriptors::ARTIFACT);
            keeps.extend(self.refusals.as_ref().map(|_| descriptors::REFUSALS));
        }
        // Closed by the exec of a program.
        keeps.extend(self.reasons.as_ref().map(|_| descriptors::TERMINATION_LOG));
        if let (InitTask::Program(_), Failures::Runner(report)) = (&self.task, &self.failures) {
            // The same: then the runner knows that the program runs.
            keeps.push(report.borrow().as_raw_fd());
        }
        keeps.sort_unstable();
        keeps
    }

    /// Waits until a further process may run: if the runner has ended, no caller knows of it.
    fn wait_for_the_runner(&self) -> Result<(), String> {
        match &self.failures {
            Failures::Streams => Ok(()),
            Failures::Runner(report) => {
                let waited = report.borrow_mut().wait();
                waited.map_err(|e| format!("cannot wait for the runner: {e}"))?;
                // It ends before this process does.
                sys::outlive_parent().map_err(|e| format!("cannot outlive the runner (prctl): {e}"))
            }
        }
    }

    /// Ends this process, whose program does not run.
    fn fail(&self, failure: String) -> ! {
        match &self.failures {
            Failures::Streams => self.end(
                EXIT_START_FAILED,
                Some(&format!("wasm-interp: {failure}\n")),
            ),
            Failures::Runner(report) => {
                // A report that cannot be sent means that the runner has ended.
                let _ = report.borrow_mut().report(&Report::Failed(failure));
                sys::exit_now(EXIT_START_FAILED)
            }
        }
    }

    /// What a guest's paths may lead to.
    fn late_mounts(&self) -> LateMounts {
        match self.arrivals {
            Arrivals::Impossible => LateMounts::Impossible,
            // As of a mount of the spec: files are a guest's, the kernel's state is not.
            Arrivals::Possible => {
                LateMounts::Checked(|magic| KernelFs::from_magic(magic).is_some())
            }
        }
    }

    fn notes(&self) -> Notes {
        match self.reasons {
            Some(_) => Notes::File(descriptors::TERMINATION_LOG),
            None => Notes::Nowhere,
        }
    }

    /// Ends this process.
    fn end(&self, code: i32, text: Option<&str>) -> ! {
        if let Some(text) = text {
            // If even these writes fail, no channel is left to report that.
            let _ = sys::write_all(sys::standard(sys::STDERR), text.as_bytes());
            if let Some(file) = &self.reasons {
                let _ = termination_message::note(file, text);
            }
        }
        sys::exit_now(code)
    }

    /// Runs the startContainer hooks. A hook without an environment gets that of the program.
    fn run_start_hooks(&self, spec: &Spec) -> Result<(), String> {
        let hooks = spec.hooks().as_ref();
        let Some(hooks) = hooks.and_then(|hooks| hooks.start_container().as_ref()) else {
            return Ok(());
        };
        let env = spec.process().as_ref().and_then(|p| p.env().as_ref());
        let env = parse_env(env.map_or(&[], Vec::as_slice));
        run_hooks(Some(hooks), self.state.as_deref(), None, None, Some(&env))
            .map_err(|e| format!("cannot run the startContainer hook: {}", with_causes(&e)))
    }

    /// Closes what belongs to the host, and ties the process to its caller if that is asked for.
    fn detach(&self) -> Result<(), String> {
        if self.lifetime == Lifetime::Callers {
            // By now the parent is the caller: the runner that made this process has ended.
            sys::end_with_parent()
                .map_err(|e| format!("cannot tie the container to its caller: {e}"))?;
        }
        sys::close_all_except(&self.keeps())
            .map_err(|e| format!("cannot close the host's descriptors: {e}"))
    }
}

impl Executor for InitProcess {
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        let refused = ExecutorValidationError::ArgValidationError;
        if let Failures::Runner(_) = self.failures {
            // The change of the user has undone it.
            sys::end_with_parent()
                .map_err(|e| refused(format!("cannot tie the process to the runner: {e}")))?;
        }
        // Before a filter that may not allow it. libcontainer has made this process lead a session.
        if self.streams == Streams::Terminal {
            terminal::control()
                .map_err(|e| refused(format!("cannot take control of the terminal: {e}")))?;
        }
        self.privileges.reduce().map_err(refused)?;
        if let Some(profile) = &self.profile {
            match self.task {
                InitTask::Program(_) => profile.enter_on_exec(),
                InitTask::Guest(_) | InitTask::Pause => profile.enter(),
            }
            .map_err(|e| refused(e.to_string()))?;
        }
        // Its working directory exists by now, which a relative path needs.
        if let InitTask::Program(program) = &self.task {
            program.find().map_err(refused)?;
        }
        self.task
            .prepare()
            .and_then(|()| self.close_files())
            .map_err(|e| refused(format!("cannot prepare the init process: {e}")))?;
        self.privileges.seal().map_err(refused)
    }

    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        // The guest's environment is in its plan; this process needs none.
        Ok(())
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let ready = self
            .wait_for_the_runner()
            .and_then(|()| self.run_start_hooks(spec))
            .and_then(|()| self.detach());
        let failure = match ready {
            Err(failure) => failure,
            Ok(()) => match &self.task {
                InitTask::Guest(guest) => {
                    let network = guest.plan().network.needs();
                    let refusals = self.refusals.clone();
                    let (code, text) = guest.run(
                        self.late_mounts(),
                        self.privileges.modes_by(),
                        refusals,
                        |calls| self.privileges.close_fence(self.notes(), calls, &network),
                    );
                    self.end(code, text.as_deref())
                }
                InitTask::Program(program) => match program.exec() {
                    Err(error) => error,
                },
                InitTask::Pause => match pause::wait() {
                    Err(error) => format!("cannot wait for signals: {error}"),
                },
            },
        };
        self.fail(failure)
    }
}
