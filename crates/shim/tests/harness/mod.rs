//! Shared by the tests of the shim's executable: bundles, a fake runner, a fake containerd that collects
//! events, and a client for both versions of the Task API.
//!
//! It needs neither containerd nor libcontainer nor Wasmtime. For the shim the containers are pods'
//! sandboxes. In truth they are shell scripts.

use std::fs;
use std::io::{PipeReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use containerd_shim_protos::api;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::well_known_types::empty::Empty;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::shim_async::{Client, Events, create_events};
use containerd_shim_protos::ttrpc::r#async::{Server, TtrpcContext};
use containerd_shim_protos::ttrpc::{self, Code};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use wasm_interp_test_support::executables;

pub(crate) const V2: &str = "containerd.task.v2.Task";
pub(crate) const V3: &str = "containerd.task.v3.Task";
pub(crate) const NAMESPACE: &str = "shim-test";

pub(crate) const KILL: u32 = 9;
pub(crate) const TERM: u32 = 15;

/// The directory of one test: the executables, bundles and sockets. Its drop ends and removes everything.
pub(crate) struct TestDir {
    dir: tempfile::TempDir,
    /// Sockets outside of `dir`.
    sockets: Mutex<Vec<PathBuf>>,
}

/// How containerd calls `start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartForm {
    Address,
    Json,
    Bootstrap,
}

impl TestDir {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).expect("mkdir");
        let built = env!("CARGO_BIN_EXE_containerd-shim-wasm-interp-v1");
        let shim = bin.join("containerd-shim-wasm-interp-v1");
        // A hard link, if the file system allows it, because a debug build is large.
        if fs::hard_link(built, &shim).is_err() {
            executables::copy(Path::new(built), &shim);
        }
        let runner = bin.join("wasm-interp-runner");
        executables::write(&runner, include_str!("runner.sh"));
        Self {
            dir,
            sockets: Mutex::default(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a FIFO.
    pub(crate) fn fifo(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
        path
    }

    pub(crate) fn shim(&self) -> PathBuf {
        self.path("bin/containerd-shim-wasm-interp-v1")
    }

    pub(crate) fn events_address(&self) -> PathBuf {
        self.path("containerd.sock.ttrpc")
    }

    /// A bundle whose guest runs `script`.
    pub(crate) fn bundle(&self, id: &str, group: Option<&str>, script: &str) -> PathBuf {
        let bundle = self.path(id);
        fs::create_dir_all(bundle.join("rootfs")).expect("mkdir");
        let group = group.map_or(String::new(), |group| {
            format!(r#","io.kubernetes.cri.sandbox-id":"{group}""#)
        });
        let config = format!(
            r#"{{"ociVersion":"1.0.2","root":{{"path":"rootfs"}},
                "process":{{"user":{{"uid":0,"gid":0}},"cwd":"/","args":["/pause"]}},
                "annotations":{{"io.kubernetes.cri.container-type":"sandbox"{group}}},
                "linux":{{"namespaces":[{{"type":"pid"}}]}}}}"#
        );
        fs::write(bundle.join("config.json"), config).expect("write");
        fs::write(bundle.join("guest.sh"), script).expect("write");
        self.fifo(&format!("{id}/log"));
        bundle
    }

    /// Gives a container a termination log, as the kubelet does.
    pub(crate) fn termination_log(&self, id: &str) -> PathBuf {
        let log = self.path("pods/u/containers/main/0badcafe");
        fs::create_dir_all(log.parent().expect("a folder")).expect("mkdir");
        fs::write(&log, "").expect("write");
        self.change_spec(id, |spec| {
            spec["mounts"] = serde_json::json!([
                {"destination": "/dev/termination-log", "type": "bind", "source": log}
            ]);
        });
        log
    }

    pub(crate) fn change_spec(&self, id: &str, change: impl FnOnce(&mut serde_json::Value)) {
        let config = self.path(id).join("config.json");
        let mut spec = serde_json::from_slice(&fs::read(&config).expect("read")).expect("parse");
        change(&mut spec);
        fs::write(&config, spec.to_string()).expect("write");
    }

    fn command(&self, id: &str) -> Command {
        let mut command = Command::new(self.shim());
        command
            .current_dir(self.path(id))
            .env_clear()
            .arg("-namespace")
            .arg(NAMESPACE)
            .arg("-address")
            .arg(self.path("containerd.sock"))
            .args(["-publish-binary", "/nonexistent/containerd", "-id", id])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Calls `start` and returns what it printed.
    pub(crate) fn start(&self, id: &str, form: StartForm) -> Vec<u8> {
        let mut command = self.command(id);
        command.arg("start");
        let mut input = Vec::new();
        match form {
            StartForm::Address => {
                command.env("TTRPC_ADDRESS", self.events_address());
            }
            StartForm::Json => {
                command
                    .env("TTRPC_ADDRESS", self.events_address())
                    .env("MAX_SHIM_VERSION", "2");
            }
            StartForm::Bootstrap => {
                input = containerd_shim_protos::bootstrap_api::BootstrapParams {
                    instance_id: id.to_owned(),
                    namespace: NAMESPACE.to_owned(),
                    containerd_ttrpc_address: self.events_address().display().to_string(),
                    containerd_grpc_address: self.path("containerd.sock").display().to_string(),
                    socket_dir: Some(self.path("s").display().to_string()),
                    ..Default::default()
                }
                .write_to_bytes()
                .expect("encode");
            }
        }
        let mut child = command.stdin(Stdio::piped()).spawn().expect("spawn");
        child
            .stdin
            .take()
            .expect("piped")
            .write_all(&input)
            .expect("write");
        let output = child.wait_with_output().expect("wait");
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "start failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let address = fs::read_to_string(self.path(id).join("address")).expect("address file");
        let socket = address.trim_start_matches("unix://").into();
        self.sockets.lock().expect("lock").push(socket);
        output.stdout
    }

    /// Calls `start` with an output that is full: it cannot respond as long as the returned end is open.
    pub(crate) fn start_without_response(&self, id: &str) -> (Child, PipeReader) {
        let (output, full) = std::io::pipe().expect("pipe");
        let set = |flags| fcntl(&full, FcntlArg::F_SETFL(flags)).expect("fcntl");
        set(OFlag::O_NONBLOCK);
        while (&full).write(&[0; 4096]).is_ok() {}
        set(OFlag::empty());
        let mut command = self.command(id);
        command.arg("start").stdout(full);
        command.env("TTRPC_ADDRESS", self.events_address());
        (command.spawn().expect("spawn"), output)
    }

    /// Starts a server in the newest form. Returns its address.
    pub(crate) fn address(&self, id: &str) -> String {
        let answer = self.start(id, StartForm::Bootstrap);
        containerd_shim_protos::bootstrap_api::BootstrapResult::parse_from_bytes(&answer)
            .expect("decode")
            .address
    }

    /// Calls the `delete` action.
    pub(crate) fn delete_action(&self, id: &str) -> api::DeleteResponse {
        let output = self.command(id).arg("delete").output().expect("run");
        assert!(
            output.status.success(),
            "delete failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        api::DeleteResponse::parse_from_bytes(&output.stdout).expect("decode")
    }

    /// The verbs that the fake runner was called with, in order.
    pub(crate) fn calls(&self, id: &str) -> Vec<String> {
        fs::read_to_string(self.path(id).join("calls"))
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for TestDir {
    /// Ends the server and the guest of a test that failed.
    fn drop(&mut self) {
        let own = self.dir.path().display().to_string();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&line).contains(&own) {
                let pid = nix::unistd::Pid::from_raw(pid);
                // It may have ended by itself meanwhile.
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
        }
        for socket in self.sockets.lock().expect("lock").iter() {
            let _ = fs::remove_file(socket);
        }
    }
}

/// A cgroup for one container. Its drop thaws and removes it.
pub(crate) struct TestCgroup(PathBuf);

impl TestCgroup {
    /// One that can be frozen.
    pub(crate) fn with_freezer(name: &str) -> Self {
        let v1 = Path::new("/sys/fs/cgroup/freezer");
        let root = if v1.exists() {
            v1
        } else {
            Path::new("/sys/fs/cgroup")
        };
        Self::make(root, name)
    }

    /// One with a limit of memory.
    pub(crate) fn of_mib(mib: u32) -> Self {
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let (root, limit) = if v1.exists() {
            (v1, "memory.limit_in_bytes")
        } else {
            (Path::new("/sys/fs/cgroup"), "memory.max")
        };
        let cgroup = Self::make(root, &mib.to_string());
        fs::write(cgroup.0.join(limit), (mib << 20).to_string()).expect("limit it");
        cgroup
    }

    fn make(root: &Path, name: &str) -> Self {
        let path = root.join(format!("shim-test-{}-{name}", std::process::id()));
        // Perhaps left by a killed process of the same number.
        let _ = fs::remove_dir(&path);
        fs::create_dir(&path).expect("create a cgroup");
        Self(path)
    }

    /// Makes the fake runner put the container of that bundle into it.
    pub(crate) fn hold(&self, bundle: &Path) {
        let line = format!("{}\n", self.0.display());
        fs::write(bundle.join("cgroup"), line).expect("write");
    }

    /// The memory that is counted for it, in bytes.
    pub(crate) fn usage(&self) -> u64 {
        let v1 = fs::read_to_string(self.0.join("memory.usage_in_bytes"));
        let usage = v1.or_else(|_| fs::read_to_string(self.0.join("memory.current")));
        usage.expect("usage").trim().parse().expect("a number")
    }

    /// What the kernel says.
    pub(crate) fn is_frozen(&self) -> bool {
        let v1 = fs::read_to_string(self.0.join("freezer.state"));
        let v2 = fs::read_to_string(self.0.join("cgroup.events"));
        v1.is_ok_and(|state| state == "FROZEN\n") || v2.is_ok_and(|text| text.contains("frozen 1"))
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        for (file, thawed) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
            let path = self.0.join(file);
            if path.exists() {
                let _ = fs::write(path, thawed);
            }
        }
        // After a failed test this fails, because `TestDir` kills the processes later.
        let _ = fs::remove_dir(&self.0);
    }
}

/// A process spec as clients send it.
pub(crate) fn process_spec(process: &serde_json::Value) -> MessageField<Any> {
    MessageField::some(Any {
        type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".to_owned(),
        value: process.to_string().into_bytes(),
        ..Default::default()
    })
}

/// Opens the FIFO of a stdin, as a client of containerd does.
pub(crate) fn open_stdin(path: &Path) -> fs::File {
    let mut options = fs::File::options();
    options.write(true).open(path).expect("open stdin")
}

/// Waits until the condition holds, or panics.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !holds() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A client of one version of the API.
#[derive(Clone)]
pub(crate) struct Api {
    client: Client,
    service: &'static str,
}

impl Api {
    pub(crate) async fn connect(address: &str, service: &'static str) -> Self {
        let client = Client::connect(address).await.expect("connect");
        Self { client, service }
    }

    pub(crate) async fn call<A: Message>(
        &self,
        method: &str,
        request: &impl Message,
    ) -> Result<A, (Code, String)> {
        let request = ttrpc::Request {
            service: self.service.to_owned(),
            method: method.to_owned(),
            payload: request.write_to_bytes().expect("encode"),
            ..Default::default()
        };
        match self.client.request(request).await {
            Ok(answer) => Ok(A::parse_from_bytes(&answer.payload).expect("decode")),
            Err(ttrpc::Error::RpcStatus(status)) => {
                Err((status.code(), status.message().to_owned()))
            }
            Err(other) => panic!("{method}: {other}"),
        }
    }

    pub(crate) async fn create(&self, bundle: &Path, id: &str) -> Result<u32, (Code, String)> {
        self.create_with(bundle, id, api::CreateTaskRequest::default())
            .await
    }

    pub(crate) async fn create_with(
        &self,
        bundle: &Path,
        id: &str,
        request: api::CreateTaskRequest,
    ) -> Result<u32, (Code, String)> {
        let request = api::CreateTaskRequest {
            id: id.to_owned(),
            bundle: bundle.display().to_string(),
            ..request
        };
        let answer: api::CreateTaskResponse = self.call("Create", &request).await?;
        Ok(answer.pid)
    }

    pub(crate) async fn start(&self, id: &str) -> Result<u32, (Code, String)> {
        self.start_exec(id, "").await
    }

    pub(crate) async fn state(&self, id: &str) -> Result<api::StateResponse, (Code, String)> {
        self.exec_state(id, "").await
    }

    pub(crate) async fn wait(&self, id: &str) -> Result<u32, (Code, String)> {
        self.wait_exec(id, "").await
    }

    pub(crate) async fn kill(&self, id: &str, signal: u32) -> Result<Empty, (Code, String)> {
        let request = api::KillRequest {
            id: id.to_owned(),
            signal,
            ..Default::default()
        };
        self.call("Kill", &request).await
    }

    pub(crate) async fn delete(&self, id: &str) -> Result<api::DeleteResponse, (Code, String)> {
        self.delete_exec(id, "").await
    }

    /// Adds a process that runs this script of the shell.
    pub(crate) async fn add_exec(
        &self,
        id: &str,
        exec_id: &str,
        script: &str,
    ) -> Result<Empty, (Code, String)> {
        self.add_exec_with(id, exec_id, script, api::ExecProcessRequest::default())
            .await
    }

    pub(crate) async fn add_exec_with(
        &self,
        id: &str,
        exec_id: &str,
        script: &str,
        request: api::ExecProcessRequest,
    ) -> Result<Empty, (Code, String)> {
        let process = serde_json::json!({
            "user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["run", script],
        });
        let request = api::ExecProcessRequest {
            spec: process_spec(&process),
            ..request
        };
        self.request_exec(id, exec_id, request).await
    }

    /// Adds a process by a request that holds its spec.
    pub(crate) async fn request_exec(
        &self,
        id: &str,
        exec_id: &str,
        request: api::ExecProcessRequest,
    ) -> Result<Empty, (Code, String)> {
        let request = api::ExecProcessRequest {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            ..request
        };
        self.call("Exec", &request).await
    }

    pub(crate) async fn start_exec(&self, id: &str, exec_id: &str) -> Result<u32, (Code, String)> {
        let request = api::StartRequest {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            ..Default::default()
        };
        let answer: api::StartResponse = self.call("Start", &request).await?;
        Ok(answer.pid)
    }

    pub(crate) async fn exec_state(
        &self,
        id: &str,
        exec_id: &str,
    ) -> Result<api::StateResponse, (Code, String)> {
        let request = api::StateRequest {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            ..Default::default()
        };
        self.call("State", &request).await
    }

    pub(crate) async fn wait_exec(&self, id: &str, exec_id: &str) -> Result<u32, (Code, String)> {
        let request = api::WaitRequest {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            ..Default::default()
        };
        let answer: api::WaitResponse = self.call("Wait", &request).await?;
        assert!(answer.exited_at.is_some());
        Ok(answer.exit_status)
    }

    /// As containerd's client kills: with `all`.
    pub(crate) async fn kill_exec(
        &self,
        id: &str,
        exec_id: &str,
        signal: u32,
    ) -> Result<Empty, (Code, String)> {
        let request = api::KillRequest {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            signal,
            all: true,
            ..Default::default()
        };
        self.call("Kill", &request).await
    }

    pub(crate) async fn delete_exec(
        &self,
        id: &str,
        exec_id: &str,
    ) -> Result<api::DeleteResponse, (Code, String)> {
        let request = api::DeleteRequest {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            ..Default::default()
        };
        self.call("Delete", &request).await
    }

    pub(crate) async fn connect_pids(&self, id: &str) -> api::ConnectResponse {
        let request = api::ConnectRequest {
            id: id.to_owned(),
            ..Default::default()
        };
        self.call("Connect", &request).await.expect("connect")
    }

    /// A verb that only names the container.
    pub(crate) async fn verb(&self, verb: &str, id: &str) -> Result<Empty, (Code, String)> {
        // These requests are the same on the wire.
        let request = api::PauseRequest {
            id: id.to_owned(),
            ..Default::default()
        };
        self.call(verb, &request).await
    }

    /// Requests the shim's end, as containerd does after each deletion.
    pub(crate) async fn shutdown(&self, id: &str) {
        let request = api::ShutdownRequest {
            id: id.to_owned(),
            ..Default::default()
        };
        let _: Empty = self.call("Shutdown", &request).await.expect("shutdown");
    }

    /// Kills the container and deletes it, and requests the shim's end.
    pub(crate) async fn end(&self, id: &str) {
        self.kill(id, KILL).await.expect("kill");
        assert_eq!(self.wait(id).await, Ok(137));
        self.delete(id).await.expect("delete");
        self.shutdown(id).await;
    }
}

/// How many of the process's open files are of that kind, as the links of `/proc/PID/fd` begin.
pub(crate) fn open_files(pid: u32, kind: &str) -> usize {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).expect("open files");
    files
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| target.to_string_lossy().starts_with(kind))
        .count()
}

/// Waits until the server has ended and removed its socket.
pub(crate) async fn ended(address: &str, pid: u32) {
    let path = PathBuf::from(address.strip_prefix("unix://").expect("unix://"));
    eventually("the socket is removed", || {
        !path
            .symlink_metadata()
            .is_ok_and(|found| found.file_type().is_socket())
    })
    .await;
    eventually("the server ends", || !running(pid)).await;
}

/// Whether the process runs. A zombie does not: these tests are not the parent of a server and cannot
/// reap it.
pub(crate) fn running(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit_once(") ").is_some_and(|(_, rest)| {
            // proc_pid_stat(5). The first thread may be a zombie while others still end. Until then
            // the process's sockets are open.
            let mut fields = rest.split(' ');
            let state = fields.next();
            let threads = fields.nth(16).and_then(|count| count.parse().ok());
            state != Some("Z") || threads.is_none_or(|count: u32| count > 1)
        })
    })
}

/// A fake containerd, which collects events.
pub(crate) struct Containerd {
    server: Server,
    topics: Arc<Mutex<Vec<String>>>,
    exits: Arc<Mutex<Vec<String>>>,
}

struct Collector {
    topics: Arc<Mutex<Vec<String>>>,
    exits: Arc<Mutex<Vec<String>>>,
}

#[async_trait::async_trait]
impl Events for Collector {
    async fn forward(&self, _: &TtrpcContext, request: ForwardRequest) -> ttrpc::Result<Empty> {
        let event = request.envelope.unwrap_or_default();
        assert_eq!(event.namespace, NAMESPACE);
        assert!(event.timestamp.is_some());
        let topic = event.topic.trim_start_matches("/tasks/").to_owned();
        if topic == "exit" {
            let event = event.event.unwrap_or_default();
            let exit =
                containerd_shim_protos::events::task::TaskExit::parse_from_bytes(&event.value)
                    .expect("decode");
            self.exits.lock().expect("lock").push(exit.id);
        }
        self.topics.lock().expect("lock").push(topic);
        Ok(Empty::new())
    }
}

impl Containerd {
    pub(crate) async fn listen(dir: &TestDir) -> Self {
        let topics = Arc::new(Mutex::new(Vec::new()));
        let exits = Arc::new(Mutex::new(Vec::new()));
        let collector = Collector {
            topics: Arc::clone(&topics),
            exits: Arc::clone(&exits),
        };
        let address = format!("unix://{}", dir.events_address().display());
        let mut server = Server::new()
            .bind(&address)
            .expect("bind")
            .register_service(create_events(Arc::new(collector)));
        server.start().await.expect("start");
        Self {
            server,
            topics,
            exits,
        }
    }

    pub(crate) fn topics(&self) -> Vec<String> {
        self.topics.lock().expect("lock").clone()
    }

    /// Ids of the processes of which an exit was told, in order.
    pub(crate) fn exits(&self) -> Vec<String> {
        self.exits.lock().expect("lock").clone()
    }

    pub(crate) async fn expect(&self, topics: &[&str]) {
        eventually("all events arrive", || self.topics().len() >= topics.len()).await;
        assert_eq!(self.topics(), topics);
    }

    pub(crate) async fn stop(mut self) {
        self.server.shutdown().await.expect("shutdown");
    }
}

/// What a terminal shows, read as it comes.
pub(crate) struct Screen {
    output: fs::File,
    text: Vec<u8>,
}

impl Screen {
    /// Opens the FIFO of a terminal's output.
    pub(crate) fn open(path: &Path) -> Self {
        let mut options = fs::File::options();
        let options = options.read(true).custom_flags(nix::libc::O_NONBLOCK);
        Self {
            output: options.open(path).expect("open stdout"),
            text: Vec::new(),
        }
    }

    /// All that has been shown so far.
    fn read(&mut self) -> String {
        match self.output.read_to_end(&mut self.text) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
        String::from_utf8_lossy(&self.text).into_owned()
    }

    /// Waits until it has shown this text.
    pub(crate) async fn shows(&mut self, text: &str) {
        eventually(&format!("{text:?} is shown"), || self.read().contains(text)).await;
    }
}

/// Reads a FIFO to its end on a thread of its own, as a client of containerd does.
pub(crate) fn read_to_end(path: PathBuf) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        fs::File::open(path)
            .and_then(|mut file| file.read_to_string(&mut text))
            .expect("read");
        text
    })
}
