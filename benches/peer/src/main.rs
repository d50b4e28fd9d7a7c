//! The measured peer: a Wasm shim on `containerd-shim-wasm`, as runwasi's wasmtime shim is one.
//!
//! It does what that shim does with an ordinary image whose layer holds a `.wasm`, a module or a
//! component: read it, compile it at every start, run it with one preopen `/` that has all rights.
//! Same Wasmtime version as ours, so that what is compared is the shim and not the engine.

use anyhow::{Result, anyhow};
use containerd_shim_wasm::sandbox::Sandbox;
use containerd_shim_wasm::sandbox::context::{Entrypoint, RuntimeContext};
use containerd_shim_wasm::shim::{Cli, Shim, Version, version};
use wasmtime::component::{self, Component, ResourceTable};
use wasmtime::{Config, Engine, Linker, Module, Store, format_err};
use wasmtime_wasi::p1::{self, WasiP1Ctx};
use wasmtime_wasi::p2::{self, bindings::Command};
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

/// The version and the layer of a component, behind the first four bytes.
const COMPONENT: &[u8] = &[0x0d, 0, 1, 0];

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
    let mut wasi = WasiCtxBuilder::new();
    wasi.args(args).inherit_stdio();
    for (name, value) in envs.iter().filter_map(|env| env.split_once('=')) {
        wasi.env(name, value);
    }
    wasi.preopened_dir("/", "/", FsPerms::ReadWrite)?;

    let ended = if wasm.get(4..8) == Some(COMPONENT) {
        run_component(&engine, wasm, wasi.build()).await
    } else {
        run_module(&engine, wasm, func, wasi.build_p1()).await
    };
    match ended {
        Err(error) => match error.downcast_ref::<I32Exit>() {
            Some(exit) => Ok(exit.0),
            None => Err(error),
        },
        code => code,
    }
}

async fn run_module(
    engine: &Engine,
    wasm: &[u8],
    func: &str,
    wasi: WasiP1Ctx,
) -> wasmtime::Result<i32> {
    let module = Module::new(engine, wasm)?;
    let mut linker: Linker<WasiP1Ctx> = Linker::new(engine);
    p1::add_to_linker_async(&mut linker, |ctx| ctx)?;
    let mut store = Store::new(engine, wasi);
    let instance = linker.instantiate_async(&mut store, &module).await?;
    let start = instance
        .get_func(&mut store, func)
        .ok_or_else(|| format_err!("the module exports no function {func}"))?;
    start.call_async(&mut store, &[], &mut []).await?;
    Ok(0)
}

struct Host {
    ctx: WasiCtx,
    table: ResourceTable,
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.ctx,
            table: &mut self.table,
        }
    }
}

async fn run_component(engine: &Engine, wasm: &[u8], ctx: WasiCtx) -> wasmtime::Result<i32> {
    let component = Component::new(engine, wasm)?;
    let mut linker: component::Linker<Host> = component::Linker::new(engine);
    p2::add_to_linker_async(&mut linker)?;
    let table = ResourceTable::new();
    let mut store = Store::new(engine, Host { ctx, table });
    let command = Command::instantiate_async(&mut store, &component, &linker).await?;
    let ended = command.wasi_cli_run().call_run(&mut store).await?;
    Ok(i32::from(ended.is_err()))
}

fn main() {
    Peer::run(None);
}
