//! The system interface of a Wasm guest: WASI preview 1, and a namespace of our own for what it
//! cannot say, made for a process that *is* the container.
//!
//! By the time a guest runs, the kernel holds the walls: mounts with their flags, the user,
//! capabilities, seccomp, the cgroup, the network namespace. So a host function is thin: it reads its
//! arguments from the guest's memory, makes one system call on the guest's behalf, and answers with
//! the kernel's own result. What the kernel cannot know is kept here: which descriptors are the
//! guest's ([`descriptors`]), that a path never leads to the runner ([`paths`]), where a socket may listen
//! and connect (`sockets`), and bounds on what a guest's numbers make the host allocate ([`limits`]).
//!
//! What a guest has ([`descriptors`], [`paths`], `sockets`, [`signals`]) knows no guest. [`Guest`] holds it, and the
//! host functions are methods of [`Guest`]: those of `preview1` and `posix`, in the files that these name.
//!
//! A component has another interface, WASI 0.2, in `p2`: functions of its own over the same paths, sockets and bounds.
//!
//! The runner makes a [`Guest`] from its plan and calls [`add_to_linker`], or a `p2::ComponentGuest`. The compiler's
//! check and `inspect` use [`imports`] and [`interfaces`] alone, without the feature `host`. This crate knows neither
//! plans nor specs nor containers.
//!
//! # Rules for host functions
//! - Synchronous, on the caller's thread. There is no other thread, and no lock is held while a call
//!   may block. A call that may wait for another process goes through `wait::interruptible`.
//! - Errors are the kernel's, by the one table in [`errno`]. A pointer that is not in the guest's
//!   memory is EFAULT, an unknown value of an enumeration or flag EINVAL.
//! - Nothing is allocated by a number of the guest's without a bound from [`limits`].
//! - `unsafe` only in `sys.rs`, `sockets/sys.rs` and `signals/handler.rs`.
//!
//! # To add a function
//! Preview 1 is complete, and so is WASI 0.2. A function of our own namespace goes into its witx file, its macro in
//! [`imports`] (name and core types), and its trait's `impl` for [`Guest`]. The compiler refuses a
//! function that is missing or has other types; a test compares list and witx.
#![deny(unsafe_code)]

pub mod imports;
pub mod interfaces;

#[cfg(feature = "host")]
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic
)]
#[allow(unsafe_code)] // an `unsafe fn` of a generated type, which nothing calls
pub mod abi;
#[cfg(feature = "host")]
mod clocks;
#[cfg(feature = "host")]
pub mod descriptors;
#[cfg(feature = "host")]
mod directories;
#[cfg(feature = "host")]
pub mod errno;
#[cfg(feature = "host")]
mod fdstat;
#[cfg(feature = "host")]
pub mod fiber;
#[cfg(feature = "host")]
mod files;
#[cfg(feature = "host")]
mod guest;
#[cfg(feature = "host")]
mod ids;
#[cfg(feature = "host")]
pub mod limits;
#[cfg(feature = "host")]
mod link;
#[cfg(feature = "host")]
mod listing;
#[cfg(feature = "host")]
pub mod memory;
#[cfg(feature = "host")]
mod modes;
#[cfg(feature = "components")]
#[allow(unreachable_pub)] // the macro re-exports what is in private modules
pub mod p2;
#[cfg(feature = "host")]
pub mod paths;
#[cfg(feature = "host")]
mod poll;
#[cfg(feature = "host")]
mod posix;
#[cfg(feature = "host")]
mod preview1;
#[cfg(feature = "host")]
mod process;
#[cfg(feature = "host")]
pub mod signals;
#[cfg(feature = "host")]
mod sockets;
#[cfg(feature = "host")]
pub mod stat;
#[cfg(feature = "host")]
mod streams;
#[cfg(feature = "host")]
mod sys;
#[cfg(feature = "host")]
mod terminals;
#[cfg(feature = "host")]
mod transfer;
#[cfg(feature = "host")]
pub mod wait;

#[cfg(all(feature = "host", fuzzing))]
pub use self::sockets::fuzzing;
#[cfg(feature = "host")]
pub use self::{
    guest::{Guest, GuestError, GuestSettings},
    link::add_to_linker,
    modes::ModesBy,
    paths::LateMounts,
    sys::{SYS_FCHMODAT2, Standard},
};
