//! The artifact store's guarantees: one compile per key across threads and processes, verification,
//! eviction, limits, confinement, logs, and starts without a usable disk.
//!
//! This executable is also the compiler: under the name `wasm-interp-compiler` it acts as that program
//! (see `main`), so that the tests need no executable of another package.

// For clippy: .clippy.toml allows more in tests.
#![cfg(test)]

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};
use nix::sys::signal::Signal;
use tempfile::TempDir;
use wasm_interp_artifact::{
    Artifact, ArtifactError, CodeRequest, CompileFailure, CompileProgress, CompileStage, Integrity,
    ModuleRefusal, Origin, Store,
};
use wasm_interp_test_support::executables;
use wasm_interp_workload::CachePolicy;

const COMPILER: &str = "wasm-interp-compiler";

/// The folder of the executables.
static RELEASE: OnceLock<PathBuf> = OnceLock::new();

/// An executable of the release.
fn executable(name: &str) -> PathBuf {
    RELEASE.get().unwrap().join(name)
}

fn main() -> ExitCode {
    let own = std::env::current_exe().unwrap();
    if own.file_name().is_some_and(|name| name == COMPILER) {
        return wasm_interp_compiler::main(std::env::args_os().skip(1));
    }
    let release = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let link = |from: &Path, name: &str| {
        let to = release.path().join(name);
        // Where it is another file system, by a copy.
        if fs::hard_link(from, &to).is_err() {
            executables::copy(from, &to);
        }
    };
    link(&own, COMPILER);
    link(Path::new(env!("CARGO_BIN_EXE_wasm-interp")), "wasm-interp");
    RELEASE.set(release.path().to_owned()).unwrap();
    macro_rules! trials {
        ($($test:ident),* $(,)?) => {
            vec![$(Trial::test(stringify!($test), || {
                $test();
                Ok(())
            })),*]
        };
    }
    let trials = trials![
        a_module_is_compiled_once_and_then_found,
        concurrent_threads_and_processes_compile_once,
        a_compile_goes_on_when_its_client_is_killed,
        waiting_clients_fail_with_the_compile_that_they_waited_for,
        a_damaged_entry_is_compiled_again,
        eviction_removes_the_least_recently_used_and_keeps_entries_in_use,
        publishing_keeps_the_store_within_its_size,
        a_refused_module_is_named_with_the_reason,
        a_compile_beyond_its_limits_fails_with_the_limit,
        a_component_of_countless_instances_ends_at_the_limit,
        a_module_of_any_length_is_refused_before_it_is_read,
        hundreds_of_unknown_imports_are_a_clear_error,
        a_killed_or_missing_compiler_is_named_in_the_error,
        the_compiler_is_confined,
        a_full_read_only_or_noexec_disk_does_not_stop_a_start,
        a_store_that_other_users_can_write_is_not_used,
        verify_finds_damage_that_leaves_the_stamp_unchanged,
        logs_of_the_publisher_and_of_eviction_reach_stderr_of_the_client,
        the_policy_file_sets_the_bounds_of_a_compile,
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// A cache, and modules to fill it with.
struct StoreNode {
    temp: TempDir,
    policy: CachePolicy,
}

impl StoreNode {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        Self {
            temp,
            policy: CachePolicy::default(),
        }
    }

    fn cache(&self) -> PathBuf {
        self.temp.path().join("cache")
    }

    fn store(&self) -> Store {
        Store::open(&self.cache())
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.temp.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn get(&self, path: &Path) -> Result<Artifact, ArtifactError> {
        self.get_by(&executable(COMPILER), path)
    }

    fn get_by(&self, compiler: &Path, path: &Path) -> Result<Artifact, ArtifactError> {
        self.get_watched(compiler, path, &mut |_| {})
    }

    fn get_watched(
        &self,
        compiler: &Path,
        path: &Path,
        on_progress: &mut dyn FnMut(CompileProgress),
    ) -> Result<Artifact, ArtifactError> {
        let request = CodeRequest {
            wasm: &File::open(path).unwrap(),
            name: &path.display().to_string(),
            compiler,
            policy: self.policy,
        };
        self.store().get(&request, on_progress)
    }

    /// The only file in the cache with this suffix.
    fn only(&self, end: &str) -> PathBuf {
        let found: Vec<_> = fs::read_dir(self.cache().join("entries"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().ends_with(end))
            .collect();
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].clone()
    }
}

/// A unique module.
fn module(salt: u32) -> Vec<u8> {
    let wat = format!(r#"(module (func (export "_start") (drop (i32.const {salt}))))"#);
    wat::parse_str(wat).unwrap()
}

/// A module that takes long to compile.
fn large(salt: u32) -> Vec<u8> {
    let body =
        "(local.set 0 (i32.mul (i32.add (local.get 0) (i32.const 7)) (local.get 1)))".repeat(60);
    let function = format!("(func (param i32 i32) (result i32) {body} (local.get 0))");
    let functions = function.repeat(500);
    let wat = format!(r#"(module (func (export "_start") (drop (i32.const {salt}))) {functions})"#);
    wat::parse_str(wat).unwrap()
}

fn compile(node: &StoreNode, path: &Path) -> Command {
    let mut command = Command::new(executable("wasm-interp"));
    command
        .env("WASM_INTERP_POLICY", node.temp.path().join("policy.json"))
        .args(["compile", "--json", "--cache"])
        .arg(node.cache())
        .arg(path);
    command
}

fn json(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn a_module_is_compiled_once_and_then_found() {
    let node = StoreNode::new();
    let path = node.file("a.wasm", &module(1));
    let first = node.get(&path).unwrap();
    assert!(
        matches!(first.origin, Origin::Compiled { .. }),
        "{:?}",
        first.origin
    );
    let second = node.get(&path).unwrap();
    assert_eq!(second.origin, Origin::Cached);
    assert_eq!(first.key, second.key);
    let mut magic = [0; 4];
    second.file.read_exact_at(&mut magic, 0).unwrap();
    assert_eq!(&magic, b"\x7fELF");
    assert!(
        second.file.write_at(b"x", 0).is_err(),
        "the descriptor can write"
    );
    // The content identifies the module, not the name.
    let copy = node.file("b.wasm", &module(1));
    assert_eq!(node.get(&copy).unwrap().origin, Origin::Cached);
}

fn concurrent_threads_and_processes_compile_once() {
    let node = StoreNode::new();
    let path = node.file("a.wasm", &large(2));
    let children: Vec<_> = (0..6)
        .map(|_| {
            compile(&node, &path)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut compiled = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..10)
            .map(|_| scope.spawn(|| node.get(&path).unwrap()))
            .collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap().origin)
            .filter(|origin| *origin != Origin::Cached)
            .count()
    });
    for child in children {
        let output = child.wait_with_output().unwrap();
        compiled += usize::from(json(&output)["origin"] != "cached");
    }
    assert_eq!(compiled, 1);
}

fn a_compile_goes_on_when_its_client_is_killed() {
    let node = StoreNode::new();
    let path = node.file("a.wasm", &large(3));
    let mut client = compile(&node, &path).spawn().unwrap();
    let confined = held_compiler(&client);
    client.kill().unwrap();
    client.wait().unwrap();
    assert!(
        Path::new(&format!("/proc/{confined}")).exists(),
        "the compiler ended with its client"
    );
    signal(confined, Signal::SIGCONT);
    assert_eq!(node.get(&path).unwrap().origin, Origin::Cached);
}

fn waiting_clients_fail_with_the_compile_that_they_waited_for() {
    let mut node = StoreNode::new();
    let path = node.file("slow.wasm", &large(4));
    let mut first = compile(&node, &path).stderr(Stdio::null()).spawn().unwrap();
    let confined = held_compiler(&first);
    // No time at all: a client that compiles by itself fails by its own limit.
    node.policy.compile_seconds = 0;
    let waits = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..5)
            .map(|_| {
                scope.spawn(|| {
                    let mut told = false;
                    node.get_watched(&executable(COMPILER), &path, &mut |progress| {
                        if progress.stage == CompileStage::Waiting && !told {
                            told = true;
                            waits.fetch_add(1, Ordering::Relaxed);
                        }
                    })
                })
            })
            .collect();
        eventually("all wait for the first", || {
            (waits.load(Ordering::Relaxed) == clients.len()).then_some(())
        });
        signal(confined, Signal::SIGKILL);
        for client in clients {
            let error = client.join().unwrap().unwrap_err().to_string();
            assert!(error.contains("signal 9"), "{error}");
        }
    });
    assert!(!first.wait().unwrap().success());
}

fn a_damaged_entry_is_compiled_again() {
    let node = StoreNode::new();
    let path = node.file("a.wasm", &module(5));
    let code = {
        node.get(&path).unwrap();
        node.only(".code")
    };
    let record = node.only(".json");
    let good_code = fs::read(&code).unwrap();
    let good_record = fs::read_to_string(&record).unwrap();
    let again = |what: &str| {
        let artifact = node.get(&path).unwrap();
        assert!(
            matches!(artifact.origin, Origin::Compiled { .. }),
            "{what} was trusted"
        );
        assert_eq!(fs::read(&code).unwrap(), good_code, "{what}");
        assert_eq!(node.get(&path).unwrap().origin, Origin::Cached, "{what}");
    };

    let mut flipped = good_code.clone();
    flipped[good_code.len() / 2] ^= 1;
    File::options()
        .write(true)
        .open(&code)
        .unwrap()
        .write_all_at(&flipped, 0)
        .unwrap();
    again("a flipped bit");
    File::options()
        .write(true)
        .open(&code)
        .unwrap()
        .set_len(100)
        .unwrap();
    again("truncated code");
    fs::write(&code, b"").unwrap();
    again("empty code");
    fs::remove_file(&code).unwrap();
    again("missing code");
    fs::remove_file(&record).unwrap();
    again("a missing record");
    fs::write(&record, b"\0\0\0\0").unwrap();
    again("a record lost to a power failure");
    fs::write(&record, good_record.replace("\"format\":1", "\"format\":0")).unwrap();
    again("a record of an older version");
    let foreign = good_record.replace(
        &good_record[good_record.find("\"key\":\"").unwrap() + 7..][..4],
        "0000",
    );
    fs::write(&record, foreign).unwrap();
    again("a record of another artifact");
    fs::write(code.with_extension("code.tmp"), b"half").unwrap();
    fs::remove_file(&code).unwrap();
    again("a leftover of a crash");
    assert!(!code.with_extension("code.tmp").exists());
}

fn eviction_removes_the_least_recently_used_and_keeps_entries_in_use() {
    let node = StoreNode::new();
    let paths: Vec<_> = (0..4)
        .map(|n| node.file(&format!("{n}.wasm"), &module(60 + n)))
        .collect();
    let held = node.get(&paths[0]).unwrap();
    let inherited = held.file.try_clone().unwrap();
    drop(held);
    for path in &paths[1..] {
        std::thread::sleep(Duration::from_millis(20));
        drop(node.get(path).unwrap());
    }
    std::thread::sleep(Duration::from_millis(20));
    drop(node.get(&paths[1]).unwrap());
    let entries = node.store().list().unwrap();
    assert_eq!(entries.len(), 4);
    assert_eq!(entries.iter().filter(|entry| entry.in_use).count(), 1);
    let each = entries[0].bytes + 1024;
    let pruned = node.store().prune(each * 2).unwrap();
    assert_eq!((pruned.removed, pruned.spared), (2, 1));
    let names = |node: &StoreNode| {
        let mut names: Vec<_> = node
            .store()
            .list()
            .unwrap()
            .into_iter()
            .map(|e| e.name)
            .collect();
        names.sort();
        names
    };
    let left = [&paths[0], &paths[1]].map(|path| path.display().to_string());
    assert_eq!(names(&node), left);
    drop(inherited);
    assert_eq!(node.store().prune(0).unwrap().removed, 2);
}

fn publishing_keeps_the_store_within_its_size() {
    let mut node = StoreNode::new();
    let first = node.file("1.wasm", &module(71));
    let second = node.file("2.wasm", &module(72));
    drop(node.get(&first).unwrap());
    node.policy.max_bytes = node.store().list().unwrap()[0].bytes + 2048;
    drop(node.get(&second).unwrap());
    let entries = node.store().list().unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].name, second.display().to_string());
    // An entry that can never fit is not kept, and the output says so.
    node.policy.max_bytes = 100;
    let third = node.get(&node.file("3.wasm", &module(73))).unwrap();
    assert!(
        matches!(third.origin, Origin::Uncached { ref reason, .. } if reason.contains("100 bytes"))
    );
}

fn a_refused_module_is_named_with_the_reason() {
    let node = StoreNode::new();
    let broken = node.file("broken.wasm", b"\0asm\x01\0\0\0\xff");
    let error = node.get(&broken).unwrap_err();
    assert!(
        matches!(error.refusal(), Some(ModuleRefusal::Invalid { .. })),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .starts_with(&format!("cannot compile {}", broken.display()))
    );
    let native = node.file(
        "native.wasm",
        &fs::read(executable(COMPILER)).unwrap()[..4096],
    );
    assert_eq!(
        node.get(&native).unwrap_err().refusal(),
        Some(&ModuleRefusal::Precompiled)
    );
    let output = compile(&node, &broken).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("broken.wasm"),
        "{output:?}"
    );
    assert_eq!(node.store().list().unwrap().len(), 0);
}

fn is_memory_limit(error: &ArtifactError) -> bool {
    matches!(
        error,
        ArtifactError::Compile {
            failure: CompileFailure::MemoryLimit { .. },
            ..
        }
    )
}

fn a_compile_beyond_its_limits_fails_with_the_limit() {
    let mut node = StoreNode::new();
    let path = node.file("hungry.wasm", &large(8));
    node.policy.compile_memory_bytes = 8 << 20;
    let error = node.get(&path).unwrap_err();
    assert!(is_memory_limit(&error), "{error}");
    assert!(error.to_string().contains("hungry.wasm") && error.to_string().contains("8 MiB"));
    node.policy = CachePolicy {
        compile_seconds: 0,
        ..CachePolicy::default()
    };
    let error = node.get(&path).unwrap_err();
    assert!(
        matches!(
            error,
            ArtifactError::Compile {
                failure: CompileFailure::TimeLimit { .. },
                ..
            }
        ),
        "{error}"
    );
}

/// Each component makes ten instances of the one in it, so that some hundred bytes are a hundred million instances.
fn a_component_of_countless_instances_ends_at_the_limit() {
    let mut node = StoreNode::new();
    let mut component =
        "(component $c0 (core module $m (func)) (core instance (instantiate $m)))".to_owned();
    for level in 1..=8 {
        let instances = format!("(instance (instantiate $c{}))", level - 1).repeat(10);
        component = format!("(component $c{level} {component} {instances})");
    }
    let component = wat::parse_str(format!(
        r#"(component {component} (instance (instantiate $c8))
            (core module (func (export "run") (result i32) (i32.const 0)))
            (core instance (instantiate 0))
            (func (result (result)) (canon lift (core func 0 "run")))
            (instance (export "wasi:cli/run@0.2.0") (export "run" (func 0))))"#
    ))
    .unwrap();
    assert!(component.len() < 1000, "{}", component.len());
    let path = node.file("countless.wasm", &component);
    node.policy.compile_memory_bytes = 128 << 20;
    let error = node.get(&path).unwrap_err();
    assert!(is_memory_limit(&error), "{error}");
}

/// A sparse file in a volume may have any length. To read it would take hours, and a copy of it would
/// need all memory of the node.
fn a_module_of_any_length_is_refused_before_it_is_read() {
    let node = StoreNode::new();
    let path = node.file("endless.wasm", b"\0asm\x01\0\0\0");
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    let error = node.get(&path).unwrap_err();
    assert!(
        matches!(error.refusal(), Some(ModuleRefusal::TooLarge { .. })),
        "{error}"
    );
    assert!(error.to_string().contains("1048576 MiB"), "{error}");
}

/// An Emscripten module put into an image by mistake has hundreds of them.
fn hundreds_of_unknown_imports_are_a_clear_error() {
    let node = StoreNode::new();
    let imports: String = (0..900)
        .map(|n| format!(r#"(import "env" "a_function_with_a_long_name_{n}" (func))"#))
        .collect();
    let wat = format!(r#"(module {imports} (func (export "_start")))"#);
    let path = node.file("emscripten.wasm", &wat::parse_str(wat).unwrap());
    let error = node.get(&path).unwrap_err();
    assert!(
        matches!(error.refusal(), Some(ModuleRefusal::Imports { .. })),
        "{error}"
    );
    assert!(error.to_string().contains("and 800 more"), "{error}");
}

fn a_killed_or_missing_compiler_is_named_in_the_error() {
    let node = StoreNode::new();
    let path = node.file("a.wasm", &large(9));
    let mut client = compile(&node, &path)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    signal(held_compiler(&client), Signal::SIGKILL);
    let mut words = String::new();
    std::io::Read::read_to_string(&mut client.stderr.take().unwrap(), &mut words).unwrap();
    assert_eq!(client.wait().unwrap().code(), Some(1));
    assert!(
        words.contains("a.wasm") && words.contains("signal 9"),
        "{words}"
    );
    let missing = Path::new("/nonexistent/wasm-interp-compiler");
    let error = node.get_by(missing, &path).unwrap_err();
    assert!(matches!(error, ArtifactError::Start { .. }), "{error}");
    // A program that is not the compiler.
    let error = node.get_by(Path::new("/bin/true"), &path).unwrap_err();
    assert!(
        matches!(
            error,
            ArtifactError::NoResponse { .. } | ArtifactError::Compile { .. }
        ),
        "{error}"
    );
}

fn the_compiler_is_confined() {
    if !is_root() {
        return;
    }
    let node = StoreNode::new();
    let path = node.file("a.wasm", &large(10));
    let mut client = compile(&node, &path).spawn().unwrap();
    let pid = held_compiler(&client);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for line in [
        "Uid:\t65534\t65534\t65534\t65534",
        "Gid:\t65534\t65534\t65534\t65534",
        "CapEff:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "NoNewPrivs:\t1",
    ] {
        assert!(status.contains(line), "{line} not in {status}");
    }
    let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    assert_eq!(score.trim(), "1000", "the node's services go before it");
    for name in ["net", "ipc", "pid", "uts"] {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
        assert_ne!(of(&pid.to_string()), of("self"), "{name}");
    }
    let descriptors: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|fd| fd.unwrap())
        .map(|fd| (fd.file_name(), fs::read_link(fd.path()).unwrap_or_default()))
        .filter(|(_, target)| !target.to_string_lossy().starts_with("/memfd:wasm-interp"))
        .collect();
    assert!(
        descriptors
            .iter()
            .all(|(fd, target)| fd == "2" && target.to_string_lossy().starts_with("pipe:")),
        "{descriptors:?}"
    );
    signal(pid, Signal::SIGKILL);
    client.wait().unwrap();
}

fn a_full_read_only_or_noexec_disk_does_not_stop_a_start() {
    if !is_root() {
        return;
    }
    for (options, reason) in [
        ("size=16k,mode=700", "No space left"),
        ("ro,mode=700", "Read-only"),
        ("noexec,mode=700", "noexec"),
    ] {
        let node = StoreNode::new();
        let path = node.file("a.wasm", &module(11));
        fs::create_dir(node.cache()).unwrap();
        let script = format!(
            "mount -t tmpfs -o {options} tmpfs {cache} && exec {} compile --json --cache {cache} \
             {}",
            executable("wasm-interp").display(),
            path.display(),
            cache = node.cache().display(),
        );
        let output = Command::new("unshare")
            .args(["-m", "sh", "-c", &script])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(3), "{options}: {output:?}");
        let outcome: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(outcome["origin"], "uncached");
        assert!(
            outcome["reason"].as_str().unwrap().contains(reason),
            "{outcome}"
        );
        assert!(outcome["bytes"].as_u64().unwrap() > 0);
    }
}

fn a_store_that_other_users_can_write_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let node = StoreNode::new();
    let path = node.file("a.wasm", &module(12));
    node.get(&path).unwrap();
    fs::set_permissions(node.cache(), fs::Permissions::from_mode(0o777)).unwrap();
    let artifact = node.get(&path).unwrap();
    assert!(
        matches!(artifact.origin, Origin::Uncached { ref reason, .. } if reason.contains("777"))
    );
    let mut magic = [0; 4];
    artifact.file.read_exact_at(&mut magic, 0).unwrap();
    assert!(
        artifact.file.write_at(b"x", 0).is_err(),
        "memory is not sealed"
    );
}

fn verify_finds_damage_that_leaves_the_stamp_unchanged() {
    let node = StoreNode::new();
    node.get(&node.file("a.wasm", &module(13))).unwrap();
    let cache = |act: &str| {
        Command::new(executable("wasm-interp"))
            .args(["cache", act, "--json", "--cache"])
            .arg(node.cache())
            .output()
            .unwrap()
    };
    assert_eq!(json(&cache("verify"))[0]["verdict"], "sound");
    let code = node.only(".code");
    File::options()
        .write(true)
        .open(&code)
        .unwrap()
        .write_all_at(b"x", 64)
        .unwrap();
    assert!(matches!(
        node.store().verify().unwrap()[0].1,
        Integrity::Unsound { .. }
    ));
    assert_eq!(cache("verify").status.code(), Some(1));
    assert_eq!(json(&cache("ls")).as_array().unwrap().len(), 1);
    assert_eq!(json(&cache("prune"))["removed"], 1);
    assert_eq!(json(&cache("ls")).as_array().unwrap().len(), 0);
}

/// The publisher has no log of its own.
fn logs_of_the_publisher_and_of_eviction_reach_stderr_of_the_client() {
    let node = StoreNode::new();
    let compiled = |path: &Path| {
        let output = compile(&node, path).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        // On a busy machine the compile is long enough to be told.
        let progress = ["wasm-interp: compiling ", "wasm-interp: waiting for "];
        let is_log = |line: &&str| !progress.iter().any(|begin| line.starts_with(begin));
        told.lines().filter(is_log).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(compiled(&node.file("1.wasm", &module(81))), "");

    // One entry fits, but not two.
    let bytes = node.store().list().unwrap()[0].bytes;
    let policy = format!(r#"{{"cache": {{"max_bytes": {}}}}}"#, bytes + 2048);
    node.file("policy.json", policy.as_bytes());
    fs::write(node.cache().join("entries/notes"), "mine").unwrap();
    let log = compiled(&node.file("2.wasm", &module(82)));
    assert!(
        log.contains(r#"ignored "notes" in the entries of the cache"#),
        "{log}"
    );
    assert!(
        log.contains("removed 1 least recently used entries"),
        "{log}"
    );
    assert_eq!(node.store().list().unwrap().len(), 1);
}

fn the_policy_file_sets_the_bounds_of_a_compile() {
    let node = StoreNode::new();
    let path = node.file("a.wasm", &module(83));
    for (policy, expected) in [
        (
            r#"{"cache": {"max_bytes": "1K"}}"#,
            "the cache may hold 1024 bytes",
        ),
        (
            r#"{"cache": {"max_bytes": "1 K"}}"#,
            r#"cannot parse "1 K" as a size"#,
        ),
        (
            r#"{"cache": {"compile_slots": 0}}"#,
            "cache.compile_slots is 0",
        ),
    ] {
        node.file("policy.json", policy.as_bytes());
        let output = compile(&node, &path).output().unwrap();
        assert!(!output.status.success(), "{policy}");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains(expected), "{policy}: {text}");
    }
    node.file("policy.json", br#"{"cache": {"max_module_bytes": "1MiB"}}"#);
    let path = node.file("b.wasm", b"\0asm\x01\0\0\0");
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len((1 << 20) + 1).unwrap();
    let output = compile(&node, &path).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("modules of up to 1 MiB"), "{text}");
}

fn signal(pid: i32, signal: Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
}

/// The confined compiler of a client, once it is confined: stopped, so that it does not end meanwhile, however long this
/// process has to wait for a processor.
fn held_compiler(client: &Child) -> i32 {
    eventually("the compiler is confined", || {
        let pid = confined_for(client.id())?;
        let process = nix::unistd::Pid::from_raw(pid);
        nix::sys::signal::kill(process, Signal::SIGSTOP).ok()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        if !is_root() || status.contains("Seccomp:\t2") {
            return Some(pid);
        }
        nix::sys::signal::kill(process, Signal::SIGCONT).ok()?;
        None
    })
}

fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(300), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The confined compiler of a client: its grandchild.
fn confined_for(client: u32) -> Option<i32> {
    let processes = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let parent = |pid: i32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    processes.into_iter().find(|pid| {
        let confined = fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains("compile-confined"));
        let publisher = parent(*pid).and_then(|publisher| i32::try_from(publisher).ok());
        confined && publisher.and_then(parent) == Some(client)
    })
}
