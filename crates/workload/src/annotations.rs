//! The annotations of a container that decide what it does: their keys, and which of several values counts.
//!
//! In Kubernetes an annotation of the pod reaches each of its containers. One whose key ends in a dot and the name of a
//! container is for that container alone, and counts instead of the pod's.

use std::collections::HashMap;

use oci_spec::runtime::Spec;
use wasm_interp_network::{CONNECT_ANNOTATION, LISTEN_ANNOTATION, NETWORK_ANNOTATION};

/// The annotation that names the interpreter: an absolute path in the container.
pub const INTERPRETER_ANNOTATION: &str = "wasm-interp.io/interpreter";

/// What the keys of our annotations begin with.
pub(crate) const PREFIX: &str = "wasm-interp.io/";

/// Set by containerd's CRI plugin on every container of a pod.
pub const CRI_CONTAINER_NAME: &str = "io.kubernetes.cri.container-name";

/// Every annotation that a container may have.
const KEYS: [&str; 4] = [
    INTERPRETER_ANNOTATION,
    LISTEN_ANNOTATION,
    CONNECT_ANNOTATION,
    NETWORK_ANNOTATION,
];

/// Whom an annotation is for. The larger one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum AnnotationScope {
    /// Every container of the pod.
    Pod,
    /// This container alone.
    Container,
}

/// The value of an annotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AnnotationValue<T> {
    /// As it is written in the pod or the spec.
    pub(crate) key: String,
    pub(crate) scope: AnnotationScope,
    pub(crate) value: T,
}

/// The annotations of one container.
pub(crate) struct Annotations<'a> {
    all: Option<&'a HashMap<String, String>>,
    container: Option<&'a str>,
}

impl<'a> Annotations<'a> {
    pub(crate) fn of(spec: &'a Spec) -> Self {
        let all = spec.annotations().as_ref();
        let container = all.and_then(|all| all.get(CRI_CONTAINER_NAME));
        Self {
            all,
            container: container.map(String::as_str),
        }
    }

    /// The value that counts for this container.
    pub(crate) fn get(&self, key: &str) -> Option<AnnotationValue<&'a str>> {
        let all = self.all?;
        let own = self.container.and_then(|container| {
            let (key, value) = all.get_key_value(&format!("{key}.{container}"))?;
            Some((key, AnnotationScope::Container, value))
        });
        let (key, scope, value) = own.or_else(|| {
            let (key, value) = all.get_key_value(key)?;
            Some((key, AnnotationScope::Pod, value))
        })?;
        Some(AnnotationValue {
            key: key.clone(),
            scope,
            value,
        })
    }
}

/// Whether this version reads the annotation `key`, for this container or another one of its pod.
pub(crate) fn is_known(key: &str) -> bool {
    KEYS.iter().any(|known| is_of(key, known))
}

/// Whether `key` is the annotation `known`, for the pod or for any container of it.
pub(crate) fn is_of(key: &str, known: &str) -> bool {
    key.strip_prefix(known)
        .is_some_and(|rest| rest.is_empty() || (rest.len() > 1 && rest.starts_with('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotation_of_the_container_counts_instead_of_the_pods() {
        let mut spec = Spec::default();
        let mut set = |entries: &[(&str, &str)]| {
            let entries = entries.iter().map(|(key, value)| (*key, *value));
            spec.set_annotations(Some(
                entries
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .collect(),
            ));
            let found = Annotations::of(&spec).get(LISTEN_ANNOTATION);
            found.map(|found| (found.value.to_owned(), found.scope))
        };
        let pod = ("wasm-interp.io/listen", "tcp:80");
        let web = ("wasm-interp.io/listen.web", "tcp:8080");
        let name = ("io.kubernetes.cri.container-name", "web");
        let other = ("io.kubernetes.cri.container-name", "other");
        let of_pod = Some(("tcp:80".to_owned(), AnnotationScope::Pod));
        let of_web = Some(("tcp:8080".to_owned(), AnnotationScope::Container));
        assert_eq!(set(&[]), None);
        assert_eq!(set(&[pod, web]), of_pod, "not known to be a container's");
        assert_eq!(set(&[pod, web, name]), of_web);
        assert_eq!(set(&[web, name]), of_web);
        assert_eq!(set(&[pod, web, other]), of_pod);
        assert_eq!(set(&[web, other]), None);
    }

    #[test]
    fn keys_of_other_containers_are_known() {
        for key in KEYS {
            assert!(key.starts_with(PREFIX) && is_known(key));
            assert!(is_known(&format!("{key}.web")));
            assert!(!is_known(&format!("{key}s")) && !is_known(&format!("{key}.")));
        }
        assert!(!is_known("wasm-interp.io/lisen"));
    }
}
