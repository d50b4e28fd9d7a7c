//! `kubectl logs`, in every way that people use it.

use k8s_openapi::serde_json::json;

use crate::command::wait_for;
use crate::world::{TestCluster, python, restarts};
use crate::{Outcome, expect};

pub(super) fn both_streams_are_kept_in_order(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    let printed = namespace.printed(
        "streams",
        "import sys\nfor n in range(3): print('out', n); print('err', n, file=sys.stderr)",
    )?;
    for stream in ["out", "err"] {
        let lines: Vec<&str> = printed
            .lines()
            .filter(|line| line.starts_with(stream))
            .collect();
        let wanted: Vec<String> = (0..3).map(|n| format!("{stream} {n}")).collect();
        expect(&lines.join(","), &wanted.join(","))?;
    }
    Ok(())
}

pub(super) fn timestamps_are_those_of_the_lines(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    namespace.printed("stamped", "print('a line')")?;
    let stamped = namespace
        .kubectl(&["logs", "--timestamps", "stamped"])?
        .expect_code(0)?
        .stdout;
    let (stamp, line) = stamped.split_once(' ').unwrap_or_default();
    expect(&line, &"a line\n")?;
    let looks_like_one = stamp.starts_with("20") && stamp.ends_with('Z') && stamp.contains('T');
    expect(&looks_like_one, &true).map_err(|_| format!("no timestamp in {stamped:?}").into())
}

pub(super) fn following_ends_with_the_pod(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    // Waits for a file, so that the follower is there before the second line is written.
    let code = "import os, time\n\
                print('first')\n\
                while not os.path.exists('/shared/go'): time.sleep(0.1)\n\
                print('second')";
    let mut main = python(code);
    let mut other = python("import time; time.sleep(1); open('/shared/go', 'w')");
    other["name"] = "other".into();
    for container in [&mut main, &mut other] {
        container["volumeMounts"] = json!([{ "name": "shared", "mountPath": "/shared" }]);
    }
    namespace.pod(
        "followed",
        json!({ "containers": [main, other], "volumes": [{ "name": "shared", "emptyDir": {} }] }),
    )?;
    namespace.until_started("followed", 0)?;
    let follower =
        namespace.kubectl_beside(&["logs", "--follow", "followed", "--container=main"])?;
    let printed = follower.finish()?.expect_code(0)?.stdout;
    expect(&printed, &"first\nsecond\n".to_owned())
}

pub(super) fn the_previous_run_can_be_read(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    // The first run leaves a file, by which the second knows that it is one.
    let code = "import os, sys, time\n\
                if os.path.exists('/shared/ran'): print('second run'); time.sleep(3600)\n\
                open('/shared/ran', 'w'); print('first run'); sys.exit(1)";
    let mut main = python(code);
    main["volumeMounts"] = json!([{ "name": "shared", "mountPath": "/shared" }]);
    namespace.pod(
        "twice",
        json!({
            "restartPolicy": "Always", "containers": [main],
            "volumes": [{ "name": "shared", "emptyDir": {} }],
        }),
    )?;
    namespace.until("twice", "be started again", |pod| {
        (restarts(pod) == 1).then_some(())
    })?;
    wait_for("the second run to print", || {
        Ok((namespace.logs("twice")? == "second run\n").then_some(()))
    })?;
    let previous = namespace
        .kubectl(&["logs", "--previous", "twice"])?
        .expect_code(0)?
        .stdout;
    expect(&previous, &"first run\n".to_owned())?;
    namespace.delete("twice")
}
