//! Volumes, variables and the files that a pod finds: what Kubernetes promises is there, and no more.

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret};
use k8s_openapi::serde_json::{Value, from_str, json};

use crate::world::{TestCluster, python};
use crate::{Outcome, expect};

/// Prints what a JSON list of paths holds, as a JSON object.
const PRINT_FILES: &str =
    "import json, sys\nprint(json.dumps({p: open(p).read() for p in json.loads(PATHS)}))";

fn print_files(paths: &[&str]) -> String {
    PRINT_FILES.replace("PATHS", &format!("{:?}", json!(paths).to_string()))
}

pub(super) fn secrets_and_projections_are_files(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    namespace.create::<Secret>(
        json!({ "metadata": { "name": "secret" }, "stringData": { "password": "sesame" } }),
    )?;
    namespace.create::<ConfigMap>(
        json!({ "metadata": { "name": "config" }, "data": { "key": "value" } }),
    )?;
    let paths = [
        "/secret/password",
        "/all/config/key",
        "/all/secret/password",
        "/all/labels",
        "/all/token",
    ];
    let mut main = python(&format!(
        "{}\n\
         try: open('/secret/password', 'w')\n\
         except OSError as e: print(type(e).__name__, file=sys.stderr)",
        print_files(&paths)
    ));
    main["volumeMounts"] = json!([
        { "name": "secret", "mountPath": "/secret" },
        { "name": "all", "mountPath": "/all" },
    ]);
    namespace.pod(
        "files",
        json!({
            "containers": [main],
            "volumes": [
                { "name": "secret", "secret": { "secretName": "secret" } },
                { "name": "all", "projected": { "sources": [
                    { "configMap": { "name": "config",
                        "items": [{ "key": "key", "path": "config/key" }] } },
                    { "secret": { "name": "secret",
                        "items": [{ "key": "password", "path": "secret/password" }] } },
                    { "downwardAPI": { "items": [
                        { "path": "labels", "fieldRef": { "fieldPath": "metadata.labels" } }] } },
                    { "serviceAccountToken": { "path": "token", "audience": "someone" } },
                ]}},
            ],
        }),
    )?;
    let printed = namespace.succeeded("files")?;
    let mut lines = printed.lines();
    let (mut files, mut errors) = (Value::Null, String::new());
    for line in lines.by_ref() {
        if line.starts_with('{') {
            files = from_str(line)?;
        } else {
            errors += line;
        }
    }
    expect(&files["/secret/password"], &"sesame".into())?;
    expect(&files["/all/config/key"], &"value".into())?;
    expect(&files["/all/secret/password"], &"sesame".into())?;
    expect(&files["/all/labels"], &"app=\"files\"".into())?;
    expect(
        &files["/all/token"]
            .as_str()
            .map(|token| token.split('.').count()),
        &Some(3),
    )?;
    expect(&errors.is_empty(), &false).map_err(|_| "a secret could be written to".into())
}

pub(super) fn an_empty_dir_is_shared_and_limited(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    let container = |name: &str, code: &str, path: &str, read_only: bool| {
        let mut container = python(code);
        container["name"] = name.into();
        container["volumeMounts"] =
            json!([{ "name": "shared", "mountPath": path, "readOnly": read_only }]);
        container
    };
    let read = "import os, time\n\
                while not os.path.exists('/in/done'): time.sleep(0.1)\n\
                print(open('/in/text').read())\n\
                try: open('/in/mine', 'w')\n\
                except OSError: print('refused')";
    let write = "open('/out/text', 'w').write('written by the other'); open('/out/done', 'w')";
    namespace.pod("shared", json!({
        "containers": [
            container("reader", read, "/in", true),
            container("writer", write, "/out", false),
        ],
        "volumes": [{ "name": "shared", "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } }],
    }))?;
    expect(&namespace.ended("shared")?, &"Succeeded".to_owned())?;
    let printed = namespace
        .kubectl(&["logs", "shared", "--container=reader"])?
        .expect_code(0)?
        .stdout;
    expect(&printed, &"written by the other\nrefused\n".to_owned())
}

pub(super) fn a_claim_of_a_static_volume_is_kept(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(Some("baseline"))?;
    let volume = format!("{}-pv", namespace.name);
    let node = crate::node::NODES[0].name;
    let object = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": volume },
        "spec": {
            "capacity": { "storage": "1Mi" }, "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "", "claimRef": { "namespace": namespace.name, "name": "claim" },
            "local": { "path": "/srv" },
            "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [
                { "key": "kubernetes.io/hostname", "operator": "In", "values": [node] }] }] } },
        },
    });
    world.apply(&object)?;
    namespace.create::<PersistentVolumeClaim>(json!({
        "metadata": { "name": "claim" },
        "spec": { "accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": volume,
            "resources": { "requests": { "storage": "1Mi" } } },
    }))?;
    let pod = |code: &str| {
        let mut main = python(code);
        main["volumeMounts"] = json!([{ "name": "kept", "mountPath": "/kept" }]);
        json!({
            "containers": [main],
            "volumes": [{ "name": "kept", "persistentVolumeClaim": { "claimName": "claim" } }],
        })
    };
    namespace.pod("writes", pod("open('/kept/note', 'w').write('still here')"))?;
    namespace.succeeded("writes")?;
    namespace.delete("writes")?;
    namespace.pod("reads", pod("print(open('/kept/note').read())"))?;
    let printed = namespace.succeeded("reads");
    world
        .kubectl(&["delete", "persistentvolume", &volume, "--wait=false"])?
        .expect_code(0)?;
    expect(&printed?, &"still here\n".to_owned())
}

pub(super) fn a_host_path_has_the_rights_of_its_mount(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(Some("privileged"))?;
    let mut main = python(
        "print(open('/node/hostname').read().strip())\n\
         try: open('/node/x', 'w')\n\
         except OSError: print('refused')\n\
         import os; print(os.path.exists('/etc/shadow'))",
    );
    main["volumeMounts"] = json!([{ "name": "etc", "mountPath": "/node", "readOnly": true }]);
    namespace.pod(
        "host",
        json!({
            "containers": [main],
            "volumes": [{ "name": "etc", "hostPath": { "path": "/etc", "type": "Directory" } }],
        }),
    )?;
    let printed = namespace.succeeded("host")?;
    let node = namespace
        .get("host")?
        .spec
        .and_then(|spec| spec.node_name)
        .unwrap_or_default();
    expect(&printed, &format!("{node}\nrefused\nFalse\n"))
}

pub(super) fn the_downward_api_is_variables_and_files(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    namespace.create::<ConfigMap>(
        json!({ "metadata": { "name": "variables" }, "data": { "FROM_MAP": "map" } }),
    )?;
    namespace.create::<Secret>(
        json!({ "metadata": { "name": "variables" }, "stringData": { "FROM_SECRET": "secret" } }),
    )?;
    let mut main = python(
        "import json, os\nprint(json.dumps(dict(os.environ) | {'file': open('/pod/name').read()}))",
    );
    let field = |name: &str, path: &str| {
        let field = json!({ "fieldRef": { "fieldPath": path } });
        json!({ "name": name, "valueFrom": field })
    };
    main["env"] = json!([
        field("POD", "metadata.name"),
        field("NAMESPACE", "metadata.namespace"),
        field("POD_IP", "status.podIP"),
        field("NODE", "spec.nodeName"), { "name": "PLAIN", "value": "as it is, $(POD)" },
        { "name": "LIMIT", "valueFrom": {
            "resourceFieldRef": { "resource": "limits.memory", "divisor": "1Mi" } } },
    ]);
    main["envFrom"] = json!([
        { "configMapRef": { "name": "variables" } },
        { "secretRef": { "name": "variables" } },
    ]);
    main["resources"] = json!({ "limits": { "memory": "200Mi" } });
    main["volumeMounts"] = json!([{ "name": "pod", "mountPath": "/pod" }]);
    namespace.pod(
        "downward",
        json!({
            "containers": [main],
            "volumes": [{ "name": "pod", "downwardAPI": {
                "items": [{ "path": "name", "fieldRef": { "fieldPath": "metadata.name" } }] } }],
        }),
    )?;
    let printed: Value = from_str(&namespace.succeeded("downward")?)?;
    let pod = namespace.get("downward")?;
    let address = pod
        .status
        .and_then(|status| status.pod_ip)
        .unwrap_or_default();
    for (name, value) in [
        ("POD", "downward"),
        ("NAMESPACE", &namespace.name),
        ("POD_IP", &address),
        ("PLAIN", "as it is, downward"),
        ("LIMIT", "200"),
        ("FROM_MAP", "map"),
        ("FROM_SECRET", "secret"),
        ("file", "downward"),
        // What every pod is told of the API server.
        ("KUBERNETES_SERVICE_PORT", "443"),
    ] {
        expect(&printed[name], &value.into())
            .map_err(|error| format!("{name}: {}", error.message().unwrap_or_default()))?;
    }
    Ok(())
}

pub(super) fn a_pod_has_its_names_and_its_resolver(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    let mut main = python(&print_files(&[
        "/etc/hostname",
        "/etc/hosts",
        "/etc/resolv.conf",
    ]));
    main["env"] = json!([]);
    namespace.pod(
        "names",
        json!({
            "containers": [main], "hostname": "a-name", "subdomain": "below",
            "hostAliases": [{ "ip": "192.0.2.1", "hostnames": ["an-alias"] }],
            "dnsConfig": {
                "searches": ["searched.test"],
                "options": [{ "name": "ndots", "value": "2" }],
            },
        }),
    )?;
    let printed: Value = from_str(&namespace.succeeded("names")?)?;
    let text = |path: &str| printed[path].as_str().unwrap_or_default().to_owned();
    expect(
        &text("/etc/hostname").trim().to_owned(),
        &"a-name".to_owned(),
    )?;
    for (path, told) in [
        ("/etc/hosts", "an-alias"),
        ("/etc/hosts", "a-name"),
        ("/etc/resolv.conf", "searched.test"),
        ("/etc/resolv.conf", "ndots:2"),
        ("/etc/resolv.conf", "nameserver "),
    ] {
        expect(&text(path).contains(told), &true)
            .map_err(|_| format!("no {told} in {path}:\n{}", text(path)))?;
    }
    Ok(())
}

pub(super) fn the_service_accounts_token_can_be_read(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    let code = "import base64, json\n\
                folder = '/var/run/secrets/kubernetes.io/serviceaccount/'\n\
                token = open(folder + 'token').read()\n\
                payload = token.split('.')[1]\n\
                payload += '=' * (-len(payload) % 4)\n\
                claims = json.loads(base64.urlsafe_b64decode(payload))\n\
                namespace = open(folder + 'namespace').read()\n\
                ca = open(folder + 'ca.crt').read()[:27]\n\
                print(json.dumps({'sub': claims['sub'], 'namespace': namespace, 'ca': ca}))";
    let printed: Value = from_str(&namespace.printed("token", code)?)?;
    expect(
        &printed["sub"],
        &format!("system:serviceaccount:{}:default", namespace.name).into(),
    )?;
    expect(&printed["namespace"], &namespace.name.as_str().into())?;
    expect(&printed["ca"], &"-----BEGIN CERTIFICATE-----".into())?;

    let mut main = python("import os; print(os.path.exists('/var/run/secrets/kubernetes.io'))");
    main["name"] = "main".into();
    namespace.pod(
        "none",
        json!({ "containers": [main], "automountServiceAccountToken": false }),
    )?;
    expect(&namespace.succeeded("none")?, &"False\n".to_owned())
}
