//! The loading engine accepts only what the compiling engine makes.
// For clippy: .clippy.toml allows more in tests.
#![cfg(test)]

use std::fs::File;
use std::io::Write as _;

use wasm_interp_artifact::load;
use wasmtime::{Linker, Store};

fn on_disk(bytes: &[u8]) -> File {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    File::open(file.path()).unwrap()
}

fn run(wat: &str) -> wasmtime::Result<()> {
    let code = wasm_interp_compiler::compile(&wat::parse_str(wat).unwrap()).unwrap();
    let engine = load::engine(1 << 20)?;
    let module = load::module(&engine, on_disk(&code))?;
    let mut store = Store::new(&engine, ());
    let future = async {
        let instance = Linker::new(&engine)
            .instantiate_async(&mut store, &module)
            .await?;
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
        start.call_async(&mut store, ()).await
    };
    // These guests never wait, so the first poll completes.
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(result) => result,
        std::task::Poll::Pending => panic!("a guest without imports waited"),
    }
}

#[test]
fn a_command_runs_asynchronously_with_exceptions_tail_calls_and_simd() {
    run(r#"(module
        (memory 1) (data (i32.const 0) "x") (tag $t)
        (func $even (param i32) (result i32)
            (if (i32.eqz (local.get 0)) (then (return (i32.const 1))))
            (return_call $even (i32.sub (local.get 0) (i32.const 1))))
        (func (export "_start")
            (block $caught (try_table (catch $t $caught) (throw $t)) unreachable)
            (drop (i32x4.extract_lane 0 (i32x4.splat (call $even (i32.const 1000000)))))))"#)
    .unwrap();
}

#[test]
fn endless_recursion_traps_and_the_process_lives() {
    let error = run(r#"(module (func $f (export "_start") (call $f)))"#).unwrap_err();
    assert!(
        matches!(error.downcast_ref(), Some(wasmtime::Trap::StackOverflow)),
        "{error:?}"
    );
}

#[test]
fn other_files_are_not_loaded() {
    let engine = load::engine(1 << 20).unwrap();
    for bytes in [&b""[..], b"\x7fELF", &[0; 8192]] {
        assert!(load::module(&engine, on_disk(bytes)).is_err());
    }
}
