;; Writes 256 MiB to standard output as fast as they are taken; ends with the errno of a failure.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 3)
  (func (export "_start") (local $left i32) (local $errno i32)
    (memory.fill (i32.const 65536) (i32.const 120) (i32.const 65536))
    (local.set $left (i32.const 268435456))
    (loop $next
      (i32.store (i32.const 0) (i32.const 65536))
      (i32.store (i32.const 4) (select
        (i32.const 65536) (local.get $left) (i32.gt_u (local.get $left) (i32.const 65536))))
      (if (local.tee $errno
            (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (then (call $exit (local.get $errno))))
      (br_if $next
        (local.tee $left (i32.sub (local.get $left) (i32.load (i32.const 8))))))))
