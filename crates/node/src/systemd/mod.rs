//! systemd through its private socket: transient units, restarts, states. Called by the asker (to
//! start the job) and by the job (to restart containerd). Knows nothing of either.
//!
//! The private socket speaks D-Bus without a bus: it answers whoever may open it (root), also from a
//! pod without capabilities and while the bus itself is down.

mod peer;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use zbus::{DynamicType, OwnedObjectPath, OwnedVariant, Type, Variant};

pub use peer::PeerError;

use peer::Peer;

const MANAGER: (&str, &str) = (
    "/org/freedesktop/systemd1",
    "org.freedesktop.systemd1.Manager",
);
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const UNIT_INTERFACE: &str = "org.freedesktop.systemd1.Unit";
const SERVICE_INTERFACE: &str = "org.freedesktop.systemd1.Service";
/// What is run after a unit, or ends it, may restart containerd.
const STOP: Duration = Duration::from_secs(600);
/// Between two looks at a job.
const POLL: Duration = Duration::from_millis(100);

/// systemd did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// There is no such socket, or nobody answers.
    #[error("cannot reach systemd at {socket}: {source}")]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: PeerError,
    },
    /// It said no.
    #[error("systemd refused to {act}: {source}")]
    Call {
        /// What was asked.
        act: String,
        /// What it said.
        source: PeerError,
    },
    /// It took too long.
    #[error("systemd did not {act} within {} s", .after.as_secs())]
    Slow {
        /// What was waited for.
        act: String,
        /// How long.
        after: Duration,
    },
}

/// The manager behind one private socket. Each call is a connection of its own: the socket does not
/// survive a `daemon-reexec`.
#[derive(Clone, Debug)]
pub(crate) struct Systemd {
    socket: PathBuf,
}

/// What is known of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnitState {
    /// `active`, `inactive`, `activating`, `failed` …
    pub(crate) active: String,
    /// `running`, `auto-restart` …
    pub(crate) sub: String,
    /// `loaded`, `not-found` …
    pub(crate) load: String,
    /// Whether systemd is about to change it.
    pub(crate) has_job: bool,
    /// `success`, `exit-code`, `timeout` …; for services only.
    pub(crate) result: String,
}

impl UnitState {
    /// It has ended, or was never there, and nothing is about to start it.
    pub(crate) fn is_down(&self) -> bool {
        !self.has_job && matches!(self.active.as_str(), "inactive" | "failed")
    }

    pub(crate) fn is_settled(&self) -> bool {
        !self.has_job
            && !matches!(
                self.active.as_str(),
                "activating" | "deactivating" | "reloading"
            )
    }
}

/// A program to be run once, by the manager, in a unit of its own.
pub(crate) struct Transient<'a> {
    pub(crate) unit: &'a str,
    pub(crate) description: &'a str,
    pub(crate) command: Vec<String>,
    /// Run after it, however it ended: also when it was killed.
    pub(crate) afterwards: Option<Vec<String>>,
    pub(crate) limit: Duration,
}

impl Systemd {
    pub(crate) fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
        }
    }

    /// Starts the unit; it goes on whatever becomes of the caller.
    pub(crate) fn start_transient(&self, unit: &Transient<'_>) -> Result<(), SystemdError> {
        type Exec<'a> = Vec<(&'a str, Vec<&'a str>, bool)>;
        fn exec(command: &[String]) -> Exec<'_> {
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            vec![(words[0], words, false)]
        }
        let micros = |limit: Duration| u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
        let mut properties: Vec<(&str, Variant<'_>)> = vec![
            ("Description", unit.description.into()),
            ("Type", "oneshot".into()),
            // Unloaded when it has ended, also when it failed: its name is free again.
            ("CollectMode", "inactive-or-failed".into()),
            ("ExecStart", exec(&unit.command).into()),
            ("TimeoutStartUSec", micros(unit.limit).into()),
            ("TimeoutStopUSec", micros(unit.limit.min(STOP)).into()),
        ];
        if let Some(command) = &unit.afterwards {
            properties.push(("ExecStopPost", exec(command).into()));
        }
        let auxiliary: Vec<(&str, Vec<(&str, Variant<'_>)>)> = Vec::new();
        let _: OwnedObjectPath = self.manager(
            &format!("start {}", unit.unit),
            "StartTransientUnit",
            &(unit.unit, "fail", properties, auxiliary),
        )?;
        Ok(())
    }

    /// Restarts the unit and waits until that has succeeded or failed, which the state tells.
    pub(crate) fn restart(&self, unit: &str, limit: Duration) -> Result<UnitState, SystemdError> {
        // A unit that failed too often is not started again otherwise.
        if let Err(error) = self.manager::<_, ()>(
            &format!("forget the failures of {unit}"),
            "ResetFailedUnit",
            &(unit,),
        ) && !is_no_such_unit(&error)
        {
            return Err(error);
        }
        let act = format!("restart {unit}");
        let _: OwnedObjectPath = self.manager(&act, "RestartUnit", &(unit, "replace"))?;
        let until = Instant::now() + limit;
        loop {
            let state = self.state(unit)?;
            // A unit that systemd restarts by itself after a failure has no end of its own. While a job
            // is queued, that state is the one from before the restart.
            if state.is_settled() || state.sub == "auto-restart" && !state.has_job {
                return Ok(state);
            }
            if Instant::now() > until {
                return Err(SystemdError::Slow { act, after: limit });
            }
            std::thread::sleep(POLL);
        }
    }

    /// Ends the unit, with all its processes, and waits until that has been done. One that does not run is
    /// left as it is; one that somebody starts anew meanwhile is ended again.
    pub(crate) fn stop(&self, unit: &str, limit: Duration) -> Result<(), SystemdError> {
        let act = format!("stop {unit}");
        let until = Instant::now() + limit;
        loop {
            let state = self.state(unit)?;
            if state.is_down() {
                return Ok(());
            }
            if state.active != "deactivating" {
                match self.manager::<_, OwnedObjectPath>(&act, "StopUnit", &(unit, "replace")) {
                    // It has ended by itself since.
                    Err(error) if is_no_such_unit(&error) => return Ok(()),
                    stopped => drop(stopped?),
                }
            }
            if Instant::now() > until {
                return Err(SystemdError::Slow { act, after: limit });
            }
            std::thread::sleep(POLL);
        }
    }

    /// What the unit is doing. A unit that does not exist is `not-found`.
    pub(crate) fn state(&self, unit: &str) -> Result<UnitState, SystemdError> {
        let act = format!("tell the state of {unit}");
        let path: OwnedObjectPath = self.manager(&act, "LoadUnit", &(unit,))?;
        let get = |interface, name| -> Result<OwnedVariant, SystemdError> {
            let question = (interface, name);
            self.call(&act, (path.as_str(), PROPERTIES), "Get", &question)
        };
        let text = |interface, name| -> Result<String, SystemdError> {
            let value = get(interface, name)?;
            String::try_from(value).map_err(|error| SystemdError::Call {
                act: act.clone(),
                source: error.into(),
            })
        };
        let job = get(UNIT_INTERFACE, "Job")?;
        let job = <(u32, OwnedObjectPath)>::try_from(job).map_err(|error| SystemdError::Call {
            act: act.clone(),
            source: error.into(),
        })?;
        Ok(UnitState {
            active: text(UNIT_INTERFACE, "ActiveState")?,
            sub: text(UNIT_INTERFACE, "SubState")?,
            load: text(UNIT_INTERFACE, "LoadState")?,
            has_job: job.0 != 0,
            result: text(SERVICE_INTERFACE, "Result")?,
        })
    }

    fn manager<B, R>(&self, act: &str, method: &str, body: &B) -> Result<R, SystemdError>
    where
        B: Serialize + DynamicType,
        R: DeserializeOwned + Type,
    {
        self.call(act, MANAGER, method, body)
    }

    fn call<B, R>(
        &self,
        act: &str,
        (path, interface): (&str, &str),
        method: &str,
        body: &B,
    ) -> Result<R, SystemdError>
    where
        B: Serialize + DynamicType,
        R: DeserializeOwned + Type,
    {
        let mut peer = Peer::connect(&self.socket).map_err(|source| SystemdError::Connect {
            socket: self.socket.clone(),
            source,
        })?;
        peer.call(path, interface, method, body)
            .map_err(|source| SystemdError::Call {
                act: act.to_owned(),
                source,
            })
    }
}

/// Whether the unit is not loaded, which is no failure to forget.
fn is_no_such_unit(error: &SystemdError) -> bool {
    is_named(error, "org.freedesktop.systemd1.NoSuchUnit")
}

/// Whether a unit of that name runs already.
pub(crate) fn is_busy(error: &SystemdError) -> bool {
    is_named(error, "org.freedesktop.systemd1.UnitExists")
}

fn is_named(error: &SystemdError, wanted: &str) -> bool {
    matches!(
        error,
        SystemdError::Call { source: PeerError::Said { name, .. }, .. } if name == wanted
    )
}
