;; The tiny program of `wasm-interp node verify`: a line of output and an exit code that no failure has.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  ;; One iovec: the text at 16, 18 bytes long.
  (data (i32.const 0) "\10\00\00\00\12\00\00\00")
  (data (i32.const 16) "wasm-interp works\n")
  (func (export "_start")
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call $proc_exit (i32.const 42))))
