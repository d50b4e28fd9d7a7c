//! What the agent writes to a node object. The admission policy of the chart allows these and no others.

/// The label of a node that runs Wasm pods; the RuntimeClass schedules by it.
pub(crate) const READY_LABEL: &str = "wasm-interp.io/ready";
/// The annotation that holds a [`State`](crate::state::State). A node that has it may have something of ours on it.
pub(crate) const STATE_ANNOTATION: &str = "wasm-interp.io/state";
/// Who writes: events and managed fields name it.
pub(crate) const CONTROLLER: &str = "wasm-interp-agent";

#[cfg(test)]
mod tests {
    /// Renderings have but one name of the release, so this looks at the template.
    #[test]
    fn the_admission_policy_is_named_alike_in_every_release() {
        let template = include_str!("../../../charts/wasm-interp/templates/admission-policy.yaml");
        let names: Vec<&str> = template
            .lines()
            .filter_map(|line| {
                let (key, name) = line.trim_start().split_once(": ")?;
                let starts = line.starts_with("  ") && !line.starts_with("   ");
                (starts && matches!(key, "name" | "policyName")).then_some(name)
            })
            .collect();
        assert_eq!(names, [super::CONTROLLER; 3]);
    }
}
