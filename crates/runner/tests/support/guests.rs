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
    let length = path.len();
    module(&format!(
        r#"(data (i32.const 100) "{path}")
  (func (export "_start")
    (call $exit (call $open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const {length})
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

/// Asks for 64 MiB of memory and exits with 7 if that is refused.
pub(crate) fn hungry() -> String {
    module(
        r#"(func (export "_start")
    (if (i32.eq (memory.grow (i32.const 1024)) (i32.const -1))
      (then (call $exit (i32.const 7)))))"#,
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
