//! One containerd of our own: its configuration, life and `ctr`. Never the machine's.

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Outcome;
use crate::command::{self, Finished, wait_for};
use crate::settings::Settings;

/// A containerd and its folder.
pub(crate) struct Daemon {
    programs: PathBuf,
    namespace: String,
    folder: PathBuf,
    search: std::ffi::OsString,
    cache: PathBuf,
    process: Mutex<Option<Child>>,
}

impl Daemon {
    /// Starts one that lives in `folder`, with artifacts kept in `cache`.
    pub(crate) fn start(settings: &Settings, folder: PathBuf, cache: PathBuf) -> Outcome<Self> {
        fs::create_dir_all(&folder)?;
        let root = folder.display();
        fs::write(
            folder.join("config.toml"),
            format!(
                r#"version = 2
root = "{root}/root"
state = "{root}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]

[grpc]
address = "{root}/containerd.sock"

[debug]
address = "{root}/debug.sock"
level = "debug"
"#
            ),
        )?;
        let mut search = vec![settings.bin(), settings.programs.clone()];
        search.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
        let daemon = Self {
            programs: settings.programs.clone(),
            namespace: settings.run().name().to_owned(),
            search: env::join_paths(search)?,
            folder,
            cache,
            process: Mutex::new(None),
        };
        daemon.launch()?;
        Ok(daemon)
    }

    /// Starts the process, again if need be.
    pub(crate) fn launch(&self) -> Outcome {
        let mut command = Command::new(self.programs.join("containerd"));
        command
            .arg("--config")
            .arg(self.folder.join("config.toml"))
            .env("PATH", &self.search)
            .env("WASM_INTERP_CACHE_DIR", &self.cache)
            .env("WASM_INTERP_POLICY", self.policy());
        *self.process() = Some(command::start_daemon(command, &self.log_path())?);
        wait_for("containerd to answer", || {
            if let Some(status) = self
                .process()
                .as_mut()
                .map(Child::try_wait)
                .transpose()?
                .flatten()
            {
                return Err(format!("containerd ended with {status}:\n{}", self.log()).into());
            }
            Ok((self.ctr(&["version"])?.code == 0).then_some(()))
        })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Outcome<i32> {
        let process = self.process();
        let child = process.as_ref().ok_or("containerd does not run")?;
        Ok(i32::try_from(child.id())?)
    }

    /// Its version, as 2 and 4.
    pub(crate) fn version(&self) -> Outcome<(u32, u32)> {
        let mut command = Command::new(self.programs.join("containerd"));
        command.arg("--version");
        let printed = command::run(command, None)?.expect_code(0)?.stdout;
        let version = printed.split_whitespace().nth(2).unwrap_or_default();
        let mut numbers = version.trim_start_matches('v').split('.');
        let mut number = || numbers.next().and_then(|number| number.parse().ok());
        match (number(), number()) {
            (Some(major), Some(minor)) => Ok((major, minor)),
            _ => Err(format!("no version in {printed:?}").into()),
        }
    }

    /// A page of Go's profiler, of which containerd has one, as text: `goroutine`, or `heap?gc=1`.
    pub(crate) fn profile(&self, page: &str) -> Outcome<String> {
        let mut socket = UnixStream::connect(self.folder.join("debug.sock"))?;
        let separator = if page.contains('?') { '&' } else { '?' };
        write!(
            socket,
            "GET /debug/pprof/{page}{separator}debug=1 HTTP/1.0\r\nHost: containerd\r\n\r\n"
        )?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        if answer.starts_with("HTTP/1.0 200 ") {
            return Ok(answer);
        }
        Err(format!("containerd's profile {page}: {answer}").into())
    }

    /// Ends it as a power cut would, leaving its shims.
    pub(crate) fn kill(&self) -> Outcome {
        self.end(Signal::SIGKILL)
    }

    /// Ends it as systemd would.
    pub(crate) fn stop(&self) -> Outcome {
        self.end(Signal::SIGTERM)
    }

    fn end(&self, signal: Signal) -> Outcome {
        if let Some(mut child) = self.process().take() {
            kill(Pid::from_raw(i32::try_from(child.id())?), signal)?;
            wait_for("containerd to end", || Ok(child.try_wait()?))?;
        }
        Ok(())
    }

    /// Where it answers.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("containerd.sock")
    }

    /// Where it keeps bundles, and what else is gone after a boot.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Where its shims read the node's policy. A trial may write the file.
    pub(crate) fn policy(&self) -> PathBuf {
        self.folder.join("policy.json")
    }

    /// Where its shims keep native code.
    pub(crate) fn cache(&self) -> &Path {
        &self.cache
    }

    /// `ctr`, bound to this containerd and the run's namespace.
    pub(crate) fn ctr_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("ctr"));
        command
            .arg("--address")
            .arg(self.socket())
            .args(["--namespace", &self.namespace])
            .args(arguments);
        command
    }

    /// Runs `ctr` to its end.
    pub(crate) fn ctr(&self, arguments: &[&str]) -> Outcome<Finished> {
        command::run(self.ctr_command(arguments), None)
    }

    /// What containerd and its shims have logged.
    pub(crate) fn log(&self) -> String {
        fs::read(self.log_path())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("containerd.log")
    }

    /// Bundles that containerd has not removed.
    pub(crate) fn bundles(&self) -> Vec<String> {
        ["root", "state"]
            .iter()
            .map(|place| {
                self.folder
                    .join(place)
                    .join("io.containerd.runtime.v2.task")
                    .join(&self.namespace)
            })
            .filter_map(|folder| fs::read_dir(folder).ok())
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path().display().to_string()))
            .collect()
    }

    /// The bundle of a container's task.
    pub(crate) fn bundle(&self, id: &str) -> PathBuf {
        let tasks = self.state().join("io.containerd.runtime.v2.task");
        tasks.join(&self.namespace).join(id)
    }

    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
