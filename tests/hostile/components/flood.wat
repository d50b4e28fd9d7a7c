;; Writes 256 MiB to standard output as fast as they are taken; fails if a write does.
(component
  (import "wasi:io/error@0.2.0" (instance $error (export "error" (type (sub resource)))))
  (alias export $error "error" (type $error))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (alias outer 1 $error (type $outer-error))
    (export "error" (type $own-error (eq $outer-error)))
    (type $stream-error-here (variant (case "last-operation-failed" (own $own-error)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $stream-error-here)))
    (export "output-stream" (type $output (sub resource)))
    (export "[method]output-stream.blocking-write-and-flush"
      (func (param "self" (borrow $output)) (param "contents" (list u8))
        (result (result (error $stream-error)))))))
  (alias export $streams "output-stream" (type $output))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (alias outer 1 $output (type $outer-output))
    (export "output-stream" (type $own-output (eq $outer-output)))
    (export "get-stdout" (func (result (own $own-output))))))
  (core module $memory (memory (export "memory") 2))
  (core instance $memory (instantiate $memory))
  (core func $stdout (canon lower (func $stdout "get-stdout")))
  (core func $write (canon lower
    (func $streams "[method]output-stream.blocking-write-and-flush")
    (memory (core memory $memory "memory"))))
  (core module $main
    (import "host" "memory" (memory 2))
    (import "host" "stdout" (func $stdout (result i32)))
    (import "host" "write" (func $write (param i32 i32 i32 i32)))
    (func (export "run") (result i32) (local $left i32) (local $stream i32)
      (memory.fill (i32.const 65536) (i32.const 120) (i32.const 4096))
      (local.set $stream (call $stdout))
      ;; As many times as 4 KiB are in 256 MiB.
      (local.set $left (i32.const 65536))
      (loop $next
        (call $write (local.get $stream) (i32.const 65536) (i32.const 4096) (i32.const 0))
        (if (i32.load8_u (i32.const 0)) (then (return (i32.const 1))))
        (br_if $next (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
      (i32.const 0)))
  (core instance $main (instantiate $main (with "host" (instance
    (export "memory" (memory $memory "memory"))
    (export "stdout" (func $stdout)) (export "write" (func $write))))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))
