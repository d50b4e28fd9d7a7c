//! The names that the agent writes to a Node. The chart's admission policy allows no others.

/// The label of a node that runs Wasm pods. The RuntimeClass selects nodes by it.
pub(crate) const READY_LABEL: &str = "wasm-interp.io/ready";
/// The annotation with the state of the node. A node with it may have files of ours.
pub(crate) const STATE_ANNOTATION: &str = "wasm-interp.io/state";
/// The name of the agent in events and managed fields.
pub(crate) const CONTROLLER: &str = "wasm-interp-agent";

#[cfg(test)]
mod tests {
    /// Every rendering has the same release name, so this reads the template.
    #[test]
    fn admission_policy_has_the_same_name_in_every_release() {
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
