//! systemd through its private socket: transient units, restarts and states. The client starts the job with it, and the
//! job restarts containerd. Does not know what a unit is for.
//!
//! The private socket speaks D-Bus without a bus. It answers every process that may open it, which is root's right, also
//! from a pod without capabilities and while the bus is down.

mod dbus;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use zbus::{DynamicType, OwnedObjectPath, OwnedVariant, Type, Variant};

pub use dbus::DbusError;

use dbus::DbusConnection;

const MANAGER: (&str, &str) = (
    "/org/freedesktop/systemd1",
    "org.freedesktop.systemd1.Manager",
);
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const UNIT_INTERFACE: &str = "org.freedesktop.systemd1.Unit";
const SERVICE_INTERFACE: &str = "org.freedesktop.systemd1.Service";
/// Limit for the command that runs after a unit: it may restart containerd.
const STOP: Duration = Duration::from_secs(600);
/// Interval between two queries of a state.
const POLL: Duration = Duration::from_millis(100);

/// systemd did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// Nothing answers at the socket.
    #[error("cannot reach systemd at {socket}: {source}; run as root on a node with systemd")]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: DbusError,
    },
    /// systemd refused a call.
    #[error("cannot {act}: systemd says: {source}; the journal has more (journalctl -b)")]
    Call {
        /// What it was asked.
        act: String,
        /// Its words.
        source: DbusError,
    },
    /// It took too long.
    #[error(
        "cannot {act}: systemd did not finish within {} s; systemctl list-jobs shows what it \
         waits for",
        .after.as_secs()
    )]
    Slow {
        /// What it was asked.
        act: String,
        /// The limit.
        after: Duration,
    },
}

/// The manager behind a private socket. Each call makes a connection of its own: a `daemon-reexec` closes the socket.
#[derive(Clone, Debug)]
pub(crate) struct Systemd {
    socket: PathBuf,
}

/// The state of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnitState {
    /// `active`, `inactive`, `activating`, `failed` …
    pub(crate) active: String,
    /// `running`, `auto-restart` …
    pub(crate) sub: String,
    /// `loaded`, `not-found` …
    pub(crate) load: String,
    /// Whether a job of systemd for it is queued or running.
    pub(crate) has_job: bool,
    /// `success`, `exit-code`, `timeout` …; for services only.
    pub(crate) result: String,
}

impl UnitState {
    /// It does not run, and systemd is not about to start it.
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

/// A command that the manager runs once, in a unit of its own.
pub(crate) struct TransientUnit<'a> {
    pub(crate) unit: &'a str,
    pub(crate) description: &'a str,
    pub(crate) command: Vec<String>,
    /// A command that runs after it, even if it was killed.
    pub(crate) afterwards: Option<Vec<String>>,
    pub(crate) limit: Duration,
}

impl Systemd {
    pub(crate) fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
        }
    }

    /// Starts the unit. It continues if the caller ends.
    pub(crate) fn start_transient(&self, unit: &TransientUnit<'_>) -> Result<(), SystemdError> {
        type Exec<'a> = Vec<(&'a str, Vec<&'a str>, bool)>;
        fn exec(command: &[String]) -> Exec<'_> {
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            vec![(words[0], words, false)]
        }
        let micros = |limit: Duration| u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
        let mut properties: Vec<(&str, Variant<'_>)> = vec![
            ("Description", unit.description.into()),
            ("Type", "oneshot".into()),
            // Unload the unit when it has ended, also when it failed: its name can be used again.
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

    /// Restarts the unit and waits for the end of the restart. The state says whether it succeeded.
    pub(crate) fn restart(&self, unit: &str, limit: Duration) -> Result<UnitState, SystemdError> {
        // Otherwise systemd does not start a unit that failed too often.
        if let Err(error) = self.manager::<_, ()>(
            &format!("reset the failures of {unit}"),
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
            // `auto-restart`: the start has failed, and systemd will try again without end. While a job is queued, the
            // state is still the one from before the restart.
            if state.is_settled() || state.sub == "auto-restart" && !state.has_job {
                return Ok(state);
            }
            if Instant::now() > until {
                return Err(SystemdError::Slow { act, after: limit });
            }
            std::thread::sleep(POLL);
        }
    }

    /// Stops the unit with all its processes, and waits until it is down. If another client starts it meanwhile, it is
    /// stopped again.
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
                    // It has ended meanwhile.
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

    /// The state of the unit. The load state of a unit that does not exist is `not-found`.
    pub(crate) fn state(&self, unit: &str) -> Result<UnitState, SystemdError> {
        let act = format!("query the state of {unit}");
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
        let mut connection =
            DbusConnection::connect(&self.socket).map_err(|source| SystemdError::Connect {
                socket: self.socket.clone(),
                source,
            })?;
        connection
            .call(path, interface, method, body)
            .map_err(|source| SystemdError::Call {
                act: act.to_owned(),
                source,
            })
    }
}

/// Whether the error says that the unit is not loaded.
fn is_no_such_unit(error: &SystemdError) -> bool {
    is_named(error, "org.freedesktop.systemd1.NoSuchUnit")
}

/// Whether the error says that a unit of that name exists already.
pub(crate) fn is_busy(error: &SystemdError) -> bool {
    is_named(error, "org.freedesktop.systemd1.UnitExists")
}

fn is_named(error: &SystemdError, wanted: &str) -> bool {
    matches!(
        error,
        SystemdError::Call { source: DbusError::Reply { name, .. }, .. } if name == wanted
    )
}
