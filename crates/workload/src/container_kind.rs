//! Recognizes the kind of container that a spec describes, before anything else of it is read.

use oci_spec::runtime::Spec;

/// Set by containerd's CRI plugin on every container of a pod.
const CRI_CONTAINER_TYPE: &str = "io.kubernetes.cri.container-type";

/// The kind of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerKind {
    /// A container with a program, which [`crate::decide`] finds.
    Container,
    /// The pod sandbox. It holds the pod's namespaces and runs no program of the image.
    Sandbox,
}

/// The kind of container that `spec` describes.
#[must_use]
pub fn container_kind(spec: &Spec) -> ContainerKind {
    let annotations = spec.annotations().as_ref();
    match annotations.and_then(|annotations| annotations.get(CRI_CONTAINER_TYPE)) {
        Some(value) if value == "sandbox" => ContainerKind::Sandbox,
        _ => ContainerKind::Container,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_cri_annotation_makes_a_sandbox() {
        let mut spec = Spec::default();
        assert_eq!(container_kind(&spec), ContainerKind::Container);
        for (value, expected) in [
            ("container", ContainerKind::Container),
            ("sandbox", ContainerKind::Sandbox),
        ] {
            spec.set_annotations(Some(
                [(CRI_CONTAINER_TYPE.to_owned(), value.to_owned())].into(),
            ));
            assert_eq!(container_kind(&spec), expected);
        }
    }
}
