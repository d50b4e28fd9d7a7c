//! The program as a build of an image runs it, on small modules. It enters namespaces of its own: run as root.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Output};

use tempfile::TempDir;
use wasmtime::{Engine, Instance, Linker, Module, Store};

/// A folder with a root file system and a module outside of it.
struct Build {
    folder: TempDir,
}

impl Build {
    fn new(module: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        fs::create_dir(folder.path().join("root")).expect("a root directory");
        let wasm = wat::parse_str(module).expect("a valid module");
        fs::write(folder.path().join("module.wasm"), wasm).expect("written");
        Self { folder }
    }

    fn root(&self) -> std::path::PathBuf {
        self.folder.path().join("root")
    }

    fn run(&self) -> Output {
        Command::new(env!("CARGO_BIN_EXE_wasm-interp-preinit"))
            .args([
                "module.wasm",
                "made.wasm",
                "--root=root",
                "--env=NAME=value",
            ])
            .current_dir(self.folder.path())
            .output()
            .expect("the program starts")
    }

    /// The module with initialized memory.
    fn made(&self) -> Vec<u8> {
        let output = self.run();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        fs::read(self.folder.path().join("made.wasm")).expect("written")
    }

    /// What it says when it refuses the module.
    fn refusal(&self) -> String {
        let output = self.run();
        assert!(!output.status.success(), "it is not refused");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

/// Calls `_start`, and then `result` for its number.
fn start(wasm: &[u8]) -> i32 {
    let engine = Engine::default();
    let module = Module::new(&engine, wasm).expect("a valid module");
    let mut store = Store::new(&engine, ());
    let linker = Linker::new(&engine);
    let instance: Instance = linker
        .instantiate(&mut store, &module)
        .expect("no import is left");
    let call = |store: &mut Store<()>, name| {
        let function = instance.get_func(&mut *store, name).expect("exported");
        let mut results = vec![wasmtime::Val::I32(0); function.ty(&*store).results().len()];
        function.call(store, &[], &mut results).expect("no trap");
        results.first().and_then(wasmtime::Val::i32)
    };
    call(&mut store, "_start");
    call(&mut store, "result").expect("a number")
}

#[test]
fn resume_finds_memory_and_globals_as_preinit_left_them() {
    let build = Build::new(
        r#"(module
            (memory (export "memory") 1)
            (global $stack (mut i32) (i32.const 7))
            (data (i32.const 1024) "abcd")
            (func (export "preinit")
                (i32.store8 (i32.const 1024) (i32.const 2))
                (i32.store8 (i32.const 5000) (i32.const 30))
                (global.set $stack (i32.const 100)))
            (func (export "resume") (result i32)
                (i32.store (i32.const 8)
                    (i32.add (global.get $stack)
                        (i32.add (i32.load8_u (i32.const 1024)) (i32.load8_u (i32.const 5000)))))
                (i32.const 0))
            (func (export "_start") unreachable)
            (func (export "result") (result i32) (i32.load (i32.const 8))))"#,
    );
    assert_eq!(start(&build.made()), 132);
}

#[test]
fn start_afresh_finds_data_globals_and_zeros_of_the_original() {
    // Of the byte on the heap nothing is said: it is above the address that `resume` answers.
    let build = Build::new(
        r#"(module
            (memory (export "memory") 1)
            (global $stack (mut i32) (i32.const 7))
            (data (i32.const 1024) "\01\02")
            (data (i32.const 2048) "\04")
            (data $passive "\40")
            (func (export "preinit")
                (memory.fill (i32.const 1000) (i32.const 255) (i32.const 3000))
                (global.set $stack (i32.const 100)))
            (func (export "resume") (result i32)
                (i32.store8 (i32.const 2048) (i32.const 99))
                (i32.store8 (i32.const 3000) (i32.const 99))
                (i32.const 4096))
            (func (export "_start")
                (memory.init $passive (i32.const 3001) (i32.const 0) (i32.const 1))
                (i32.store (i32.const 8)
                    (i32.add
                        (i32.add (global.get $stack) (i32.load16_u (i32.const 1024)))
                        (i32.add (i32.load8_u (i32.const 2048))
                            (i32.load16_u (i32.const 3000))))))
            (func (export "result") (result i32) (i32.load (i32.const 8))))"#,
    );
    assert_eq!(start(&build.made()), 7 + 0x201 + 4 + 0x4000);
}

/// Keeps what it is told of the clock, random numbers, a directory and a file.
const CURIOUS: &str = r#"(module
    (import "wasi_snapshot_preview1" "clock_time_get"
        (func $clock (param i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_readdir"
        (func $list (param i32 i32 i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_filestat_get" (func $stat (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_filestat_get"
        (func $stat_at (param i32 i32 i32 i32 i32) (result i32)))
    (import "wasm_interp_posix_v1" "fstat" (func $fstat (param i32 i32) (result i32)))
    (import "wasm_interp_posix_v1" "fstatat"
        (func $fstatat (param i32 i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 16) "folder")
    (data (i32.const 32) "folder/b")
    (func $check (param i32) (if (local.get 0) (then unreachable)))
    (func (export "preinit")
        (call $check (call $clock (i32.const 0) (i64.const 0) (i32.const 1024)))
        (call $check (call $random (i32.const 1040) (i32.const 32)))
        (call $check (call $open (i32.const 3) (i32.const 1) (i32.const 16) (i32.const 6)
            (i32.const 2) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 8)))
        (call $check (call $list (i32.load (i32.const 8)) (i32.const 1280) (i32.const 256)
            (i64.const 0) (i32.const 12)))
        (call $check (call $stat (i32.load (i32.const 8)) (i32.const 2048)))
        (call $check (call $stat_at (i32.const 3) (i32.const 1) (i32.const 32) (i32.const 8)
            (i32.const 2200)))
        (call $check (call $fstat (i32.load (i32.const 8)) (i32.const 2400)))
        (call $check (call $fstatat (i32.const 3) (i32.const 1) (i32.const 32) (i32.const 8)
            (i32.const 2600))))
    (func (export "resume") (result i32) (i32.const 0))
    (func (export "_start")))"#;

fn with_files(names: &[&str]) -> Build {
    let build = Build::new(CURIOUS);
    let folder = build.root().join("folder");
    fs::create_dir(&folder).expect("a folder");
    for name in names {
        fs::write(folder.join(name), "content").expect("a file");
    }
    symlink("a", folder.join("link")).expect("a link");
    build
}

#[test]
fn bytes_depend_on_no_clock_no_random_number_and_no_file_system() {
    let first = with_files(&["a", "b", "c"]).made();
    assert_eq!(first, with_files(&["c", "b", "a"]).made());
    let text = String::from_utf8_lossy(&first).into_owned();
    let names = ["a", "b", "c", "link"].map(|name| format!("\u{0}{name}"));
    assert!(names.iter().all(|name| text.contains(name)));
    assert_ne!(first, with_files(&["a", "b", "d"]).made());
}

#[test]
fn preinit_can_change_no_file() {
    let build = Build::new(
        r#"(module
            (import "wasi_snapshot_preview1" "path_create_directory"
                (func $make (param i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 16) "new")
            (func (export "preinit")
                (i32.store (i32.const 8) (call $make (i32.const 3) (i32.const 16) (i32.const 3))))
            (func (export "resume") (result i32) (i32.const 0))
            (func (export "_start"))
            (func (export "result") (result i32) (i32.load (i32.const 8))))"#,
    );
    let made = build.made();
    assert!(!build.root().join("new").exists());
    let engine = Engine::default();
    let module = Module::new(&engine, made).expect("a valid module");
    let mut linker = Linker::new(&engine);
    linker
        .define_unknown_imports_as_traps(&module)
        .expect("defined");
    let mut store = Store::new(&engine, ());
    let instance = linker
        .instantiate(&mut store, &module)
        .expect("an instance");
    let result = instance
        .get_typed_func::<(), i32>(&mut store, "result")
        .expect("exported");
    const ROFS: i32 = 69;
    assert_eq!(result.call(&mut store, ()).expect("no trap"), ROFS);
}

#[test]
fn module_that_cannot_be_initialized_is_refused_with_the_reason() {
    let refused = [
        (
            r#"(module (memory (export "memory") 1)
                (func (export "resume") (result i32) (i32.const 0)) (func (export "_start")))"#,
            "cannot initialize module.wasm: failed to find function export `preinit`",
        ),
        (
            r#"(module (memory (export "memory") 1)
                (func (export "preinit")) (func (export "_start")))"#,
            "cannot give module.wasm its new _start: it does not export resume",
        ),
        (
            r#"(module (memory (export "memory") 1)
                (func (export "preinit")) (func (export "resume") (result i32) (i32.const 0)))"#,
            "cannot give module.wasm its new _start: it does not export _start",
        ),
        (
            r#"(module
                (import "wasm_interp_posix_v1" "signal_register"
                    (func $register (param i32 i32) (result i32)))
                (memory (export "memory") 1)
                (func (export "preinit")
                    (drop (call $register (i32.const 16) (i32.const 20))))
                (func (export "resume") (result i32) (i32.const 0))
                (func (export "_start")))"#,
            "it handles signals already: let it do so at resume",
        ),
    ];
    for (module, reason) in refused {
        let refusal = Build::new(module).refusal();
        assert!(refusal.contains(reason), "{refusal}");
    }
}

#[test]
fn what_a_failed_module_wrote_is_in_the_error() {
    let build = Build::new(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write"
                (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 16) "the reason")
            (func (export "preinit")
                (i32.store (i32.const 0) (i32.const 16))
                (i32.store (i32.const 4) (i32.const 10))
                (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))
                unreachable)
            (func (export "resume") (result i32) (i32.const 0))
            (func (export "_start")))"#,
    );
    let refusal = build.refusal();
    assert!(refusal.contains("unreachable"), "{refusal}");
    assert!(refusal.ends_with("it wrote: the reason\n"), "{refusal}");
}
