//! A module that hands every call through to its import: the host functions see what a guest's
//! call looks like, with its memory, and the test chooses the arguments.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::sync::LazyLock;

use wasm_interp_network::Network;
use wasm_interp_wasi::imports::{CoreType, NAMESPACES};
use wasm_interp_wasi::{Guest, GuestSettings, LateMounts, ModesBy, add_to_linker, paths};
use wasmtime::{Engine, InstancePre, Linker, Memory, Module, Store, Val};

/// Enough for the longest path, the most data and the largest listing of an operation.
const PAGES: u32 = 32;

/// An argument of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value {
    I32(u32),
    I64(u64),
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::I32(value)
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::I64(value)
    }
}

/// The module's text, from the list of what a guest may import.
fn text() -> String {
    let name = |of: &CoreType| match of {
        CoreType::I32 => " i32",
        CoreType::I64 => " i64",
    };
    let (mut imports, mut functions) = (String::new(), String::new());
    for namespace in NAMESPACES {
        for function in namespace.functions {
            let parameters: String = function.parameters.iter().map(name).collect();
            let results: String = function.results.iter().map(name).collect();
            let (module, name) = (namespace.module, function.name);
            let of_type = format!("(param{parameters}) (result{results})");
            let arguments: String = (0..function.parameters.len())
                .map(|n| format!("local.get {n} "))
                .collect();
            let _ = writeln!(
                imports,
                r#"(import "{module}" "{name}" (func ${module}.{name} {of_type}))"#
            );
            let _ = writeln!(
                functions,
                r#"(func (export "{name}") {of_type} {arguments} call ${module}.{name})"#
            );
        }
    }
    format!("(module {imports} (memory (export \"memory\") {PAGES}) {functions})")
}

static LINKED: LazyLock<InstancePre<Guest>> = LazyLock::new(|| {
    let engine = Engine::default();
    let bytes = wat::parse_str(text()).expect("the trampoline is WebAssembly");
    let module = Module::new(&engine, bytes).expect("the trampoline compiles");
    let mut linker = Linker::new(&engine);
    add_to_linker(&mut linker, |guest| guest).expect("the host functions are linked");
    linker
        .instantiate_pre(&module)
        .expect("every import is known")
});

/// One guest.
pub(crate) struct Instance {
    store: Store<Guest>,
    instance: wasmtime::Instance,
    memory: Memory,
}

impl Instance {
    /// A guest in the calling thread's root directory.
    pub(crate) fn new(late_mounts: LateMounts) -> Self {
        let settings = GuestSettings {
            arguments: Vec::new(),
            environment: Vec::new(),
            root: paths::root().expect("the root directory opens"),
            late_mounts,
            modes_by: ModesBy::of_kernel(),
            network: Network::none(),
            refusals: None,
        };
        let guest = Guest::new(settings).expect("a guest");
        let mut store = Store::new(LINKED.module().engine(), guest);
        let instance = LINKED.instantiate(&mut store).expect("an instance");
        let memory = instance.get_memory(&mut store, "memory").expect("a memory");
        Self {
            store,
            instance,
            memory,
        }
    }

    /// Calls a host function that returns an errno.
    pub(crate) fn call(&mut self, function: &str, arguments: &[Value]) -> u16 {
        let called = self.instance.get_func(&mut self.store, function);
        let called = called.unwrap_or_else(|| panic!("{function} is exported"));
        let arguments: Vec<Val> = arguments
            .iter()
            .map(|&argument| match argument {
                Value::I32(value) => Val::I32(value.cast_signed()),
                Value::I64(value) => Val::I64(value.cast_signed()),
            })
            .collect();
        let mut results = [Val::I32(0)];
        called
            .call(&mut self.store, &arguments, &mut results)
            .unwrap_or_else(|error| panic!("{function}{arguments:?} traps: {error:#}"));
        u16::try_from(results[0].unwrap_i32()).expect("an errno is small")
    }

    pub(crate) fn write(&mut self, to: u32, bytes: &[u8]) {
        let written = self.memory.write(&mut self.store, to as usize, bytes);
        written.expect("it fits into the memory");
    }

    pub(crate) fn read(&mut self, from: u32, length: u32) -> Vec<u8> {
        let (from, length) = (from as usize, length as usize);
        self.memory.data(&self.store)[from..from + length].to_vec()
    }
}
