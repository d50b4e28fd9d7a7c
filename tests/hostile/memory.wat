;; Grows its memory until that is refused, and writes to every page of it.
(module
  (memory (export "memory") 1)
  (func (export "_start") (local $at i32)
    (loop $next
      (if (i32.ne (memory.grow (i32.const 16)) (i32.const -1))
        (then
          (local.set $at (i32.mul (i32.sub (memory.size) (i32.const 16)) (i32.const 65536)))
          (memory.fill (local.get $at) (i32.const 1) (i32.const 1048576))
          (br $next))))))
