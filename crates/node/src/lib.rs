//! What this crate owns: bringing a release onto a node, and off it again. Where containerd's
//! configuration is and how it is changed, which runtime is configured, who still uses a release,
//! the restart and its way back; and filling the node's store with native code of images. Called by `wasm-interp node` and by the Kubernetes agent. It must
//! not know Kubernetes' API or Wasmtime.
//!
//! Two sides, which share nothing but files and one argument:
//!
//! | side | runs | does | here |
//! |---|---|---|---|
//! | the asker | anywhere: a person's shell, a pod without capabilities | copies the release, starts the job, reads its report | [`Host`], [`Release`], [`Job`] |
//! | the job | on the host, as a transient unit of systemd, from the release's own `wasm-interp` | everything else | [`job`] |
//!
//! So the job outlives whoever asked for it, and the asker needs three directories of the host: the
//! base (`/opt/wasm-interp`), that of systemd's private socket (`/run/systemd`) and that of the
//! reports (`/run/wasm-interp`), whatever the distribution.
//!
//! # For the agent
//! ```no_run
//! # use wasm_interp_node::{Action, Host, Job, Release};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // The host's directories are mounted beneath /host, at their own places.
//! let host = Host::new("/host");
//! let release = Release::in_folder("/release", env!("CARGO_PKG_VERSION"));
//! let placed = host.place(&release)?;
//! let ticket = host.start(&Job::new(Action::Install, &placed))?;
//! let report = host.wait(&ticket, Action::Install.limit())?;
//! assert!(report.holds(), "{}", report.message);
//! # Ok(())
//! # }
//! ```
//! Everything blocks: call it from `spawn_blocking`. [`Report`] and all in it are also the JSON that
//! `wasm-interp node … --json` prints.
#![forbid(unsafe_code)]

mod config;
mod daemon;
mod files;
mod host;
mod in_use;
pub mod job;
mod layout;
mod live;
mod names;
mod oci;
mod plan;
mod prewarm;
mod process;
mod record;
mod release;
mod report;
mod systemd;
mod work;

pub use host::Host;
pub use job::{Action, Choice, Distribution, Job, JobError, Prewarm, Ticket};
pub use names::{BASE, HANDLER, KUBERNETES, RUNTIME_TYPE};
pub use process::{Restart, SettleError};
pub use release::{Placed, Release, ReleaseError};
pub use report::{
    Container, InstalledRelease, Outcome, Prewarmed, PrewarmedInterpreter, Report, Reverts, Status,
    Step,
};
pub use systemd::{PeerError, SystemdError};
pub use work::WorkError;

/// Has a test act where what it mounts is seen by nobody else, and goes with it.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
fn mounts_of_its_own(act: impl FnOnce() + Send) {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};

    std::thread::scope(|scope| {
        scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let none: Option<&str> = None;
            let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
            mount(none, "/", none, private, none).unwrap();
            act();
        });
    });
}
