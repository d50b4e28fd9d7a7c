//! Native programs in a pod of our RuntimeClass: sidecars with probes, and init containers.

use k8s_openapi::serde_json::{Value, json};

use crate::guests::NATIVE;
use crate::world::{TestCluster, python};
use crate::{Outcome, expect};

/// A native container that runs a script of BusyBox's shell.
pub(super) fn shell(name: &str, script: &str) -> Value {
    json!({
        "name": name, "image": NATIVE, "imagePullPolicy": "Never", "command": ["sh", "-c", script],
        "volumeMounts": [{ "name": "shared", "mountPath": "/shared" }],
    })
}

pub(super) fn with_shared(spec: &mut Value) {
    spec["volumes"] = json!([{ "name": "shared", "emptyDir": {} }]);
}

pub(super) fn a_sidecar_serves_probes_beside_a_script(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    let mut sidecar = shell(
        "sidecar",
        "echo served >/shared/index.html; exec busybox httpd -f -p 8080 -h /shared",
    );
    sidecar["restartPolicy"] = "Always".into();
    sidecar["startupProbe"] = json!({
        "httpGet": { "path": "/index.html", "port": 8080 },
        "periodSeconds": 1, "failureThreshold": 60,
    });
    sidecar["readinessProbe"] = json!({ "tcpSocket": { "port": 8080 }, "periodSeconds": 1 });
    let mut main = python("print(open('/shared/index.html').read().strip())");
    main["volumeMounts"] = json!([{ "name": "shared", "mountPath": "/shared" }]);
    let mut spec = json!({ "initContainers": [sidecar], "containers": [main] });
    with_shared(&mut spec);
    namespace.pod("beside", spec)?;
    // The script runs only after the sidecar's start-up probe was answered; the sidecar does not keep
    // the pod from ending.
    expect(&namespace.ended("beside")?, &"Succeeded".to_owned())?;
    let printed = namespace
        .kubectl(&["logs", "beside", "--container=main"])?
        .expect_code(0)?;
    expect(&printed.stdout, &"served\n".to_owned())
}

pub(super) fn a_failed_liveness_probe_restarts_the_sidecar(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    // The first run takes its page away; the second, which knows itself by a file, does not.
    let mut sidecar = shell(
        "sidecar",
        "echo up >/shared/page; \
         [ -e /shared/second ] || { touch /shared/second; \
         (busybox sleep 3; busybox rm /shared/page) & }; \
         exec busybox httpd -f -p 8080 -h /shared",
    );
    sidecar["livenessProbe"] = json!({
        "httpGet": { "path": "/page", "port": 8080 },
        "periodSeconds": 1, "failureThreshold": 2,
    });
    sidecar["terminationMessagePolicy"] = "FallbackToLogsOnError".into();
    let mut main = python("import time; time.sleep(3600)");
    main["name"] = "main".into();
    let mut spec = json!({ "restartPolicy": "Always", "containers": [sidecar, main] });
    with_shared(&mut spec);
    namespace.pod("alive", spec)?;
    let counts = namespace.until("alive", "have its sidecar started again", |pod| {
        let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
        let count = |name: &str| {
            statuses
                .iter()
                .find(|status| status.name == name)
                .map(|status| status.restart_count)
        };
        (count("sidecar")? >= 1).then(|| (count("sidecar"), count("main")))
    })?;
    expect(&counts, &(Some(1), Some(0)))?;
    namespace.ready("alive")?;
    namespace.delete("alive")
}

pub(super) fn a_native_init_container_runs_first(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    let mut main = python("print(open('/shared/text').read().strip())");
    main["volumeMounts"] = json!([{ "name": "shared", "mountPath": "/shared" }]);
    let mut spec = json!({
        "initContainers": [shell("prepare", "busybox uname -s >/shared/text")],
        "containers": [main],
    });
    with_shared(&mut spec);
    namespace.pod("prepared", spec)?;
    expect(&namespace.succeeded("prepared")?, &"Linux\n".to_owned())
}

pub(super) fn an_out_of_memory_kill_has_its_reason(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    let mut main = shell("main", "busybox tail /dev/zero");
    main["resources"] = json!({ "limits": { "memory": "32Mi" } });
    let mut spec = json!({ "containers": [main] });
    with_shared(&mut spec);
    namespace.pod("hungry", spec)?;
    namespace.ended("hungry")?;
    namespace
        .kubectl(&["describe", "pod", "hungry"])?
        .expect_code(0)?
        .expect_stdout("OOMKilled")?
        .expect_stdout("137")?;
    Ok(())
}
