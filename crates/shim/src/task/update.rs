//! The verb `update`: new limits for a container while it runs.
#![forbid(unsafe_code)]

use std::sync::Arc;

use oci_spec::runtime::LinuxResources;
use tokio::task::spawn_blocking;

use super::container::Container;
use super::lock;
use crate::error::Error;
use crate::launch::new_memory_limit;

impl Container {
    /// Sets the limits that `resources` names. If one cannot be set, none is changed.
    pub(crate) async fn update(self: Arc<Self>, resources: LinuxResources) -> Result<(), Error> {
        // One at a time, and not while the container is being deleted.
        let _events = self.events.lock().await;
        if self.init.state().exit().is_some() {
            return Err(Error::UpdateStopped);
        }
        let own = Arc::clone(&self);
        spawn_blocking(move || {
            let ceiling = own.ceiling.as_ref();
            own.launcher
                .update(&own.id, &own.bundle, &resources, ceiling)?;
            if let Some(limit) = new_memory_limit(&resources) {
                let bytes = limit.bytes().and_then(|bytes| i64::try_from(bytes).ok());
                *lock(&own.memory_limit) = bytes;
            }
            Ok(())
        })
        .await?
    }
}
