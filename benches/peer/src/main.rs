//! The measured peer: a Wasm shim on `containerd-shim-wasm`, as runwasi's wasmtime shim is one.
//!
//! It does what that shim does with an ordinary image whose layer holds a `.wasm`: read it, compile
//! it at every start, run it with one preopen `/` that has all rights. Same Wasmtime version as ours,
//! so that what is compared is the shim and not the engine.

use anyhow::{Result, anyhow};
use containerd_shim_wasm::sandbox::Sandbox;
use containerd_shim_wasm::sandbox::context::{Entrypoint, RuntimeContext};
use containerd_shim_wasm::shim::{Cli, Shim, Version, version};
use wasmtime::{Config, Engine, Linker, Module, Store, format_err};
use wasmtime_wasi::p1::{self, WasiP1Ctx};
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtxBuilder};

struct Peer;

#[derive(Default)]
struct PeerSandbox;

impl Shim for Peer {
    type Sandbox = PeerSandbox;

    fn name() -> &'static str {
        "peer"
    }

    fn version() -> Version {
        version!()
    }
}

impl Sandbox for PeerSandbox {
    async fn run_wasi(&self, ctx: &impl RuntimeContext) -> Result<i32> {
        let Entrypoint { source, func, .. } = ctx.entrypoint();
        let wasm = source.as_bytes()?;
        run(&wasm, &func, ctx.args(), ctx.envs())
            .await
            .map_err(|error| anyhow!("{error:?}"))
    }
}

async fn run(wasm: &[u8], func: &str, args: &[String], envs: &[String]) -> wasmtime::Result<i32> {
    let mut config = Config::new();
    config.max_wasm_stack(1 << 20);
    let engine = Engine::new(&config)?;
    let module = Module::new(&engine, wasm)?;

    let mut linker: Linker<WasiP1Ctx> = Linker::new(&engine);
    p1::add_to_linker_async(&mut linker, |ctx| ctx)?;
    let mut wasi = WasiCtxBuilder::new();
    wasi.args(args).inherit_stdio();
    for (name, value) in envs.iter().filter_map(|env| env.split_once('=')) {
        wasi.env(name, value);
    }
    wasi.preopened_dir("/", "/", FsPerms::ReadWrite)?;

    let mut store = Store::new(&engine, wasi.build_p1());
    let instance = linker.instantiate_async(&mut store, &module).await?;
    let start = instance
        .get_func(&mut store, func)
        .ok_or_else(|| format_err!("the module exports no function {func}"))?;
    match start.call_async(&mut store, &[], &mut []).await {
        Ok(()) => Ok(0),
        Err(error) => match error.downcast_ref::<I32Exit>() {
            Some(exit) => Ok(exit.0),
            None => Err(error),
        },
    }
}

fn main() {
    Peer::run(None);
}
