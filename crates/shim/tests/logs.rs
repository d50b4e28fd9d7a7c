//! Where the output of containers and execs goes, but for FIFOs: log files and programs of the node.

// Other tests use the rest of it.
#[allow(dead_code)]
mod harness;

use std::fs;
use std::path::{Path, PathBuf};

use containerd_shim_protos::api;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message as _, MessageField};
use containerd_shim_protos::shim::oci::Options;
use containerd_shim_protos::ttrpc::Code;

use harness::{Api, KILL, TestDir, V3, eventually, open_stdin};

/// Runs until a signal ends it.
const IDLE: &str = "while :; do sleep 0.02; done";

/// Reads both streams into files beside the one that its argument names, and says whose they are.
const LOGGER: &str = r#"out=$1
env | sort >"$out.env"
printf x >&5
exec 5>&-
cat <&3 >"$out.stdout" & cat <&4 >"$out.stderr"; wait
echo "read to the end" >"$out.done"
"#;

/// Makes a script that the shell runs as a logging program. It is no executable itself: another test's child may
/// have it open for writing.
fn script(dir: &TestDir, text: &str) -> PathBuf {
    let path = dir.path("logger");
    fs::write(&path, text).expect("write");
    path
}

/// Its URI, with one argument.
fn uri(scheme: &str, script: &Path, argument: &Path) -> String {
    let (script, argument) = (script.display(), argument.display());
    format!("{scheme}:///bin/sh?{script}={argument}")
}

fn read(path: &Path, suffix: &str) -> String {
    let path = format!("{}{suffix}", path.display());
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn create(stdout: &str, stderr: &str) -> api::CreateTaskRequest {
    api::CreateTaskRequest {
        stdout: stdout.to_owned(),
        stderr: stderr.to_owned(),
        ..Default::default()
    }
}

/// How many processes have this in their command line.
fn processes(of: &Path) -> usize {
    let of = of.display().to_string();
    let lines = fs::read_dir("/proc").expect("/proc").filter_map(|entry| {
        let line = fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).into_owned())
    });
    lines.filter(|line| line.contains(&of)).count()
}

#[tokio::test]
async fn logging_program_reads_the_output_of_containers_and_execs_to_its_end() {
    for scheme in ["binary", "binary-v2"] {
        let dir = TestDir::new();
        let logger = script(&dir, LOGGER);
        let out = |id: &str| dir.path(&format!("out-{id}"));
        let uri = |id: &str| uri(scheme, &logger, &out(id));
        let bundle = dir.bundle("a", None, &format!("echo one; echo two >&2; {IDLE}"));
        let api = Api::connect(&dir.address("a"), V3).await;
        let request = create(&uri("a"), &uri("a"));
        api.create_with(&bundle, "a", request)
            .await
            .expect("create");
        api.start("a").await.expect("start");
        let state = api.state("a").await.expect("state");
        assert_eq!((&*state.stdout, &*state.stderr), (&*uri("a"), &*uri("a")));

        // stderr of its own does not matter: the program reads both.
        let request = api::ExecProcessRequest {
            stdout: uri("e"),
            ..Default::default()
        };
        api.add_exec_with("a", "e", "echo three; echo four >&2", request)
            .await
            .expect("exec");
        api.start_exec("a", "e").await.expect("start");
        assert_eq!(api.wait_exec("a", "e").await, Ok(0));
        api.delete_exec("a", "e").await.expect("delete");
        assert_eq!(read(&out("e"), ".stdout"), "three\n");
        assert_eq!(read(&out("e"), ".stderr"), "four\n");
        assert_eq!(read(&out("e"), ".done"), "read to the end\n");
        assert!(read(&out("e"), ".env").contains("CONTAINER_ID=e\n"));

        api.kill("a", KILL).await.expect("kill");
        assert_eq!(api.wait("a").await, Ok(137));
        api.delete("a").await.expect("delete");
        assert_eq!(read(&out("a"), ".stdout"), "one\n");
        assert_eq!(read(&out("a"), ".stderr"), "two\n");
        assert_eq!(read(&out("a"), ".done"), "read to the end\n");
        let env = read(&out("a"), ".env");
        let namespace = format!("CONTAINER_NAMESPACE={}\n", harness::NAMESPACE);
        assert!(
            env.contains("CONTAINER_ID=a\n") && env.contains(&namespace),
            "{env}"
        );
        assert_eq!(processes(&logger), 0);
        api.shutdown("a").await;
    }
}

#[tokio::test]
async fn create_fails_in_words_if_its_logging_program_does_and_leaves_the_id_free() {
    let dir = TestDir::new();
    let logger = script(&dir, "exit 3");
    let bundle = dir.bundle("a", None, "echo lost");
    let api = Api::connect(&dir.address("a"), V3).await;
    for (uri, words) in [
        (
            uri("binary-v2", &logger, Path::new("")),
            "ended or closed descriptor 5 before it was ready",
        ),
        (
            "binary:///nowhere/logger".to_owned(),
            "cannot start the logging program \"/nowhere/logger\": No such file",
        ),
    ] {
        let failed = api.create_with(&bundle, "a", create(&uri, "")).await;
        let (code, said) = failed.expect_err(words);
        assert_eq!(code, Code::UNKNOWN);
        assert!(said.contains(words), "{said}");
        assert_eq!(
            api.state("a").await.expect_err("no task").0,
            Code::NOT_FOUND
        );
    }
    assert!(dir.calls("a").is_empty());
    // A dead program is ready by the first form of the protocol. The process gets SIGPIPE, as under runc.
    let uri = uri("binary", &logger, Path::new(""));
    api.create_with(&bundle, "a", create(&uri, ""))
        .await
        .expect("create");
    api.start("a").await.expect("start");
    assert_eq!(api.wait("a").await, Ok(128 + 13));
    api.delete("a").await.expect("delete");
    api.shutdown("a").await;
}

#[tokio::test]
async fn reason_of_a_failed_create_reaches_the_logging_program_and_the_log_file() {
    let dir = TestDir::new();
    let logger = script(&dir, LOGGER);
    let (out, log) = (dir.path("out"), dir.path("logs/log"));
    let bundle = dir.bundle("a", None, IDLE);
    fs::write(bundle.join("refuse"), "").expect("write");
    let api = Api::connect(&dir.address("a"), V3).await;
    for uri in [
        uri("binary", &logger, &out),
        format!("file://{}", log.display()),
    ] {
        let failed = api.create_with(&bundle, "a", create(&uri, &uri)).await;
        failed.expect_err("refused");
    }
    for text in [read(&out, ".stderr"), read(&log, "")] {
        assert_eq!(text, "wasm-interp: mount /x: no such file or directory\n");
    }
    assert_eq!(read(&out, ".done"), "read to the end\n");
    assert_eq!(processes(&logger), 0);
    api.shutdown("a").await;
}

/// `nerdctl run -dt`.
#[tokio::test]
async fn logging_program_reads_the_output_of_a_terminal() {
    let dir = TestDir::new();
    let logger = script(&dir, LOGGER);
    let (out, stdin) = (dir.path("out"), dir.fifo("in"));
    let bundle = dir.bundle(
        "a",
        None,
        "[ -t 1 ] && read line && echo got $line; echo two >&2",
    );
    dir.change_spec("a", |spec| spec["process"]["terminal"] = true.into());
    let api = Api::connect(&dir.address("a"), V3).await;
    let request = api::CreateTaskRequest {
        terminal: true,
        stdin: stdin.display().to_string(),
        stdout: uri("binary", &logger, &out),
        ..Default::default()
    };
    api.create_with(&bundle, "a", request)
        .await
        .expect("create");
    api.start("a").await.expect("start");
    let client = open_stdin(&stdin);
    std::io::Write::write_all(&mut &client, b"a line\n").expect("type");
    assert_eq!(api.wait("a").await, Ok(0));
    api.delete("a").await.expect("delete");
    assert_eq!(read(&out, ".stdout"), "a line\r\ngot a line\r\ntwo\r\n");
    assert_eq!(read(&out, ".stderr"), "");
    assert_eq!(read(&out, ".done"), "read to the end\n");
    api.shutdown("a").await;
}

/// A process can neither truncate nor read its log, and what is printed to both streams keeps its order.
#[tokio::test]
async fn pipe_is_between_a_process_and_its_log_file() {
    let dir = TestDir::new();
    let log = dir.path("made/for it/log");
    let uri = format!("file://{}", log.display()).replace(' ', "%20");
    let script = "echo 1; echo 2 >&2; echo 3 >/dev/stdout; echo 4 >/dev/stderr; \
         test -p /dev/stdout && echo 5; stat -L -c %u:%g /dev/stdout; ulimit -c 0; kill -KILL $$";
    let bundle = dir.bundle("a", None, script);
    let api = Api::connect(&dir.address("a"), V3).await;
    let options = Options {
        io_uid: 1234,
        io_gid: 4321,
        ..Default::default()
    };
    let mut expected = String::new();
    for _ in 0..2 {
        let request = api::CreateTaskRequest {
            options: MessageField::some(Any {
                type_url: "containerd.runc.v1.Options".to_owned(),
                value: options.write_to_bytes().expect("encode"),
                ..Default::default()
            }),
            ..create(&uri, &uri)
        };
        api.create_with(&bundle, "a", request)
            .await
            .expect("create");
        api.start("a").await.expect("start");
        assert_eq!(api.wait("a").await, Ok(137));
        // A client that hears of the exit finds all of the output. A log is appended to.
        expected += "1\n2\n3\n4\n5\n1234:4321\n";
        assert_eq!(read(&log, ""), expected);
        api.delete("a").await.expect("delete");
    }
    api.shutdown("a").await;
}

/// A file that has no scheme has to exist, and each stream may have its own.
#[tokio::test]
async fn each_stream_may_have_a_file_of_its_own() {
    let dir = TestDir::new();
    let [out, err] = ["out", "err"].map(|name| dir.path(name));
    fs::write(&out, "before\n").expect("write");
    let bundle = dir.bundle("a", None, "echo one; echo two >&2");
    let api = Api::connect(&dir.address("a"), V3).await;
    let (stdout, stderr) = (
        out.display().to_string(),
        format!("file://{}", err.display()),
    );
    let missing = create(&err.display().to_string(), "");
    let (_, words) = api
        .create_with(&bundle, "a", missing)
        .await
        .expect_err("no file");
    assert!(
        words.contains("for the container's stdout: No such file"),
        "{words}"
    );
    let request = create(&stdout, &stderr);
    api.create_with(&bundle, "a", request)
        .await
        .expect("create");
    api.start("a").await.expect("start");
    assert_eq!(api.wait("a").await, Ok(0));
    assert_eq!(
        (read(&out, ""), read(&err, "")),
        ("before\none\n".into(), "two\n".into())
    );
    api.delete("a").await.expect("delete");
    api.shutdown("a").await;
}

/// A logging program that is killed, and a container that is deleted with its execs.
#[tokio::test]
async fn no_logging_program_is_left_whatever_ends_first() {
    let dir = TestDir::new();
    // It does not read.
    let logger = script(&dir, "exec 5>&-\nwhile :; do sleep 0.02; done\n");
    let uri = uri("binary", &logger, Path::new(""));
    let bundle = dir.bundle("a", None, IDLE);
    let api = Api::connect(&dir.address("a"), V3).await;
    api.create_with(&bundle, "a", create(&uri, ""))
        .await
        .expect("create");
    api.start("a").await.expect("start");
    let request = api::ExecProcessRequest {
        stdout: uri,
        ..Default::default()
    };
    api.add_exec_with("a", "e", IDLE, request)
        .await
        .expect("exec");
    api.start_exec("a", "e").await.expect("start");
    // More while its shell starts a child.
    assert!(processes(&logger) >= 2);
    api.kill("a", KILL).await.expect("kill");
    assert_eq!(api.wait("a").await, Ok(137));
    // The exec is not deleted, but the container.
    api.delete("a").await.expect("delete");
    eventually("no logging program is left", || processes(&logger) == 0).await;
    api.shutdown("a").await;
}
