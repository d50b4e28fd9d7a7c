;; Two instances grow a memory each in turn, and write to every page of it, until both are refused.
(component
  (core module $grows
    (memory 1)
    (func (export "grow") (result i32) (local $at i32)
      (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then (return (i32.const 0))))
      (local.set $at (i32.mul (i32.sub (memory.size) (i32.const 16)) (i32.const 65536)))
      (memory.fill (local.get $at) (i32.const 1) (i32.const 1048576))
      (i32.const 1)))
  (core instance $one (instantiate $grows))
  (core instance $other (instantiate $grows))
  (core module $main
    (import "one" "grow" (func $one (result i32)))
    (import "other" "grow" (func $other (result i32)))
    (func (export "run") (result i32)
      (loop $next (br_if $next (i32.or (call $one) (call $other))))
      (i32.const 0)))
  (core instance $main (instantiate $main (with "one" (instance $one)) (with "other" (instance $other))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))
