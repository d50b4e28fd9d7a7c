//! Images that a node has to fetch.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::serde_json::json;

use super::expect;
use crate::Outcome;
use crate::cluster::PRIVATE_REGISTRY;
use crate::registry::{PASSWORD, PRIVATE, USER};
use crate::world::{World, exit_code, status};

pub(super) fn a_private_image_is_pulled_with_its_secret(world: &World) -> Outcome {
    let namespace = world.namespace(None)?;
    let auths =
        json!({ "auths": { PRIVATE_REGISTRY: { "username": USER, "password": PASSWORD } } });
    namespace.create::<Secret>(json!({
        "metadata": { "name": "pull" }, "type": "kubernetes.io/dockerconfigjson",
        "stringData": { ".dockerconfigjson": auths.to_string() },
    }))?;
    let container = json!({ "name": "main", "image": PRIVATE, "imagePullPolicy": "Always" });
    namespace.pod("without", json!({ "containers": [container] }))?;
    namespace.until("without", "be refused by the registry", |pod| {
        let waiting = status(pod, 0)?.state.as_ref()?.waiting.as_ref()?;
        let refused = waiting.message.as_deref()?.contains("401");
        (refused && waiting.reason.as_deref()?.contains("Pull")).then_some(())
    })?;
    namespace.pod(
        "with",
        json!({ "containers": [container], "imagePullSecrets": [{ "name": "pull" }] }),
    )?;
    namespace.ended("with")?;
    // The image is the one that traps.
    expect(&exit_code(&namespace.get("with")?), &Some(134))
}
