;; Tries to reach what its arguments say, and prints a line for each: two digits, preview 1's errno of the
;; first call that failed. An argument is a letter and a sockaddr in hexadecimal digits:
;;   c  connects a stream      d  connects datagrams     m  sends a datagram there
;;   l  binds and listens      u  binds datagrams        w  connects a stream and writes to it
;; Streams are not blocking: what is granted answers at once.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $arguments (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasm_interp_posix_v1" "socket"
    (func $socket (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasm_interp_posix_v1" "connect" (func $connect (param i32 i32 i32) (result i32)))
  (import "wasm_interp_posix_v1" "bind" (func $bind (param i32 i32 i32) (result i32)))
  (import "wasm_interp_posix_v1" "listen" (func $listen (param i32 i32) (result i32)))
  (import "wasm_interp_posix_v1" "sendmsg"
    (func $send (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 0) "00\n")
  (func $print (param $errno i32)
    (i32.store8 (i32.const 0)
      (i32.add (i32.const 48) (i32.div_u (local.get $errno) (i32.const 10))))
    (i32.store8 (i32.const 1)
      (i32.add (i32.const 48) (i32.rem_u (local.get $errno) (i32.const 10))))
    (i32.store (i32.const 16) (i32.const 0))
    (i32.store (i32.const 20) (i32.const 3))
    (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 32))))
  (func $digit (param $at i32) (result i32) (local $byte i32)
    (local.set $byte (i32.load8_u (local.get $at)))
    (select
      (i32.sub (local.get $byte) (i32.const 48))
      (i32.sub (local.get $byte) (i32.const 87))
      (i32.lt_u (local.get $byte) (i32.const 58))))
  ;; Writes the address at 128, and returns its length.
  (func $address (param $at i32) (result i32) (local $length i32)
    (loop $next
      (if (i32.load8_u (local.get $at))
        (then
          (i32.store8 (i32.add (i32.const 128) (local.get $length))
            (i32.add
              (i32.mul (call $digit (local.get $at)) (i32.const 16))
              (call $digit (i32.add (local.get $at) (i32.const 1)))))
          (local.set $length (i32.add (local.get $length) (i32.const 1)))
          (local.set $at (i32.add (local.get $at) (i32.const 2)))
          (br $next))))
    (local.get $length))
  (func $act (param $what i32) (param $fd i32) (param $length i32) (result i32)
    (local $errno i32)
    ;; c, d, w
    (if (i32.or
          (i32.le_u (local.get $what) (i32.const 100))
          (i32.eq (local.get $what) (i32.const 119)))
      (then
        (local.set $errno (call $connect (local.get $fd) (i32.const 128) (local.get $length)))
        (if (i32.and (i32.eqz (local.get $errno)) (i32.eq (local.get $what) (i32.const 119)))
          (then
            (i32.store (i32.const 16) (i32.const 0))
            (i32.store (i32.const 20) (i32.const 1))
            (return (call $write (local.get $fd) (i32.const 16) (i32.const 1) (i32.const 32)))))
        (return (local.get $errno))))
    ;; m: one byte
    (if (i32.eq (local.get $what) (i32.const 109))
      (then
        (i32.store (i32.const 16) (i32.const 0))
        (i32.store (i32.const 20) (i32.const 1))
        (return (call $send (local.get $fd) (i32.const 16) (i32.const 1) (i32.const 0)
          (i32.const 128) (local.get $length) (i32.const 32)))))
    (local.set $errno (call $bind (local.get $fd) (i32.const 128) (local.get $length)))
    ;; l
    (if (i32.and (i32.eqz (local.get $errno)) (i32.eq (local.get $what) (i32.const 108)))
      (then (return (call $listen (local.get $fd) (i32.const 1)))))
    (local.get $errno))
  (func $try (param $at i32) (local $what i32) (local $length i32) (local $errno i32)
    (local.set $what (i32.load8_u (local.get $at)))
    (local.set $length (call $address (i32.add (local.get $at) (i32.const 1))))
    (local.set $errno
      (call $socket
        (i32.load16_u (i32.const 128))
        ;; SOCK_STREAM for c, l and w, else SOCK_DGRAM
        (select (i32.const 1) (i32.const 2)
          (i32.or
            (i32.eq (local.get $what) (i32.const 119))
            (i32.or
              (i32.eq (local.get $what) (i32.const 99))
              (i32.eq (local.get $what) (i32.const 108)))))
        (i32.const 0) (i32.const 4) (i32.const 40)))
    (if (i32.eqz (local.get $errno))
      (then
        (local.set $errno
          (call $act (local.get $what) (i32.load (i32.const 40)) (local.get $length)))
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
