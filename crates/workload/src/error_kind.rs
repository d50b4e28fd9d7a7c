//! The classes of planning errors. Callers map them to the codes of their protocol. The errors of the
//! view and of the plan both have these classes.

/// The class of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request contradicts itself or the OCI runtime spec.
    InvalidArgument,
    /// Something that the request names does not exist.
    NotFound,
    /// The image or the node is not in the state that the request needs.
    FailedPrecondition,
}
