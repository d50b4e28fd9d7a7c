//! containerd's gRPC API, as far as the installer uses it: the CRI's configuration, images with their files, and one
//! container that runs once. Used by `crates/node` and `crates/prewarm`.
//!
//! A crate of its own because it alone links a gRPC client. It does not know a node's layout or configuration files, and
//! does not trust an image: documents of images are limited in size and number. The messages are written down by
//! their field numbers (docs/internals/decisions/0014).
//!
//! Every function connects, makes its calls and blocks until they are done.
#![forbid(unsafe_code)]

mod client;
mod container;
mod cri;
mod error;
mod images;
mod messages;

pub use client::CALL_LIMIT;
pub use container::ContainerRun;
pub use cri::{cri_config, cri_pull};
pub use error::ContainerdError;
pub use images::{ContainerdImage, ContainerdImageError, ContainerdImages, ImageLookup};
