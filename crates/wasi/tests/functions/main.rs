//! The host functions, called through a real Wasm module by a thread whose root directory is a tree
//! of the test's: what a guest gets is compared with what the kernel says to this process.
//! As root: the tests mount file systems, each in a mount namespace of its own.

mod c_programs;
mod directories;
mod files;
mod interface;
mod late_mounts;
mod paths;
mod poll;
mod posix;
mod resolver;
mod signals;
mod sockets;
mod streams;
mod support;
