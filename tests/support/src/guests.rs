//! The programs that trials run, and the images that hold them.
//!
//! Where only the shim and the runner matter, the guest is a few lines of WebAssembly text: it
//! compiles in milliseconds. Where the language matters, it is the image of `make images`.

use std::path::Path;

use crate::image::{self, Image};
use crate::{Outcome, hostile};

/// CPython, as `make images` leaves it.
pub const PYTHON: &str = "localhost/wasm-interp/python:3.13";
/// A script for it that prints `computes` and never ends.
pub const COMPUTES: &str = "print('computes', flush=True)\nwhile True: pass";
/// The example image.
pub const HELLO: &str = "localhost/wasm-interp/hello:latest";
/// Path of the interpreter in [`PYTHON`].
pub const PYTHON_WASM: &str = "/usr/local/bin/python3.13";

/// Prints `ready` and sleeps for an hour.
pub const IDLE: &str = "localhost/test/idle:1";
/// Prints `ready` and computes for ever.
pub const LOOP: &str = "localhost/test/loop:1";
/// Writes to a file in `/dev/shm`, which is memory, until that fails: exits with 1 then.
pub const FILL: &str = "localhost/test/fill:1";
/// Copies standard input to standard output until end of file.
pub const ECHO: &str = "localhost/test/echo:1";
/// Executes `unreachable`.
pub const TRAP: &str = "localhost/test/trap:1";
/// Imports what no one offers.
pub const IMPORTS: &str = "localhost/test/imports:1";
/// Wasm by its first bytes, rubbish after them.
pub const BROKEN: &str = "localhost/test/broken:1";
/// Native code that some Wasmtime compiled ahead of time, under the name of a module.
pub const PRECOMPILED: &str = "localhost/test/precompiled:1";
/// A Python script without a Python.
pub const NO_INTERPRETER: &str = "localhost/test/no-interpreter:1";
/// BusyBox: a native image for `io.containerd.runc.v2`.
pub const NATIVE: &str = "localhost/test/native:1";
/// The same with a USER of its own, 1000:1000.
pub const NATIVE_AS_USER: &str = "localhost/test/native-as-user:1";
/// The example of a C program.
pub const POSIX: &str = "localhost/wasm-interp/posix:latest";
/// The C and Rust programs of `tests/guests`: `/wasm/NAME.wasm`, `/component/NAME.wasm` and `/native/NAME`, with users
/// and time zones.
pub const C_PROGRAMS: &str = "localhost/test/c-programs:1";
/// An application of Python by componentize-py.
pub const PYTHON_APP: &str = "localhost/wasm-interp/component-python:latest";
/// An application of JavaScript by ComponentizeJS, with the same commands.
pub const JAVASCRIPT_APP: &str = "localhost/wasm-interp/component-javascript:latest";
/// A component that imports what no one offers.
pub const COMPONENT_IMPORTS: &str = "localhost/test/component-imports:1";
/// CPython again, with another digest.
pub const NEW: &str = "localhost/test/new:1";
/// CPython of an image with a USER of its own, 1234:4321.
pub const AS_USER: &str = "localhost/test/as-user:1";

/// `_start` of a module with the imports and helpers that the guests share.
fn module(start: &str) -> Outcome<Vec<u8>> {
    // 0: "ready\n"; 16: its iovec; 32: count; 64: a clock subscription of one hour; 128: its
    // event; 256: an iovec of 1 KiB at 1024.
    let text = format!(
        r#"(module
          (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "path_open"
            (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (memory (export "memory") 1)
          (data (i32.const 0) "ready\n")
          (data (i32.const 512) "dev/shm/fill")
          (func $ready
            (i32.store (i32.const 16) (i32.const 0))
            (i32.store (i32.const 20) (i32.const 6))
            (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 32))))
          (func $sleep
            (i32.store (i32.const 80) (i32.const 1))
            (i64.store (i32.const 88) (i64.const 3600000000000))
            (drop (call $poll (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 32))))
          (func (export "_start") {start}))"#
    );
    Ok(wat::parse_str(text)?)
}

fn wasm(start: &str) -> Outcome<Image> {
    Ok(Image::new()
        .program("/bin/guest.wasm", module(start)?)
        .entrypoint(&["/bin/guest.wasm"]))
}

/// Writes the archives of all test images into `folder`; returns them in import order.
pub fn write(folder: &Path, dist: &Path, busybox: &Path) -> Outcome<Vec<std::path::PathBuf>> {
    let echo = r"(local $count i32)
        (i32.store (i32.const 256) (i32.const 1024))
        (loop $again
          (i32.store (i32.const 260) (i32.const 1024))
          (drop (call $read (i32.const 0) (i32.const 256) (i32.const 1) (i32.const 32)))
          (local.set $count (i32.load (i32.const 32)))
          (i32.store (i32.const 260) (local.get $count))
          (drop (call $write (i32.const 1) (i32.const 256) (i32.const 1) (i32.const 32)))
          (br_if $again (local.get $count)))";
    // O_CREAT and the right to write; an iovec of 32 KiB at 1024.
    let fill = r"(call $ready)
        (if (call $open (i32.const 3) (i32.const 0) (i32.const 512) (i32.const 12) (i32.const 1)
            (i64.const 0x40) (i64.const 0) (i32.const 0) (i32.const 256))
          (then (call $exit (i32.const 2))))
        (i32.store (i32.const 16) (i32.const 1024))
        (i32.store (i32.const 20) (i32.const 32768))
        (loop $again
          (br_if $again (i32.eqz
            (call $write (i32.load (i32.const 256)) (i32.const 16) (i32.const 1) (i32.const 32)))))
        (call $exit (i32.const 1))";
    let imports = wat::parse_str(
        r#"(module (import "env" "launch_missiles" (func))
          (import "wasm_interp_posix_v1" "fork" (func))
          (memory (export "memory") 1) (func (export "_start")))"#,
    )?;
    let component_imports = wat::parse_str(
        r#"(component
          (import "wasi:http/types@0.2.4" (instance (export "fields" (type (sub resource)))))
          (import "wasi:cli/environment@0.2.99" (instance (export "f" (func))))
          (import "wasi:clocks/monotonic-clock@0.3.0" (instance (export "f" (func))))
          (core module $main (func (export "run") (result i32) (i32.const 0)))
          (core instance $main (instantiate $main))
          (func $run (result (result)) (canon lift (core func $main "run")))
          (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))"#,
    )?;
    let precompiled = b"\x7fELF\x02\x01\x01\xc8and the rest of what a compiler would write";
    let python_archive = dist.join("images/python.tar");
    let mut python = image::read_file(&python_archive, PYTHON_WASM)?;
    // An empty custom section called "new": the same program, another content.
    python.extend_from_slice(b"\x00\x04\x03new");
    let native = std::fs::read(busybox).map_err(|error| {
        format!(
            "cannot read {}: {error}; run scripts/bootstrap",
            busybox.display()
        )
    })?;

    let images = [
        (IDLE, wasm("call $ready call $sleep")?),
        (LOOP, wasm("call $ready (loop $for_ever (br $for_ever))")?),
        (ECHO, wasm(echo)?),
        (FILL, wasm(fill)?),
        (TRAP, wasm("unreachable")?),
        (
            IMPORTS,
            Image::new()
                .program("/bin/guest.wasm", imports)
                .entrypoint(&["/bin/guest.wasm"]),
        ),
        (
            COMPONENT_IMPORTS,
            Image::new()
                .program("/bin/guest.wasm", component_imports)
                .entrypoint(&["/bin/guest.wasm"]),
        ),
        (
            BROKEN,
            Image::new()
                .program("/bin/guest.wasm", b"\0asm\x01\0\0\0rubbish".to_vec())
                .entrypoint(&["/bin/guest.wasm"]),
        ),
        (
            PRECOMPILED,
            Image::new()
                .program("/bin/guest.wasm", precompiled.to_vec())
                .entrypoint(&["/bin/guest.wasm"]),
        ),
        (
            NO_INTERPRETER,
            Image::new()
                .file("/app/main.py", "print('hello')\n")
                .entrypoint(&["/app/main.py"]),
        ),
        (
            NATIVE,
            Image::new()
                .folder("/tmp", 0o1777)
                .program("/bin/busybox", native.clone())
                .program("/bin/sh", native.clone())
                .entrypoint(&["/bin/busybox"]),
        ),
        (
            NATIVE_AS_USER,
            Image::new()
                .program("/bin/busybox", native.clone())
                .program("/bin/sh", native)
                .user("1000:1000"),
        ),
        (AS_USER, Image::on(&python_archive)?.user("1234:4321")),
        (
            NEW,
            Image::on(&python_archive)?
                .program(PYTHON_WASM, python)
                .entrypoint(&["python"]),
        ),
    ];
    let mut archives = vec![python_archive, dist.join("images/hello.tar")];
    let named = images.map(|(name, image)| (name.to_owned(), image));
    let all = named.into_iter().chain(hostile::images()?);
    for (number, (name, image)) in all.enumerate() {
        let archive = folder.join(format!("{number}.tar"));
        image.write(&name, &archive)?;
        archives.push(archive);
    }
    Ok(archives)
}

/// Writes the archive of [`C_PROGRAMS`] into `folder`; `programs` is what `scripts/guests` prints.
pub fn write_c_programs(folder: &Path, programs: &Path) -> Outcome<std::path::PathBuf> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|error| {
            format!(
                "cannot read {}: {error}; run scripts/guests",
                path.display()
            )
        })
    };
    let mut image = Image::new()
        .folder("/tmp", 0o1777)
        .file("/start/here-first", "")
        .file(
            "/etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:An app,,,:/home/app:/bin/false\n\
             # no user\nbroken:x:many:1:::\nlast:*:4294967294:1::/:",
        )
        .file(
            "/etc/group",
            "root:x:0:\nstaff:x:50:app,root\napp:x:1000:app\n",
        )
        .file(
            "/etc/hosts",
            "127.0.0.1 localhost\n::1 localhost\n10.99.0.1 web.test web # the trials' own\n\
             fd00:99::1 web.test\n",
        )
        .file("/etc/protocols", "tcp 6 TCP\n")
        .file(
            "/etc/services",
            "# name port/protocol aliases\ntest-service\t7070/tcp an-alias\n\
             test-service\t7071/udp\nhttp-alt 8080/tcp web-cache # more\n",
        );
    for name in C_PROGRAM_NAMES {
        image = image
            .program(
                &format!("/wasm/{name}.wasm"),
                read(&programs.join(format!("{name}.wasm")))?,
            )
            .program(&format!("/native/{name}"), read(&programs.join(name))?);
    }
    for name in COMPONENT_NAMES {
        image = image.program(
            &format!("/component/{name}.wasm"),
            read(&programs.join(format!("components/{name}.wasm")))?,
        );
    }
    image = image.program("/native/files", read(&programs.join("components/files"))?);
    for zone in ZONES {
        let path = format!("zoneinfo/{zone}");
        image = image.file(&format!("/usr/share/{path}"), read(&programs.join(&path))?);
    }
    let archive = folder.join("c-programs.tar");
    image.write(C_PROGRAMS, &archive)?;
    Ok(archive)
}

const C_PROGRAM_NAMES: &[&str] = &[
    "attributes",
    "clocks",
    "descriptors",
    "echo",
    "fetch",
    "http",
    "identity",
    "jumps",
    "locks",
    "mappings",
    "memory",
    "names",
    "paths",
    "questions",
    "rust_questions",
    "rust_questions_plain",
    "signals",
    "sockets",
    "syslog",
    "talk",
    "zones",
];

/// Of these only `files` is there as a native program too; others are C programs.
const COMPONENT_NAMES: &[&str] = &[
    "answers",
    "clocks",
    "echo",
    "ends",
    "fetch",
    "files",
    "hostile",
    "http",
    "rust_questions",
    "talk",
];

/// The zone files in [`C_PROGRAMS`]: with rules in the north and in the south, an offset that is no
/// whole hour, a change by half an hour, daylight saving below standard time, an end of it.
pub const ZONES: &[&str] = &[
    "Africa/Casablanca",
    "America/New_York",
    "America/Sao_Paulo",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Europe/Dublin",
];
