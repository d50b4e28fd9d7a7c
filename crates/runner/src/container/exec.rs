//! `exec`: makes a further process in a running container. It runs at once.
#![forbid(unsafe_code)]

use std::{cell::Cell, path::Path, rc::Rc, sync::Arc};

use oci_spec::runtime::Spec;
use wasm_interp_runner_client::{InitRuns, Lifetime, Response, SessionKeyring, Workload};

use super::{StateDirectory, VerbError, create, delete};
use crate::{
    affinity::ExecAffinity,
    apparmor::Profile,
    diagnostics::Diagnostics,
    executor::{Failures, InitProcess},
    init::{self, FurtherProcess},
    privileges::{Holder, Privileges},
    spec::{self, InitKind},
    sys,
    target::Target,
    terminal::Streams,
    wire::PassedFds,
};

/// A further process of a container.
pub(crate) struct ExecCall<'a> {
    pub(crate) id: &'a str,
    /// containerd's bundle.
    pub(crate) bundle: &'a Path,
    pub(crate) state: &'a Path,
    pub(crate) spec: Spec,
    pub(crate) workload: Workload,
    /// The number of the init process.
    pub(crate) init: i32,
    pub(crate) init_runs: InitRuns,
    /// A guest's place in the ceiling of the container.
    pub(crate) place: u32,
    /// The session keyring that the container was created with.
    pub(crate) keyring: SessionKeyring,
}

/// Makes the process.
pub(crate) fn exec(request: ExecCall<'_>, mut passed: PassedFds) -> Result<Response, VerbError> {
    let ExecCall {
        id,
        bundle,
        state,
        spec,
        workload,
        init,
        init_runs,
        place,
        keyring,
    } = request;
    let failed = |reason: String| VerbError::Exec {
        id: id.to_owned(),
        reason,
    };
    let state = StateDirectory(state);
    let target = Target::new(init, passed.init()?);
    let whereabouts = target
        .whereabouts(init_runs)
        .map_err(|e| failed(e.to_string()))?;
    let record = delete::read(&state.record()).map_err(failed)?;
    let cgroup = record.map(|record| record.directories).unwrap_or_default();

    let (task, kind) = create::init_task(id, workload, &mut passed, place)?;
    let mut fitted = spec::fit_exec(spec, kind)?;
    let holder = match (kind, init_runs) {
        (InitKind::Guest, _) => Holder::Guest,
        (_, InitRuns::Guest) => Holder::BesideGuest,
        (_, InitRuns::Other) => Holder::Other,
    };
    let (privileges, warnings) = Privileges::take(&mut fitted.spec, id, bundle, holder)?;
    let affinity = ExecAffinity::of(fitted.spec.process().as_ref())?;
    let profile = fitted.profile.clone().map(Profile::named).transpose()?;
    let program = InitProcess {
        task,
        privileges: Rc::new(privileges),
        profile: profile.map(Rc::new),
        lifetime: Lifetime::Own,
        reasons: None,
        refusals: passed.refusals.map(Arc::new),
        highest: sys::STDERR,
        state: None,
        arrivals: whereabouts.arrivals,
        streams: Streams::of(passed.console.as_ref()),
        failures: Failures::Streams,
    };
    create::set_up_process(&fitted.spec, &fitted.groups, kind, program.streams)?;
    let diagnostics = Diagnostics::collect().map_err(VerbError::Setup)?;
    let process = FurtherProcess {
        id,
        spec: &fitted.spec,
        state: state.0,
        target: &target,
        whereabouts: &whereabouts,
        cgroup: &cgroup,
        affinity,
        keyring,
        program,
        console: Cell::new(passed.console.map(Into::into)),
    };
    let pid = init::join(&process).map_err(|e| VerbError::ExecRefused(diagnostics.explain(&e)))?;
    Ok(Response::Running {
        pid: pid.as_raw(),
        warnings,
    })
}
