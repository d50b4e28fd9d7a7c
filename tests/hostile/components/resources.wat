;; Makes handles of a resource of its own without an end: WASI's functions are not asked.
(component
  (type $own (resource (rep i32)))
  (core func $new (canon resource.new $own))
  (core module $main
    (import "host" "new" (func $new (param i32) (result i32)))
    (func (export "run") (result i32)
      (loop $next
        (drop (call $new (i32.const 0)))
        (br $next))
      (i32.const 1)))
  (core instance $main (instantiate $main (with "host" (instance (export "new" (func $new))))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))
