//! `wasi:filesystem`: the container's root directory, with the rights that the kernel gives.
//!
//! The one preopened directory is `/`. The kernel resolves paths in it, so `..`, absolute links and mounts mean
//! what they mean to any program of the container: see `crate::paths`. Rights are asked of nothing but the
//! kernel: `mutate-directory` is kept for the guest to read, and forbids nothing.

mod descriptor;
mod entries;
mod open;
mod paths;
mod values;

pub(in crate::p2) use self::descriptor::write_file;
