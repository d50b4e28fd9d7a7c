//! What the agent writes to a node object. The admission policy of the chart allows these and no others.

/// The label of a node that runs Wasm pods; the RuntimeClass schedules by it.
pub(crate) const READY_LABEL: &str = "wasm-interp.io/ready";
/// The annotation that holds a [`State`](crate::state::State). A node that has it may have something of ours on it.
pub(crate) const STATE_ANNOTATION: &str = "wasm-interp.io/state";
/// Who writes: events and managed fields name it.
pub(crate) const CONTROLLER: &str = "wasm-interp-agent";
