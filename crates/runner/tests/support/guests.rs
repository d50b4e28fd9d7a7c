//! Guests in WAT, each the smallest that shows one behaviour.

/// Imports and helpers that all of them share: `say` writes a string of memory to stdout.
fn module(body: &str) -> String {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (func $say (param $at i32) (param $length i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $length))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  ;; Reads up to 1000 bytes of stdin to 2000, returns the errno; the length is at 8.
  (func $ask (result i32)
    (i32.store (i32.const 0) (i32.const 2000))
    (i32.store (i32.const 4) (i32.const 1000))
    (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
  {body})"#
    )
}

/// Says hello and exits with `code`.
pub(crate) fn hello(code: i32) -> String {
    module(&format!(
        r#"(data (i32.const 100) "hello\n")
  (func (export "_start")
    (call $say (i32.const 100) (i32.const 6))
    (call $exit (i32.const {code})))"#
    ))
}

/// Says `ready` and turns in circles.
pub(crate) fn busy() -> String {
    module(
        r#"(data (i32.const 100) "ready\n")
  (func (export "_start")
    (call $say (i32.const 100) (i32.const 6))
    (loop $on (br $on)))"#,
    )
}

/// Says `ready`, reads once and exits with the number of bytes, or 100 + errno.
pub(crate) fn reader() -> String {
    module(
        r#"(data (i32.const 100) "ready\n")
  (func (export "_start") (local $error i32)
    (call $say (i32.const 100) (i32.const 6))
    (local.set $error (call $ask))
    (if (local.get $error)
      (then (call $exit (i32.add (i32.const 100) (local.get $error)))))
    (call $exit (i32.load (i32.const 8))))"#,
    )
}

/// Polls stdin for 50 ms. Exits with 10 if the clock came, 20 if input did, 30 if both.
pub(crate) fn poller() -> String {
    module(
        r#"(func (export "_start") (local $events i32) (local $result i32)
    ;; subscription 0 at 1000: clock 1 (monotonic), 50 ms
    (i32.store8 (i32.const 1008) (i32.const 0))
    (i32.store (i32.const 1016) (i32.const 1))
    (i64.store (i32.const 1024) (i64.const 50000000))
    ;; subscription 1 at 1048: read of descriptor 0
    (i32.store8 (i32.const 1056) (i32.const 1))
    (i32.store (i32.const 1064) (i32.const 0))
    (drop (call $poll (i32.const 1000) (i32.const 1200) (i32.const 2) (i32.const 8)))
    (local.set $events (i32.load (i32.const 8)))
    ;; type of the first event: 0 clock, 1 read
    (local.set $result
      (if (result i32) (i32.eq (local.get $events) (i32.const 2))
        (then (i32.const 30))
        (else (if (result i32) (i32.load8_u (i32.const 1210))
          (then (i32.const 20)) (else (i32.const 10))))))
    (call $exit (local.get $result)))"#,
    )
}

/// Opens `path` beneath the first preopen with these `oflags` and rights to write and exits with
/// the errno; stays for a while if it says so.
pub(crate) fn opener(path: &str, oflags: i32) -> String {
    opener_from(3, path, oflags)
}

/// As [`opener`], from another descriptor than that of the root directory.
pub(crate) fn opener_from(fd: i32, path: &str, oflags: i32) -> String {
    let length = path.len();
    module(&format!(
        r#"(data (i32.const 100) "{path}")
  (func (export "_start")
    (call $exit (call $open (i32.const {fd}) (i32.const 0) (i32.const 100) (i32.const {length})
      (i32.const {oflags}) (i64.const 0x42) (i64.const 0) (i32.const 0) (i32.const 8))))"#
    ))
}

/// Divides by zero, two calls deep.
pub(crate) fn trap() -> String {
    module(
        r#"(func $inner (result i32) (i32.div_u (i32.const 1) (i32.const 0)))
  (func (export "_start") (drop (call $inner)))"#,
    )
}

/// Calls itself for ever.
pub(crate) fn recursion() -> String {
    module(
        r#"(func $deeper (param i64) (result i64)
    (i64.add (i64.const 1) (call $deeper (local.get 0))))
  (func (export "_start") (drop (call $deeper (i64.const 0))))"#,
    )
}

/// Throws and catches so many exceptions. Each is an object, which only a collection frees.
pub(crate) fn thrower(times: u32) -> String {
    module(&format!(
        r#"(tag $thrown (param i64)) {}
  (func (export "_start") (call $throw-and-catch (i32.const {times})))"#,
        THROW_AND_CATCH
    ))
}

/// Throws `$thrown` and catches it, again and again.
pub(crate) const THROW_AND_CATCH: &str = r#"(func $throw-and-catch (param $left i32)
    (loop $again
      (block $caught (result i64)
        (try_table (catch $thrown $caught) (throw $thrown (i64.const 7)))
        (i64.const 0))
      drop
      (local.tee $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $again)))"#;

/// Makes so many arrays of 64 KiB, none of which is used after that.
pub(crate) fn litterer(times: u32) -> String {
    module(&format!(
        r#"(type $bytes (array (mut i8)))
  (func (export "_start") (local $left i32)
    (local.set $left (i32.const {times}))
    (loop $again
      (drop (array.new $bytes (i32.const 1) (i32.const 65536)))
      (local.tee $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $again)))"#
    ))
}

/// Makes arrays of 64 KiB and keeps all of them.
pub(crate) fn keeper() -> String {
    module(
        r#"(type $bytes (array (mut i8)))
  (type $kept (struct (field (ref null $kept)) (field (ref $bytes))))
  (global $all (mut (ref null $kept)) (ref.null $kept))
  (func (export "_start")
    (loop $again
      (global.set $all
        (struct.new $kept (global.get $all) (array.new $bytes (i32.const 1) (i32.const 65536))))
      (br $again)))"#,
    )
}

/// Grows its memory by 16 MiB steps as long as it may, but for 200 steps, and exits with their number. Between any two of
/// them it asks for a table of a size that overflows.
pub(crate) fn overflower() -> String {
    module(
        r#"(table $table i64 1 funcref)
  (func (export "_start") (local $steps i32)
    (block $end
      (loop $again
        (br_if $end (i32.ge_u (local.get $steps) (i32.const 200)))
        (br_if $end (i32.eq (memory.grow (i32.const 256)) (i32.const -1)))
        (drop (table.grow $table (ref.null func) (i64.const -1)))
        (local.set $steps (i32.add (local.get $steps) (i32.const 1)))
        (br $again)))
    (call $exit (local.get $steps)))"#,
    )
}

/// Asks for 64 MiB of memory and exits with 7 if that is refused.
pub(crate) fn hungry() -> String {
    module(
        r#"(func (export "_start")
    (if (i32.eq (memory.grow (i32.const 1024)) (i32.const -1))
      (then (call $exit (i32.const 7)))))"#,
    )
}

/// Asks for 16 MiB of memory each time it reads something, and says whether it got them.
pub(crate) fn grower() -> String {
    module(
        r#"(data (i32.const 100) "granted\nrefused\n")
  (func (export "_start")
    (loop $again
      (drop (call $ask))
      (if (i32.load (i32.const 8))
        (then
          (if (i32.eq (memory.grow (i32.const 256)) (i32.const -1))
            (then (call $say (i32.const 108) (i32.const 8)))
            (else (call $say (i32.const 100) (i32.const 8))))
          (br $again)))))"#,
    )
}

/// Imports what no container offers.
pub(crate) fn foreign() -> String {
    r#"(module
  (import "env" "second" (func))
  (import "env" "first" (func))
  (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
  (memory (export "memory") 1)
  (func (export "_start")))"#
        .to_owned()
}

/// Calls what a guest may import for files, streams, time and memory, in a directory that it makes in
/// `/tmp`, and exits with 0; or with the number of the call that failed, and its errno on stdout.
pub(crate) fn everything() -> String {
    const PREVIEW1: [(&str, &str); 31] = [
        ("path_create_directory", "i32 i32 i32"),
        ("path_open", "i32 i32 i32 i32 i32 i64 i64 i32 i32"),
        ("fd_write", "i32 i32 i32 i32"),
        ("fd_pwrite", "i32 i32 i32 i64 i32"),
        ("fd_read", "i32 i32 i32 i32"),
        ("fd_pread", "i32 i32 i32 i64 i32"),
        ("fd_seek", "i32 i64 i32 i32"),
        ("fd_readdir", "i32 i32 i32 i64 i32"),
        ("fd_filestat_get", "i32 i32"),
        ("path_filestat_get", "i32 i32 i32 i32 i32"),
        ("fd_allocate", "i32 i64 i64"),
        ("fd_advise", "i32 i64 i64 i32"),
        ("fd_sync", "i32"),
        ("fd_datasync", "i32"),
        ("fd_filestat_set_size", "i32 i64"),
        ("fd_filestat_set_times", "i32 i64 i64 i32"),
        ("path_filestat_set_times", "i32 i32 i32 i32 i64 i64 i32"),
        ("path_rename", "i32 i32 i32 i32 i32 i32"),
        ("path_link", "i32 i32 i32 i32 i32 i32 i32"),
        ("path_symlink", "i32 i32 i32 i32 i32"),
        ("path_readlink", "i32 i32 i32 i32 i32 i32"),
        ("path_unlink_file", "i32 i32 i32"),
        ("path_remove_directory", "i32 i32 i32"),
        ("fd_fdstat_get", "i32 i32"),
        ("fd_fdstat_set_flags", "i32 i32"),
        ("fd_close", "i32"),
        ("random_get", "i32 i32"),
        ("clock_time_get", "i32 i64 i32"),
        ("clock_res_get", "i32 i32"),
        ("poll_oneoff", "i32 i32 i32 i32"),
        ("sched_yield", ""),
    ];
    const POSIX: [(&str, &str); 10] = [
        ("pipe", "i32 i32 i32"),
        ("mkfifoat", "i32 i32 i32 i32"),
        ("faccessat", "i32 i32 i32 i32 i32 i32"),
        ("fchmod", "i32 i32"),
        ("fchmodat", "i32 i32 i32 i32 i32"),
        ("fchown", "i32 i32 i32"),
        ("fstatvfs", "i32 i32"),
        ("flock", "i32 i32 i32"),
        ("getrusage", "i32 i32"),
        ("umask", "i32 i32"),
    ];
    // Names at 100, 120, 140 and 160; a buffer of two parts at 0 and 8; results at 64.
    let names = r#"(data (i32.const 100) "tmp/of-the-guest")
  (data (i32.const 120) "tmp/of-the-guest/a")
  (data (i32.const 140) "tmp/of-the-guest/b")
  (data (i32.const 160) "content of a file")"#;
    let number = |number: i32| format!("(i32.const {number})");
    let long = |number: i64| format!("(i64.const {number})");
    let path = |at: i32| {
        format!(
            "(i32.const {at}) (i32.const {})",
            if at == 100 { 16 } else { 18 }
        )
    };
    let (root, file, out) = (number(3), "(i32.load (i32.const 32))", number(64));
    let (directory, a, b) = (path(100), path(120), path(140));
    let (none, zero) = (number(0), long(0));
    let open = |at: &str, oflags: i32, rights: i64| {
        format!(
            "path_open {root} {none} {at} (i32.const {oflags}) (i64.const {rights}) \
             (i64.const 0) {none} (i32.const 32)"
        )
    };
    const FILE: i64 = 0x0fe0_01ff;
    const DIRECTORY: i64 = 0x0fff_ffff & !0x42;
    let calls = [
        format!("path_create_directory {root} {directory}"),
        open(&a, 1, FILE),
        format!("fd_write {file} {none} (i32.const 1) {out}"),
        format!("fd_write {file} {none} (i32.const 2) {out}"),
        format!("fd_pwrite {file} {none} (i32.const 1) {zero} {out}"),
        format!("fd_pwrite {file} {none} (i32.const 2) {zero} {out}"),
        format!("fd_seek {file} {zero} {none} {out}"),
        format!("fd_read {file} (i32.const 16) (i32.const 1) {out}"),
        format!("fd_read {file} (i32.const 16) (i32.const 2) {out}"),
        format!("fd_pread {file} (i32.const 16) (i32.const 1) {zero} {out}"),
        format!("fd_pread {file} (i32.const 16) (i32.const 2) {zero} {out}"),
        format!("fd_filestat_get {file} (i32.const 256)"),
        format!("fd_allocate {file} {zero} (i64.const 64)"),
        format!("fd_advise {file} {zero} (i64.const 64) {none}"),
        format!("fd_sync {file}"),
        format!("fd_datasync {file}"),
        format!("fd_filestat_set_size {file} (i64.const 8)"),
        format!("fd_filestat_set_times {file} (i64.const 1) (i64.const 1) (i32.const 5)"),
        format!("fd_fdstat_get {file} (i32.const 256)"),
        format!("fd_fdstat_set_flags {file} (i32.const 1)"),
        format!("fchmod {file} (i32.const 384)"),
        format!("fchown {file} (i32.const -1) (i32.const -1)"),
        format!("fstatvfs {file} (i32.const 1024)"),
        format!("flock {file} (i32.const 1) (i32.const 1)"),
        format!("fd_close {file}"),
        format!("fchmodat {root} {none} {a} (i32.const 420)"),
        format!("faccessat {root} {none} {a} (i32.const 4) {none}"),
        format!("mkfifoat {root} {b} (i32.const 384)"),
        format!("path_unlink_file {root} {b}"),
        format!(
            "path_filestat_set_times {root} {none} {a} (i64.const 1) (i64.const 1) (i32.const 5)"
        ),
        format!("path_filestat_get {root} {none} {a} (i32.const 256)"),
        format!("path_rename {root} {a} {root} {b}"),
        format!("path_link {root} {none} {b} {root} {a}"),
        format!("path_unlink_file {root} {b}"),
        format!("path_symlink (i32.const 160) (i32.const 7) {root} {b}"),
        format!("path_readlink {root} {b} (i32.const 512) (i32.const 64) {out}"),
        open(&directory, 2, DIRECTORY),
        format!("fd_readdir {file} (i32.const 1024) (i32.const 1024) {zero} {out}"),
        format!("fd_close {file}"),
        format!("path_unlink_file {root} {a}"),
        format!("path_unlink_file {root} {b}"),
        format!("path_remove_directory {root} {directory}"),
        format!("fd_fdstat_get {none} (i32.const 256)"),
        "random_get (i32.const 512) (i32.const 16)".to_owned(),
        format!("clock_time_get (i32.const 2) {zero} {out}"),
        format!("clock_res_get (i32.const 2) {out}"),
        format!("getrusage {none} (i32.const 1024)"),
        format!("umask (i32.const 18) {out}"),
        format!("poll_oneoff (i32.const 2048) (i32.const 2200) (i32.const 1) {out}"),
        format!("poll_oneoff (i32.const 2048) (i32.const 2200) (i32.const 2) {out}"),
        "sched_yield".to_owned(),
        format!("pipe {none} {out} (i32.const 68)"),
    ];
    let more = "(drop (memory.grow (i32.const 64))) (i32.store (i32.const 4000000) (i32.const 1))";
    // A millisecond of the monotonic clock, and what comes on standard input.
    let subscriptions = "(i32.store (i32.const 2064) (i32.const 1))
    (i64.store (i32.const 2072) (i64.const 1000000))
    (i32.store8 (i32.const 2104) (i32.const 1))
    (i32.store (i32.const 2112) (i32.const 0))";
    checked(&PREVIEW1, &POSIX, names, subscriptions, &calls, more)
}

/// A guest that makes these calls, and exits with 0; or with the number of the call that failed, and its
/// errno on stdout. At 0 and 8 are two buffers to write from, at 16 and 24 two to read to.
fn checked(
    preview1: &[(&str, &str)],
    posix: &[(&str, &str)],
    data: &str,
    before: &str,
    calls: &[String],
    after: &str,
) -> String {
    let import = |module: &str, functions: &[(&str, &str)]| -> String {
        let line = |(name, parameters): &(&str, &str)| {
            format!(
                "(import \"{module}\" \"{name}\" \
                 (func ${name} (param {parameters}) (result i32)))\n"
            )
        };
        functions.iter().map(line).collect()
    };
    let imports =
        import("wasi_snapshot_preview1", preview1) + &import("wasm_interp_posix_v1", posix);
    let calls: String = calls
        .iter()
        .enumerate()
        .map(|(index, call)| format!("(call $check (i32.const {}) (call ${call}))\n", index + 1))
        .collect();
    format!(
        r#"(module
  {imports}
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  {data}
  (func $check (param $call i32) (param $errno i32)
    (if (local.get $errno)
      (then
        (i32.store8 (i32.const 64) (i32.add (i32.const 48)
          (i32.div_u (local.get $errno) (i32.const 10))))
        (i32.store8 (i32.const 65) (i32.add (i32.const 48)
          (i32.rem_u (local.get $errno) (i32.const 10))))
        (i32.store (i32.const 0) (i32.const 64))
        (i32.store (i32.const 4) (i32.const 2))
        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (call $exit (local.get $call)))))
  (func (export "_start")
    ;; What is written, and where it is read to.
    (i32.store (i32.const 0) (i32.const 160))
    (i32.store (i32.const 4) (i32.const 17))
    (i32.store (i32.const 8) (i32.const 160))
    (i32.store (i32.const 12) (i32.const 17))
    (i32.store (i32.const 16) (i32.const 768))
    (i32.store (i32.const 20) (i32.const 17))
    (i32.store (i32.const 24) (i32.const 800))
    (i32.store (i32.const 28) (i32.const 17))
    {before}
    {calls}
    {after}
    (call $exit (i32.const 0))))"#
    )
}

/// Handles signals and sets a timer. Exits with 0, or with the number of the call that fails.
pub(crate) fn timer() -> String {
    let calls: String = [
        "$register (i32.const 16) (i32.const 20)",
        "$action (i32.const 14) (i32.const 2)",
        "$set (i64.const 0) (i64.const 1000000) (i32.const 32)",
        "$wait (i32.const 0x2000) (i64.const -1) (i32.const 24)",
    ]
    .iter()
    .enumerate()
    .map(|(index, call)| {
        format!(
            "(if (call {call}) (then (call $exit (i32.const {}))))\n",
            index + 1
        )
    })
    .collect();
    format!(
        r#"(module
  (import "wasm_interp_posix_v1" "signal_register" (func $register (param i32 i32) (result i32)))
  (import "wasm_interp_posix_v1" "signal_action" (func $action (param i32 i32) (result i32)))
  (import "wasm_interp_posix_v1" "setitimer" (func $set (param i64 i64 i32) (result i32)))
  (import "wasm_interp_posix_v1" "sigtimedwait" (func $wait (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    {calls}
    (call $exit (i32.const 0))))"#
    )
}

/// Makes sockets of each family, and two that talk with each other. As [`everything`] it exits with the
/// number of the call that failed.
pub(crate) fn granted_sockets() -> String {
    const PREVIEW1: [(&str, &str); 2] = [
        ("fd_write", "i32 i32 i32 i32"),
        ("sock_shutdown", "i32 i32"),
    ];
    const POSIX: [(&str, &str); 12] = [
        ("socket", "i32 i32 i32 i32 i32"),
        ("socketpair", "i32 i32 i32 i32 i32 i32"),
        ("bind", "i32 i32 i32"),
        ("listen", "i32 i32"),
        ("accept4", "i32 i32 i32 i32 i32 i32"),
        ("connect", "i32 i32 i32"),
        ("getsockname", "i32 i32 i32 i32"),
        ("getpeername", "i32 i32 i32 i32"),
        ("getsockopt", "i32 i32 i32 i32 i32 i32"),
        ("setsockopt", "i32 i32 i32 i32 i32"),
        ("sendmsg", "i32 i32 i32 i32 i32 i32 i32"),
        ("recvmsg", "i32 i32 i32 i32 i32 i32 i32 i32 i32"),
    ];
    // Addresses at 300 (a path) and 340 (port 8080 of any); an option's value at 96; descriptors at 32.
    let data = r#"(data (i32.const 160) "content of a file")
  (data (i32.const 96) "\01\00\00\00")
  (data (i32.const 300) "\01\00/tmp/of-the-guest.sock\00")
  (data (i32.const 340) "\02\00\1f\90\00\00\00\00\00\00\00\00\00\00\00\00")"#;
    let (server, client, connection) = (
        "(i32.load (i32.const 32))",
        "(i32.load (i32.const 36))",
        "(i32.load (i32.const 40))",
    );
    let numbers = |numbers: &[i32]| -> String {
        numbers
            .iter()
            .map(|one| format!(" (i32.const {one})"))
            .collect()
    };
    let (path, any, room) = (
        numbers(&[300, 26]),
        numbers(&[340, 16]),
        numbers(&[400, 128]),
    );
    let calls = [
        format!("socket{}", numbers(&[1, 1, 0, 0, 32])),
        format!("setsockopt {server}{}", numbers(&[1, 2, 96, 4])),
        format!("bind {server}{path}"),
        format!("listen {server}{}", numbers(&[4])),
        format!("socket{}", numbers(&[1, 1, 0, 4, 36])),
        format!("connect {client}{path}"),
        format!(
            "accept4 {server}{}{room}{}",
            numbers(&[4]),
            numbers(&[40, 64])
        ),
        format!("getsockname {server}{room}{}", numbers(&[64])),
        format!("getpeername {client}{room}{}", numbers(&[64])),
        format!("getsockopt {client}{}", numbers(&[1, 3, 400, 4, 64])),
        format!("sendmsg {client}{}", numbers(&[0, 1, 0x40, 0, 0, 64])),
        format!("sendmsg {client}{}", numbers(&[0, 2, 0x40, 0, 0, 64])),
        format!(
            "recvmsg {connection}{}{room}{}",
            numbers(&[16, 1, 2]),
            numbers(&[64, 68, 72])
        ),
        format!("sock_shutdown {client}{}", numbers(&[2])),
        format!("socketpair{}", numbers(&[1, 2, 0, 4, 64, 68])),
        format!("socket{}", numbers(&[2, 1, 6, 0, 32])),
        format!("bind {server}{any}"),
        format!("listen {server}{}", numbers(&[4])),
        format!("socket{}", numbers(&[10, 2, 17, 4, 32])),
    ];
    checked(&PREVIEW1, &POSIX, data, "", &calls, "")
}

/// Looks up localhost, which has an address of each family. As [`everything`] it exits with the number of the
/// call that failed.
pub(crate) fn look_up() -> String {
    let call = "getaddrinfo (i32.const 300) (i32.const 9) (i32.const 0) (i32.const 0) \
                (i32.const 400) (i32.const 128) (i32.const 600) (i32.const 64) \
                (i32.const 64) (i32.const 68)";
    checked(
        &[("fd_write", "i32 i32 i32 i32")],
        &[("getaddrinfo", "i32 i32 i32 i32 i32 i32 i32 i32 i32 i32")],
        r#"(data (i32.const 300) "localhost")"#,
        "",
        &[call.to_owned()],
        "",
    )
}

/// Makes a pair of sockets and uses it. As [`everything`] it exits with the number of the call that failed.
pub(crate) fn pairs() -> String {
    const PREVIEW1: [(&str, &str); 2] = [
        ("fd_write", "i32 i32 i32 i32"),
        ("sock_shutdown", "i32 i32"),
    ];
    const POSIX: [(&str, &str); 7] = [
        ("socketpair", "i32 i32 i32 i32 i32 i32"),
        ("getsockname", "i32 i32 i32 i32"),
        ("getpeername", "i32 i32 i32 i32"),
        ("getsockopt", "i32 i32 i32 i32 i32 i32"),
        ("setsockopt", "i32 i32 i32 i32 i32"),
        ("sendmsg", "i32 i32 i32 i32 i32 i32 i32"),
        ("recvmsg", "i32 i32 i32 i32 i32 i32 i32 i32 i32"),
    ];
    let data = r#"(data (i32.const 160) "content of a file") (data (i32.const 96) "\00\20\00\00")"#;
    let (one, other) = ("(i32.load (i32.const 32))", "(i32.load (i32.const 36))");
    let numbers = |numbers: &[i32]| -> String {
        numbers
            .iter()
            .map(|one| format!(" (i32.const {one})"))
            .collect()
    };
    // A message in one buffer and one in two, of datagrams and of a stream.
    let calls: Vec<_> = [2, 1]
        .into_iter()
        .flat_map(|kind| {
            [
                format!("socketpair{}", numbers(&[1, kind, 0, 4, 32, 36])),
                format!("getsockname {one}{}", numbers(&[400, 128, 64])),
                format!("getpeername {one}{}", numbers(&[400, 128, 64])),
                format!("setsockopt {one}{}", numbers(&[1, 7, 96, 4])),
                format!("getsockopt {one}{}", numbers(&[1, 3, 400, 4, 64])),
                format!("sendmsg {one}{}", numbers(&[0, 1, 0x40, 0, 0, 64])),
                format!("sendmsg {one}{}", numbers(&[0, 2, 0x40, 0, 0, 64])),
                format!(
                    "recvmsg {other}{}",
                    numbers(&[16, 1, 2, 400, 128, 64, 68, 72])
                ),
                format!("fd_write {one}{}", numbers(&[0, 2, 64])),
                format!("sock_shutdown {one}{}", numbers(&[2])),
            ]
        })
        .collect();
    checked(&PREVIEW1, &POSIX, data, "", &calls, "")
}

/// Calls what preview 1 has for sockets on standard input and on standard output, after asking what
/// these are. Exits with 0 if each answers ENOTSOCK, or with the number of the call that does not.
pub(crate) fn sockets() -> String {
    const NOTSOCK: i32 = 57;
    let calls: String = (0..2)
        .flat_map(|fd| {
            [
                format!("$accept (i32.const {fd}) (i32.const 0) (i32.const 64)"),
                format!(
                    "$recv (i32.const {fd}) (i32.const 0) (i32.const 1) (i32.const 0) \
                     (i32.const 64) (i32.const 68)"
                ),
                format!(
                    "$send (i32.const {fd}) (i32.const 0) (i32.const 1) (i32.const 0) \
                     (i32.const 64)"
                ),
                format!("$shutdown (i32.const {fd}) (i32.const 3)"),
            ]
        })
        .enumerate()
        .map(|(index, call)| {
            format!(
                "(if (i32.ne (call {call}) (i32.const {NOTSOCK})) \
                 (then (call $exit (i32.const {}))))\n",
                index + 1
            )
        })
        .collect();
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "sock_accept" (func $accept (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_recv"
    (func $recv (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_send"
    (func $send (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_shutdown" (func $shutdown (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_fdstat_get" (func $stat (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (call $stat (i32.const 0) (i32.const 128)))
    (i32.store (i32.const 0) (i32.const 256))
    (i32.store (i32.const 4) (i32.const 16))
    {calls}
    (call $exit (i32.const 0))))"#
    )
}
