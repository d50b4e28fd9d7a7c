//! settle: completes or undoes what a killed job left. Every operation begins with it, and systemd runs it after each
//! job.

use super::{Operation, OperationError};

impl Operation<'_> {
    /// Completes or undoes what a killed job left. Usually there is nothing to do.
    pub(crate) fn settle(&mut self) -> Result<(), OperationError> {
        let settled = self.settle_change();
        let linked_again = self.switch_link_back()?;
        settled?;
        if let Some(shim) = linked_again {
            let link = format!("the link leads to {} again", shim.display());
            self.step("settle", link);
        }
        Ok(())
    }
}
