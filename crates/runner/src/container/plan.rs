//! `plan`: decides what a further process of a running container runs.
//!
//! It looks at the container's files beneath the root of the init process, with all that is mounted there. If a volume
//! does not answer, this process waits, and no other.
#![forbid(unsafe_code)]

use std::path::Path;

use oci_spec::runtime::Spec;
use wasm_interp_runner_client::{ModuleStamp, Response, Workload, hand_over};
use wasm_interp_workload::{Planned, Policy, RootfsView, decide_exec, with_causes};

use super::VerbError;
use crate::{target::Target, wire::PassedFds};

/// Decides, and hands the interpreter of a guest to the caller.
pub(crate) fn plan(
    id: &str,
    spec: &Spec,
    policy: &Path,
    init: i32,
    mut passed: PassedFds,
) -> Result<Response, VerbError> {
    let failed = |reason: String| VerbError::Exec {
        id: id.to_owned(),
        reason,
    };
    let target = Target::new(init, passed.init()?);
    let root = target.root().map_err(|e| failed(e.to_string()))?;
    let refused = |error: &dyn std::error::Error| VerbError::ExecRefused(with_causes(error));
    let policy = Policy::load(policy).map_err(|e| refused(&e))?;
    let view = RootfsView::beneath(root, spec).map_err(|e| refused(&e))?;
    let (workload, module) = match decide_exec(spec, &policy, &view).map_err(|e| refused(&e))? {
        Planned::Native(native) => {
            let native = Box::new(native);
            (Workload::Native { native }, None)
        }
        Planned::Wasm(plan, interpreter) => {
            let socket = passed.handover()?;
            let stamp = ModuleStamp::of(&interpreter)
                .and_then(|stamp| {
                    hand_over(&socket, &interpreter)?;
                    Ok(stamp)
                })
                .map_err(|e| failed(format!("cannot hand over its interpreter: {e}")))?;
            (Workload::Wasm { plan }, Some(stamp))
        }
    };
    Ok(Response::Planned { workload, module })
}
