//! What kind of container a spec describes, told before anything else is read of it.

use oci_spec::runtime::Spec;

/// Set by containerd's CRI plugin on every container of a pod.
const CRI_CONTAINER_TYPE: &str = "io.kubernetes.cri.container-type";

/// Kind of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A container, for which [`crate::decide`] finds out what it runs.
    Container,
    /// The pod sandbox: it holds the pod's namespaces and runs nothing of the image.
    Sandbox,
}

/// Which kind of container `spec` describes.
#[must_use]
pub fn kind(spec: &Spec) -> Kind {
    let annotations = spec.annotations().as_ref();
    match annotations.and_then(|annotations| annotations.get(CRI_CONTAINER_TYPE)) {
        Some(value) if value == "sandbox" => Kind::Sandbox,
        _ => Kind::Container,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_cri_annotation_makes_a_sandbox() {
        let mut spec = Spec::default();
        assert_eq!(kind(&spec), Kind::Container);
        for (value, expected) in [("container", Kind::Container), ("sandbox", Kind::Sandbox)] {
            spec.set_annotations(Some(
                [(CRI_CONTAINER_TYPE.to_owned(), value.to_owned())].into(),
            ));
            assert_eq!(kind(&spec), expected);
        }
    }
}
