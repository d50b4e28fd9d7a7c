//! What the tests of the real binary share: a bundle, a fake runner, a fake containerd that
//! collects events, and a client for either version of the Task API.
//!
//! Nothing here needs containerd, libcontainer or Wasmtime: the containers are pods' sandboxes to
//! the shim, and shell scripts in truth.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use containerd_shim_protos::api;
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::empty::Empty;
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::shim_async::{Client, Events, create_events};
use containerd_shim_protos::ttrpc::r#async::{Server, TtrpcContext};
use containerd_shim_protos::ttrpc::{self, Code};

pub(crate) const V2: &str = "containerd.task.v2.Task";
pub(crate) const V3: &str = "containerd.task.v3.Task";
pub(crate) const NAMESPACE: &str = "shim-test";

/// Everything one test needs; removed at its end.
pub(crate) struct World {
    dir: tempfile::TempDir,
    /// Those outside of `dir`.
    sockets: Mutex<Vec<PathBuf>>,
}

/// How containerd calls `start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Address,
    Json,
    Bootstrap,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).expect("mkdir");
        let built = env!("CARGO_BIN_EXE_containerd-shim-wasm-interp-v1");
        let shim = bin.join("containerd-shim-wasm-interp-v1");
        // A link where the file system allows it: the binary is large in a debug build.
        if fs::hard_link(built, &shim).is_err() {
            fs::copy(built, &shim).expect("copy the shim");
        }
        let runner = bin.join("wasm-interp-runner");
        fs::write(&runner, include_str!("runner.sh")).expect("write");
        fs::set_permissions(&runner, fs::Permissions::from_mode(0o755)).expect("chmod");
        Self {
            dir,
            sockets: Mutex::default(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
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
        fifo(&bundle.join("log"));
        bundle
    }

    /// Gives a bundle the file that the kubelet mounts for the reason of an end.
    pub(crate) fn termination_log(&self, id: &str) -> PathBuf {
        let log = self.path("pods/u/containers/main/0badcafe");
        fs::create_dir_all(log.parent().expect("a folder")).expect("mkdir");
        fs::write(&log, "").expect("write");
        let config = self.path(id).join("config.json");
        let mut spec: serde_json::Value =
            serde_json::from_slice(&fs::read(&config).expect("read")).expect("parse");
        spec["mounts"] = serde_json::json!([
            {"destination": "/dev/termination-log", "type": "bind", "source": log}
        ]);
        fs::write(&config, spec.to_string()).expect("write");
        log
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
    pub(crate) fn start(&self, id: &str, form: Form) -> Vec<u8> {
        let mut command = self.command(id);
        command.arg("start");
        let mut input = Vec::new();
        match form {
            Form::Address => {
                command.env("TTRPC_ADDRESS", self.events_address());
            }
            Form::Json => {
                command
                    .env("TTRPC_ADDRESS", self.events_address())
                    .env("MAX_SHIM_VERSION", "2");
            }
            Form::Bootstrap => {
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

    /// The address of a server started in the newest way.
    pub(crate) fn address(&self, id: &str) -> String {
        let answer = self.start(id, Form::Bootstrap);
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

    /// What the fake runner was asked, in order.
    pub(crate) fn calls(&self, id: &str) -> Vec<String> {
        fs::read_to_string(self.path(id).join("calls"))
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for World {
    /// A test that fails must not leave its server and its guest behind.
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
                // It may end by itself at this moment.
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
        }
        for socket in self.sockets.lock().expect("lock").iter() {
            let _ = fs::remove_file(socket);
        }
    }
}

/// A cgroup with a limit of memory, removed at its end.
pub(crate) struct Tight(PathBuf);

impl Tight {
    pub(crate) fn of_mib(mib: u32) -> Self {
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let (root, limit) = if v1.exists() {
            (v1, "memory.limit_in_bytes")
        } else {
            (Path::new("/sys/fs/cgroup"), "memory.max")
        };
        let path = root.join(format!("shim-test-{}-{mib}", std::process::id()));
        fs::create_dir(&path).expect("make a cgroup");
        let tight = Self(path);
        fs::write(tight.0.join(limit), (mib << 20).to_string()).expect("limit it");
        tight
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().expect("utf-8")
    }
}

impl Drop for Tight {
    fn drop(&mut self) {
        // What a failed test leaves in there is killed by `World`, which ends later.
        let _ = fs::remove_dir(&self.0);
    }
}

pub(crate) fn fifo(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
}

/// Waits until it holds, or fails.
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
        let request = api::StartRequest {
            id: id.to_owned(),
            ..Default::default()
        };
        let answer: api::StartResponse = self.call("Start", &request).await?;
        Ok(answer.pid)
    }

    pub(crate) async fn state(&self, id: &str) -> Result<api::StateResponse, (Code, String)> {
        let request = api::StateRequest {
            id: id.to_owned(),
            ..Default::default()
        };
        self.call("State", &request).await
    }

    pub(crate) async fn wait(&self, id: &str) -> Result<u32, (Code, String)> {
        let request = api::WaitRequest {
            id: id.to_owned(),
            ..Default::default()
        };
        let answer: api::WaitResponse = self.call("Wait", &request).await?;
        assert!(answer.exited_at.is_some());
        Ok(answer.exit_status)
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
        let request = api::DeleteRequest {
            id: id.to_owned(),
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

    /// Asks for the end, as containerd does after each deletion.
    pub(crate) async fn shutdown(&self, id: &str) {
        let request = api::ShutdownRequest {
            id: id.to_owned(),
            ..Default::default()
        };
        let _: Empty = self.call("Shutdown", &request).await.expect("shutdown");
    }
}

/// Waits until the server behind the address is gone with its socket.
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

/// Whether the process exists and is no zombie: tests are not the parent of a server.
pub(crate) fn running(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| !rest.starts_with('Z'))
    })
}

/// A containerd that takes events.
pub(crate) struct Containerd {
    server: Server,
    topics: Arc<Mutex<Vec<String>>>,
}

struct Collector(Arc<Mutex<Vec<String>>>);

#[async_trait::async_trait]
impl Events for Collector {
    async fn forward(&self, _: &TtrpcContext, request: ForwardRequest) -> ttrpc::Result<Empty> {
        let event = request.envelope.unwrap_or_default();
        assert_eq!(event.namespace, NAMESPACE);
        assert!(event.timestamp.is_some());
        let topic = event.topic.trim_start_matches("/tasks/").to_owned();
        self.0.lock().expect("lock").push(topic);
        Ok(Empty::new())
    }
}

impl Containerd {
    pub(crate) async fn listen(world: &World) -> Self {
        let topics = Arc::new(Mutex::new(Vec::new()));
        let address = format!("unix://{}", world.events_address().display());
        let mut server = Server::new()
            .bind(&address)
            .expect("bind")
            .register_service(create_events(Arc::new(Collector(Arc::clone(&topics)))));
        server.start().await.expect("start");
        Self { server, topics }
    }

    pub(crate) fn topics(&self) -> Vec<String> {
        self.topics.lock().expect("lock").clone()
    }

    pub(crate) async fn expect(&self, topics: &[&str]) {
        eventually("all events arrive", || self.topics().len() >= topics.len()).await;
        assert_eq!(self.topics(), topics);
    }

    pub(crate) async fn stop(mut self) {
        self.server.shutdown().await.expect("shutdown");
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
