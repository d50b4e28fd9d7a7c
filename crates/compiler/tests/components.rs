//! The loading engine accepts components. A test of its own process: the loader of components reckons with descriptors,
//! which other threads of a test would open meanwhile.
// For clippy: .clippy.toml allows more in tests.
#![cfg(test)]

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;

use wasm_interp_artifact::load;
use wasmtime::{Engine, Store};

fn on_disk(bytes: &[u8]) -> File {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    File::open(file.path()).unwrap()
}

#[test]
fn components_are_loaded_as_components() {
    let engine = load::engine(1 << 20).unwrap();
    component_runs_and_its_code_keeps_its_descriptor(&engine);
    code_of_the_other_kind_is_not_loaded(&engine);
}

/// A component whose `run` returns this, where 0 is success.
fn component(result: i32) -> String {
    format!(
        r#"(component
            (core module $m (memory 1) (data (i32.const 0) "image")
                (func (export "run") (result i32) (i32.const {result})))
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))"#
    )
}

fn component_runs_and_its_code_keeps_its_descriptor(engine: &Engine) {
    let code = wasm_interp_compiler::compile(&wat::parse_str(component(1)).unwrap()).unwrap();
    let file = on_disk(&code);
    let number = file.as_raw_fd();
    let identity = file.metadata().unwrap().ino();
    let component = load::component(engine, file).unwrap();
    let kept = std::fs::metadata(format!("/proc/self/fd/{number}")).unwrap();
    assert_eq!(kept.ino(), identity);
    let mut store = Store::new(engine, ());
    let future = async {
        let linker = wasmtime::component::Linker::new(engine);
        let instance = linker.instantiate_async(&mut store, &component).await?;
        let run = instance.get_export_index(&mut store, None, "wasi:cli/run@0.2.0");
        let run = instance.get_export_index(&mut store, run.as_ref(), "run");
        let run = instance.get_typed_func::<(), (Result<(), ()>,)>(&mut store, run.unwrap())?;
        run.call_async(&mut store, ()).await
    };
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(result) => assert_eq!(result.unwrap(), (Err(()),)),
        std::task::Poll::Pending => panic!("a guest without imports waited"),
    }
}

fn code_of_the_other_kind_is_not_loaded(engine: &Engine) {
    let compile = |wat: &str| wasm_interp_compiler::compile(&wat::parse_str(wat).unwrap()).unwrap();
    let of_component = compile(&component(0));
    assert!(load::module(engine, on_disk(&of_component)).is_err());
    let of_module = compile(r#"(module (func (export "_start")))"#);
    assert!(load::component(engine, on_disk(&of_module)).is_err());
}
