;; Grows a table until that is refused.
(module
  (memory (export "memory") 1)
  (table $table 1 externref)
  (func (export "_start")
    (loop $next
      (br_if $next
        (i32.ne (table.grow $table (ref.null extern) (i32.const 65536)) (i32.const -1))))))
