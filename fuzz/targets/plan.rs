//! From spec, policy and files to a plan, on containers of words that fit each other.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci_spec::runtime::Spec;
use wasm_interp_fuzz::container::Container;
use wasm_interp_fuzz::{plans, planted};
use wasm_interp_workload::{Planned, Withholding, fuzzing::decide_on_image};

fuzz_target!(|container: Container| {
    let spec: Spec = serde_json::from_value(container.spec).expect("a spec");
    let image = container.image.to_string();
    let decide = || decide_on_image(&spec, &container.policy, &image);
    let decided = decide();
    if let Ok(Planned::Wasm(plan, _)) = &decided
        && plan.tmp.is_some()
    {
        let unmounted = |by| matches!(by, Withholding::Unmounted { .. });
        planted(plan.withheld.iter().any(|withheld| unmounted(withheld.by)));
    }
    plans::check(&spec, &container.policy, decided, decide());
});
