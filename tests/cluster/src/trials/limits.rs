//! Limits, users and rights: that the pod's spec is what the process on the node has.

use std::fs;
use std::os::unix::fs::MetadataExt;

use k8s_openapi::serde_json::json;

use crate::command::wait_for;
use crate::node::NODES;
use crate::world::{TestCluster, python, restarts};
use crate::{Outcome, expect};

pub(super) fn a_memory_limit_is_a_memory_error(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    let mut main = python(
        "try: x = bytearray(400 << 20); print('had it')\nexcept MemoryError: print('MemoryError')",
    );
    main["resources"] = json!({ "limits": { "memory": "128Mi", "cpu": "500m" } });
    namespace.pod("limited", json!({ "containers": [main] }))?;
    expect(
        &namespace.succeeded("limited")?,
        &"MemoryError\n".to_owned(),
    )
}

pub(super) fn limits_and_requests_apply_to_the_cgroup(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    let mut main = python("import time; print('ready'); time.sleep(3600)");
    main["resources"] = json!({
        "limits": { "memory": "96Mi", "cpu": "500m" },
        "requests": { "memory": "64Mi", "cpu": "250m" },
    });
    namespace.pod("limited", json!({ "containers": [main] }))?;
    namespace.until_printed("limited", "ready")?;
    let process = namespace.process("limited")?;
    for (controller, file, value) in [
        ("memory", "memory.limit_in_bytes", 96 << 20),
        ("cpu", "cpu.cfs_quota_us", 50_000),
        ("cpu", "cpu.shares", 256),
    ] {
        let folder = process.cgroup(controller)?;
        let got: i64 = fs::read_to_string(folder.join(file))?.trim().parse()?;
        expect(&got, &value)
            .map_err(|error| format!("{file}: {}", error.message().unwrap_or_default()))?;
    }
    namespace.delete("limited")
}

/// On a node whose containerd tells the kubelet what limits a container has: 1.6 does not, so the kubelet waits for
/// ever there.
pub(super) fn a_pod_is_resized_in_place(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    let mut main = python(
        "import os, time\nprint('ready')\nfor step in ('down', 'up'):\n \
         while not os.path.exists('/tmp/' + step): time.sleep(0.1)\n \
         try: held = len(bytearray(200 << 20)) >> 20\n except MemoryError: held = 'MemoryError'\n \
         print(step, held)",
    );
    main["resources"] = json!({
        "limits": { "memory": "512Mi", "cpu": "500m" },
        "requests": { "memory": "64Mi", "cpu": "100m" },
    });
    namespace.pod(
        "resized",
        json!({ "nodeName": NODES[1].name, "containers": [main] }),
    )?;
    namespace.until_printed("resized", "ready")?;
    let process = namespace.process("resized")?;
    let go_on = |step: &str, printed: &str| {
        let touch = format!("open('/tmp/{step}', 'w').close()");
        namespace
            .kubectl(&["exec", "resized", "--", "python", "-c", &touch])?
            .expect_code(0)?;
        namespace.until_printed("resized", &format!("{step} {printed}\n"))
    };
    for (step, memory, cpu, bytes, quota, printed) in [
        ("down", "128Mi", "300m", 128 << 20, 30_000, "MemoryError"),
        ("up", "512Mi", "800m", 512 << 20, 80_000, "200"),
    ] {
        let limits = json!({ "memory": memory, "cpu": cpu });
        let containers = json!([{ "name": "main", "resources": { "limits": limits } }]);
        let patch = json!({ "spec": { "containers": containers } }).to_string();
        namespace
            .kubectl(&[
                "patch",
                "pod",
                "resized",
                "--subresource=resize",
                "--patch",
                &patch,
            ])?
            .expect_code(0)?;
        for (controller, file, value) in [
            ("memory", "memory.limit_in_bytes", bytes),
            ("cpu", "cpu.cfs_quota_us", quota),
        ] {
            let path = process.cgroup(controller)?.join(file);
            wait_for(&format!("{value} in {file}"), || {
                let now: i64 = fs::read_to_string(&path)?.trim().parse()?;
                Ok((now == value).then_some(()))
            })?;
        }
        go_on(step, printed)?;
    }
    expect(&namespace.ended("resized")?, &"Succeeded".to_owned())?;
    expect(&restarts(&namespace.get("resized")?), &0)
}

pub(super) fn the_security_context_applies_to_the_process(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(Some("restricted"))?;
    let mut main =
        python("import time; open('/data/mine', 'w').write('x'); print('ready'); time.sleep(3600)");
    main["securityContext"] = json!({
        "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] },
        "readOnlyRootFilesystem": true,
    });
    main["volumeMounts"] = json!([{ "name": "data", "mountPath": "/data" }]);
    namespace.pod(
        "secure",
        json!({
            "securityContext": {
                "runAsUser": 1234, "runAsGroup": 2345, "fsGroup": 3456,
                "supplementalGroups": [4567], "runAsNonRoot": true,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": [main], "volumes": [{ "name": "data", "emptyDir": {} }],
        }),
    )?;
    namespace.until_printed("secure", "ready")?;
    let process = namespace.process("secure")?;
    for (field, value) in [
        ("Uid", "1234 1234 1234 1234"),
        ("Gid", "2345 2345 2345 2345"),
        ("Groups", "2345 3456 4567"),
        ("CapEff", "0000000000000000"),
        ("CapBnd", "0000000000000000"),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
    ] {
        expect(&process.status(field)?, &value.to_owned())
            .map_err(|error| format!("{field}: {}", error.message().unwrap_or_default()))?;
    }
    let written = process.root("/data/mine").metadata()?;
    expect(&(written.uid(), written.gid()), &(1234, 3456))?;
    namespace.delete("secure")
}

pub(super) fn a_read_only_root_cannot_be_written(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    let code = "try: open('/etc/x', 'w'); print('written')\nexcept OSError: print('refused')";
    for (name, read_only, told) in [
        ("read-only", true, "refused\n"),
        ("writable", false, "written\n"),
    ] {
        let mut main = python(code);
        main["securityContext"] = json!({ "readOnlyRootFilesystem": read_only });
        namespace.pod(name, json!({ "containers": [main] }))?;
        expect(&namespace.succeeded(name)?, &told.to_owned())?;
    }
    Ok(())
}
