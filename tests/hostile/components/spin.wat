;; Says "ready", and asks again and again for what never happens, without waiting.
(component
  (import "wasi:io/error@0.2.0" (instance $error (export "error" (type (sub resource)))))
  (alias export $error "error" (type $error))
  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.ready" (func (param "self" (borrow $pollable)) (result bool)))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
    (alias outer 1 $pollable (type $outer-pollable))
    (export "pollable" (type $own-pollable (eq $outer-pollable)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $own-pollable))))))
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
  (core module $memory (memory (export "memory") 1) (data (i32.const 8) "ready\n"))
  (core instance $memory (instantiate $memory))
  (core func $stdout (canon lower (func $stdout "get-stdout")))
  (core func $write (canon lower
    (func $streams "[method]output-stream.blocking-write-and-flush")
    (memory (core memory $memory "memory"))))
  (core func $subscribe (canon lower (func $clock "subscribe-duration")))
  (core func $ready (canon lower (func $poll "[method]pollable.ready")))
  (core module $main
    (import "host" "stdout" (func $stdout (result i32)))
    (import "host" "write" (func $write (param i32 i32 i32 i32)))
    (import "host" "subscribe" (func $subscribe (param i64) (result i32)))
    (import "host" "ready" (func $ready (param i32) (result i32)))
    (func (export "run") (result i32) (local $never i32)
      (call $write (call $stdout) (i32.const 8) (i32.const 6) (i32.const 0))
      (local.set $never (call $subscribe (i64.const -1)))
      (loop $again (br_if $again (i32.eqz (call $ready (local.get $never)))))
      (i32.const 1)))
  (core instance $main (instantiate $main (with "host" (instance
    (export "stdout" (func $stdout)) (export "write" (func $write))
    (export "subscribe" (func $subscribe)) (export "ready" (func $ready))))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))
