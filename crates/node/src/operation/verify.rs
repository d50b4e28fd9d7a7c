//! verify: the running containerd has the handler, and a program runs with it.

use std::path::Path;

use super::{Operation, OperationError};
use wasm_interp_containerd_config::ShimLocation;

impl Operation<'_> {
    /// Checks that the running containerd lists the handler.
    pub(crate) fn check_handler(&self) -> Result<(), OperationError> {
        match self.containerd.running_shim()? {
            Some(_) => Ok(()),
            None => Err(self.not_listed()?),
        }
    }

    /// Checks that the running containerd lists the handler, and that a program runs with its shim.
    pub(crate) fn verify(&mut self) -> Result<(), OperationError> {
        self.before("verify");
        let Some(shim) = self.containerd.running_shim()? else {
            return Err(self.not_listed()?);
        };
        self.step("handler", "containerd's CRI lists the handler wasm-interp");
        self.containerd.self_test(&shim)?;
        self.step("self-test", "a program ran through containerd with it");
        Ok(())
    }

    /// Runs a program with the shim of a release, before the release is used.
    pub(super) fn test_release(
        &mut self,
        folder: &Path,
        shim: &ShimLocation,
    ) -> Result<(), OperationError> {
        self.before("try-release");
        self.containerd
            .self_test(shim)
            .map_err(|source| OperationError::Unfit {
                folder: folder.to_owned(),
                source,
            })?;
        self.step("try-release", "the release runs a program on this node");
        Ok(())
    }

    fn not_listed(&self) -> Result<OperationError, OperationError> {
        Ok(OperationError::NotListed(self.planner().configured()?.0))
    }
}
