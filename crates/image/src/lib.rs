//! OCI images: their documents, and the files of an image that lies on disk as an OCI archive or layout.
//!
//! The installer reads the documents of images in containerd's store; `wasm-interp run` and `inspect`
//! take an archive or a layout. All content here is untrusted: documents are limited in size, blobs are
//! compared with their digests, and layers are unpacked only beneath their destination.
#![forbid(unsafe_code)]

mod archive;
mod cache;
mod documents;
#[cfg(fuzzing)]
pub mod fuzzing;
mod limits;
mod names;
mod unpack;

pub use archive::{Archive, ArchiveError, ArchivedImage};
pub use cache::{CacheError, Images, LockedImages, Pruned, UnpackedImage};
pub use documents::{DocumentKind, MAX_DOCUMENT, args, chain_id, cwd, fits, fitting, full_name};
pub use unpack::UnpackError;
