//! Guests that are components, each the smallest that shows one behaviour.
//!
//! They are written as core modules in WAT. [`component`] wraps one as the tools of languages do, by the WIT files of
//! the host functions. [`adapted`] makes a component of a module of preview 1, by the adapter of Wasmtime's project.

use std::{fs, path::Path};

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
};
use wasm_interp_wasi::interfaces::NEWEST;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, UnresolvedPackageGroup};

use crate::guests::THROW_AND_CATCH;
use crate::support::TestContainer;

/// A component of what is imported and exported by this module.
pub(crate) fn component(core: &str) -> Vec<u8> {
    component_of(&NEWEST.to_string(), core)
}

/// As [`component`], by the WIT files as they are in this version: without what came later.
fn component_of(version: &str, core: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wasi/wit");
    let packages = fs::read_dir(folder.join("deps")).expect("the WIT files");
    let packages = packages.map(|entry| package(version, &entry.expect("a WIT file").path()));
    let mut resolve = Resolve::default();
    let main = package(version, &folder.join("world.wit"));
    let main = resolve.push_groups(main, packages.collect());
    let world = resolve
        .select_world(&[main.expect("the packages")], Some("command"))
        .expect("the world");
    let mut module = wat::parse_str(core).expect("the guest's WAT");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).expect("embed");
    let mut encoder = ComponentEncoder::default().module(&module).expect("module");
    encoder.encode().expect("a component")
}

fn package(version: &str, path: &Path) -> UnresolvedPackageGroup {
    let newest = NEWEST.to_string();
    let mut text = fs::read_to_string(path).expect("a WIT file");
    if version != newest {
        let later = format!("@since(version = {newest})");
        text = text.replace(&later, "@unstable(feature = later)");
        text = text.replace(&newest, version);
    }
    UnresolvedPackageGroup::parse(path, &text).expect("WIT")
}

/// A component that does what a module of preview 1 does.
pub(crate) fn adapted(module: &str) -> Vec<u8> {
    let module = wat::parse_str(module).expect("the guest's WAT");
    let encoder = ComponentEncoder::default().module(&module).expect("module");
    let encoder = encoder.adapter(
        WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
        WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
    );
    encoder.expect("adapter").encode().expect("a component")
}

/// A container that runs it.
pub(crate) fn container(component: &[u8]) -> TestContainer {
    let code = wasm_interp_compiler::compile(component).expect("compile the guest");
    let mut container = TestContainer::of_code(&code);
    container.plan.kind = wasm_interp_workload::GuestKind::Component;
    container
}

/// A component with a body in WAT, which exports `run`. It has these functions:
/// - `$say at length` writes a string of memory to stdout,
/// - `$check step` ends the guest with this code unless the result at 0 is one of success,
/// - `$quit code`.
pub(crate) fn with(imports: &str, body: &str) -> Vec<u8> {
    component(&format!(
        r#"(module
  (import "wasi:cli/stdout@0.2.12" "get-stdout" (func $stdout (result i32)))
  (import "wasi:io/streams@0.2.12" "[method]output-stream.blocking-write-and-flush"
    (func $write (param i32 i32 i32 i32)))
  (import "wasi:cli/exit@0.2.12" "exit-with-code" (func $quit (param i32)))
  {imports}
  (memory (export "memory") 2)
  (global $free (mut i32) (i32.const 65536))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
    (global.set $free (i32.add (local.get $at) (local.get 3)))
    (local.get $at))
  (func $say (param $at i32) (param $length i32)
    (call $write (call $stdout) (local.get $at) (local.get $length) (i32.const 32)))
  (func $check (param $step i32)
    (if (i32.load8_u (i32.const 0)) (then (call $quit (local.get $step)))))
  {body})"#
    ))
}

/// The export of a body.
pub(crate) fn run(statements: &str) -> String {
    format!(
        r#"(func (export "wasi:cli/run@0.2.12#run") (result i32)
    {statements}
    (i32.const 0))"#
    )
}

/// Says hello and exits with `code`.
pub(crate) fn hello(code: u8) -> Vec<u8> {
    let body = run(&format!(
        "(call $say (i32.const 100) (i32.const 6)) (call $quit (i32.const {code}))"
    ));
    with("", &format!(r#"(data (i32.const 100) "hello\n") {body}"#))
}

/// Says hello and exits with 1, by functions that each version of WASI 0.2 has, and by the WIT files of this version.
pub(crate) fn hello_of(version: &str) -> Vec<u8> {
    component_of(
        version,
        &format!(
            r#"(module
  (import "wasi:cli/stdout@{version}" "get-stdout" (func $stdout (result i32)))
  (import "wasi:io/streams@{version}" "[method]output-stream.blocking-write-and-flush"
    (func $write (param i32 i32 i32 i32)))
  (import "wasi:cli/exit@{version}" "exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "hello\n")
  (func (export "wasi:cli/run@{version}#run") (result i32)
    (call $write (call $stdout) (i32.const 100) (i32.const 6) (i32.const 32))
    (call $exit (i32.const 1))
    (i32.const 0)))"#
        ),
    )
}

/// Returns this result of `run`: 0 for success.
pub(crate) fn returns(result: i32) -> Vec<u8> {
    let run =
        format!(r#"(func (export "wasi:cli/run@0.2.12#run") (result i32) (i32.const {result}))"#);
    with("", &run)
}

/// Calls `exit` with this status: 0 for success.
pub(crate) fn exits(status: i32) -> Vec<u8> {
    with(
        r#"(import "wasi:cli/exit@0.2.12" "exit" (func $exit (param i32)))"#,
        &run(&format!("(call $exit (i32.const {status}))")),
    )
}

/// Says `ready` and turns in circles.
pub(crate) fn busy() -> Vec<u8> {
    let body = run("(call $say (i32.const 100) (i32.const 6)) (loop $on (br $on))");
    with("", &format!(r#"(data (i32.const 100) "ready\n") {body}"#))
}

const STDIN: &str = r#"
  (import "wasi:cli/stdin@0.2.12" "get-stdin" (func $stdin (result i32)))
  (import "wasi:io/streams@0.2.12" "[method]input-stream.read" (func $read (param i32 i64 i32)))
  (import "wasi:io/streams@0.2.12" "[method]input-stream.blocking-read"
    (func $wait-and-read (param i32 i64 i32)))"#;

/// Says `ready`, and repeats what it reads until the end. If it spins, it asks again and again without ever waiting.
pub(crate) fn repeater(spins: bool) -> Vec<u8> {
    let read = if spins { "$read" } else { "$wait-and-read" };
    let body = run(&format!(
        r#"(local $in i32)
    (local.set $in (call $stdin))
    (call $say (i32.const 100) (i32.const 6))
    (loop $again
      (call {read} (local.get $in) (i64.const 1000) (i32.const 0))
      (if (i32.eqz (i32.load8_u (i32.const 0)))
        (then
          (if (i32.load (i32.const 8))
            (then (call $say (i32.load (i32.const 4)) (i32.load (i32.const 8)))))
          (br $again))))
    ;; Closed is 1, and an error is 0.
    (if (i32.eqz (i32.load8_u (i32.const 4))) (then (call $quit (i32.const 9))))"#
    ));
    with(
        STDIN,
        &format!(r#"(data (i32.const 100) "ready\n") {body}"#),
    )
}

/// Says its arguments and its directory.
pub(crate) fn arguments() -> Vec<u8> {
    with(
        r#"(import "wasi:cli/environment@0.2.12" "get-arguments" (func $arguments (param i32)))
  (import "wasi:cli/environment@0.2.12" "initial-cwd" (func $directory (param i32)))"#,
        &format!(
            r#"(data (i32.const 100) "\n") {}"#,
            run(r#"(local $at i32) (local $left i32)
    (call $arguments (i32.const 0))
    (local.set $at (i32.load (i32.const 0)))
    (local.set $left (i32.load (i32.const 4)))
    (loop $next
      (call $say (i32.load (local.get $at)) (i32.load offset=4 (local.get $at)))
      (call $say (i32.const 100) (i32.const 1))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $next (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
    (call $directory (i32.const 0))
    (if (i32.load8_u (i32.const 0))
      (then (call $say (i32.load (i32.const 4)) (i32.load (i32.const 8)))))"#)
        ),
    )
}

/// Opens a file of the first preopened directory to read and write it, its last link followed. Exits with 0, or with
/// 100 + the error.
pub(crate) fn opener(path: &str) -> Vec<u8> {
    let length = path.len();
    with(
        r#"(import "wasi:filesystem/preopens@0.2.12" "get-directories"
    (func $directories (param i32)))
  (import "wasi:filesystem/types@0.2.12" "[method]descriptor.open-at"
    (func $open (param i32 i32 i32 i32 i32 i32 i32)))"#,
        &format!(
            r#"(data (i32.const 100) "{path}") {}"#,
            run(&format!(
                r#"(call $directories (i32.const 0))
    (call $open (i32.load (i32.load (i32.const 0))) (i32.const 1) (i32.const 100) (i32.const {length})
      (i32.const 0) (i32.const 3) (i32.const 0))
    (if (i32.load8_u (i32.const 0))
      (then (call $quit (i32.add (i32.const 100) (i32.load8_u (i32.const 4))))))"#
            ))
        ),
    )
}

/// Divides by zero, two calls deep.
pub(crate) fn trap() -> Vec<u8> {
    let body = r#"(func $inner (result i32) (i32.div_u (i32.const 1) (i32.const 0)))"#;
    with("", &format!("{body} {}", run("(drop (call $inner))")))
}

/// Calls itself for ever.
pub(crate) fn recursion() -> Vec<u8> {
    let body = r#"(func $deeper (param i64) (result i64)
    (i64.add (i64.const 1) (call $deeper (local.get 0))))"#;
    let run = run("(drop (call $deeper (i64.const 0)))");
    with("", &format!("{body} {run}"))
}

/// Throws and catches so many exceptions.
pub(crate) fn thrower(times: u32) -> Vec<u8> {
    let throws = run(&format!("(call $throw-and-catch (i32.const {times}))"));
    let body = format!("(tag $thrown (param i64)) {THROW_AND_CATCH} {throws}");
    with("", &body)
}

/// Asks for 64 MiB of memory and exits with 7 if that is refused.
pub(crate) fn hungry() -> Vec<u8> {
    with(
        "",
        &run("(if (i32.eq (memory.grow (i32.const 1024)) (i32.const -1))
            (then (call $quit (i32.const 7))))"),
    )
}

/// Writes to a stream without asking how much it may write.
pub(crate) fn rude() -> Vec<u8> {
    with(
        r#"(import "wasi:io/streams@0.2.12" "[method]output-stream.write"
    (func $blindly (param i32 i32 i32 i32)))"#,
        &run("(call $blindly (call $stdout) (i32.const 0) (i32.const 8) (i32.const 32))"),
    )
}

/// Makes pollables until it has no handle left.
pub(crate) fn hoarder() -> Vec<u8> {
    with(
        r#"(import "wasi:clocks/monotonic-clock@0.2.12" "subscribe-duration"
    (func $timer (param i64) (result i32)))"#,
        &run("(loop $more (drop (call $timer (i64.const 1))) (br $more))"),
    )
}

/// Waits for stdin and for 20 ms. Exits with 10 if the clock came, with 20 if input did.
pub(crate) fn poller() -> Vec<u8> {
    with(
        &format!(
            r#"{STDIN}
  (import "wasi:io/streams@0.2.12" "[method]input-stream.subscribe"
    (func $input (param i32) (result i32)))
  (import "wasi:io/poll@0.2.12" "poll" (func $poll (param i32 i32 i32)))
  (import "wasi:clocks/monotonic-clock@0.2.12" "subscribe-duration"
    (func $timer (param i64) (result i32)))"#
        ),
        &run(
            r#"(i32.store (i32.const 64) (call $timer (i64.const 20000000)))
    (i32.store (i32.const 68) (call $input (call $stdin)))
    (call $poll (i32.const 64) (i32.const 2) (i32.const 0))
    (call $quit (i32.add (i32.const 10)
      (i32.mul (i32.const 10) (i32.load (i32.load (i32.const 0))))))"#,
        ),
    )
}

/// Waits for its input by `count` handles together, and exits with the number of those that it has come to.
pub(crate) fn waits_by_many_handles(count: u32) -> Vec<u8> {
    with(
        &format!(
            r#"{STDIN}
  (import "wasi:io/streams@0.2.12" "[method]input-stream.subscribe"
    (func $input (param i32) (result i32)))
  (import "wasi:io/poll@0.2.12" "poll" (func $poll (param i32 i32 i32)))"#
        ),
        &run(&format!(
            r#"(local $i i32) (local $stream i32)
    (local.set $stream (call $stdin))
    (loop $on
      (i32.store offset=1024 (i32.mul (local.get $i) (i32.const 4))
        (call $input (local.get $stream)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $on (i32.lt_u (local.get $i) (i32.const {count}))))
    (call $poll (i32.const 1024) (local.get $i) (i32.const 0))
    (call $quit (i32.load (i32.const 4)))"#
        )),
    )
}

/// Grows its memory by so many pages, writes something into each if it is to fill them, and writes all of them to
/// /dev/null, by as few calls as possible. Exits with 0, or with the number of the step that failed.
pub(crate) fn writer_of_all(pages: u32, fills: bool) -> Vec<u8> {
    let path = "dev/null";
    let length = path.len();
    let fill = if fills {
        "(memory.fill (local.get $at) (i32.const 7) (local.get $left))"
    } else {
        ""
    };
    with(
        r#"(import "wasi:filesystem/preopens@0.2.12" "get-directories"
    (func $directories (param i32)))
  (import "wasi:filesystem/types@0.2.12" "[method]descriptor.open-at"
    (func $open (param i32 i32 i32 i32 i32 i32 i32)))
  (import "wasi:filesystem/types@0.2.12" "[method]descriptor.write"
    (func $write-file (param i32 i32 i32 i64 i32)))"#,
        &format!(
            r#"(data (i32.const 100) "{path}") {}"#,
            run(&format!(
                r#"(local $file i32) (local $at i32) (local $left i32)
    (call $directories (i32.const 0))
    (call $open (i32.load (i32.load (i32.const 0))) (i32.const 0) (i32.const 100)
      (i32.const {length}) (i32.const 0) (i32.const 2) (i32.const 0))
    (call $check (i32.const 1))
    (local.set $file (i32.load (i32.const 4)))
    (local.set $at (i32.mul (memory.grow (i32.const {pages})) (i32.const 65536)))
    (if (i32.lt_s (local.get $at) (i32.const 0)) (then (call $quit (i32.const 2))))
    (local.set $left (i32.const {bytes}))
    {fill}
    (loop $on
      (call $write-file (local.get $file) (local.get $at) (local.get $left) (i64.const 0)
        (i32.const 0))
      (call $check (i32.const 3))
      (local.set $at (i32.add (local.get $at) (i32.load (i32.const 8))))
      (local.set $left (i32.sub (local.get $left) (i32.load (i32.const 8))))
      (br_if $on (local.get $left)))"#,
                bytes = pages << 16,
            ))
        ),
    )
}

/// Writes so many bytes of its memory to stdout at once.
pub(crate) fn writes_at_once(bytes: u32) -> Vec<u8> {
    with(
        "",
        &run(&format!(
            "(drop (memory.grow (i32.const {}))) (call $say (i32.const 0) (i32.const {bytes}))",
            bytes.div_ceil(1 << 16)
        )),
    )
}

/// Writes so many bytes of its memory to stdout by one call, if so many are permitted. Exits with 0, or with the number of
/// the step that failed.
pub(crate) fn writes_what_is_permitted(bytes: u32) -> Vec<u8> {
    with(
        r#"(import "wasi:io/streams@0.2.12" "[method]output-stream.check-write"
    (func $permitted (param i32 i32)))
  (import "wasi:io/streams@0.2.12" "[method]output-stream.write"
    (func $write-permitted (param i32 i32 i32 i32)))"#,
        &run(&format!(
            r#"(local $stream i32) (local $at i32)
    (local.set $at (i32.mul (memory.grow (i32.const {pages})) (i32.const 65536)))
    (local.set $stream (call $stdout))
    (call $permitted (local.get $stream) (i32.const 0))
    (call $check (i32.const 1))
    (if (i64.lt_u (i64.load (i32.const 8)) (i64.const {bytes}))
      (then (call $quit (i32.const 2))))
    (call $write-permitted (local.get $stream) (local.get $at) (i32.const {bytes}) (i32.const 0))
    (call $check (i32.const 3))"#,
            pages = bytes.div_ceil(1 << 16)
        )),
    )
}

const SOCKETS: &str = r#"
  (import "wasi:sockets/instance-network@0.2.12" "instance-network" (func $network (result i32)))
  (import "wasi:sockets/tcp-create-socket@0.2.12" "create-tcp-socket" (func $tcp (param i32 i32)))
  (import "wasi:sockets/tcp@0.2.12" "[method]tcp-socket.start-bind"
    (func $bind (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "wasi:sockets/tcp@0.2.12" "[method]tcp-socket.finish-bind" (func $bound (param i32 i32)))
  (import "wasi:sockets/tcp@0.2.12" "[method]tcp-socket.start-listen" (func $listen (param i32 i32)))
  (import "wasi:sockets/tcp@0.2.12" "[method]tcp-socket.finish-listen"
    (func $listens (param i32 i32)))
  (import "wasi:sockets/tcp@0.2.12" "[method]tcp-socket.accept" (func $accept (param i32 i32)))
  (import "wasi:sockets/tcp@0.2.12" "[method]tcp-socket.start-connect"
    (func $connect (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "wasi:sockets/tcp@0.2.12" "[method]tcp-socket.finish-connect"
    (func $connected (param i32 i32)))
  (import "wasi:sockets/tcp@0.2.12" "[method]tcp-socket.subscribe"
    (func $of-socket (param i32) (result i32)))
  (import "wasi:sockets/tcp@0.2.12" "[method]tcp-socket.set-hop-limit"
    (func $hops (param i32 i32 i32)))
  (import "wasi:sockets/tcp@0.2.12" "[method]tcp-socket.set-keep-alive-enabled"
    (func $keep-alive (param i32 i32 i32)))
  (import "wasi:sockets/tcp@0.2.12" "[method]tcp-socket.shutdown" (func $end (param i32 i32 i32)))
  (import "wasi:io/poll@0.2.12" "[method]pollable.block" (func $block (param i32)))
  (import "wasi:io/streams@0.2.12" "[method]input-stream.blocking-read"
    (func $receive (param i32 i64 i32)))"#;

/// The parameters of an address of IPv4.
fn ipv4(address: [u8; 4], port: u16) -> String {
    let octets: String = address
        .map(|octet| format!("(i32.const {octet}) "))
        .concat();
    // The form, the port, four numbers; the other form is longer.
    format!(
        "(i32.const 0) (i32.const {port}) {octets} {}",
        "(i32.const 0) ".repeat(6)
    )
}

/// Connects to a port of the loopback, sends `ping`, says what comes back and exits with 0; or with the number of the
/// step that failed.
pub(crate) fn client(port: u16) -> Vec<u8> {
    let address = ipv4([127, 0, 0, 1], port);
    let body = run(&format!(
        r#"(local $socket i32) (local $in i32) (local $out i32)
    (call $tcp (i32.const 0) (i32.const 0)) (call $check (i32.const 1))
    (local.set $socket (i32.load (i32.const 4)))
    (call $connect (local.get $socket) (call $network) {address} (i32.const 0))
    (call $check (i32.const 2))
    (call $hops (local.get $socket) (i32.const 9) (i32.const 0)) (call $check (i32.const 3))
    (call $keep-alive (local.get $socket) (i32.const 1) (i32.const 0)) (call $check (i32.const 4))
    (call $block (call $of-socket (local.get $socket)))
    (call $connected (local.get $socket) (i32.const 0)) (call $check (i32.const 5))
    (local.set $in (i32.load (i32.const 4)))
    (local.set $out (i32.load (i32.const 8)))
    (call $write (local.get $out) (i32.const 100) (i32.const 4) (i32.const 0))
    (call $check (i32.const 6))
    (call $end (local.get $socket) (i32.const 1) (i32.const 0)) (call $check (i32.const 7))
    (call $receive (local.get $in) (i64.const 100) (i32.const 0)) (call $check (i32.const 8))
    (call $say (i32.load (i32.const 4)) (i32.load (i32.const 8)))"#
    ));
    with(SOCKETS, &format!(r#"(data (i32.const 100) "ping") {body}"#))
}

/// Listens on a port of every address, says `ready`, and sends back what the first connection has sent.
pub(crate) fn server(port: u16) -> Vec<u8> {
    let address = ipv4([0, 0, 0, 0], port);
    let body = run(&format!(
        r#"(local $socket i32) (local $in i32) (local $out i32)
    (call $tcp (i32.const 0) (i32.const 0)) (call $check (i32.const 1))
    (local.set $socket (i32.load (i32.const 4)))
    (call $bind (local.get $socket) (call $network) {address} (i32.const 0))
    (call $check (i32.const 2))
    (call $bound (local.get $socket) (i32.const 0)) (call $check (i32.const 3))
    (call $listen (local.get $socket) (i32.const 0)) (call $check (i32.const 4))
    (call $listens (local.get $socket) (i32.const 0)) (call $check (i32.const 5))
    (call $say (i32.const 100) (i32.const 6))
    (call $block (call $of-socket (local.get $socket)))
    (call $accept (local.get $socket) (i32.const 0)) (call $check (i32.const 6))
    (local.set $in (i32.load (i32.const 8)))
    (local.set $out (i32.load (i32.const 12)))
    (call $receive (local.get $in) (i64.const 100) (i32.const 0)) (call $check (i32.const 7))
    (call $write (local.get $out) (i32.load (i32.const 4)) (i32.load (i32.const 8)) (i32.const 0))
    (call $check (i32.const 8))"#
    ));
    with(
        SOCKETS,
        &format!(r#"(data (i32.const 100) "ready\n") {body}"#),
    )
}

/// Connects a UDP socket to an address, sends `ping`, and sends it again after some seconds. Exits with 0, with 200 + the
/// error of the connection, or with the number of another step that failed.
pub(crate) fn sender(address: [u8; 4], port: u16, seconds: u64) -> Vec<u8> {
    let (own, peer) = (ipv4([0; 4], 0), ipv4(address, port));
    let nanoseconds = seconds * 1_000_000_000;
    let body = run(&format!(
        r#"(local $socket i32) (local $out i32)
    (call $udp (i32.const 0) (i32.const 0)) (call $check (i32.const 1))
    (local.set $socket (i32.load (i32.const 4)))
    (call $bind (local.get $socket) (call $network) {own} (i32.const 0)) (call $check (i32.const 2))
    (call $bound (local.get $socket) (i32.const 0)) (call $check (i32.const 3))
    (call $connect (local.get $socket) (i32.const 1) {peer} (i32.const 0))
    (if (i32.load8_u (i32.const 0))
      (then (call $quit (i32.add (i32.const 200) (i32.load8_u (i32.const 4))))))
    (local.set $out (i32.load (i32.const 8)))
    ;; A datagram without an address of its own.
    (i32.store (i32.const 200) (i32.const 100))
    (i32.store (i32.const 204) (i32.const 4))
    (call $send (local.get $out) (i32.const 5))
    (call $block (call $after (i64.const {nanoseconds})))
    (call $send (local.get $out) (i32.const 7))"#
    ));
    with(
        r#"
  (import "wasi:sockets/instance-network@0.2.12" "instance-network" (func $network (result i32)))
  (import "wasi:sockets/udp-create-socket@0.2.12" "create-udp-socket" (func $udp (param i32 i32)))
  (import "wasi:sockets/udp@0.2.12" "[method]udp-socket.start-bind"
    (func $bind (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "wasi:sockets/udp@0.2.12" "[method]udp-socket.finish-bind" (func $bound (param i32 i32)))
  (import "wasi:sockets/udp@0.2.12" "[method]udp-socket.stream"
    (func $connect (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "wasi:sockets/udp@0.2.12" "[method]outgoing-datagram-stream.check-send"
    (func $may-send (param i32 i32)))
  (import "wasi:sockets/udp@0.2.12" "[method]outgoing-datagram-stream.send"
    (func $send-all (param i32 i32 i32 i32)))
  (import "wasi:clocks/monotonic-clock@0.2.12" "subscribe-duration"
    (func $after (param i64) (result i32)))
  (import "wasi:io/poll@0.2.12" "[method]pollable.block" (func $block (param i32)))"#,
        &format!(
            r#"(data (i32.const 100) "ping")
  (func $send (param $out i32) (param $step i32)
    (call $may-send (local.get $out) (i32.const 0)) (call $check (local.get $step))
    (call $send-all (local.get $out) (i32.const 200) (i32.const 1) (i32.const 0))
    (call $check (i32.add (local.get $step) (i32.const 1)))
    (if (i64.ne (i64.load (i32.const 8)) (i64.const 1)) (then (call $quit (i32.const 9)))))
  {body}"#
        ),
    )
}

/// Looks a name up. Exits with the first number of its IPv4 address, or with 200 + the error.
pub(crate) fn look_up(name: &str) -> Vec<u8> {
    let length = name.len();
    let body = run(&format!(
        r#"(local $addresses i32)
    (call $resolve (call $network) (i32.const 100) (i32.const {length}) (i32.const 0))
    (if (i32.load8_u (i32.const 0))
      (then (call $quit (i32.add (i32.const 200) (i32.load8_u (i32.const 4))))))
    (local.set $addresses (i32.load (i32.const 4)))
    (loop $next
      (call $resolved (local.get $addresses) (i32.const 0))
      (call $check (i32.const 198))
      (if (i32.eqz (i32.load8_u (i32.const 2))) (then (call $quit (i32.const 199))))
      ;; Another one if this is of IPv6.
      (br_if $next (i32.load8_u (i32.const 4))))
    (call $quit (i32.load8_u (i32.const 6)))"#
    ));
    with(
        r#"
  (import "wasi:sockets/instance-network@0.2.12" "instance-network" (func $network (result i32)))
  (import "wasi:sockets/ip-name-lookup@0.2.12" "resolve-addresses"
    (func $resolve (param i32 i32 i32 i32)))
  (import "wasi:sockets/ip-name-lookup@0.2.12"
    "[method]resolve-address-stream.resolve-next-address" (func $resolved (param i32 i32)))"#,
        &format!(r#"(data (i32.const 100) "{name}") {body}"#),
    )
}
