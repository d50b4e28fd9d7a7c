;; Opens a file until that is refused, and ends with the errno. Before that it checks that a descriptor
;; which it closes can be opened again: 100 if not.
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "bin/guest.wasm")
  (func $again (result i32)
    (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 14) (i32.const 0)
      (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 32)))
  (func (export "_start") (local $errno i32)
    (loop $next
      (br_if $next (i32.eqz (local.tee $errno (call $again)))))
    (if (call $close (i32.load (i32.const 32))) (then (call $exit (i32.const 100))))
    (if (call $again) (then (call $exit (i32.const 100))))
    (call $exit (local.get $errno))))
