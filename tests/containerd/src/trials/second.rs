//! A task that the shim of a running container makes by a request of the Task API: for what `ctr` cannot ask for.

use std::fs;
use std::path::{Path, PathBuf};

use containerd_shim_protos::api::{
    CreateTaskRequest, CreateTaskResponse, DeleteRequest, DeleteResponse, KillRequest,
    StartRequest, StateRequest, StateResponse, WaitRequest, WaitResponse,
};
use containerd_shim_protos::protobuf::Message;
use serde_json::{Value, json};

use crate::Outcome;
use crate::world::{CtrContainer, World};

/// The answer to a request, or the words of its error.
pub(super) type TaskAnswer<T> = Result<T, String>;

/// A task beside another in its shim. Removed when dropped, if need be by force.
pub(super) struct SecondTask<'a, 'world> {
    beside: &'a CtrContainer<'world>,
    pub(super) id: String,
    bundle: PathBuf,
}

impl<'a, 'world> SecondTask<'a, 'world> {
    /// A bundle with a native program, like that of `beside` but for `change`. There is no task yet.
    pub(super) fn new(
        world: &World,
        beside: &'a CtrContainer<'world>,
        change: impl FnOnce(&mut Value),
    ) -> Outcome<Self> {
        let id = format!("{}-second", beside.id);
        let bundle = world.folder("second")?;
        let root = bundle.join("rootfs");
        for folder in ["bin", "dev", "etc", "proc", "run", "sys", "tmp"] {
            fs::create_dir_all(root.join(folder))?;
        }
        for name in ["busybox", "sh"] {
            fs::copy(world.busybox(), root.join("bin").join(name))?;
        }
        let config = world.daemon().bundle(&beside.id).join("config.json");
        let mut spec: Value = serde_json::from_slice(&fs::read(config)?)?;
        spec["root"] = json!({ "path": root });
        spec["linux"]["cgroupsPath"] = json!(format!("/{}/{id}", world.name()));
        change(&mut spec);
        fs::write(bundle.join("config.json"), spec.to_string())?;
        Ok(Self { beside, id, bundle })
    }

    /// Where its bundle is: in a folder of the trial's.
    pub(super) fn bundle(&self) -> &Path {
        &self.bundle
    }

    fn call<T: Message>(&self, verb: &str, request: &impl Message) -> Outcome<TaskAnswer<T>> {
        let answer = self.beside.shim_api(verb, request)?;
        Ok(match answer {
            Ok(bytes) => Ok(T::parse_from_bytes(&bytes)?),
            Err(words) => Err(words),
        })
    }

    /// Returns the number of its init process.
    pub(super) fn create(&self, request: CreateTaskRequest) -> Outcome<TaskAnswer<u32>> {
        let request = CreateTaskRequest {
            id: self.id.clone(),
            bundle: self.bundle.display().to_string(),
            ..request
        };
        let answer = self.call::<CreateTaskResponse>("Create", &request)?;
        Ok(answer.map(|answer| answer.pid))
    }

    pub(super) fn start(&self) -> Outcome<TaskAnswer<()>> {
        let request = StartRequest {
            id: self.id.clone(),
            ..Default::default()
        };
        Ok(self.beside.shim_api("Start", &request)?.map(drop))
    }

    pub(super) fn kill(&self, signal: u32) -> Outcome<TaskAnswer<()>> {
        let request = KillRequest {
            id: self.id.clone(),
            signal,
            ..Default::default()
        };
        Ok(self.beside.shim_api("Kill", &request)?.map(drop))
    }

    pub(super) fn state(&self) -> Outcome<TaskAnswer<StateResponse>> {
        let request = StateRequest {
            id: self.id.clone(),
            ..Default::default()
        };
        self.call("State", &request)
    }

    /// Returns its exit status.
    pub(super) fn wait(&self) -> Outcome<TaskAnswer<u32>> {
        let request = WaitRequest {
            id: self.id.clone(),
            ..Default::default()
        };
        let answer = self.call::<WaitResponse>("Wait", &request)?;
        Ok(answer.map(|answer| answer.exit_status))
    }

    /// Returns its exit status.
    pub(super) fn delete(&self) -> Outcome<TaskAnswer<u32>> {
        let request = DeleteRequest {
            id: self.id.clone(),
            ..Default::default()
        };
        let answer = self.call::<DeleteResponse>("Delete", &request)?;
        Ok(answer.map(|answer| answer.exit_status))
    }
}

impl Drop for SecondTask<'_, '_> {
    // A trial that failed half way leaves it.
    fn drop(&mut self) {
        if matches!(self.state(), Ok(Ok(_))) {
            drop(self.kill(9));
            drop(self.wait());
            drop(self.delete());
        }
    }
}
