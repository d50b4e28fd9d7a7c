//! Tasks in containerd's sense: a container, its processes, and the order of their events.
//!
//! | module | owns |
//! |---|---|
//! | [`registry`] | the containers by id, and those being created |
//! | [`container`] | what the processes of a container share, and the verbs |
//! | [`exec`] | the further processes of a container |
//! | [`exec_verbs`] | the verbs that make and delete one |
//! | [`process`] | one process: its stdio, state and exit |
//! | [`state`] | the states of a process |
//! | [`freeze`] | pause, resumption, and what they mean for the other verbs |
//! | [`update`] | new limits |
//! | [`events`] | the events of a container, in their order |
//!
//! Called by `service`, which makes a container of what `launch` has created. Nothing here knows a
//! request or a response of the Task API.
#![forbid(unsafe_code)]

mod container;
mod events;
mod exec;
mod exec_verbs;
mod freeze;
mod oom;
mod process;
mod registry;
mod state;
mod update;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) use container::{Container, KillTarget};
pub(crate) use registry::{Registry, Reservation};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic cannot leave these values half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
