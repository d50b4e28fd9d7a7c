//! Handles without a file.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use super::slots::CountedSlot;

/// The container's network. What of it is granted does not depend on a handle.
#[derive(Debug)]
pub struct NetworkHandle;

/// What a look-up of a name has found, which is memory of the process.
#[derive(Debug)]
pub struct FoundAddresses {
    pub(in crate::p2) left: std::vec::IntoIter<IpAddr>,
    pub(in crate::p2) _slot: CountedSlot,
}

/// That standard input is a terminal. The interface has no functions for it.
#[derive(Debug)]
pub struct InputTerminal;

/// That a stream of output is a terminal.
#[derive(Debug)]
pub struct OutputTerminal;
