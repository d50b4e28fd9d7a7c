//! That a pod runs its program: what it prints, how it ends, how it is started again.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::serde_json::json;

use crate::command::wait_for;
use crate::guests::{HELLO, PYTHON};
use crate::images::CONFIGURED;
use crate::settings;
use crate::world::{TestCluster, exit_code, python, restarts, status};
use crate::{Outcome, expect};

pub(super) fn a_script_of_an_image_runs(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    namespace.pod(
        "hello",
        json!({ "containers": [{
            "name": "main", "image": HELLO, "imagePullPolicy": "Never",
            "args": ["--exit", "3", "some", "words"],
            "env": [{ "name": "WHO", "value": "kubernetes" }],
        }]}),
    )?;
    expect(&namespace.ended("hello")?, &"Failed".to_owned())?;
    namespace
        .kubectl(&["logs", "hello"])?
        .expect_code(0)?
        .expect_stdout("hello kubernetes, from Python 3.13")?
        .expect_stdout(r#"words: ["some", "words"]"#)?;
    expect(&exit_code(&namespace.get("hello")?), &Some(3))
}

pub(super) fn a_script_of_a_config_map_runs(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    let script = "import sys\nprint('from a config map:', *sys.argv[1:])\n";
    namespace.create::<ConfigMap>(json!({
        "metadata": { "name": "script" }, "data": { "main.py": script },
    }))?;
    namespace.pod(
        "script",
        json!({
            "containers": [{
                "name": "main", "image": PYTHON, "imagePullPolicy": "Never",
                "command": ["python", "/app/main.py", "one", "two"],
                "volumeMounts": [{ "name": "script", "mountPath": "/app" }],
            }],
            "volumes": [{ "name": "script", "configMap": { "name": "script" } }],
        }),
    )?;
    expect(
        &namespace.succeeded("script")?,
        &"from a config map: one two\n".to_owned(),
    )
}

pub(super) fn the_image_config_applies(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    let container = |extra: k8s_openapi::serde_json::Value| {
        let mut container =
            json!({ "name": "main", "image": CONFIGURED, "imagePullPolicy": "Never" });
        if let (Some(fields), Some(more)) = (container.as_object_mut(), extra.as_object()) {
            fields.extend(more.clone());
        }
        json!({ "containers": [container] })
    };
    namespace.pod("as-it-is", container(json!({})))?;
    namespace.pod(
        "overruled",
        container(
            json!({ "args": ["words", "of", "the", "pod"], "workingDir": "/tmp",
            "command": ["python", "/app/show.py"] }),
        ),
    )?;
    expect(
        &namespace.succeeded("as-it-is")?,
        &r#"{"cwd": "/app", "arguments": ["words", "of", "the", "image"], "variable": "yes"}
"#
        .to_owned(),
    )?;
    expect(
        &namespace.succeeded("overruled")?,
        &r#"{"cwd": "/tmp", "arguments": ["words", "of", "the", "pod"], "variable": "yes"}
"#
        .to_owned(),
    )
}

pub(super) fn exit_codes_come_through(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    for code in [0, 1, 42, 130, 255] {
        let name = format!("code-{code}");
        namespace.python(&name, &format!("import sys; sys.exit({code})"))?;
    }
    for code in [0, 1, 42, 130, 255] {
        let name = format!("code-{code}");
        namespace.ended(&name)?;
        expect(&exit_code(&namespace.get(&name)?), &Some(code))?;
    }
    Ok(())
}

pub(super) fn restart_policies_hold(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    let pod = |policy: &str, code: i32| {
        let code = format!("import sys; print('run'); sys.exit({code})");
        json!({ "restartPolicy": policy, "containers": [python(&code)] })
    };
    namespace.pod("never", pod("Never", 1))?;
    namespace.pod("on-failure-of-a-success", pod("OnFailure", 0))?;
    namespace.pod("on-failure", pod("OnFailure", 1))?;
    namespace.pod("always", pod("Always", 0))?;
    expect(&namespace.ended("never")?, &"Failed".to_owned())?;
    expect(
        &namespace.ended("on-failure-of-a-success")?,
        &"Succeeded".to_owned(),
    )?;
    for name in ["on-failure", "always"] {
        namespace.until(name, "be started again, later each time", |pod| {
            let waiting = status(pod, 0)?.state.as_ref()?.waiting.as_ref()?;
            (restarts(pod) >= 2 && waiting.reason.as_deref() == Some("CrashLoopBackOff"))
                .then_some(())
        })?;
    }
    expect(&restarts(&namespace.get("never")?), &0)?;
    expect(&restarts(&namespace.get("on-failure-of-a-success")?), &0)
}

pub(super) fn init_containers_run_in_order(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    let step = |name: &str, code: &str| {
        let mut container = python(code);
        container["name"] = name.into();
        container["volumeMounts"] = json!([{ "name": "shared", "mountPath": "/shared" }]);
        container
    };
    let append = |word: &str| format!("open('/shared/steps', 'a').write('{word} ')");
    namespace.pod(
        "steps",
        json!({
            "initContainers": [step("one", &append("one")), step("two", &append("two"))],
            "containers": [step("main", "print(open('/shared/steps').read())")],
            "volumes": [{ "name": "shared", "emptyDir": {} }],
        }),
    )?;
    expect(&namespace.succeeded("steps")?, &"one two \n".to_owned())?;

    namespace.pod(
        "stopped",
        json!({
            "initContainers": [step("fails", "raise SystemExit(5)")],
            "containers": [step("main", "print('must not run')")],
            "volumes": [{ "name": "shared", "emptyDir": {} }],
        }),
    )?;
    expect(&namespace.ended("stopped")?, &"Failed".to_owned())?;
    let started = status(&namespace.get("stopped")?, 0)
        .and_then(|status| status.started)
        .unwrap_or_default();
    expect(&started, &false)
}

pub(super) fn a_job_of_many_completes(world: &TestCluster) -> Outcome {
    let completions = settings::completions()?;
    let namespace = world.namespace(None)?;
    let mut container = python("import os; print(os.environ['JOB_COMPLETION_INDEX'])");
    container["name"] = "main".into();
    namespace.create::<Job>(json!({
        "metadata": { "name": "many" },
        "spec": {
            "completions": completions, "parallelism": 20,
            "completionMode": "Indexed", "backoffLimit": 0,
            "template": { "spec": {
                "runtimeClassName": "wasm-interp", "restartPolicy": "Never",
                "containers": [container],
            }},
        },
    }))?;
    // Moves on as long as completions are added.
    let mut last = 0;
    while last < completions {
        last = wait_for("the next completion of the job", || {
            let job = namespace.kubectl(&[
                "get",
                "job",
                "many",
                "-o=jsonpath={.status.succeeded}/{.status.failed}",
            ])?;
            let (succeeded, failed) = job.stdout.split_once('/').unwrap_or_default();
            if !failed.is_empty() {
                return Err(format!("{failed} of the job's pods failed").into());
            }
            let now = succeeded.parse().unwrap_or(0);
            Ok((now > last).then_some(now))
        })?;
    }
    let mut indices: Vec<u32> = Vec::new();
    for pod in namespace.pods("job-name=many")? {
        let name = pod.metadata.name.unwrap_or_default();
        indices.push(namespace.logs(&name)?.trim().parse()?);
    }
    indices.sort_unstable();
    expect(&indices, &(0..completions).collect())
}
