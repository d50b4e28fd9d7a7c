//! Makes the types of what is offered to a component, in Wasm's binary form, from the WIT files that the host functions are
//! made from. So no binary is kept in the sources, and the check needs no parser of WIT.

use std::path::PathBuf;
use std::{env, fs};

use wit_parser::Resolve;

const WIT: &str = "../wasi/wit";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed={WIT}");
    // One function is behind a feature, which the host functions have on.
    let mut resolve = Resolve {
        all_features: true,
        ..Resolve::default()
    };
    let (package, _) = resolve.push_dir(WIT)?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let types = wit_component::encode(&resolve, package)?;
    Ok(fs::write(out.join("offered.wasm"), types)?)
}
