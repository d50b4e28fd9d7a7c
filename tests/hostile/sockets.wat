;; Makes sockets until that is refused, and ends with the errno. Each is on its way to an address that never answers: half-open
;; connections, or else it ends with 101. Before the end it checks that a socket can be made again once another is closed: 100 if not.
(module
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasm_interp_posix_v1" "socket"
    (func $socket (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasm_interp_posix_v1" "connect" (func $connect (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; AF_INET, port 80, 10.255.255.1
  (data (i32.const 0) "\02\00\00\50\0a\ff\ff\01\00\00\00\00\00\00\00\00")
  (func $again (result i32) (local $errno i32)
    (local.set $errno (call $socket
      (i32.const 2) (i32.const 1) (i32.const 0) (i32.const 4) (i32.const 32)))
    (if (i32.eqz (local.get $errno))
      (then
        ;; EINPROGRESS
        (if (i32.ne (i32.const 26)
              (call $connect (i32.load (i32.const 32)) (i32.const 0) (i32.const 16)))
          (then (call $exit (i32.const 101))))))
    (local.get $errno))
  (func (export "_start") (local $errno i32)
    (loop $next
      (br_if $next (i32.eqz (local.tee $errno (call $again)))))
    (if (call $close (i32.load (i32.const 32))) (then (call $exit (i32.const 100))))
    (if (call $again) (then (call $exit (i32.const 100))))
    (call $exit (local.get $errno))))
