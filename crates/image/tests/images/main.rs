//! Reads and unpacks OCI archives and layouts that the tests make. Needs root (chroot, owners).
// For clippy: .clippy.toml allows more in tests.
#![cfg(test)]

mod archive;
mod support;
mod unpack;
