//! Further processes in running containers: as root, on this machine's kernel and cgroups.

// Other tests use the rest of it.
#[allow(dead_code)]
#[path = "support/guests.rs"]
mod guests;
// Other tests use the rest of it.
#[allow(dead_code)]
#[path = "support/mod.rs"]
mod support;

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    os::{
        fd::AsFd,
        unix::fs::{PermissionsExt, chown},
    },
    path::{Path, PathBuf},
};

use nix::{
    fcntl::OFlag,
    sys::signal::{Signal, kill},
    unistd::{Pid, pipe2},
};
use serde_json::{Value, json};
use support::{TestContainer, TestTerminal, status, wait, wait_until};
use wasm_interp_runner_client::{RunnerError, SessionKeyring, SharedCeiling, Workload};
use wasm_interp_test_support::executables;

/// A program that runs until it is killed.
const SLEEP: [&str; 3] = ["busybox", "sleep", "1000"];

/// A container that runs until it is killed, and the file that its further processes write to.
struct ExecTest {
    container: TestContainer,
    output: tempfile::NamedTempFile,
}

impl ExecTest {
    fn start(mut container: TestContainer) -> Self {
        container.create().expect("create");
        container.start().expect("start");
        Self {
            container,
            output: tempfile::NamedTempFile::new().expect("output"),
        }
    }

    fn native() -> Self {
        Self::start(TestContainer::native(&SLEEP))
    }

    fn spawn(&self, process: &Value) -> Result<(Pid, Workload), RunnerError> {
        let (pid, workload) = self.container.exec(process, self.output.as_file())?;
        Ok((Pid::from_raw(pid), workload))
    }

    /// Exit code and output of a further process.
    fn run(&self, process: &Value) -> Result<(i32, String), RunnerError> {
        let before = self.written().len();
        let (pid, _) = self.spawn(process)?;
        let code = wait(pid).expect("it ends");
        Ok((code, self.written()[before..].to_owned()))
    }

    fn shell(&self, script: &str) -> (i32, String) {
        let process = self.container.process_of(&["sh", "-c", script]);
        self.run(&process).expect("exec")
    }

    fn written(&self) -> String {
        fs::read_to_string(self.output.path()).expect("read")
    }

    fn end(self) {
        self.end_with(None);
    }

    /// The kernel ends a further process with the pid namespace, whose end waits until it is reaped.
    fn end_with(self, exec: Option<Pid>) {
        self.container.signal(Signal::SIGKILL);
        if let Some(exec) = exec {
            assert_eq!(wait(exec), Some(137));
        }
        assert_eq!(self.container.wait(), 137);
        self.container.delete(false).expect("delete");
        self.container.assert_nothing_left();
    }
}

/// What can be seen of a process from outside, without what differs between any two.
fn looks(pid: Pid) -> BTreeMap<String, String> {
    const STATUS: [&str; 18] = [
        "Name",
        "Umask",
        "Uid",
        "Gid",
        "Groups",
        "SigBlk",
        "SigIgn",
        "SigCgt",
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
        "Seccomp",
        "Seccomp_filters",
        "Cpus_allowed_list",
        "TracerPid",
    ];
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).expect(file);
    let link = |path: &str| {
        fs::read_link(format!("/proc/{pid}/{path}")).map(|link| link.display().to_string())
    };
    let mut looks = BTreeMap::new();
    let text = read("status");
    for name in STATUS {
        looks.insert(name.to_owned(), status(&text, name).to_owned());
    }
    for name in ["cgroup", "mnt", "net", "ipc", "uts", "user", "pid", "time"] {
        let namespace = link(&format!("ns/{name}")).expect("namespace");
        looks.insert(format!("ns/{name}"), namespace);
    }
    for file in ["cgroup", "limits", "oom_score_adj", "mountinfo", "cmdline"] {
        looks.insert(file.to_owned(), read(file));
    }
    // Without AppArmor or SELinux it cannot be read.
    let profile = fs::read_to_string(format!("/proc/{pid}/attr/current"));
    looks.insert("attr".to_owned(), profile.unwrap_or_default());
    for name in ["root", "cwd", "exe"] {
        looks.insert(name.to_owned(), link(name).expect(name));
    }
    let mut descriptors: Vec<PathBuf> = fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("descriptors")
        .map(|entry| entry.expect("entry").file_name().into())
        .collect();
    descriptors.sort();
    looks.insert("fd".to_owned(), format!("{descriptors:?}"));
    looks
}

fn wait_for_program(pid: Pid, name: &str) {
    wait_until(&format!("it runs {name}"), || {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
    });
}

/// A spec that says much.
fn particular(container: &mut TestContainer) {
    let some = ["CAP_NET_BIND_SERVICE", "CAP_CHOWN", "CAP_SYS_CHROOT"];
    let process = &mut container.spec["process"];
    process["user"] =
        json!({ "uid": 1000, "gid": 1001, "additionalGids": [1002, 1003], "umask": 0o027 });
    process["capabilities"] = json!({
        "bounding": some, "effective": some, "permitted": some,
        "inheritable": ["CAP_CHOWN"], "ambient": ["CAP_CHOWN"],
    });
    process["noNewPrivileges"] = json!(true);
    process["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }]);
    process["oomScoreAdj"] = json!(500);
    container.spec["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 }],
    });
}

fn assert_same_as_init(running: &ExecTest, exec: Pid) {
    let init = looks(running.container.process());
    let exec = looks(exec);
    for (name, value) in &init {
        assert_eq!(&exec[name], value, "{name}");
    }
}

#[test]
fn native_exec_with_the_spec_of_the_init_process_looks_the_same() {
    for change in [|_: &mut TestContainer| (), particular] {
        let mut container = TestContainer::native(&SLEEP);
        change(&mut container);
        let running = ExecTest::start(container);
        let process = running.container.process_of(&SLEEP);
        let (pid, _) = running.spawn(&process).expect("exec");
        wait_for_program(running.container.process(), "busybox");
        assert_same_as_init(&running, pid);
        running.end_with(Some(pid));
    }
}

#[test]
fn exec_joins_a_user_namespace_with_several_mappings() {
    let mut container = TestContainer::native(&SLEEP);
    let namespaces = container.spec["linux"]["namespaces"].as_array_mut();
    namespaces
        .expect("namespaces")
        .push(json!({ "type": "user" }));
    let maps = json!([
        { "containerID": 0, "hostID": 100_000, "size": 1000 },
        { "containerID": 1000, "hostID": 300_000, "size": 10 },
    ]);
    container.spec["linux"]["uidMappings"] = maps.clone();
    container.spec["linux"]["gidMappings"] = maps;
    container.spec["process"]["user"] = json!({ "uid": 1001, "gid": 1002, "additionalGids": [3] });
    let root = container.root();
    for path in [root.clone(), root.join("bin"), root.join("tmp")] {
        chown(&path, Some(100_000), Some(100_000)).expect("chown");
    }
    for path in root.ancestors().skip(1).take(2) {
        fs::set_permissions(path, fs::Permissions::from_mode(0o711)).expect("chmod");
    }
    let running = ExecTest::start(container);
    let process = running.container.process_of(&SLEEP);
    let (pid, _) = running.spawn(&process).expect("exec");
    wait_for_program(running.container.process(), "busybox");
    assert_same_as_init(&running, pid);
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    assert_eq!(status(&text, "Uid"), "300001\t300001\t300001\t300001");
    assert_eq!(status(&text, "Groups"), "100003");
    running.end_with(Some(pid));
}

#[test]
fn exec_has_its_own_process_spec() {
    let running = ExecTest::native();
    let script = "busybox id; pwd; umask; ulimit -n; busybox cat /proc/self/oom_score_adj; \
                  echo $A; busybox grep Cpus_allowed_list /proc/self/status";
    let mut process = running.container.process_of(&["sh", "-c", script]);
    process["user"] = json!({ "uid": 7, "gid": 8, "additionalGids": [9], "umask": 0o077 });
    process["cwd"] = json!("/tmp");
    process["env"] = json!(["A=own", "PATH=/bin"]);
    process["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 77, "hard": 78 }]);
    process["oomScoreAdj"] = json!(333);
    process["execCPUAffinity"] = json!({ "initial": "0", "final": "0" });
    let (code, output) = running.run(&process).expect("exec");
    assert_eq!(
        (code, output.as_str()),
        (
            0,
            "uid=7 gid=8 groups=9\n/tmp\n0077\n77\n333\nown\nCpus_allowed_list:\t0\n"
        )
    );
    running.end();
}

#[test]
fn exit_codes_and_signals_of_an_exec_are_its_own() {
    let running = ExecTest::native();
    assert_eq!(running.shell("exit 3").0, 3);
    assert_eq!(running.shell("kill -KILL $$").0, 137);
    let (pid, _) = running
        .spawn(&running.container.process_of(&SLEEP))
        .expect("exec");
    kill(pid, Signal::SIGTERM).expect("kill");
    assert_eq!(wait(pid), Some(143));
    running.end();
}

#[test]
fn exec_sees_the_containers_processes_files_and_keyring() {
    let running = ExecTest::native();
    // One that made a keyring of its own would see two of the name.
    let (code, output) = running.shell(&format!(
        "busybox cat /proc/1/comm; busybox touch /tmp/made; busybox ls /tmp; \
         busybox cat /proc/keys | busybox grep -c _ses.{}:",
        running.container.id
    ));
    assert_eq!((code, output.as_str()), (0, "busybox\nmade\n1\n"));
    running.end();
}

/// As under runc: the option holds for all processes of the container.
#[test]
fn exec_in_a_container_without_a_keyring_of_its_own_makes_none() {
    let mut container = TestContainer::native(&SLEEP);
    container.keyring = SessionKeyring::Callers;
    let running = ExecTest::start(container);
    let (code, output) = running.shell(&format!(
        "busybox cat /proc/keys | busybox grep -c _ses.{}:",
        running.container.id
    ));
    assert_eq!((code, output.as_str()), (1, "0\n"));
    running.end();
}

#[test]
fn created_container_takes_an_exec() {
    let mut container = TestContainer::native(&SLEEP);
    container.create().expect("create");
    let output = tempfile::NamedTempFile::new().expect("output");
    let process = container.process_of(&["busybox", "echo", "early"]);
    let (pid, _) = container.exec(&process, output.as_file()).expect("exec");
    assert_eq!(wait(Pid::from_raw(pid)), Some(0));
    assert_eq!(fs::read_to_string(output.path()).expect("read"), "early\n");
    container.delete(true).expect("delete");
    container.wait();
}

#[test]
fn program_that_cannot_run_is_an_error_of_the_exec_in_runcs_words() {
    let running = ExecTest::native();
    let root = running.container.root();
    let content = b"\x7fELF\x02\x01\x01";
    fs::write(root.join("bin/plain"), content).expect("write");
    executables::write(&root.join("bin/broken"), content);
    for (program, words) in [
        ("no", "exec: \"no\": executable file not found in $PATH: "),
        ("/no", "exec: \"/no\": stat /no: no such file or directory"),
        ("/bin/plain", "exec: \"/bin/plain\": permission denied"),
        ("/bin", "exec: \"/bin\": permission denied: "),
        ("/bin/broken", "exec /bin/broken: exec format error"),
    ] {
        let process = running.container.process_of(&[program]);
        let error = running.spawn(&process).expect_err(program).to_string();
        assert!(error.contains(words), "{error}");
    }
    let mut process = running.container.process_of(&SLEEP);
    process["cwd"] = json!("/nowhere");
    let error = running.spawn(&process).expect_err("no directory");
    assert!(error.to_string().starts_with("chdir to cwd"), "{error}");
    running.end();
}

#[test]
fn container_that_has_ended_takes_no_exec() {
    let running = ExecTest::native();
    running.container.signal(Signal::SIGKILL);
    wait_until("it has ended", || {
        fs::read_to_string(format!("/proc/{}/stat", running.container.process()))
            .is_ok_and(|stat| stat.contains(") Z "))
    });
    let process = running.container.process_of(&SLEEP);
    let error = running.spawn(&process).expect_err("ended");
    assert!(
        error.to_string().contains("its init process has ended"),
        "{error}"
    );
    running.container.wait();
    running.container.delete(false).expect("delete");
}

/// A shell that knows its terminal, edits keys itself, and stops and ends programs in the foreground. Without the
/// trap it would end with a program that ctrl-C ends.
const ON_A_TERMINAL: &str = "busybox tty; busybox stat -c '%F %t,%T %u' $(busybox tty); \
     busybox stty size; echo by name >/dev/tty; \
     busybox stty -icanon -echo; key=$(busybox dd bs=1 count=1 2>/dev/null); \
     busybox stty icanon echo; echo key $key; \
     set -m; trap : INT; sh -c 'while read -r line; do echo got $line; done'; \
     echo stopped $?; fg; echo ended $?; exit 9";

/// What a person types to [`ON_A_TERMINAL`], and what it shows.
fn type_by_hand(terminal: &mut TestTerminal) {
    terminal.type_keys("k");
    terminal.shown("key k\r\n");
    for (keys, answer) in [
        ("typed\n", "got typed\r\n"),
        // ctrl-Z reaches the program in the foreground, and not the shell; so does ctrl-C.
        ("\x1a", "stopped 148\r\n"),
        ("again\n", "got again\r\n"),
        ("\x03", "ended 130\r\n"),
    ] {
        terminal.type_keys(keys);
        terminal.shown(answer);
    }
}

#[test]
fn native_exec_has_a_terminal_of_its_containers_devpts_with_job_control() {
    let mut container = TestContainer::native(&SLEEP);
    container.with_devpts();
    let running = ExecTest::start(container);
    let mut process = running.container.process_of(&["sh", "-c", ON_A_TERMINAL]);
    process["user"] = json!({ "uid": 1000, "gid": 1000 });
    let mut terminals = Vec::new();
    // Each has its own; the init process has none.
    for number in 0..2 {
        let mut terminal = TestTerminal::open();
        terminal.resize(37, 91);
        let pid = running.container.exec_on(&process, &terminal);
        let pid = Pid::from_raw(pid.expect("exec"));
        assert!(terminal.take_over(), "the container's own");
        assert_eq!(
            terminal.shown("by name\r\n"),
            format!(
                "/dev/pts/{number}\r\ncharacter special file 88,{number} 1000\r\n37 91\r\n\
                 by name\r\n"
            )
        );
        terminals.push((pid, terminal));
    }
    for (pid, mut terminal) in terminals {
        type_by_hand(&mut terminal);
        assert_eq!(wait(pid), Some(9));
    }
    running.end();
}

#[test]
fn native_exec_without_a_devpts_has_the_hosts_terminal() {
    let running = ExecTest::native();
    let process = running.container.process_of(&["sh", "-c", ON_A_TERMINAL]);
    let mut terminal = TestTerminal::open();
    let pid = running.container.exec_on(&process, &terminal);
    assert!(!terminal.take_over(), "there is none in the container");
    terminal.shown("by name\r\n");
    type_by_hand(&mut terminal);
    assert_eq!(wait(Pid::from_raw(pid.expect("exec"))), Some(9));
    running.end();
}

/// As runc: the program gets SIGHUP when the caller closes the terminal.
#[test]
fn terminal_that_is_closed_hangs_up_a_native_exec() {
    let mut container = TestContainer::native(&SLEEP);
    container.with_devpts();
    let running = ExecTest::start(container);
    let script = "trap 'exit 7' HUP; echo ready; while :; do read -r line; done";
    let process = running.container.process_of(&["sh", "-c", script]);
    let mut terminal = TestTerminal::open();
    let pid = running.container.exec_on(&process, &terminal);
    assert!(terminal.take_over(), "the container's own");
    terminal.shown("ready\r\n");
    drop(terminal);
    assert_eq!(wait(Pid::from_raw(pid.expect("exec"))), Some(7));
    running.end();
}

/// CVE-2025-52565: whatever lies at its path must not be taken for the multiplexer.
#[test]
fn other_device_in_place_of_the_multiplexer_is_refused_for_an_exec() {
    let mut container = TestContainer::native(&SLEEP);
    let mounts = container.spec["mounts"].as_array_mut().expect("mounts");
    mounts.push(json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs" }));
    mounts.push(
        json!({ "destination": "/dev/pts/ptmx", "type": "bind", "source": "/dev/null",
        "options": ["bind"] }),
    );
    let running = ExecTest::start(container);
    let process = running.container.process_of(&SLEEP);
    let terminal = TestTerminal::open();
    let error = running.container.exec_on(&process, &terminal);
    let error = error.expect_err("refused").to_string();
    assert!(error.contains("not the multiplexer of a devpts"), "{error}");
    running.end();
}

#[test]
fn keys_of_a_terminal_mean_to_a_guest_that_is_run_further_what_they_mean_elsewhere() {
    let (container, input) = guest_container(&guests::reader());
    let running = ExecTest::start(container);
    let mut process = running.container.process_of(&["guest"]);
    process["user"] = json!({ "uid": 1000, "gid": 1000 });
    for (keys, code) in [("hi\n", 3), ("\x04", 0), ("\x03", 130), ("\x1c", 131)] {
        let mut terminal = TestTerminal::open();
        let pid = running.container.exec_on(&process, &terminal);
        assert!(!terminal.take_over(), "a guest has the host's");
        terminal.shown("ready\r\n");
        terminal.type_keys(keys);
        let code = Some(code);
        assert_eq!(wait(Pid::from_raw(pid.expect("exec"))), code, "{keys:?}");
    }
    drop(input);
    running.container.wait();
    running.container.delete(false).expect("delete");
}

/// A refusal comes before the sum of both is beyond the ceiling, and the end of one makes room for the other.
#[test]
fn two_guests_of_a_container_share_its_ceiling() {
    const MIB: u64 = 1 << 20;
    let (mut container, input) = guest_container(&guests::grower());
    // The guests begin with 64 KiB, and ask for 16 MiB each time.
    let ceiling = SharedCeiling::new(Some(50 * MIB)).expect("pages");
    let place = ceiling.place().expect("a place");
    container.ceiling = Some(ceiling);
    let running = ExecTest::start(container);
    let mut init = fs::File::from(input);
    let mut said = String::new();
    let mut ask_init = |answer: &str| {
        init.write_all(b"more\n").expect("ask");
        said.push_str(answer);
        running.container.wait_for_output(&said);
        assert_eq!(running.container.output(), said);
    };
    ask_init("granted\n");

    let process = running.container.process_of(&["guest"]);
    let (read, write) = pipe2(OFlag::O_CLOEXEC).expect("pipe");
    let output = running.output.as_file().as_fd();
    let stdio = [read.as_fd(), output, output];
    let (pid, _) = running
        .container
        .exec_with(&process, stdio, None, Some(&place))
        .expect("exec");
    let mut exec = fs::File::from(write);
    let mut ask_exec = |answers: &str| {
        exec.write_all(b"more\n").expect("ask");
        wait_until(answers, || running.written() == answers);
    };
    // 16 of the first, 16 and what its process needs of the second: no room for 16 more in either.
    ask_exec("granted\n");
    ask_exec("granted\nrefused\n");
    ask_init("refused\n");
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("kill");
    assert_eq!(wait(Pid::from_raw(pid)), Some(137));
    drop(place);
    ask_init("granted\n");
    drop(init);
    assert_eq!(running.container.wait(), 0);
    running.container.delete(false).expect("delete");
}

/// A container whose guest waits for its input, with a module in its files that runs as `guest`.
fn guest_container(guest: &str) -> (TestContainer, std::os::fd::OwnedFd) {
    let mut container = TestContainer::of(guest);
    let input = container.with_stdin();
    let bin = container.root().join("bin");
    fs::create_dir(&bin).expect("make");
    let wasm = wat::parse_str(guest).expect("the guest's WAT");
    fs::write(bin.join("guest.wasm"), wasm).expect("write");
    (container, input)
}

#[test]
fn guest_exec_with_the_spec_of_the_init_process_looks_the_same() {
    for change in [|_: &mut TestContainer| (), particular] {
        let (mut container, input) = guest_container(&guests::busy());
        change(&mut container);
        let running = ExecTest::start(container);
        running.container.wait_for_output("ready\n");
        let process = running.container.process_of(&["guest", "argument"]);
        let (pid, workload) = running.spawn(&process).expect("exec");
        assert!(matches!(workload, Workload::Wasm { .. }));
        wait_until("it runs", || running.written() == "ready\n");
        assert_same_as_init(&running, pid);
        running.end_with(Some(pid));
        drop(input);
    }
}

/// Gives a guest's container native programs.
fn add_busybox(container: &TestContainer) {
    let host = TestContainer::native(&SLEEP);
    for name in ["busybox", "sh"] {
        let program = Path::new("bin").join(name);
        executables::copy(
            &host.root().join(&program),
            &container.root().join(&program),
        );
    }
}

#[test]
fn native_exec_beside_a_guest_cannot_mount() {
    let (mut container, input) = guest_container(&guests::reader());
    let all = ["CAP_SYS_ADMIN", "CAP_CHOWN"];
    container.spec["process"]["capabilities"] =
        json!({ "bounding": all, "effective": all, "permitted": all });
    add_busybox(&container);
    let running = ExecTest::start(container);
    let process = running.container.process_of(&SLEEP);
    let (pid, _) = running.spawn(&process).expect("exec");
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    assert_eq!(status(&text, "CapBnd"), "0000000000000001");
    assert_eq!(status(&text, "CapEff"), "0000000000000001");
    kill(pid, Signal::SIGKILL).expect("kill");
    wait(pid).expect("it ends");
    drop(input);
    running.container.wait();
    running.container.delete(false).expect("delete");
}

/// A guest's container has no devpts and no /dev/tty, so the program has its terminal as its streams alone.
#[test]
fn native_exec_beside_a_guest_has_the_hosts_terminal_with_job_control() {
    let (container, input) = guest_container(&guests::reader());
    add_busybox(&container);
    let running = ExecTest::start(container);
    let script = "[ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo three; [ -e /dev/tty ] || echo no name; \
         set -m; busybox cat; echo stopped $?; exit 9";
    let process = running.container.process_of(&["sh", "-c", script]);
    let mut terminal = TestTerminal::open();
    let pid = running.container.exec_on(&process, &terminal);
    assert!(!terminal.take_over(), "there is none in the container");
    terminal.shown("three\r\nno name\r\n");
    // What cat has copied it has read: from then on it is in the foreground.
    terminal.type_keys("here\n");
    terminal.shown("here\r\nhere\r\n");
    terminal.type_keys("\x1a");
    terminal.shown("stopped 148\r\n");
    assert_eq!(wait(Pid::from_raw(pid.expect("exec"))), Some(9));
    drop(input);
    running.container.wait();
    running.container.delete(false).expect("delete");
}

/// The kernel takes no argument of more than 128 KiB, and the runner is shown with those of its guest.
#[test]
fn guest_takes_arguments_that_the_kernel_would_not_take() {
    let (container, input) = guest_container(&guests::reader());
    let running = ExecTest::start(container);
    let long = "x".repeat(200 << 10);
    let process = running.container.process_of(&["guest", &long]);
    assert_eq!(running.run(&process).expect("exec").0, 0);
    drop(input);
    running.container.wait();
    running.container.delete(false).expect("delete");
}
