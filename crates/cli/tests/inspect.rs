//! `wasm-interp inspect` and what surrounds it, as a person or a script sees them.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn wasm_interp(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wasm-interp"))
        .args(args)
        .env("WASM_INTERP_POLICY", "/nonexistent/policy.json")
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A root filesystem with a Python that is enough to be found.
fn rootfs() -> TempDir {
    let rootfs = tempfile::tempdir().unwrap();
    for directory in ["usr/bin", "app", "tmp"] {
        fs::create_dir_all(rootfs.path().join(directory)).unwrap();
    }
    fs::write(
        rootfs.path().join("usr/bin/python.wasm"),
        b"\0asm\x01\0\0\0",
    )
    .unwrap();
    fs::write(rootfs.path().join("app/main.py"), "#!/usr/bin/env python\n").unwrap();
    rootfs
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_root_filesystem_is_explained() {
    let rootfs = rootfs();
    let output = wasm_interp(&[
        "inspect",
        "--mount",
        "type=tmpfs,dst=/data,ro",
        "--memory",
        "128M",
        "--env",
        "TOKEN=secret",
        text(rootfs.path()),
        "--",
        "/app/main.py",
        "--fast",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    for part in [
        "/usr/bin/python.wasm",
        "script /app/main.py begins with #!/usr/bin/env python",
        "python /app/main.py --fast",
        "/data     read-only",
        "112 MiB",
        "TOKEN",
    ] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    assert!(
        !text.contains("secret"),
        "values of the environment stay out of it:\n{text}"
    );
}

#[test]
fn a_bundle_is_its_own_and_json_is_the_plan() {
    let rootfs = rootfs();
    let bundle = tempfile::tempdir().unwrap();
    let config = serde_json::json!({
        "ociVersion": "1.1.0",
        "root": { "path": rootfs.path() },
        "process": { "user": { "uid": 0, "gid": 0 }, "args": ["python", "main.py"], "cwd": "/app",
                     "env": ["PATH=/usr/bin"] },
    });
    fs::write(bundle.path().join("config.json"), config.to_string()).unwrap();
    let output = wasm_interp(&["inspect", "--json", text(bundle.path())]);
    assert!(output.status.success(), "{}", stderr(&output));
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(plan["interpreter"]["path"], "/usr/bin/python.wasm");
    assert_eq!(plan["interpreter"]["found"]["by"], "search-path");
    assert_eq!(plan["cwd"], "/app");
    assert_eq!(
        fs::read_dir(bundle.path()).unwrap().count(),
        1,
        "nothing is left in the bundle"
    );
}

#[test]
fn no_plan_is_an_answer_with_code_1() {
    let rootfs = rootfs();
    let args = ["inspect", text(rootfs.path()), "--", "ruby"];
    let output = wasm_interp(&args);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).starts_with("exec: \"ruby\": executable file not found in $PATH"),
        "{}",
        stderr(&output)
    );

    let output = wasm_interp(&["inspect", "--json", text(rootfs.path()), "--", "ruby"]);
    assert_eq!(output.status.code(), Some(1));
    let error: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(error["error"]["kind"], "not-found");
}

#[test]
fn mistakes_on_the_command_line_say_the_way_out() {
    let rootfs = rootfs();
    let target = text(rootfs.path());
    for (args, way_out) in [
        (&["inspect", target][..], "-- python main.py"),
        (
            &["inspect", "/nonexistent"],
            "name a root filesystem or a bundle",
        ),
        (
            &["inspect", "--memory", "lots", target, "--", "python"],
            "use K, M or G",
        ),
        (
            &["inspect", "--mount", "src=/x", target, "--", "python"],
            "add dst=",
        ),
        (
            &[
                "inspect",
                "--mount",
                "src=/nonexistent,dst=/x",
                target,
                "--",
                "python",
            ],
            "correct the mount",
        ),
    ] {
        let output = wasm_interp(args);
        assert!(!output.status.success());
        assert!(
            stderr(&output).contains(way_out),
            "{args:?}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn the_pod_sandbox_is_told_apart() {
    let bundle = tempfile::tempdir().unwrap();
    let config = r#"{ "ociVersion": "1.1.0", "root": { "path": "rootfs" },
        "process": { "user": { "uid": 0, "gid": 0 }, "args": ["/pause"], "cwd": "/" },
        "annotations": { "io.kubernetes.cri.container-type": "sandbox" } }"#;
    fs::write(bundle.path().join("config.json"), config).unwrap();
    let output = wasm_interp(&["inspect", text(bundle.path())]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("pod sandbox"));
}

#[test]
fn completions_know_the_subcommands() {
    for shell in ["bash", "zsh", "fish"] {
        let output = wasm_interp(&["completions", shell]);
        assert!(output.status.success());
        for subcommand in ["run", "inspect", "completions"] {
            assert!(
                stdout(&output).contains(subcommand),
                "{shell}: {subcommand}"
            );
        }
    }
}

#[test]
fn help_teaches_by_example() {
    for args in [&["--help"][..], &["run", "--help"], &["inspect", "--help"]] {
        let output = wasm_interp(args);
        assert!(output.status.success());
        assert!(stdout(&output).contains("Examples:"), "{args:?}");
    }
}
