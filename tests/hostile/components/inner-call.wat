;; Has its allocator, which the host calls, call the host again.
(component
  (import "wasi:cli/environment@0.2.0" (instance $environment
    (export "get-arguments" (func (result (list string))))))
  (core module $indirect
    (table (export "table") 1 funcref)
    (type $call (func (param i32)))
    (func (export "arguments") (param i32) (call_indirect (type $call) (local.get 0) (i32.const 0))))
  (core instance $indirect (instantiate $indirect))
  (core module $memory
    (import "host" "arguments" (func $arguments (param i32)))
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (call $arguments (i32.const 0))
      (i32.const 8)))
  (core instance $memory (instantiate $memory (with "host" (instance $indirect))))
  (core func $arguments (canon lower (func $environment "get-arguments")
    (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core module $fill
    (import "to" "table" (table 1 funcref))
    (import "host" "arguments" (func $arguments (param i32)))
    (elem (i32.const 0) func $arguments))
  (core instance (instantiate $fill
    (with "to" (instance $indirect))
    (with "host" (instance (export "arguments" (func $arguments))))))
  (core module $main
    (import "host" "arguments" (func $arguments (param i32)))
    (func (export "run") (result i32) (call $arguments (i32.const 0)) (i32.const 0)))
  (core instance $main (instantiate $main
    (with "host" (instance (export "arguments" (func $arguments))))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))
