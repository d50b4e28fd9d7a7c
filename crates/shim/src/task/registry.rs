//! The containers of this shim by id, with those that are being created.
//!
//! Called by `service` and `serve`. An id is taken from the moment its creation begins. So two requests
//! cannot create the same container, and a shutdown does not overlook one.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::container::Container;
use crate::error::Error;
use crate::launch::Cancellation;

#[derive(Clone, Default)]
pub(crate) struct Registry {
    shared: Arc<SharedEntries>,
}

#[derive(Default)]
struct SharedEntries {
    entries: Mutex<HashMap<String, RegistryEntry>>,
    /// An entry was added, changed or removed.
    changed: Notify,
}

enum RegistryEntry {
    /// The container is being created.
    Creating(Arc<Cancellation>),
    Created(Arc<Container>),
}

/// An id that is taken while its container is being created. When it is dropped, the id is free again.
pub(crate) struct Reservation {
    registry: Registry,
    id: String,
    cancellation: Arc<Cancellation>,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, RegistryEntry>> {
        // A panic cannot leave a map half changed.
        self.shared
            .entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the id.
    pub(crate) fn reserve(&self, id: &str) -> Result<Reservation, Error> {
        let mut entries = self.lock();
        if entries.contains_key(id) {
            return Err(Error::Exists { id: id.to_owned() });
        }
        let cancellation = Arc::new(Cancellation::default());
        entries.insert(
            id.to_owned(),
            RegistryEntry::Creating(Arc::clone(&cancellation)),
        );
        Ok(Reservation {
            registry: self.clone(),
            id: id.to_owned(),
            cancellation,
        })
    }

    pub(crate) fn get(&self, id: &str) -> Result<Arc<Container>, Error> {
        match self.lock().get(id) {
            Some(RegistryEntry::Created(container)) => Ok(Arc::clone(container)),
            Some(RegistryEntry::Creating(_)) | None => Err(Error::NoTask { id: id.to_owned() }),
        }
    }

    pub(crate) fn remove(&self, id: &str) {
        self.lock().remove(id);
        self.shared.changed.notify_waiters();
    }

    /// Cancels the creation of `id`, if it is being created.
    pub(crate) fn cancel(&self, id: &str) {
        if let Some(RegistryEntry::Creating(cancellation)) = self.lock().get(id) {
            cancellation.cancel();
        }
    }

    /// Whether every entry is a cancelled creation, or there is none: then the shim may end.
    pub(crate) fn is_idle(&self) -> bool {
        self.lock().values().all(|entry| match entry {
            RegistryEntry::Creating(cancellation) => cancellation.is_cancelled(),
            RegistryEntry::Created(_) => false,
        })
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Waits until all cancelled creations are undone. Does not wait if there is another entry.
    pub(crate) async fn cancelled_undone(&self) {
        loop {
            // Made before the check, it sees each change after it.
            let changed = self.shared.changed.notified();
            if self.is_empty() || !self.is_idle() {
                return;
            }
            changed.await;
        }
    }
}

impl Reservation {
    /// Says when the client cancels the creation.
    pub(crate) fn cancellation(&self) -> Arc<Cancellation> {
        Arc::clone(&self.cancellation)
    }

    /// Registers the container that `make` makes of `parts`. If the creation is cancelled, it returns
    /// the parts, and the id stays taken until the reservation is dropped.
    pub(crate) fn fill<T>(
        self,
        parts: T,
        make: impl FnOnce(T) -> Arc<Container>,
    ) -> Result<Arc<Container>, (Self, T)> {
        let registry = self.registry.clone();
        let mut entries = registry.lock();
        if self.cancellation.is_cancelled() {
            return Err((self, parts));
        }
        let container = make(parts);
        entries.insert(
            self.id.clone(),
            RegistryEntry::Created(Arc::clone(&container)),
        );
        // The drop of the reservation locks the map too.
        drop(entries);
        registry.shared.changed.notify_waiters();
        Ok(container)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut entries = self.registry.lock();
        if let Some(RegistryEntry::Creating(_)) = entries.get(&self.id) {
            entries.remove(&self.id);
        }
        drop(entries);
        self.registry.shared.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    use super::*;

    #[test]
    fn id_is_taken_once_and_free_after_a_failed_creation() {
        let registry = Registry::default();
        let reservation = registry.reserve("a").expect("free");
        assert!(matches!(registry.reserve("a"), Err(Error::Exists { .. })));
        assert!(matches!(registry.get("a"), Err(Error::NoTask { .. })));
        assert!(!registry.is_idle());
        drop(reservation);
        assert!(registry.is_empty());
        registry.reserve("a").expect("free again");
    }

    /// A shutdown must not wait for the compile of a container that its client has cancelled.
    #[test]
    fn cancelled_creation_keeps_its_id_but_not_the_shim() {
        let registry = Registry::default();
        let reservation = registry.reserve("a").expect("free");
        registry.cancel("b");
        assert!(!registry.is_idle());
        registry.cancel("a");
        assert!(registry.is_idle() && !registry.is_empty());
        assert!(reservation.cancellation().is_cancelled());
        let (reservation, parts) = reservation
            .fill("parts", |_| unreachable!("it was cancelled"))
            .err()
            .expect("the parts are returned");
        assert_eq!(parts, "parts");
        assert!(registry.reserve("a").is_err());
        drop(reservation);
        assert!(registry.is_empty());
    }

    #[tokio::test]
    async fn wait_for_cancelled_creations_ends_when_the_last_is_undone() {
        let registry = Registry::default();
        registry.cancelled_undone().await;
        let reservations = ["a", "b"].map(|id| registry.reserve(id).expect("free"));
        // Another client waits for these: the shim does not end.
        registry.cancelled_undone().await;
        registry.cancel("a");
        registry.cancel("b");
        let mut undone = pin!(registry.cancelled_undone());
        for reservation in reservations {
            let pending =
                poll_fn(|context| Poll::Ready(undone.as_mut().poll(context).is_pending()));
            assert!(pending.await);
            drop(reservation);
        }
        undone.await;
    }
}
