//! The events of one container, in the order that containerd demands: create, start, exit, delete, and
//! out-of-memory kills before the exit. Of a further process: added, started, exit, all before the exit of the
//! init process.
//!
//! [`super::Container`] keeps this behind a lock, and holds the lock from the check of a state until
//! the event of its change is queued. So the order is right, however short the container's life is.
#![forbid(unsafe_code)]

use containerd_shim_protos::api::Mount;
use containerd_shim_protos::events::task as event;
use containerd_shim_protos::protobuf::MessageField;

use crate::bundle::Bundle;
use crate::clock;
use crate::io::StdioPaths;
use crate::publisher::Publisher;
use crate::reaper::Exit;

pub(super) struct ContainerEvents {
    container_id: String,
    publisher: Publisher,
    /// How many out-of-memory kills are published.
    oom_kills: u64,
}

impl ContainerEvents {
    pub(super) fn new(container_id: String, publisher: Publisher) -> Self {
        Self {
            container_id,
            publisher,
            oom_kills: 0,
        }
    }

    pub(super) fn created(
        &mut self,
        pid: u32,
        bundle: &Bundle,
        rootfs: Vec<Mount>,
        stdio: &StdioPaths,
    ) {
        self.publisher.publish(&event::TaskCreate {
            container_id: self.container_id.clone(),
            bundle: bundle.path().display().to_string(),
            rootfs,
            io: MessageField::some(event::TaskIO {
                stdin: stdio.stdin.clone(),
                stdout: stdio.stdout.clone(),
                stderr: stdio.stderr.clone(),
                terminal: stdio.terminal,
                ..event::TaskIO::default()
            }),
            pid,
            ..event::TaskCreate::default()
        });
    }

    pub(super) fn started(&mut self, pid: u32) {
        self.publisher.publish(&event::TaskStart {
            container_id: self.container_id.clone(),
            pid,
            ..event::TaskStart::default()
        });
    }

    pub(super) fn exec_added(&mut self, exec_id: &str) {
        self.publisher.publish(&event::TaskExecAdded {
            container_id: self.container_id.clone(),
            exec_id: exec_id.to_owned(),
            ..event::TaskExecAdded::default()
        });
    }

    pub(super) fn exec_started(&mut self, exec_id: &str, pid: u32) {
        self.publisher.publish(&event::TaskExecStarted {
            container_id: self.container_id.clone(),
            exec_id: exec_id.to_owned(),
            pid,
            ..event::TaskExecStarted::default()
        });
    }

    pub(super) fn paused(&mut self) {
        self.publisher.publish(&event::TaskPaused {
            container_id: self.container_id.clone(),
            ..event::TaskPaused::default()
        });
    }

    pub(super) fn resumed(&mut self) {
        self.publisher.publish(&event::TaskResumed {
            container_id: self.container_id.clone(),
            ..event::TaskResumed::default()
        });
    }

    /// Publishes an event if more out-of-memory kills were counted than are published. Returns whether
    /// it did.
    pub(super) fn oom_killed(&mut self, counted: u64) -> bool {
        if counted <= self.oom_kills {
            // systemd removes a scope without processes, and the count with it.
            return false;
        }
        self.oom_kills = counted;
        self.publisher.publish(&event::TaskOOM {
            container_id: self.container_id.clone(),
            ..event::TaskOOM::default()
        });
        true
    }

    /// Whether an out-of-memory kill is published.
    pub(super) fn has_oom_kill(&self) -> bool {
        self.oom_kills > 0
    }

    pub(super) fn exited(&mut self, process_id: &str, pid: u32, exit: Exit) {
        self.publisher.publish(&event::TaskExit {
            container_id: self.container_id.clone(),
            id: process_id.to_owned(),
            pid,
            exit_status: exit.status,
            exited_at: MessageField::some(clock::timestamp(exit.at)),
            ..event::TaskExit::default()
        });
    }

    pub(super) fn deleted(&mut self, pid: u32, exit: Exit) {
        self.publisher.publish(&event::TaskDelete {
            container_id: self.container_id.clone(),
            pid,
            exit_status: exit.status,
            exited_at: MessageField::some(clock::timestamp(exit.at)),
            ..event::TaskDelete::default()
        });
    }
}
