//! Makes the tiny program of `node verify` from its text, so that no binary is kept in the sources.

use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=src/self_test.wat");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    fs::write(
        out.join("self_test.wasm"),
        wat::parse_file("src/self_test.wat")?,
    )?;
    Ok(())
}
