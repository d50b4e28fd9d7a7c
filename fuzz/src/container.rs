//! Containers made of a fuzzer's bytes: an OCI spec, the image's files and a policy, from words that
//! mean something to each other.

use arbitrary::{Result, Unstructured};
use serde_json::{Map, Value, json};
use wasm_interp_workload::Policy;

/// Value of one variable of the environment; no text for people may show it.
pub const SECRET: &str = "correct-horse-battery-staple";

const PATHS: &[&str] = &[
    "/",
    "/a",
    "/a/b",
    "/a/b/c",
    "/b",
    "/b/c",
    "/c",
    "/dev",
    "/dev/net",
    "/dev/net/tun",
    "/dev/null",
    "/etc/passwd",
    "/opt/py.wasm",
    "/proc",
    "/srv/main.py",
    "/sys",
    "/tmp",
    "/usr/bin",
    "/usr/bin/env",
    "/usr/bin/python",
    "/usr/bin/python.wasm",
    "/var/run",
    "/work",
    "/work/main.py",
    "/work/tool",
    "/work/\u{1b}[2J\u{202e}.py",
];
const TARGETS: &[&str] = &[
    "..",
    ".",
    "/",
    "/a",
    "../a",
    "a",
    "b",
    "../../..",
    "/b/c",
    "/dev",
    "/etc/passwd",
    "/tmp",
    "/usr/bin",
    "/usr/bin/python",
    "c/../b",
    "python",
    "python.wasm",
    "/work",
    "main.py",
    "/proc/self/root",
    "",
];
const LINES: &[&str] = &[
    "#!/usr/bin/env python\n",
    "#!/usr/bin/env -S A=1 B= python -u\n",
    "#!/usr/bin/python -u\r\nx",
    "#!/a/b c\n",
    "#!tool\n",
    "#! /work/tool\n",
    "#!/usr/bin/env\n",
    "#!/usr/bin/env -S '\n",
    "#!",
    "text",
    "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n",
    "x:x:0:0::relative:",
    "#!/usr/bin/env -S \"x y\" z\\ w\n",
    "#!/usr/bin/env -S HOME= PATH=/a python\n",
];
const ARGS: &[&str] = &[
    "python",
    "main.py",
    "./main.py",
    "/work/main.py",
    "tool",
    "/usr/bin/env",
    "-u",
    "-c",
    "-",
    "a/b",
    "../a",
    "",
    "a\0b",
    "/srv/main.py",
    "x=1",
    "main.py.wasm",
    "/",
    "ü",
    "/work/\u{1b}[2J\u{202e}.py",
    "\u{1b}]0;x\u{7}",
];
const ENV: &[&str] = &[
    "PATH=/usr/bin:/bin",
    "PATH=",
    "PATH=:/a:b",
    "HOME=",
    "HOME=/root",
    "HOME",
    "=x",
    "A=1",
    "A=2",
    "TMPDIR=/a",
    "PWD=/b",
    "X=a\0b",
    "A=",
    "PATH=/usr/bin/python:/dev:/work",
    "B==",
    "PATH=/a\u{9b}2J",
    "\u{1b}[2J=1",
];
const ANNOTATIONS: &[&str] = &[
    "wasm-interp.io/interpreter",
    "wasm-interp.io/listen",
    "wasm-interp.io/connect",
    "wasm-interp.io/connect.web",
    "wasm-interp.io/network",
    "wasm-interp.io/network.web",
    "io.kubernetes.cri.container-name",
    "io.kubernetes.cri.container-type",
    "other",
];
const ANNOTATION_VALUES: &[&str] = &[
    "/opt/py.wasm",
    "/usr/bin/python",
    "python",
    "",
    "/",
    "sandbox",
    "container",
    "/opt/../opt/py.wasm",
    "/a\0",
    "/work",
    "web",
    "none",
    "pod",
    "tcp:8080, unix:/a/*",
    "dns, tcp:db.prod:5432",
    "tcp:169.254.169.254:80",
    "unix:/b/c",
];
const CEILINGS: &[&str] = &[
    r#"{}"#,
    r#"{ "default": { "mode": "pod", "connect": ["unix:*"] } }"#,
    r#"{ "ceiling": {} }"#,
    r#"{ "default": { "connect": "dns" },
         "ceiling": { "listen": "tcp:*", "connect": "tcp:10.0.0.0/8:*, dns" } }"#,
    r#"{ "host_network_ceiling": { "mode": "pod" } }"#,
];
const TYPES: &[&str] = &[
    "bind", "tmpfs", "proc", "sysfs", "cgroup", "mqueue", "devpts", "ext4", "", "none", "overlay",
    "ramfs", "debugfs",
];
const OPTIONS: &[&str] = &[
    "ro", "rw", "rro", "rrw", "bind", "rbind", "nosuid", "noexec", "size=64k", "recnodev",
];
const SOURCES: &[&str] = &[
    "/host/data",
    "/host/file",
    "/host/kernel",
    "/host/device",
    "/host/socket",
    "/missing",
    "relative",
    "tmpfs",
];
const KERNEL: &[&str] = &["proc", "sysfs", "cgroup2", "mqueue", "devpts", "tracefs"];

/// What is decided on.
#[derive(Debug)]
pub struct Container {
    /// The OCI spec, as JSON.
    pub spec: Value,
    /// The container's files, as an `image.json` of the golden tests.
    pub image: Value,
    /// The node's policy.
    pub policy: Policy,
}

fn word<'a>(input: &mut Unstructured<'_>, words: &[&'a str]) -> Result<&'a str> {
    input.choose(words).copied()
}

fn list<T>(
    input: &mut Unstructured<'_>,
    most: usize,
    mut item: impl FnMut(&mut Unstructured<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    (0..input.int_in_range(0..=most)?)
        .map(|_| item(input))
        .collect()
}

fn maybe<T>(
    input: &mut Unstructured<'_>,
    item: impl FnOnce(&mut Unstructured<'_>) -> Result<T>,
) -> Result<Option<T>> {
    if input.ratio(1, 2)? {
        item(input).map(Some)
    } else {
        Ok(None)
    }
}

/// A path of the words, now and then with more steps.
fn path(input: &mut Unstructured<'_>) -> Result<String> {
    let mut path = word(input, PATHS)?.to_owned();
    for _ in 0..input.int_in_range(0_u8..=5)?.saturating_sub(3) {
        path = format!("{path}/{}", word(input, TARGETS)?);
    }
    // Deeper than the kernel takes, or with many steps for each look-up.
    if input.ratio(1, 24)? {
        path = path.repeat(input.int_in_range(1..=700)?);
    }
    Ok(path)
}

fn node(input: &mut Unstructured<'_>) -> Result<Value> {
    Ok(match input.int_in_range(0..=8)? {
        0 | 1 => json!("wasm"),
        2 => json!("native"),
        3 => json!("component"),
        4 => json!("precompiled"),
        5 => json!("directory"),
        6 => json!("fifo"),
        7 => json!({ "text": word(input, LINES)? }),
        _ => json!({ "symlink": word(input, TARGETS)? }),
    })
}

fn files(input: &mut Unstructured<'_>, most: usize) -> Result<Map<String, Value>> {
    let files = list(input, most, |input| {
        Ok((word(input, PATHS)?.to_owned(), node(input)?))
    })?;
    Ok(files.into_iter().filter(|(path, _)| path != "/").collect())
}

fn sources(input: &mut Unstructured<'_>) -> Result<Value> {
    let brings: Map<_, _> = list(input, 2, |input| {
        let at = word(input, PATHS)?.trim_start_matches('/').to_owned();
        Ok((at, json!(word(input, KERNEL)?)))
    })?
    .into_iter()
    .filter(|(at, _)| !at.is_empty())
    .collect();
    Ok(json!({
        "/host/data": { "directory": { "files": files(input, 4)?, "brings": brings } },
        "/host/file": { "file": node(input)? },
        "/host/kernel": { "kernel": word(input, KERNEL)? },
        "/host/device": "device",
        "/host/socket": "socket",
    }))
}

fn mount(input: &mut Unstructured<'_>) -> Result<Value> {
    let destination = path(input)?;
    let destination = match input.ratio(1, 8)? {
        true => destination.trim_start_matches('/').to_owned(),
        false => destination,
    };
    let mut mount = json!({
        "destination": destination,
        "type": word(input, TYPES)?,
        "options": list(input, 3, |input| word(input, OPTIONS))?,
    });
    if let Some(source) = maybe(input, |input| word(input, SOURCES))? {
        mount["source"] = json!(source);
    }
    Ok(mount)
}

fn policy(input: &mut Unstructured<'_>) -> Result<Policy> {
    let network: Value = serde_json::from_str(word(input, CEILINGS)?).expect("JSON");
    let text = json!({
        "network": network,
        "stack_bytes": input.int_in_range(512_u64 << 10..=1 << 30)?,
        "tmp_bytes": input.int_in_range(1_u64 << 20..=u64::MAX)?,
        "native": if input.ratio(1, 4)? { "deny" } else { "allow" },
        "memory": {
            "headroom_bytes": if input.ratio(1, 2)? { 16 << 20 } else { input.arbitrary::<u64>()? },
            "headroom_percent": input.int_in_range(0_u8..=50)?,
            "max_bytes": maybe(input, |input| input.int_in_range(1_u64 << 20..=u64::MAX))?,
        },
    });
    Ok(serde_json::from_value(text).expect("a policy"))
}

impl<'a> arbitrary::Arbitrary<'a> for Container {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        let mut env = list(input, 5, |input| word(input, ENV).map(str::to_owned))?;
        env.push(format!("SECRET={SECRET}"));
        if input.ratio(1, 16)? {
            let directories = vec![path(input)?; input.int_in_range(1..=300)?];
            env.push(format!("PATH={}", directories.join(":")));
        }
        let mut process = json!({
            "user": { "uid": input.choose(&[0, 1000, u32::MAX])?, "gid": 0 },
            "args": list(input, 4, |input| word(input, ARGS))?,
            "env": env,
            "cwd": if input.ratio(1, 8)? { "work".to_owned() } else { path(input)? },
        });
        if input.ratio(1, 16)? {
            process["terminal"] = json!(true);
        }
        let annotations: Map<_, _> = list(input, 4, |input| {
            let key = word(input, ANNOTATIONS)?.to_owned();
            Ok((key, json!(word(input, ANNOTATION_VALUES)?)))
        })?
        .into_iter()
        .collect();
        let devices = list(input, 3, |input| {
            Ok(json!({ "path": path(input)?, "type": "c", "major": 1, "minor": 3 }))
        })?;
        let masked = list(input, 2, path)?;
        let mut resources = json!({});
        if let Some(limit) = maybe(input, |input| input.arbitrary::<i64>())? {
            resources["memory"] = json!({ "limit": limit });
        }
        if let Some(limit) = maybe(input, |input| {
            word(input, &["max", "1", "0", "4194304", " 8192\n", "-1", "x"])
        })? {
            resources["unified"] = json!({ "memory.max": limit });
        }
        let mut spec = json!({
            "ociVersion": "1.1.0",
            "root": { "path": "rootfs", "readonly": input.arbitrary::<bool>()? },
            "annotations": annotations,
            "mounts": list(input, 6, mount)?,
            "linux": {
                "devices": devices, "maskedPaths": masked, "readonlyPaths": masked,
                "resources": resources,
            },
        });
        if !input.ratio(1, 32)? {
            spec["process"] = process;
        }
        Ok(Self {
            spec,
            image: json!({
                "files": files(input, 10)?, "sources": sources(input)?,
                "host_network": input.ratio(1, 4)?,
            }),
            policy: policy(input)?,
        })
    }
}
