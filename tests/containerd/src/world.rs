//! What a trial works with: a containerd with the images in it, and containers that go away.

use std::ffi::OsString;
use std::fs;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::ttrpc;
use serde_json::Value;

use crate::command::{self, Finished, Running, wait_for};
use crate::daemon::Daemon;
use crate::run::{Concurrency, Turns};
use crate::settings::Settings;
use crate::{
    Outcome,
    guests::{self, PYTHON},
};

/// The runtime under test.
pub(crate) const OURS: &str = "io.containerd.wasm-interp.v1";
/// The one whose answers ours are compared with.
pub(crate) const RUNC: &str = "io.containerd.runc.v2";

/// A containerd with images, shared by all trials.
pub(crate) struct World {
    settings: Settings,
    daemon: Daemon,
    counter: AtomicU32,
    turns: Turns,
}

impl World {
    /// Starts containerd and imports the images.
    pub(crate) fn start(settings: Settings) -> Outcome<Self> {
        let folder = settings.run.folder();
        fs::create_dir(folder)
            .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        fs::create_dir(settings.bin())?;
        for name in [
            "containerd-shim-wasm-interp-v1",
            "wasm-interp-runner",
            "wasm-interp-compiler",
            "wasm-interp",
        ] {
            let from = settings.dist.join(name);
            fs::copy(&from, settings.bin().join(name)).map_err(|error| {
                format!(
                    "cannot copy {}: {error}; is it there (make build), and is there room?",
                    from.display()
                )
            })?;
        }
        let images = folder.join("images");
        fs::create_dir(&images)?;
        let mut archives = guests::write(&images, &settings.dist, &settings.busybox)?;
        archives.push(guests::write_c_programs(&images, &settings.guests)?);
        for image in ["posix", "component-python", "component-javascript"] {
            archives.push(settings.dist.join(format!("images/{image}.tar")));
        }
        let daemon = Daemon::start(&settings, folder.join("containerd"), folder.join("cache"))?;
        import(&daemon, &archives)?;
        let world = Self {
            settings,
            daemon,
            counter: AtomicU32::new(0),
            turns: Turns::default(),
        };
        if world.settings.compiles_first {
            world.compile_python()?;
        }
        Ok(world)
    }

    /// Puts CPython's native code into the store, however long it takes.
    fn compile_python(&self) -> Outcome {
        let policy = self.settings.run.folder().join("patient.json");
        fs::write(&policy, r#"{"cache": {"compile_seconds": 86400}}"#)?;
        let status = self
            .prewarm_command(&[PYTHON])
            .env("WASM_INTERP_POLICY", policy)
            .status()?;
        if !status.success() {
            return Err(format!("cannot compile CPython: {status}").into());
        }
        Ok(())
    }

    /// Runs one trial, beside others or alone.
    pub(crate) fn run_trial(&self, kind: Concurrency, trial: fn(&Self) -> Outcome) -> Outcome {
        self.turns.take(kind, || trial(self))
    }

    /// Of the run: in the path of everything that it makes.
    pub(crate) fn name(&self) -> &str {
        self.settings.run.name()
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// Whether `ctr run` can choose the user. That of containerd 1.6 only runs as the image's.
    pub(crate) fn ctr_has_user_option(&self) -> Outcome<bool> {
        Ok(self
            .daemon
            .ctr(&["run", "--help"])?
            .stdout
            .contains("--user"))
    }

    /// The native program of the trials.
    pub(crate) fn busybox(&self) -> &Path {
        &self.settings.busybox
    }

    /// What pip installed for CPython 3.13.
    pub(crate) fn python_packages(&self) -> &Path {
        &self.settings.python_packages
    }

    /// CPython's own tests, from the source of its image.
    pub(crate) fn python_tests(&self) -> &Path {
        &self.settings.python_tests
    }

    /// The OCI archive of one of the project's images.
    pub(crate) fn archive(&self, image: &str) -> PathBuf {
        self.settings.dist.join(format!("images/{image}.tar"))
    }

    /// A second containerd that keeps its artifacts in `cache`, for as long as `trial` takes.
    pub(crate) fn with_cache(
        &self,
        cache: &Path,
        trial: impl FnOnce(&World) -> Outcome,
    ) -> Outcome {
        let folder = self.folder("second")?;
        let archives = [self.archive("python"), self.archive("hello")];
        self.with_second(folder, cache, &archives, trial)
    }

    /// A second containerd with these images that lives in `folder`, for as long as `trial` takes.
    pub(crate) fn with_second(
        &self,
        folder: PathBuf,
        cache: &Path,
        archives: &[PathBuf],
        trial: impl FnOnce(&World) -> Outcome,
    ) -> Outcome {
        let daemon = Daemon::start(&self.settings, folder, cache.to_owned())?;
        import(&daemon, archives)?;
        let second = World {
            settings: self.settings.clone(),
            daemon,
            counter: AtomicU32::new(self.number() * 1000),
            turns: Turns::default(),
        };
        let outcome = trial(&second);
        if outcome.is_err() {
            second.print_log();
        }
        let stopped = second.stop();
        outcome.and(stopped)
    }

    /// Fails if a container, task or bundle is left; stops containerd.
    pub(crate) fn stop(&self) -> Outcome {
        let containers = self
            .daemon
            .ctr(&["container", "ls", "--quiet"])?
            .expect_code(0)?
            .stdout;
        let tasks = self
            .daemon
            .ctr(&["task", "ls", "--quiet"])?
            .expect_code(0)?
            .stdout;
        let bundles = self.daemon.bundles();
        self.daemon.stop()?;
        if containers.is_empty() && tasks.is_empty() && bundles.is_empty() {
            return Ok(());
        }
        Err(format!(
            "left in containerd: containers {containers:?}, tasks {tasks:?}, bundles {bundles:?}"
        )
        .into())
    }

    /// Waits until `find` finds something in the log of containerd and its shims: containerd copies the lines of a shim
    /// some time after the shim has written them.
    pub(crate) fn wait_for_log<T>(
        &self,
        what: &str,
        find: impl Fn(&str) -> Option<T>,
    ) -> Outcome<T> {
        wait_for(what, || Ok(find(&self.daemon.log())))
    }

    /// Prints the end of the log, to explain a failure.
    pub(crate) fn print_log(&self) {
        let log = self.daemon.log();
        let lines: Vec<&str> = log
            .lines()
            .filter(|line| !line.contains("level=debug") && !line.contains("loading plugin"))
            .collect();
        println!("--- the end of containerd's log");
        for line in &lines[lines.len().saturating_sub(60)..] {
            println!("{line}");
        }
        println!("---");
    }

    fn number(&self) -> u32 {
        self.counter.fetch_add(1, Ordering::Relaxed)
    }

    /// A folder of the trial's own, which any user may write to.
    pub(crate) fn folder(&self, what: &str) -> Outcome<PathBuf> {
        use std::os::unix::fs::PermissionsExt;
        let folder = self
            .settings
            .run
            .folder()
            .join(format!("{what}-{}", self.number()));
        fs::create_dir(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777))?;
        Ok(folder)
    }

    /// Mounts the files of an image for as long as `trial` takes.
    pub(crate) fn with_files(&self, image: &str, trial: impl FnOnce(&Path) -> Outcome) -> Outcome {
        let folder = self.folder("files")?;
        let target = folder.display().to_string();
        self.daemon
            .ctr(&["image", "mount", image, &target])?
            .expect_code(0)?;
        let outcome = trial(&folder);
        let unmounted = self
            .daemon
            .ctr(&["image", "unmount", "--rm", &target])?
            .expect_code(0);
        outcome.and(unmounted.map(drop))
    }

    /// `wasm-interp`, with the same native code as this containerd's shims.
    pub(crate) fn wasm_interp(&self, arguments: &[&str]) -> Outcome<Finished> {
        command::run(self.wasm_interp_command(arguments), None)
    }

    /// The same, not yet run.
    pub(crate) fn wasm_interp_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.settings.bin().join("wasm-interp"));
        command
            .args(arguments)
            .env("WASM_INTERP_CACHE_DIR", self.daemon.cache());
        command
    }

    /// `wasm-interp node prewarm` for this containerd.
    pub(crate) fn prewarm_command(&self, arguments: &[&str]) -> Command {
        let address = self.daemon.socket().display().to_string();
        let prewarm = ["node", "prewarm", "--address", &address];
        let here = ["--namespace", self.name()];
        self.wasm_interp_command(&[&prewarm[..], &here[..], arguments].concat())
    }

    /// A container to run; nothing happens before one of [`CtrContainer`]'s verbs.
    pub(crate) fn container(&self, image: &str) -> CtrContainer<'_> {
        CtrContainer {
            id: format!("c{}", self.number()),
            world: self,
            runtime: OURS,
            image: Some(image.to_owned()),
            options: Vec::new(),
            arguments: Vec::new(),
        }
    }

    /// A container without an image: the file at `spec` says everything.
    pub(crate) fn container_of_spec(&self, spec: &Path) -> CtrContainer<'_> {
        let mut container = self.container("");
        container.image = None;
        container.options(&["--config", &spec.display().to_string()])
    }
}

/// Imports OCI archives into a containerd.
pub(crate) fn import(daemon: &Daemon, archives: &[PathBuf]) -> Outcome {
    for archive in archives {
        daemon
            .ctr(&["image", "import", &archive.display().to_string()])?
            .expect_code(0)?;
    }
    Ok(())
}

/// Waits for the end of the session keyring of a task of this id: the kernel removes it some time after its last user
/// has ended.
pub(crate) fn wait_for_end_of_keyring(id: &str) -> Outcome {
    let keyring = format!(" _ses.{id}:");
    wait_for("the end of the session keyring", || {
        let keys = fs::read_to_string("/proc/keys")?;
        Ok((!keys.contains(&keyring)).then_some(()))
    })
}

/// A container, from what `ctr run` is told to its removal (when dropped, if need be by force).
pub(crate) struct CtrContainer<'world> {
    world: &'world World,
    pub(crate) id: String,
    pub(crate) runtime: &'static str,
    /// `None` if it has a spec of its own.
    image: Option<String>,
    options: Vec<String>,
    arguments: Vec<String>,
}

impl CtrContainer<'_> {
    pub(crate) fn runtime(mut self, runtime: &'static str) -> Self {
        self.runtime = runtime;
        self
    }

    /// Options of `ctr run`.
    pub(crate) fn options(mut self, options: &[&str]) -> Self {
        self.options
            .extend(options.iter().map(|&option| option.to_owned()));
        self
    }

    /// A bind mount; `options` as in `rbind:ro`.
    pub(crate) fn mount(self, source: &Path, destination: &str, options: &str) -> Self {
        let source = source.display();
        self.options(&[
            "--mount",
            &format!("type=bind,src={source},dst={destination},options={options}"),
        ])
    }

    /// What follows the container's id.
    pub(crate) fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments
            .extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    fn command(&self, verb_options: &[&str]) -> Command {
        let mut command =
            self.world
                .daemon
                .ctr_command(&["run", "--runtime", self.runtime, "--fifo-dir"]);
        command
            .arg(self.fifo_folder())
            .args(verb_options)
            .args(&self.options)
            .args(&self.image)
            .arg(&self.id)
            .args(&self.arguments);
        command
    }

    /// `ctr run --rm`, to the end.
    pub(crate) fn run(self) -> Outcome<Finished> {
        command::run(self.command(&["--rm"]), None)
    }

    /// The same with something on standard input.
    pub(crate) fn run_with_stdin(self, stdin: &[u8]) -> Outcome<Finished> {
        command::run(self.command(&["--rm"]), Some(stdin))
    }

    /// The same without waiting: a test types.
    pub(crate) fn run_beside_on_a_terminal(&self) -> Outcome<Beside<'_>> {
        Running::start_on_a_terminal(&self.command(&["--rm", "--tty"])).map(Beside::new)
    }

    /// The same with `--detach`: ctr leaves when the container runs.
    pub(crate) fn run_detached_on_a_terminal(&self) -> Outcome<Beside<'_>> {
        Running::start_on_a_terminal(&self.command(&["--detach", "--tty"])).map(Beside::new)
    }

    /// `ctr task attach` on a terminal on which a test types.
    pub(crate) fn attach_on_a_terminal(&self) -> Outcome<Beside<'_>> {
        let attach = self
            .world
            .daemon()
            .ctr_command(&["task", "attach", &self.id]);
        Running::start_on_a_terminal(&attach).map(Beside::new)
    }

    /// `ctr task exec --tty` on a terminal on which a test types.
    pub(crate) fn exec_on_a_terminal(
        &self,
        exec_id: &str,
        options: &[&str],
        command: &[&str],
    ) -> Outcome<Beside<'_>> {
        let fifos = self.fifo_folder();
        let verb = ["task", "exec", "--tty", "--exec-id", exec_id, "--fifo-dir"];
        let mut exec = self.world.daemon().ctr_command(&verb);
        exec.arg(fifos).args(options).arg(&self.id).args(command);
        Running::start_on_a_terminal(&exec).map(Beside::new)
    }

    /// The same as [`Self::run_beside_on_a_terminal`] without one.
    pub(crate) fn run_beside(&self) -> Outcome<Beside<'_>> {
        Running::start(self.command(&["--rm"]), None).map(Beside::new)
    }

    /// `ctr run --detach`, its output into a file that [`Self::output`] reads.
    pub(crate) fn detach(&self) -> Outcome {
        self.try_detach()?.expect_code(0).map(drop)
    }

    /// The same, whatever comes of it.
    pub(crate) fn try_detach(&self) -> Outcome<Finished> {
        // What an earlier container of the same id has printed is not this one's.
        if self.log_path().exists() {
            fs::remove_file(self.log_path())?;
        }
        let log = format!("file://{}", self.log_path().display());
        command::run(self.command(&["--detach", "--log-uri", &log]), None)
    }

    /// `ctr task exec`, not waited for.
    pub(crate) fn exec_beside(&self, exec_id: &str, command: &[&str]) -> Outcome<Beside<'_>> {
        let fifos = self.fifo_folder();
        let verb = ["task", "exec", "--exec-id", exec_id, "--fifo-dir"];
        let mut exec = self.world.daemon().ctr_command(&verb);
        exec.arg(fifos).arg(&self.id).args(command);
        Running::start(exec, None).map(Beside::new)
    }

    /// `ctr run --detach` with its output to where this URI says.
    pub(crate) fn detach_logging_to(&self, uri: &str) -> Outcome<Finished> {
        command::run(self.command(&["--detach", "--log-uri", uri]), None)
    }

    fn log_path(&self) -> PathBuf {
        self.world
            .settings
            .run
            .folder()
            .join(format!("{}.output", self.id))
    }

    /// What a detached container has printed so far.
    pub(crate) fn output(&self) -> Outcome<String> {
        match fs::read_to_string(self.log_path()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            other => Ok(other?),
        }
    }

    /// Removes the file of its output, for trials with very many containers.
    pub(crate) fn forget_output(&self) -> Outcome {
        Ok(fs::remove_file(self.log_path())?)
    }

    /// Waits until a detached container has printed `text`.
    pub(crate) fn wait_for_output(&self, text: &str) -> Outcome {
        wait_for(&format!("{text:?} from container {}", self.id), || {
            Ok(self.output()?.contains(text).then_some(()))
        })
    }

    /// `ctr task VERB … ID …`.
    pub(crate) fn task(&self, verb: &[&str], after: &[&str]) -> Outcome<Finished> {
        let fifos = self.fifo_folder();
        let fifos = ["--fifo-dir", &*fifos.to_string_lossy()];
        let options: &[&str] = if matches!(verb.first(), Some(&"start" | &"exec")) {
            &fifos
        } else {
            &[]
        };
        self.world
            .daemon
            .ctr(&[&["task"], verb, options, &[self.id.as_str()], after].concat())
    }

    /// Goes with the run's folder, also when the run is interrupted.
    fn fifo_folder(&self) -> PathBuf {
        self.world.settings.run.folder().join("fifo")
    }

    /// Sends the init process a signal, which has to succeed.
    pub(crate) fn signal(&self, signal: &str) -> Outcome {
        self.task(&["kill", "--signal", signal], &[])?
            .expect_code(0)
            .map(drop)
    }

    /// Sends the init process a signal, and fails unless it ends with the exit code `code`.
    pub(crate) fn end_by(&self, signal: &str, code: i32) -> Outcome {
        self.signal(signal)?;
        self.wait_for_status("STOPPED")?;
        self.delete_expecting(code)
    }

    /// Its line of `ctr task ls`, in words: id, process id, status. `None` if there is no such task.
    fn listed(&self) -> Outcome<Option<Vec<String>>> {
        let list = self
            .world
            .daemon
            .ctr(&["task", "ls"])?
            .expect_code(0)?
            .stdout;
        Ok(list
            .lines()
            .map(|line| {
                line.split_whitespace()
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            })
            .find(|words| words.first() == Some(&self.id)))
    }

    /// `RUNNING`, `STOPPED` … as `ctr task ls` prints it; `None` if there is no such task.
    pub(crate) fn status(&self) -> Outcome<Option<String>> {
        Ok(self.listed()?.and_then(|mut words| words.pop()))
    }

    /// Waits until `ctr task ls` prints `status`.
    pub(crate) fn wait_for_status(&self, status: &str) -> Outcome {
        wait_for(&format!("container {} to be {status}", self.id), || {
            Ok((self.status()?.as_deref() == Some(status)).then_some(()))
        })
    }

    /// Process id of the init process.
    pub(crate) fn pid(&self) -> Outcome<i32> {
        let task = self.listed()?;
        task.as_ref()
            .and_then(|words| words.get(1)?.parse().ok())
            .ok_or_else(|| format!("no process of a task {}: {task:?}", self.id).into())
    }

    /// Process id of its shim.
    pub(crate) fn shim(&self) -> Outcome<i32> {
        let wanted = OsString::from(&self.id);
        for entry in fs::read_dir("/proc")? {
            let folder = entry?.path();
            let Some(pid) = folder
                .file_name()
                .and_then(|name| name.to_str()?.parse().ok())
            else {
                continue;
            };
            let Ok(line) = fs::read(folder.join("cmdline")) else {
                continue;
            };
            let words: Vec<&[u8]> = line.split(|&byte| byte == 0).collect();
            let shim = words
                .first()
                .is_some_and(|word| word.windows(15).any(|part| part == b"containerd-shim"));
            if shim
                && words.contains(&wanted.as_encoded_bytes())
                && words.contains(&self.world.settings.run.name().as_bytes())
            {
                return Ok(pid);
            }
        }
        Err(format!("no shim of container {}", self.id).into())
    }

    /// Calls a verb of its shim's Task API, which ctr cannot. `Err` has the words of a failure.
    pub(crate) fn shim_api(
        &self,
        verb: &str,
        request: &impl Message,
    ) -> Outcome<Result<Vec<u8>, String>> {
        let bundle = self.world.daemon().bundle(&self.id);
        let bootstrap = fs::read_to_string(bundle.join("bootstrap.json"));
        let (address, version) = match bootstrap {
            Ok(text) => {
                let json: Value = serde_json::from_str(&text)?;
                let address = json["address"].as_str().unwrap_or_default().to_owned();
                (address, json["version"].as_i64().unwrap_or(2))
            }
            Err(_) => (fs::read_to_string(bundle.join("address"))?, 2),
        };
        let client = ttrpc::Client::connect(&address)?;
        // As containerd does. runc's shim makes no task without it.
        let namespace = ttrpc::proto::KeyValue {
            key: "containerd-namespace-ttrpc".to_owned(),
            value: self.world.settings.run.name().to_owned(),
            ..Default::default()
        };
        let answer = client.request(ttrpc::Request {
            service: format!("containerd.task.v{version}.Task"),
            method: verb.to_owned(),
            payload: request.write_to_bytes()?,
            metadata: vec![namespace],
            timeout_nano: 60_000_000_000,
            ..Default::default()
        });
        match answer {
            Ok(answer) => Ok(Ok(answer.payload)),
            Err(ttrpc::Error::RpcStatus(status)) => Ok(Err(status.message().to_owned())),
            Err(error) => Err(error.into()),
        }
    }

    /// What `ctr container info` knows.
    pub(crate) fn info(&self) -> Outcome<Value> {
        let info = self
            .world
            .daemon
            .ctr(&["container", "info", &self.id])?
            .expect_code(0)?;
        Ok(serde_json::from_str(&info.stdout)?)
    }

    /// `ctr task rm`; returns the exit code of the task.
    pub(crate) fn delete(&self) -> Outcome<i32> {
        let finished = self.task(&["rm"], &[])?.expect_code(0)?;
        // The code stands only in a warning, and only if it is not zero.
        match finished.stderr.split("exit code ").nth(1) {
            None => Ok(0),
            Some(rest) => {
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                digits
                    .parse()
                    .map_err(|_| format!("no exit code in: {finished}").into())
            }
        }
    }

    /// The same, and fails unless the exit code is `code`.
    pub(crate) fn delete_expecting(&self, code: i32) -> Outcome {
        let got = self.delete()?;
        if got == code {
            return Ok(());
        }
        Err(format!(
            "container {} ended with {got}, not {code}, and printed:\n{}",
            self.id,
            self.output()?
        )
        .into())
    }

    /// Removes task and container; fails if that fails.
    pub(crate) fn remove(&self) -> Outcome {
        self.task(&["rm", "--force"], &[])?;
        self.world
            .daemon
            .ctr(&["container", "rm", &self.id])?
            .expect_code(0)?;
        Ok(())
    }
}

/// A program that runs beside the test, of a container that must be there for as long: its drop removes it.
pub(crate) struct Beside<'container> {
    running: Running,
    container: PhantomData<&'container CtrContainer<'container>>,
}

impl Beside<'_> {
    fn new(running: Running) -> Self {
        Self {
            running,
            container: PhantomData,
        }
    }

    /// Waits for its end.
    pub(crate) fn finish(self) -> Outcome<Finished> {
        self.running.finish()
    }
}

impl Deref for Beside<'_> {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.running
    }
}

impl DerefMut for Beside<'_> {
    fn deref_mut(&mut self) -> &mut Running {
        &mut self.running
    }
}

impl Drop for CtrContainer<'_> {
    // A trial that failed half way must not fail the next ones; what cannot be removed is reported
    // by the look at what is left.
    fn drop(&mut self) {
        let listed = |what| {
            self.world
                .daemon
                .ctr(&[what, "ls", "--quiet"])
                .is_ok_and(|list| list.stdout.lines().any(|line| line == self.id))
        };
        if listed("task") {
            drop(self.task(&["rm", "--force"], &[]));
        }
        if listed("container") {
            drop(self.world.daemon.ctr(&["container", "rm", &self.id]));
        }
    }
}
