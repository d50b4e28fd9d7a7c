//! One Docker of our own: its containerd, its daemon, its client. Never the machine's.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use wasm_interp_test_support::command::{self, Finished, Running, start_daemon, wait_for};
use wasm_interp_test_support::guests::{NATIVE, PYTHON};
use wasm_interp_test_support::image::{Image, write_for_docker};
use wasm_interp_test_support::run::Run;
use wasm_interp_test_support::{Outcome, repository};

/// The runtime under test.
pub(crate) const OURS: &str = "io.containerd.wasm-interp.v1";
/// The same by a name of the daemon's configuration.
pub(crate) const NAMED: &str = "wasm";
/// Docker's own.
pub(crate) const RUNC: &str = "runc";

/// What the environment says, and where this run lives.
#[derive(Clone)]
pub(crate) struct DockerSettings {
    /// Folder with dockerd and docker.
    docker: PathBuf,
    /// Folder with containerd and runc's shim.
    containerd: PathBuf,
    dist: PathBuf,
    busybox: PathBuf,
    pub(crate) run: Run,
}

impl DockerSettings {
    /// `None` unless the environment names a Docker.
    pub(crate) fn from_env() -> Option<Self> {
        let path = |variable: &str| env::var_os(variable).map(PathBuf::from);
        Some(Self {
            docker: path("WASM_INTERP_TEST_DOCKER")?,
            containerd: path("WASM_INTERP_TEST_PROGRAMS")?,
            dist: path("WASM_INTERP_TEST_DIST").unwrap_or_else(|| repository().join("dist")),
            busybox: path("WASM_INTERP_TEST_BUSYBOX").unwrap_or_else(|| "/bin/busybox".into()),
            // Also containerd's namespace and the parent of every cgroup.
            run: Run::new(format!("wasm-interp-docker-{}", std::process::id())),
        })
    }
}

/// A Docker with images, shared by all trials.
pub(crate) struct Engine {
    settings: DockerSettings,
    /// The daemon first: the order in which they end.
    daemons: Mutex<Vec<(&'static str, Child)>>,
    counter: AtomicU32,
}

impl Engine {
    /// Starts containerd and dockerd, and loads the images.
    pub(crate) fn start(settings: DockerSettings) -> Outcome<Self> {
        let folder = settings.run.folder();
        // As docs/use/docker.md says: the shim is found by a link, the other executables beside it.
        let (bin, links) = (folder.join("bin"), folder.join("links"));
        fs::create_dir_all(&bin)?;
        fs::create_dir(&links)?;
        let shim = "containerd-shim-wasm-interp-v1";
        symlink(bin.join(shim), links.join(shim))?;
        for name in [shim, "wasm-interp-runner", "wasm-interp-compiler"] {
            let from = settings.dist.join(name);
            fs::copy(&from, bin.join(name)).map_err(|error| {
                format!("cannot copy {}: {error}; run make build", from.display())
            })?;
        }
        let engine = Self {
            settings,
            daemons: Mutex::default(),
            counter: AtomicU32::new(0),
        };
        engine.start_containerd(&links)?;
        engine.start_dockerd(&links)?;
        engine.load_images()?;
        Ok(engine)
    }

    fn folder(&self) -> &Path {
        self.settings.run.folder()
    }

    fn start_containerd(&self, links: &Path) -> Outcome {
        let root = self.folder().join("containerd");
        fs::create_dir(&root)?;
        let config = root.join("config.toml");
        let at = root.display();
        fs::write(
            &config,
            format!(
                r#"version = 2
root = "{at}/root"
state = "{at}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]

[grpc]
address = "{at}/containerd.sock"

[debug]
level = "debug"
"#
            ),
        )?;
        let mut search = vec![links.to_owned(), self.settings.containerd.clone()];
        search.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
        let mut command = Command::new(self.settings.containerd.join("containerd"));
        command
            .arg("--config")
            .arg(config)
            .env("PATH", env::join_paths(search)?)
            .env("WASM_INTERP_CACHE_DIR", self.folder().join("cache"))
            .env("WASM_INTERP_POLICY", self.folder().join("policy.json"));
        self.launch("containerd", command)?;
        let socket = root.join("containerd.sock");
        self.wait_until("containerd", || Ok(socket.exists()))
    }

    fn start_dockerd(&self, links: &Path) -> Outcome {
        let root = self.folder().join("docker");
        fs::create_dir(&root)?;
        let config = root.join("daemon.json");
        let runtimes = json!({ "runtimes": { NAMED: { "runtimeType": OURS } } });
        fs::write(&config, runtimes.to_string())?;
        let name = self.settings.run.name();
        let mut search = vec![links.to_owned(), self.settings.docker.clone()];
        search.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
        let option = |name: &str, path: &Path| format!("--{name}={}", path.display());
        let mut command = Command::new(self.settings.docker.join("dockerd"));
        command
            .arg(option("config-file", &config))
            .arg(option("data-root", &root.join("data")))
            .arg(option("exec-root", &root.join("exec")))
            .arg(option("pidfile", &root.join("pid")))
            .arg(format!("--host=unix://{}", self.socket().display()))
            .arg(option(
                "containerd",
                &self.folder().join("containerd/containerd.sock"),
            ))
            .arg(format!("--containerd-namespace={name}"))
            .arg(format!("--containerd-plugins-namespace={name}-plugins"))
            .arg(format!("--cgroup-parent=/{name}"))
            .arg("--exec-opt=native.cgroupdriver=cgroupfs")
            .arg("--storage-driver=overlay2")
            // Nothing of this machine's network changes.
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
            .args([
                "--ip-forward=false",
                "--ip-masq=false",
                "--userland-proxy=false",
            ])
            .env("PATH", env::join_paths(search)?);
        self.launch("dockerd", command)?;
        self.wait_until("dockerd", || Ok(self.docker(&["version"])?.code == 0))
    }

    fn launch(&self, what: &'static str, command: Command) -> Outcome {
        let child = start_daemon(command, &self.log(what))?;
        let mut daemons = self.daemons.lock().unwrap_or_else(PoisonError::into_inner);
        daemons.insert(0, (what, child));
        Ok(())
    }

    fn wait_until(&self, what: &str, is_ready: impl Fn() -> Outcome<bool>) -> Outcome {
        wait_for(&format!("{what} to answer"), || {
            let mut daemons = self.daemons.lock().unwrap_or_else(PoisonError::into_inner);
            for (name, child) in daemons.iter_mut() {
                if let Some(status) = child.try_wait()? {
                    let log = fs::read_to_string(self.log(name))?;
                    return Err(format!("{name} ended with {status}:\n{log}").into());
                }
            }
            drop(daemons);
            Ok(is_ready()?.then_some(()))
        })
    }

    fn log(&self, what: &str) -> PathBuf {
        self.folder().join(format!("{what}.log"))
    }

    fn socket(&self) -> PathBuf {
        self.folder().join("docker/docker.sock")
    }

    fn load_images(&self) -> Outcome {
        let images = self.folder().join("images");
        fs::create_dir(&images)?;
        let native = fs::read(&self.settings.busybox)?;
        let archive = images.join("native-oci.tar");
        Image::new()
            .folder("/tmp", 0o1777)
            .program("/bin/busybox", native.clone())
            .program("/bin/sh", native)
            .write(NATIVE, &archive)?;
        let python = self.settings.dist.join("images/python.tar");
        for (name, archive) in [(NATIVE, archive), (PYTHON, python)] {
            let loaded = images.join("image.tar");
            write_for_docker(&archive, name, &loaded)?;
            let loaded = loaded.display().to_string();
            self.docker(&["load", "--input", &loaded])?.expect_code(0)?;
        }
        Ok(())
    }

    /// `docker`, bound to this daemon.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.settings.docker.join("docker"));
        command
            .arg(format!("--host=unix://{}", self.socket().display()))
            .args(arguments)
            .env("DOCKER_CONFIG", self.folder().join("client"))
            .env_remove("DOCKER_CONTEXT");
        command
    }

    /// Runs `docker` to its end.
    pub(crate) fn docker(&self, arguments: &[&str]) -> Outcome<Finished> {
        command::run(self.command(arguments), None)
    }

    /// A folder of the trial's own.
    pub(crate) fn trial_folder(&self) -> Outcome<PathBuf> {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let folder = self.folder().join(format!("trial-{number}"));
        fs::create_dir(&folder)?;
        Ok(folder)
    }

    /// The directory of one of this Docker's cgroups, with cgroup v1 of this controller.
    pub(crate) fn cgroup(&self, controller: &str, container: &str) -> PathBuf {
        let base = Path::new("/sys/fs/cgroup");
        let v1 = base.join(controller);
        let hierarchy = if v1.is_dir() { v1 } else { base.to_owned() };
        hierarchy.join(self.settings.run.name()).join(container)
    }

    /// A container to run; nothing happens before one of its verbs.
    pub(crate) fn container(
        &self,
        runtime: &'static str,
        image: &'static str,
    ) -> DockerContainer<'_> {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        DockerContainer {
            engine: self,
            name: format!("c{number}"),
            runtime,
            image: image.to_owned(),
            options: Vec::new(),
            arguments: Vec::new(),
        }
    }

    /// Prints the end of the logs, to explain a failure.
    pub(crate) fn print_logs(&self) {
        for what in ["dockerd", "containerd"] {
            let log = fs::read_to_string(self.log(what)).unwrap_or_default();
            let lines: Vec<_> = log
                .lines()
                .filter(|line| !line.contains("level=debug"))
                .collect();
            println!("--- the end of {what}'s log");
            for line in &lines[lines.len().saturating_sub(40)..] {
                println!("{line}");
            }
        }
        println!("---");
    }

    /// Fails if a container is left; ends both daemons.
    pub(crate) fn stop(&self) -> Outcome {
        let containers = self
            .docker(&["ps", "--all", "--quiet"])?
            .expect_code(0)?
            .stdout;
        let mut daemons = self.daemons.lock().unwrap_or_else(PoisonError::into_inner);
        for (what, child) in daemons.iter_mut() {
            kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM)?;
            wait_for(&format!("{what} to end"), || Ok(child.try_wait()?))?;
        }
        daemons.clear();
        if containers.is_empty() {
            return Ok(());
        }
        Err(format!("left in Docker: {containers}").into())
    }
}

/// A container, from what `docker run` is told to its removal (when dropped, by force).
pub(crate) struct DockerContainer<'engine> {
    engine: &'engine Engine,
    pub(crate) name: String,
    runtime: &'static str,
    image: String,
    options: Vec<String>,
    arguments: Vec<String>,
}

impl DockerContainer<'_> {
    /// Options of `docker run`.
    pub(crate) fn options(mut self, options: &[&str]) -> Self {
        self.options.extend(options.iter().map(ToString::to_string));
        self
    }

    /// What follows the image.
    pub(crate) fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments
            .extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// Another image than a trial's own.
    pub(crate) fn image(mut self, image: &str) -> Self {
        image.clone_into(&mut self.image);
        self
    }

    fn command(&self, options: &[&str]) -> Command {
        let mut command = self.engine.command(&["run", "--runtime", self.runtime]);
        command
            .args(["--name", &self.name, "--network", "none"])
            .args(options)
            .args(&self.options)
            .arg(&self.image)
            .args(&self.arguments);
        command
    }

    /// `docker run`, to the end. The container stays.
    pub(crate) fn run(&self) -> Outcome<Finished> {
        command::run(self.command(&[]), None)
    }

    /// The same with something on standard input.
    pub(crate) fn run_with_stdin(&self, stdin: &[u8]) -> Outcome<Finished> {
        command::run(self.command(&["--interactive"]), Some(stdin))
    }

    /// `docker run -it`, on which a test types.
    pub(crate) fn run_on_a_terminal(&self) -> Outcome<Running> {
        Running::start_on_a_terminal(&self.command(&["--interactive", "--tty"]))
    }

    /// `docker run -d`.
    pub(crate) fn detach(&self) -> Outcome {
        command::run(self.command(&["--detach"]), None)?
            .expect_code(0)
            .map(drop)
    }

    /// `docker VERB … NAME …`.
    pub(crate) fn verb(&self, verb: &[&str], after: &[&str]) -> Outcome<Finished> {
        let words = [verb, &[self.name.as_str()], after].concat();
        self.engine.docker(&words)
    }

    /// The same, which has to succeed. Returns what it printed.
    pub(crate) fn done(&self, verb: &[&str], after: &[&str]) -> Outcome<String> {
        Ok(self.verb(verb, after)?.expect_code(0)?.stdout)
    }

    /// `docker exec -it`, on which a test types.
    pub(crate) fn exec_on_a_terminal(&self, words: &[&str]) -> Outcome<Running> {
        let all = [&["exec", "--interactive", "--tty", &self.name], words].concat();
        Running::start_on_a_terminal(&self.engine.command(&all))
    }

    /// A field of `docker inspect`.
    pub(crate) fn inspect(&self, template: &str) -> Outcome<String> {
        let printed = self.done(&["inspect", "--format", template], &[])?;
        Ok(printed.trim().to_owned())
    }

    /// Its state: `running`, `exited` and the exit code.
    pub(crate) fn state(&self) -> Outcome<String> {
        self.inspect("{{.State.Status}} {{.State.ExitCode}}")
    }

    pub(crate) fn wait_for_state(&self, state: &str) -> Outcome {
        wait_for(&format!("{} to be {state}", self.name), || {
            Ok((self.state()? == state).then_some(()))
        })
    }

    /// What it has printed, standard output first.
    pub(crate) fn logs(&self) -> Outcome<String> {
        let logs = self.verb(&["logs"], &[])?.expect_code(0)?;
        Ok(format!("{}{}", logs.stdout, logs.stderr))
    }

    pub(crate) fn wait_for_logs(&self, text: &str) -> Outcome {
        wait_for(&format!("{text:?} from {}", self.name), || {
            Ok(self.logs()?.contains(text).then_some(()))
        })
        .map_err(|error| {
            let message = error.message().unwrap_or_default();
            let logs = self.logs().unwrap_or_default();
            format!("{message}; it printed:\n{logs}").into()
        })
    }
}

impl Drop for DockerContainer<'_> {
    // What cannot be removed is reported at the end.
    fn drop(&mut self) {
        drop(self.verb(&["rm", "--force", "--volumes"], &[]));
    }
}
