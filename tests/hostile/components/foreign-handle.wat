;; Waits for a handle that it never got.
(component
  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
  (core func $block (canon lower (func $poll "[method]pollable.block")))
  (core module $main
    (import "host" "block" (func $block (param i32)))
    (func (export "run") (result i32) (call $block (i32.const 1)) (i32.const 0)))
  (core instance $main (instantiate $main
    (with "host" (instance (export "block" (func $block))))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))
