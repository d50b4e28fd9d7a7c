;; Makes pairs of sockets until that is refused, fills each with data that nothing reads, and ends with the errno.
;; No grant is needed for that.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasm_interp_posix_v1" "socketpair"
    (func $pair (param i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (func $fill (param $fd i32)
    ;; 16 KiB
    (i32.store (i32.const 16) (i32.const 65536))
    (i32.store (i32.const 20) (i32.const 16384))
    (loop $next
      (br_if $next (i32.eqz
        (call $write (local.get $fd) (i32.const 16) (i32.const 1) (i32.const 24))))))
  (func (export "_start") (local $errno i32)
    (loop $next
      ;; AF_UNIX, SOCK_STREAM, not blocking
      (local.set $errno (call $pair
        (i32.const 1) (i32.const 1) (i32.const 0) (i32.const 4) (i32.const 32) (i32.const 36)))
      (if (i32.eqz (local.get $errno))
        (then
          (call $fill (i32.load (i32.const 32)))
          (call $fill (i32.load (i32.const 36)))
          (br $next))))
    (call $exit (local.get $errno))))
