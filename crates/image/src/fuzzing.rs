//! What the fuzz targets (`fuzz/targets`) reach of this crate's private functions. Built only with
//! `--cfg fuzzing`, which `scripts/fuzz` sets.

use std::io;
use std::path::{Path, PathBuf};

use crate::unpack::{Unpacked, apply_compressed, confine};

/// Lays `layers` over the empty directory `destination`, as images are unpacked, but for their
/// digests. Changes the root directory of the calling thread. The answer is the size of all layers,
/// uncompressed, and the devices that were left out.
///
/// # Errors
/// If a layer is broken or cannot be laid over the ones below it.
pub fn apply_layers(destination: &Path, layers: &[Vec<u8>]) -> io::Result<(u64, Vec<PathBuf>)> {
    confine(destination)?;
    let mut unpacked = Unpacked::default();
    for layer in layers {
        apply_compressed(layer.as_slice(), &mut unpacked)?;
    }
    Ok((unpacked.bytes, unpacked.devices.into_iter().collect()))
}
