//! `wasm-interp inspect`, the help and errors on the command line, as users and scripts see them.
// For clippy: .clippy.toml allows more in tests.
#![cfg(test)]

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

/// A root filesystem with a Python that `inspect` finds.
fn rootfs() -> TempDir {
    rootfs_with(r#"(module (func (export "_start")))"#)
}

/// A root filesystem with a Python of that text.
fn rootfs_with(python: &str) -> TempDir {
    let rootfs = tempfile::tempdir().unwrap();
    for directory in ["usr/bin", "app", "tmp"] {
        fs::create_dir_all(rootfs.path().join(directory)).unwrap();
    }
    fs::write(
        rootfs.path().join("usr/bin/python.wasm"),
        wat::parse_str(python).unwrap(),
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
fn missing_plan_exits_with_1() {
    let rootfs = rootfs();
    let args = ["inspect", text(rootfs.path()), "--", "ruby"];
    let output = wasm_interp(&args);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output)
            .starts_with("wasm-interp: exec: \"ruby\": executable file not found in $PATH"),
        "{}",
        stderr(&output)
    );

    let output = wasm_interp(&["inspect", "--json", text(rootfs.path()), "--", "ruby"]);
    assert_eq!(output.status.code(), Some(1));
    let error: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(error["error"]["kind"], "not-found");
}

#[test]
fn module_that_create_refuses_is_refused_in_the_same_words() {
    let imports = r#"(import "env" "fork" (func))
        (import "wasm_interp_posix_v1" "umask" (func (param i64)))"#;
    for module in [
        format!(r#"(module {imports} (func (export "_start")))"#),
        r#"(module (func (export "_initialize")))"#.to_owned(),
        r#"(module (memory 1 1 shared) (func (export "_start")))"#.to_owned(),
        component(r#"(import "wasi:cli/environment@0.2.99" (instance (export "f" (func))))"#),
        component(
            r#"(import "wasi:clocks/monotonic-clock@0.2.0" (instance
                (export "now" (func (result string)))
                (export "resolution" (func (result s64)))))"#,
        ),
        component("").replace(r#"(export "run" (func $run))"#, ""),
        "(component)".to_owned(),
    ] {
        let created = wasm_interp_compiler::compile(&wat::parse_str(&module).unwrap());
        let reason = created.unwrap_err().to_string();
        let error = format!("cannot compile /usr/bin/python.wasm: {reason}");
        let rootfs = rootfs_with(&module);
        let output = wasm_interp(&["inspect", text(rootfs.path()), "--", "/app/main.py"]);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(stderr(&output), format!("wasm-interp: {error}\n"));
        let args = ["inspect", "--json", text(rootfs.path()), "--", "python"];
        let answer: Value = serde_json::from_slice(&wasm_interp(&args).stdout).unwrap();
        assert_eq!(answer["error"]["kind"], "invalid-argument");
        assert_eq!(answer["error"]["message"], error);
    }
}

/// A command of WASI 0.2 with these imports.
fn component(imports: &str) -> String {
    format!(
        r#"(component {imports}
            (core module $main (func (export "run") (result i32) (i32.const 0)))
            (core instance $main (instantiate $main))
            (func $run (result (result)) (canon lift (core func $main "run")))
            (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))"#
    )
}

#[test]
fn a_component_is_explained() {
    let rootfs = rootfs_with(&component(
        r#"(import "wasi:cli/environment@0.2.12" (instance))"#,
    ));
    let output = wasm_interp(&["inspect", text(rootfs.path()), "--", "/app/main.py"]);
    let explained = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for line in [
        "runs         /usr/bin/python.wasm",
        "as           a component: a command of WASI 0.2",
        "arguments    python /app/main.py",
    ] {
        assert!(explained.contains(line), "{explained}");
    }
    let args = ["inspect", "--json", text(rootfs.path()), "--", "python"];
    let answer: Value = serde_json::from_slice(&wasm_interp(&args).stdout).unwrap();
    assert_eq!(answer["kind"], "component", "{answer}");
}

#[test]
fn module_above_the_policys_size_is_refused() {
    let rootfs = rootfs();
    let policy = rootfs.path().join("policy.json");
    fs::write(&policy, r#"{ "cache": { "max_module_bytes": "1Mi" } }"#).unwrap();
    let python = fs::File::options()
        .write(true)
        .open(rootfs.path().join("usr/bin/python.wasm"))
        .unwrap();
    python.set_len((1 << 20) + 1).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_wasm-interp"))
        .args(["inspect", text(rootfs.path()), "--", "python"])
        .env("WASM_INTERP_POLICY", &policy)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = stderr(&output);
    assert!(
        error.contains("the node compiles modules of up to 1 MiB"),
        "{error}"
    );
}

#[test]
fn mistakes_on_the_command_line_say_the_way_out() {
    let rootfs = rootfs();
    let target = text(rootfs.path());
    for (args, way_out) in [
        (&["inspect", target][..], "-- python main.py"),
        (
            &["inspect", "/nonexistent"],
            "name an OCI archive or layout, a root filesystem or a bundle",
        ),
        (
            &["inspect", "--memory", "lots", target, "--", "python"],
            "one with a unit: 64M",
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
fn words_after_the_target_are_the_program_and_its_own_options() {
    let rootfs = rootfs();
    let target = text(rootfs.path());
    let script = ["/app/main.py", "--memory", "1M", "--", "-x"];
    for before in [
        &["inspect", "--json", "--memory", "128M", target][..],
        &["inspect", "--json", target, "--memory", "128M"],
        &["inspect", "--json", "--memory", "128M", target, "--"],
    ] {
        let output = wasm_interp(&[before, &script].concat());
        assert!(output.status.success(), "{before:?}: {}", stderr(&output));
        let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
        let expected = serde_json::json!(["python", "/app/main.py", "--memory", "1M", "--", "-x"]);
        assert_eq!(plan["argv"], expected, "{before:?}");
        assert_eq!(plan["limits"]["memory_bytes"], 112 << 20, "{before:?}");
    }
    // An option of neither: it is no argument of the image's program, as under docker.
    let output = wasm_interp(&["run", target, "-V"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("'-- -V'"), "{}", stderr(&output));
}

#[test]
fn contradicting_options_are_named_and_nothing_is_done() {
    for command in [
        &["run", "/nonexistent"][..],
        &["inspect", "/nonexistent"],
        &["policy", "check"],
    ] {
        let options = ["--network", "none", "--listen", "tcp:1"];
        let output = wasm_interp(&[command, &options].concat());
        assert_eq!(output.status.code(), Some(2), "{command:?}");
        let expected = "error: cannot use --network none: it contradicts --listen tcp:1, which \
                        grants a part of the network; remove one of them\n";
        assert_eq!(stderr(&output), expected);
    }
}

#[test]
fn webassembly_as_the_target_is_told_how_it_is_run() {
    let rootfs = rootfs();
    let directory = rootfs.path().canonicalize().unwrap().join("usr/bin");
    let program = directory.join("python.wasm");
    let output = wasm_interp(&["inspect", text(&program)]);
    assert_eq!(output.status.code(), Some(1));
    let instead = format!(" {} -- /python.wasm\n", directory.display());
    assert!(stderr(&output).ends_with(&instead), "{}", stderr(&output));
    let output = wasm_interp(&["inspect", text(&directory), "--", "/python.wasm"]);
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn pod_sandbox_is_reported_as_sandbox() {
    let bundle = tempfile::tempdir().unwrap();
    let config = r#"{ "ociVersion": "1.1.0", "root": { "path": "rootfs" },
        "process": { "user": { "uid": 0, "gid": 0 }, "args": ["/pause"], "cwd": "/" },
        "annotations": { "io.kubernetes.cri.container-type": "sandbox" } }"#;
    fs::write(bundle.path().join("config.json"), config).unwrap();
    fs::create_dir(bundle.path().join("rootfs")).unwrap();
    let output = wasm_interp(&["inspect", text(bundle.path())]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("pod sandbox"));
    let output = wasm_interp(&["inspect", "--json", text(bundle.path())]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer, serde_json::json!({ "sandbox": true }));
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
fn every_help_has_examples() {
    for args in [&["--help"][..], &["run", "--help"], &["inspect", "--help"]] {
        let output = wasm_interp(args);
        assert!(output.status.success());
        assert!(stdout(&output).contains("Examples:"), "{args:?}");
    }
}

#[test]
fn policy_check_says_what_annotations_get() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.json");
    fs::write(
        &file,
        r#"{"network": {"default": {"connect": "dns"},
                        "ceiling": {"listen": "tcp:8000-9000", "connect": "dns"}}}"#,
    )
    .unwrap();
    let check = |options: &[&str]| {
        let mut args = vec!["policy", "check"];
        args.extend_from_slice(options);
        args.push(text(&file));
        wasm_interp(&args)
    };

    let whole = check(&[]);
    assert!(whole.status.success(), "{}", stderr(&whole));
    for part in [
        "native programs run as under any other runtime\n",
        "network without annotations\n  connect  dns\n",
        "at most\n  listen   tcp:8000-9000\n  connect  dns\n",
        "network with hostNetwork, at most\n  none  nothing\n",
    ] {
        assert!(stdout(&whole).contains(part), "{}", stdout(&whole));
    }

    let granted = check(&["--listen", "tcp:8080"]);
    assert!(granted.status.success(), "{}", stderr(&granted));
    let part = "network\n  listen   tcp:8080\n  connect  dns\n";
    assert!(stdout(&granted).contains(part), "{}", stdout(&granted));

    let host = check(&["--host-network", "--network", "none"]);
    assert!(stdout(&host).contains("no network"), "{}", stdout(&host));

    for (options, part) in [
        (
            &["--network", "pod"][..],
            "cannot grant \"pod\" of annotation wasm-interp.io/network: this node's policy allows \
             none",
        ),
        (
            &["--host-network", "--listen", "tcp:8080"],
            "add it to network.host_network_ceiling.listen in policy.json",
        ),
        (
            &["--connect", "tcp:db.prod"],
            "rule \"tcp:db.prod\" names no port; write tcp:db.prod:443",
        ),
    ] {
        let refused = check(options);
        assert!(!refused.status.success(), "{options:?}");
        assert!(stderr(&refused).contains(part), "{}", stderr(&refused));
    }

    let metadata = wasm_interp(&["policy", "check", "--connect", "tcp:169.254.169.254:80"]);
    assert_eq!(metadata.status.code(), Some(1));
    let part = "this node's policy allows the pod's network (of which metadata addresses are never \
                a part), unix:*; ask for less, or have the node's administrator add it to \
                network.ceiling.connect";
    assert!(stderr(&metadata).contains(part), "{}", stderr(&metadata));

    let missing = wasm_interp(&["policy", "check", "/nonexistent/policy.json"]);
    assert!(
        stderr(&missing).contains("cannot find policy"),
        "{}",
        stderr(&missing)
    );
}

#[test]
fn inspect_shows_what_a_guest_may_reach_of_the_network() {
    let rootfs = rootfs();
    let output = wasm_interp(&[
        "inspect",
        "--listen",
        "tcp:8080",
        "--listen",
        "udp:53",
        "--connect",
        "tcp:localhost:5432",
        text(rootfs.path()),
        "--",
        "/app/main.py",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let part = "network\n  listen   tcp:8080, udp:53\n  connect  tcp:localhost:5432\n\
                nothing else of the node, no other process\n";
    assert!(stdout(&output).contains(part), "{}", stdout(&output));

    let output = wasm_interp(&["inspect", text(rootfs.path()), "--", "/app/main.py"]);
    assert!(
        stdout(&output).contains("no network"),
        "{}",
        stdout(&output)
    );
}

/// The terminal of an administrator follows what it is shown.
#[test]
fn names_of_an_image_do_not_act_on_the_terminal() {
    let rootfs = rootfs();
    let odd = "a\u{1b}]0;x\u{7}\u{9b}2J\u{202e}.py";
    let script = rootfs.path().join("app").join(odd);
    fs::write(&script, "#!/usr/bin/env -S N=\u{1b}[2J python\n").unwrap();
    let inside = format!("/app/{odd}");
    for options in [&["inspect"][..], &["inspect", "--json"]] {
        for (path, found) in [(&inside, true), (&inside.replace(".py", ".no"), false)] {
            let output = wasm_interp(&[options, &[text(rootfs.path()), "--", path]].concat());
            assert_eq!(output.status.success(), found, "{}", stderr(&output));
            for shown in [stdout(&output), stderr(&output)] {
                let acts = |c: &char| *c != '\n' && (c.is_control() || *c == '\u{202e}');
                assert_eq!(shown.chars().find(acts), None, "{shown:?}");
            }
            if found && options.len() == 2 {
                let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
                assert_eq!(plan["argv"][1], inside.as_str());
            }
        }
    }
}
