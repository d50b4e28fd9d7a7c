//! Specs, images and layouts that attack what reads them. Each gets a documented answer, nothing outside the
//! container changes, and the container beside it goes on.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::hostile::beside_a_neighbour;
use crate::Outcome;
use crate::command::Finished;
use crate::hostile::program;
use crate::image::Image;
use crate::world::{World, import};

/// The guest `paths`, which opens each path that it is given, and ends with 0.
const GUEST: &str = "/bin/guest.wasm";

/// A root file system, and a spec that runs its guest.
struct HostileBundle {
    folder: PathBuf,
    spec: Value,
}

impl HostileBundle {
    fn new(world: &World, program: &[u8]) -> Outcome<Self> {
        let folder = world.folder("bundle")?;
        let root = folder.join("rootfs");
        for sub in ["bin", "dev", "etc", "tmp"] {
            fs::create_dir_all(root.join(sub))?;
        }
        let guest = root.join("bin/guest.wasm");
        fs::write(&guest, program)?;
        fs::set_permissions(guest, fs::Permissions::from_mode(0o755))?;
        let tmpfs = json!({
            "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        });
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let spec = json!({
            "ociVersion": "1.1.0",
            "process": {
                "user": { "uid": 0, "gid": 0 }, "args": [GUEST], "env": ["PATH=/bin"], "cwd": "/",
                "noNewPrivileges": true,
            },
            "root": { "path": root },
            "mounts": [tmpfs],
            "linux": {
                "cgroupsPath": format!("/{}/{name}", world.name()),
                "namespaces": [
                    { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
                    { "type": "network" },
                ],
            },
        });
        Ok(Self { folder, spec })
    }

    fn root(&self) -> PathBuf {
        self.folder.join("rootfs")
    }

    /// Has its guest try to open these paths.
    fn opening(mut self, paths: &[&str]) -> Self {
        self.spec["process"]["args"] = json!([&[GUEST], paths].concat());
        self
    }

    fn run(&self, world: &World) -> Outcome<Finished> {
        let file = self.folder.join("spec.json");
        fs::write(&file, self.spec.to_string())?;
        world.container_of_spec(&file).run()
    }
}

/// Parts of a spec, each with the value that is refused and words of the error.
fn refused_parts() -> Vec<(&'static str, Value, &'static [&'static str])> {
    let bind_root = |destination: &str| {
        json!([{
            "destination": destination, "type": "bind", "source": "/", "options": ["rbind", "rw"],
        }])
    };
    let kill_all = json!({ "defaultAction": "SCMP_ACT_KILL_PROCESS", "syscalls": [] });
    vec![
        (
            "/process/args",
            json!(["/bin"]),
            &["\"/bin\"", "not a regular file"],
        ),
        (
            "/process/args",
            json!(["/etc/nothing"]),
            &["no such file or directory"],
        ),
        (
            "/process/args",
            json!([GUEST, "a\0b"]),
            &["it holds a NUL byte"],
        ),
        (
            "/process/env",
            json!(["PATH=/bin", "NAME"]),
            &["\"NAME\"", "NAME=value"],
        ),
        (
            "/process/cwd",
            json!("app"),
            &["\"app\"", "is not absolute"],
        ),
        (
            "/process/cwd",
            json!(GUEST),
            &["not a directory in the container"],
        ),
        (
            "/process/rlimits",
            json!([{ "type": "RLIMIT_EVERYTHING", "soft": 1, "hard": 1 }]),
            &["process.rlimits"],
        ),
        (
            "/process/rlimits",
            json!([{ "type": "RLIMIT_NOFILE", "soft": 9, "hard": 1 }]),
            &["RLIMIT_NOFILE", "above its hard limit"],
        ),
        (
            "/annotations",
            json!({ "wasm-interp.io/interpreter": "bin/guest.wasm" }),
            &["not an absolute path"],
        ),
        (
            "/annotations",
            json!({ "wasm-interp.io/interpreter": "/etc/nothing" }),
            &["not in the container"],
        ),
        ("/mounts", bind_root("/dev"), &["it is mounted on /dev"]),
        (
            "/mounts",
            bind_root("/etc/../dev"),
            &["it is mounted on /dev"],
        ),
        ("/mounts", bind_root("dev"), &["it is mounted on /dev"]),
        ("/mounts", bind_root("/to-dev"), &["it is mounted on /dev"]),
        (
            "/linux/cgroupsPath",
            json!("/../../system"),
            &["climbs out of the tree"],
        ),
        ("/linux/cgroupsPath", json!("/"), &["the root of the tree"]),
        (
            "/linux/namespaces",
            json!([{ "type": "pid" }, { "type": "pid" }, { "type": "mount" }]),
            &["\"pid\" is there twice"],
        ),
        (
            "/linux/namespaces",
            json!([{ "type": "mount" }, { "type": "network", "path": "/nonexistent" }]),
            &["network namespace \"/nonexistent\"", "create it before"],
        ),
        (
            "/linux/seccomp",
            kill_all,
            &["linux.seccomp", "allow it in the profile"],
        ),
        (
            "/linux/resources",
            json!({ "unified": { "memory.max": "lots" } }),
            &["neither a number of bytes nor max"],
        ),
    ]
}

pub(super) fn specs_are_refused_in_words(world: &World) -> Outcome {
    let program = program("paths")?;
    beside_a_neighbour(world, || {
        let mut wrong = Vec::new();
        for (part, value, words) in refused_parts() {
            let mut bundle = HostileBundle::new(world, &program)?;
            symlink("/dev", bundle.root().join("to-dev"))?;
            let (parent, name) = part.rsplit_once('/').ok_or("no pointer")?;
            let parent = bundle.spec.pointer_mut(parent).ok_or("no such part")?;
            parent[name] = value.clone();
            let finished = bundle.run(world)?;
            let says = |word: &&&str| finished.stderr.contains(**word);
            let missing: Vec<_> = words.iter().filter(|word| !says(word)).collect();
            if finished.code == 0 || !missing.is_empty() {
                wrong.push(format!(
                    "{part} = {value}: {missing:?} is not in {finished}"
                ));
            }
        }
        // The same without the harm runs.
        HostileBundle::new(world, &program)?
            .run(world)?
            .expect_code(0)?;
        if wrong.is_empty() {
            return Ok(());
        }
        Err(wrong.join("\n").into())
    })
}

pub(super) fn paths_of_a_spec_stay_in_the_container(world: &World) -> Outcome {
    let program = program("paths")?;
    let outside = world.folder("outside")?;
    let volume = world.folder("volume")?;
    fs::write(volume.join("file"), "of the volume")?;
    let climbing = format!("{}{}/made", "../".repeat(30), outside.display());
    beside_a_neighbour(world, || {
        let mut bundle = HostileBundle::new(world, &program)?;
        let root = bundle.root();
        // Where the mounts of the spec are to land: through links of the image that lead to the host.
        symlink(&outside, root.join("absolute"))?;
        symlink("../../../../../../..", root.join("up"))?;
        let bind = |destination: String| {
            json!({
                "destination": destination, "type": "bind", "source": volume,
                "options": ["rbind", "rw"],
            })
        };
        let mounts = bundle.spec["mounts"].as_array_mut().ok_or("no mounts")?;
        mounts.push(bind(climbing.clone()));
        mounts.push(bind(format!("{}inside", "../".repeat(30))));
        mounts.push(bind("/up/up/beside".to_owned()));
        mounts.push(bind("/absolute/made".to_owned()));
        mounts.push(bind(format!("/up{}/made-too", outside.display())));
        // A guest gets five devices and no other.
        let memory = |path: &str| json!({ "path": path, "type": "c", "major": 1, "minor": 1 });
        let up = format!("/up{}/memory", outside.display());
        bundle.spec["linux"]["devices"] = json!([memory("/dev/../etc/memory"), memory(&up)]);
        bundle.spec["linux"]["maskedPaths"] = json!([climbing, "/up/etc/passwd", "/absolute"]);
        bundle.spec["linux"]["readonlyPaths"] = json!(["../../../..", "/up"]);
        let paths = ["inside/file", "beside/file", "etc/memory", "dev/memory"];
        let finished = bundle.opening(&paths).run(world)?.expect_code(0)?;
        if finished.stdout != "00\n00\n44\n44\n" {
            return Err(format!("{paths:?} are not what the spec says: {finished}").into());
        }
        Ok(())
    })?;
    for (folder, most) in [(&outside, 0), (&volume, 1)] {
        if fs::read_dir(folder)?.count() != most {
            return Err(format!("{} has changed", folder.display()).into());
        }
    }
    Ok(())
}

/// Images whose links lead to the host, and what their container says.
pub(super) fn links_of_an_image_stay_in_the_container(world: &World) -> Outcome {
    const NAME: &str = "localhost/test/hostile-links:1";
    const CIRCLE: &str = "localhost/test/hostile-circle:1";
    let program = program("paths")?;
    let outside = world.folder("outside")?;
    fs::write(outside.join("marker"), "the host's")?;
    fs::write(outside.join("guest.wasm"), &program)?;
    let volume = world.folder("volume")?;
    let to_outside = outside.display().to_string();
    let image = Image::new()
        .program(GUEST, program)
        .link("/bin/outside.wasm", &format!("{to_outside}/guest.wasm"))
        .link("/bin/itself.wasm", "itself.wasm")
        .link("/bin/around.wasm", "/bin/about.wasm")
        .link("/bin/about.wasm", "around.wasm")
        .fifo("/bin/fifo.wasm")
        .folder("/bin/folder.wasm", 0o755)
        .link("/proc", &to_outside)
        .link("/data", &to_outside);
    let archive = volume.with_extension("tar");
    image.write(NAME, &archive)?;
    import(world.daemon(), &[archive])?;
    beside_a_neighbour(world, || {
        let container = |arguments: &[&str]| {
            let container = world.container(NAME).mount(&volume, "/data", "rbind:rw");
            container.arguments(arguments).run()
        };
        for (program, words) in [
            ("/bin/outside.wasm", "no such file or directory"),
            ("/bin/itself.wasm", "itself.wasm"),
            ("/bin/around.wasm", "around.wasm"),
            ("/bin/fifo.wasm", "not a regular file"),
            ("/bin/folder.wasm", "not a regular file"),
        ] {
            container(&[program])?
                .expect_failure()?
                .expect_stderr(&[program, words])?;
        }
        // Where mounts of every container lead in a circle.
        let circle = Image::new()
            .link("/proc", "/around")
            .link("/around", "proc");
        let archive = outside.with_extension("tar");
        circle.write(CIRCLE, &archive)?;
        import(world.daemon(), &[archive])?;
        let container = world.container(CIRCLE).arguments(&[GUEST]);
        container
            .run()?
            .expect_failure()?
            .expect_stderr(&["more than 40 symlinks", "remove the loop from the image"])?;
        Ok(())
    })?;
    let names: Vec<_> = fs::read_dir(&outside)?.collect();
    if names.len() != 2 || fs::read_to_string(outside.join("marker"))? != "the host's" {
        return Err(format!("what lies outside has changed: {names:?}").into());
    }
    Ok(())
}

pub(super) fn layouts_are_refused_in_words(world: &World) -> Outcome {
    const NAME: &str = "localhost/test/layout:1";
    let program = program("paths")?;
    let image = Image::new().program(GUEST, program).entrypoint(&[GUEST]);
    let layout = || -> Outcome<PathBuf> {
        let folder = world.folder("layout")?;
        image.write_layout(NAME, &folder)?;
        Ok(folder)
    };
    // The blobs by their kind: the manifest names the other two.
    let blobs = |folder: &Path| -> Outcome<[PathBuf; 3]> {
        let blob = |digest: &Value| -> Outcome<PathBuf> {
            let digest = digest.as_str().ok_or("no digest")?;
            Ok(folder.join("blobs").join(digest.replace(':', "/")))
        };
        let read =
            |file: &Path| -> Outcome<Value> { Ok(serde_json::from_slice(&fs::read(file)?)?) };
        let index = read(&folder.join("index.json"))?;
        let manifest = blob(&index["manifests"][0]["digest"])?;
        let named = read(&manifest)?;
        let config = blob(&named["config"]["digest"])?;
        let layer = blob(&named["layers"][0]["digest"])?;
        Ok([manifest, config, layer])
    };
    beside_a_neighbour(world, || {
        let refuse = |folder: &Path, words: &[&str]| -> Outcome {
            let folder = folder.display().to_string();
            let run = world.wasm_interp(&["run", &folder])?;
            run.expect_code(125)?.expect_stderr(words)?;
            let inspect = world.wasm_interp(&["inspect", &folder])?;
            inspect.expect_failure()?.expect_stderr(words)?;
            Ok(())
        };
        for (index, words) in [
            (
                &b"rubbish"[..],
                &["index.json", "export the image again"][..],
            ),
            (b"{\"schemaVersion\":2,\"manifests\":[]}", &["cannot find"]),
            (&[b'['; 100_000], &["index.json", "export the image again"]),
        ] {
            let folder = layout()?;
            fs::write(folder.join("index.json"), index)?;
            refuse(&folder, words)?;
        }
        for kind in 0..3 {
            let folder = layout()?;
            let blob = &blobs(&folder)?[kind];
            let mut content = fs::read(blob)?;
            content[0] ^= 1;
            fs::write(blob, &content)?;
            refuse(&folder, &["sha256:"])?;
            fs::remove_file(blob)?;
            refuse(&folder, &["sha256:", "No such file"])?;
            symlink("/etc/passwd", blob)?;
            refuse(&folder, &["sha256:"])?;
            fs::remove_file(blob)?;
            fs::create_dir(blob)?;
            refuse(&folder, &["sha256:"])?;
        }
        let folder = layout()?;
        let sound = folder.display().to_string();
        world.wasm_interp(&["run", &sound])?.expect_code(0)?;
        Ok(())
    })
}
