;; Grows a table until that is refused.
(component
  (core module $main
    (table $table 1 externref)
    (func (export "run") (result i32)
      (loop $next
        (br_if $next
          (i32.ne (table.grow $table (ref.null extern) (i32.const 65536)) (i32.const -1))))
      (i32.const 0)))
  (core instance $main (instantiate $main))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))
