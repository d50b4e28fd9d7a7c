//! The crate `regex-lite` by the name of `regex`, which oci-spec and libcontainer ask for.
//!
//! They use it for a few patterns of ASCII: lists of processors, `intelRdt`. The crate `regex` brings its
//! tables of Unicode for that. These hold addresses, which the start of each position-independent process
//! changes, so 220 KiB of them were memory of its own in every shim and in every container's process.
//! Decision 0051 has the figures.
#![forbid(unsafe_code)]

pub use regex_lite::*;
