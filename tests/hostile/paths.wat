;; Opens each path that it is given, from the root directory, and prints a line for each: two digits,
;; preview 1's errno. A path after "+" is created and written to, all others are read.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $arguments (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 0) "00\n")
  (func $length (param $at i32) (result i32) (local $end i32)
    (local.set $end (local.get $at))
    (loop $next
      (if (i32.load8_u (local.get $end))
        (then (local.set $end (i32.add (local.get $end) (i32.const 1))) (br $next))))
    (i32.sub (local.get $end) (local.get $at)))
  (func $print (param $errno i32)
    (i32.store8 (i32.const 0)
      (i32.add (i32.const 48) (i32.div_u (local.get $errno) (i32.const 10))))
    (i32.store8 (i32.const 1)
      (i32.add (i32.const 48) (i32.rem_u (local.get $errno) (i32.const 10))))
    (i32.store (i32.const 16) (i32.const 0))
    (i32.store (i32.const 20) (i32.const 3))
    (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 32))))
  (func $try (param $path i32) (local $create i32) (local $errno i32)
    (if (i32.eq (i32.load8_u (local.get $path)) (i32.const 43))
      (then
        (local.set $create (i32.const 1))
        (local.set $path (i32.add (local.get $path) (i32.const 1)))))
    (local.set $errno
      (call $open (i32.const 3) (i32.const 1)
        (local.get $path) (call $length (local.get $path))
        (local.get $create)
        (select (i64.const 0x40) (i64.const 0x2) (local.get $create))
        (i64.const 0) (i32.const 0) (i32.const 40)))
    (if (i32.eqz (local.get $errno))
      (then
        (if (local.get $create)
          (then (drop (call $write
            (i32.load (i32.const 40)) (i32.const 16) (i32.const 1) (i32.const 32)))))
        (drop (call $close (i32.load (i32.const 40))))))
    (call $print (local.get $errno)))
  (func (export "_start") (local $n i32)
    (drop (call $sizes (i32.const 48) (i32.const 52)))
    (drop (call $arguments (i32.const 1024) (i32.const 65536)))
    (loop $next
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (if (i32.lt_u (local.get $n) (i32.load (i32.const 48)))
        (then
          (call $try (i32.load (i32.add (i32.const 1024) (i32.mul (local.get $n) (i32.const 4)))))
          (br $next))))))
