//! The tasks of this shim by id, those being created included.
//!
//! Called by `service`. An id is taken from the moment its creation begins, so that two requests
//! cannot make the same container and a shutdown does not overlook one.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Task;
use crate::error::Error;

#[derive(Clone, Default)]
pub(crate) struct Registry {
    entries: Arc<Mutex<HashMap<String, Entry>>>,
}

enum Entry {
    /// Being created; the flag says that nobody waits for it any more.
    Coming(Arc<AtomicBool>),
    Present(Arc<Task>),
}

/// An id that is taken while its task is being created. Dropped, the id is free again.
pub(crate) struct Reservation {
    registry: Registry,
    id: String,
    abandoned: Arc<AtomicBool>,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        // A map is whole between any two of its calls.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the id.
    pub(crate) fn reserve(&self, id: &str) -> Result<Reservation, Error> {
        let mut entries = self.lock();
        if entries.contains_key(id) {
            return Err(Error::Exists { id: id.to_owned() });
        }
        let abandoned = Arc::new(AtomicBool::new(false));
        entries.insert(id.to_owned(), Entry::Coming(Arc::clone(&abandoned)));
        Ok(Reservation {
            registry: self.clone(),
            id: id.to_owned(),
            abandoned,
        })
    }

    pub(crate) fn get(&self, id: &str) -> Result<Arc<Task>, Error> {
        match self.lock().get(id) {
            Some(Entry::Present(task)) => Ok(Arc::clone(task)),
            Some(Entry::Coming(_)) | None => Err(Error::NoTask { id: id.to_owned() }),
        }
    }

    pub(crate) fn remove(&self, id: &str) {
        self.lock().remove(id);
    }

    /// Gives up the creation of `id`, if it is under way: it is about to be undone.
    pub(crate) fn abandon(&self, id: &str) {
        if let Some(Entry::Coming(abandoned)) = self.lock().get(id) {
            abandoned.store(true, Ordering::Release);
        }
    }

    /// Whether there is no task, nor one to come that anybody waits for.
    pub(crate) fn is_idle(&self) -> bool {
        self.lock().values().all(|entry| match entry {
            Entry::Coming(abandoned) => abandoned.load(Ordering::Acquire),
            Entry::Present(_) => false,
        })
    }

    /// Whether nothing at all is under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}

impl Reservation {
    /// Set when the one who asked has gone.
    pub(crate) fn abandoned(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.abandoned)
    }

    /// Puts a task in its place, made of `parts`. If it was abandoned the parts come back, and the
    /// id stays taken until they are disposed of.
    pub(crate) fn fill<T>(
        self,
        parts: T,
        make: impl FnOnce(T) -> Arc<Task>,
    ) -> Result<Arc<Task>, (Self, T)> {
        let registry = self.registry.clone();
        let mut entries = registry.lock();
        if self.abandoned.load(Ordering::Acquire) {
            return Err((self, parts));
        }
        let task = make(parts);
        entries.insert(self.id.clone(), Entry::Present(Arc::clone(&task)));
        // Dropping the reservation looks at the map.
        drop(entries);
        Ok(task)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut entries = self.registry.lock();
        if let Some(Entry::Coming(_)) = entries.get(&self.id) {
            entries.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_taken_once_and_free_after_a_failure() {
        let registry = Registry::default();
        let reservation = registry.reserve("a").expect("free");
        assert!(matches!(registry.reserve("a"), Err(Error::Exists { .. })));
        assert!(matches!(registry.get("a"), Err(Error::NoTask { .. })));
        assert!(!registry.is_idle());
        drop(reservation);
        assert!(registry.is_empty());
        registry.reserve("a").expect("free again");
    }

    /// A shutdown for a container whose creation was given up must not wait for the compiler.
    #[test]
    fn an_abandoned_creation_keeps_nobody() {
        let registry = Registry::default();
        let reservation = registry.reserve("a").expect("free");
        registry.abandon("b");
        assert!(!registry.is_idle());
        registry.abandon("a");
        assert!(registry.is_idle() && !registry.is_empty());
        assert!(reservation.abandoned().load(Ordering::Acquire));
        let (reservation, parts) = reservation
            .fill("parts", |_| unreachable!("it was abandoned"))
            .err()
            .expect("the parts come back");
        assert_eq!(parts, "parts");
        assert!(registry.reserve("a").is_err());
        drop(reservation);
        assert!(registry.is_empty());
    }
}
