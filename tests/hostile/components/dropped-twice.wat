;; Drops a handle twice.
(component
  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $pollable (sub resource)))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
    (alias outer 1 $pollable (type $pollable-here))
    (export "pollable" (type $same (eq $pollable-here)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $same))))))
  (core func $subscribe (canon lower (func $clock "subscribe-duration")))
  (core func $drop (canon resource.drop $pollable))
  (core module $main
    (import "host" "subscribe" (func $subscribe (param i64) (result i32)))
    (import "host" "drop" (func $drop (param i32)))
    (func (export "run") (result i32) (local $handle i32)
      (local.set $handle (call $subscribe (i64.const 0)))
      (call $drop (local.get $handle))
      (call $drop (local.get $handle))
      (i32.const 0)))
  (core instance $main (instantiate $main (with "host" (instance
    (export "subscribe" (func $subscribe)) (export "drop" (func $drop))))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))
