//! Images that a node has to fetch.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::serde_json::{Value, json};

use crate::addresses::PRIVATE_REGISTRY;
use crate::registry::{self, PASSWORD, PRIVATE, USER};
use crate::world::{PodNamespace, TestCluster, exit_code, status};
use crate::{Outcome, expect};

pub(super) fn a_private_image_is_pulled_with_its_secret(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    secret(&namespace)?;
    let container = json!({ "name": "main", "image": PRIVATE, "imagePullPolicy": "Always" });
    namespace.pod("without", json!({ "containers": [container] }))?;
    until_not_pulled(&namespace, "without", "401")?;
    // The image is the one that traps.
    expect(&ran(&namespace, "with", PRIVATE, "Always")?, &Some(134))
}

pub(super) fn a_tag_moves_and_a_digest_does_not(world: &TestCluster) -> Outcome {
    let settings = &world.cluster()?.settings;
    let namespace = world.namespace(None)?;
    secret(&namespace)?;
    let name = format!("{PRIVATE_REGISTRY}/test/moving");
    let tag = format!("{name}:1");
    let first = format!("{name}@{}", registry::push(settings, &tag, "unreachable")?);
    expect(&ran(&namespace, "tag", &tag, "Always")?, &Some(134))?;
    let second = format!("{name}@{}", registry::push(settings, &tag, "(nop)")?);
    for (pod, image, policy, code) in [
        ("moved-tag", &tag, "Always", 0),
        ("first", &first, "IfNotPresent", 134),
        ("second", &second, "Always", 0),
    ] {
        expect(&ran(&namespace, pod, image, policy)?, &Some(code))
            .map_err(|error| format!("{pod}: {}", error.message().unwrap_or_default()))?;
    }
    let nothing = format!("{name}@sha256:{}", "0".repeat(64));
    namespace.pod("nothing", spec(&nothing, "Always"))?;
    until_not_pulled(&namespace, "nothing", "not found")
}

/// The exit code of a pod of that image.
fn ran(namespace: &PodNamespace<'_>, pod: &str, image: &str, policy: &str) -> Outcome<Option<i32>> {
    namespace.pod(pod, spec(image, policy))?;
    namespace.ended(pod)?;
    Ok(exit_code(&namespace.get(pod)?))
}

fn spec(image: &str, policy: &str) -> Value {
    json!({
        "containers": [{ "name": "main", "image": image, "imagePullPolicy": policy }],
        "imagePullSecrets": [{ "name": "pull" }],
    })
}

fn until_not_pulled(namespace: &PodNamespace<'_>, pod: &str, why: &str) -> Outcome {
    namespace.until(pod, "fail to have its image pulled", |pod| {
        let waiting = status(pod, 0)?.state.as_ref()?.waiting.as_ref()?;
        let told = waiting.message.as_deref()?.contains(why);
        (told && waiting.reason.as_deref()?.contains("Pull")).then_some(())
    })
}

/// The one that opens the registry's door.
fn secret(namespace: &PodNamespace<'_>) -> Outcome {
    let auths =
        json!({ "auths": { PRIVATE_REGISTRY: { "username": USER, "password": PASSWORD } } });
    namespace.create::<Secret>(json!({
        "metadata": { "name": "pull" }, "type": "kubernetes.io/dockerconfigjson",
        "stringData": { ".dockerconfigjson": auths.to_string() },
    }))?;
    Ok(())
}
