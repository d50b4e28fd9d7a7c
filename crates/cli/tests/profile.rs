//! `wasm-interp run --profile`: real guests in real containers, sampled by the kernel. Needs root, and the runner and
//! the compiler beside the command: `cargo test --workspace` puts them there.
// For clippy: .clippy.toml allows more in tests.
#![cfg(test)]

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// A function that computes, with a name that XML cannot have as it is.
const BUSY: &str = "sum<i32>&";

/// A guest that computes in [`BUSY`] for 0.3 seconds of its own CPU time, and then does `last`.
fn busy(last: &str) -> String {
    format!(
        r#"(module
          (import "wasi_snapshot_preview1" "clock_time_get"
            (func $clock (param i32 i64 i32) (result i32)))
          (import "wasi_snapshot_preview1" "fd_write"
            (func $write (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 64) "ready\n")
          (func ${BUSY} (result i32) (local $left i32) (local $sum i32)
            (local.set $left (i32.const 1000000))
            (loop $again
              (local.set $sum (i32.xor (i32.mul (local.get $sum) (i32.const 31)) (local.get $left)))
              (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
            (local.get $sum))
          (func $until_enough
            (loop $again
              (drop (call ${BUSY}))
              ;; 2: the clock of the process's CPU time.
              (drop (call $clock (i32.const 2) (i64.const 0) (i32.const 0)))
              (br_if $again (i64.lt_u (i64.load (i32.const 0)) (i64.const 300000000)))))
          (func $say_ready
            (i32.store (i32.const 16) (i32.const 64))
            (i32.store (i32.const 20) (i32.const 6))
            (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24))))
          (func (export "_start") (call $until_enough) {last}))"#
    )
}

/// A root filesystem with a program, and a place for profiles.
struct Machine {
    temp: TempDir,
}

impl Machine {
    fn with(program: &str) -> Self {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("rootfs")).unwrap();
        let machine = Self { temp };
        fs::write(machine.program(), wat::parse_str(program).unwrap()).unwrap();
        machine
    }

    fn program(&self) -> PathBuf {
        self.temp.path().join("rootfs/program.wasm")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn run(&self, profile: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wasm-interp"));
        command
            .env("WASM_INTERP_POLICY", "/nonexistent/policy.json")
            .env("WASM_INTERP_CACHE_DIR", self.path("cache"))
            .args(["run", "--profile"])
            .args([profile, &self.path("rootfs")])
            .args(["--", "/program.wasm"]);
        command
    }

    /// The samples of a run that ends with `code`: how many have a function innermost.
    fn samples(&self, profile: &Path, output: &Output, code: i32) -> HashMap<String, u64> {
        assert_eq!(output.status.code(), Some(code), "{}", stderr(output));
        let told = stderr(output);
        assert!(told.contains("wasm-interp: profile: "), "{told}");
        assert!(told.contains(profile.to_str().unwrap()), "{told}");
        let mut innermost = HashMap::new();
        for line in fs::read_to_string(profile).unwrap().lines() {
            let (stack, samples) = line.rsplit_once(' ').unwrap();
            let function = stack.rsplit(';').next().unwrap();
            let samples: u64 = samples.parse().unwrap();
            *innermost.entry(function.to_owned()).or_default() += samples;
        }
        innermost
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Whether more than half of the samples are in a function.
fn assert_mostly(samples: &HashMap<String, u64>, function: &str) {
    let all: u64 = samples.values().sum();
    let within = samples.get(function).copied().unwrap_or(0);
    assert!(2 * within > all, "{function}: {samples:?}");
}

#[test]
fn function_that_computes_has_most_samples() {
    let machine = Machine::with(&busy(""));
    let profile = machine.path("busy.folded");
    let output = machine.run(&profile).output().unwrap();
    assert_mostly(&machine.samples(&profile, &output, 0), BUSY);
    let text = fs::read_to_string(&profile).unwrap();
    // What called it: the unnamed function of `_start` is outermost. In the first instruction of a function its caller is
    // missing, but hardly any sample is there.
    let stacks = text.lines().filter(|line| line.contains(BUSY));
    let stacks = stacks.map(|line| line.rsplit_once(' ').unwrap());
    let most = stacks.max_by_key(|(_, count)| count.parse::<u64>().unwrap());
    let frames: Vec<_> = most.unwrap().0.split(';').collect();
    assert_eq!(frames[1..3], ["until_enough", BUSY], "{text}");
    // The file alone remains.
    let mut left: Vec<_> = fs::read_dir(machine.temp.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["busy.folded", "cache", "rootfs"]);
}

#[test]
fn flame_graph_is_xml_with_the_functions_name() {
    let machine = Machine::with(&busy(""));
    let profile = machine.path("busy.svg");
    let output = machine.run(&profile).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let text = fs::read_to_string(&profile).unwrap();
    let document = roxmltree::Document::parse(&text).unwrap();
    let mut texts = document.descendants().filter_map(|node| node.text());
    assert!(texts.any(|text| text == BUSY), "{text}");
}

#[test]
fn component_has_the_functions_of_its_modules() {
    let machine = Machine::with(
        r#"(component
          (core module $main
            (func $computing (local $left i64) (local $sum i64)
              (local.set $left (i64.const 300000000))
              (loop $again
                (local.set $sum (i64.mul (i64.xor (local.get $sum) (local.get $left)) (i64.const 31)))
                (br_if $again (i64.ne (i64.const 0)
                  (local.tee $left (i64.sub (local.get $left) (i64.const 1)))))))
            (func (export "run") (result i32) (call $computing) (i32.const 0)))
          (core instance $main (instantiate $main))
          (func $run (result (result)) (canon lift (core func $main "run")))
          (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))"#,
    );
    let profile = machine.path("component.txt");
    let output = machine.run(&profile).output().unwrap();
    assert_mostly(&machine.samples(&profile, &output, 0), "computing");
}

#[test]
fn profile_is_written_when_the_guest_traps() {
    let machine = Machine::with(&busy("(unreachable)"));
    let profile = machine.path("trap.folded");
    let output = machine.run(&profile).output().unwrap();
    assert_mostly(&machine.samples(&profile, &output, 134), BUSY);
}

/// Says that it has computed, and goes on until a signal.
fn busy_until_a_signal() -> String {
    busy("(call $say_ready) (loop $on (call $until_enough) (br $on))")
}

/// Starts a guest that says when it has computed, calls `then`, and sends it a signal.
fn ended_by(signal: Signal, command: &mut Command, then: impl FnOnce()) -> Output {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    then();
    kill(Pid::from_raw(child.id() as i32), signal).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(line, "ready\n", "{}", stderr(&output));
    output
}

#[test]
fn profile_is_written_when_a_signal_ends_the_guest() {
    let machine = Machine::with(&busy_until_a_signal());
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let profile = machine.path("signal.folded");
        let output = ended_by(signal, &mut machine.run(&profile), || ());
        assert_mostly(&machine.samples(&profile, &output, code), BUSY);
        fs::remove_file(profile).unwrap();
    }
}

#[test]
fn profile_that_is_not_written_does_not_hide_the_exit_code() {
    let machine = Machine::with(&busy_until_a_signal());
    let folder = machine.path("folder");
    fs::create_dir(&folder).unwrap();
    let mut command = machine.run(&folder.join("lost.svg"));
    let output = ended_by(Signal::SIGTERM, &mut command, || {
        fs::remove_dir_all(&folder).unwrap();
    });
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(143), "{told}");
    assert!(
        told.contains("cannot write the profile") && told.contains("lost.svg"),
        "{told}"
    );
}

#[test]
fn wrong_name_of_the_file_is_an_error_before_the_guest_starts() {
    let machine = Machine::with(&busy("(call $say_ready)"));
    for (name, code, parts) in [
        ("busy.png", 2, [".svg", ".folded"]),
        (
            "missing/busy.svg",
            125,
            ["missing/busy.svg", "No such file"],
        ),
    ] {
        let output = machine.run(&machine.path(name)).output().unwrap();
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(parts.iter().all(|part| told.contains(part)), "{told}");
        assert_eq!(output.stdout, b"");
    }
}

#[test]
fn native_program_is_not_profiled() {
    let machine = Machine::with("(module)");
    // The beginning of an ELF file of this machine; it never runs.
    fs::copy("/proc/self/exe", machine.program()).unwrap();
    let output = machine.run(&machine.path("native.svg")).output().unwrap();
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(125), "{told}");
    assert!(
        told.contains("/program.wasm") && told.contains("native program"),
        "{told}"
    );
    assert!(!machine.path("native.svg").exists());
}
