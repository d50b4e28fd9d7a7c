//! What containers share (native code, compiled once) and what they must not.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::Outcome;

use crate::guests::{HELLO, IDLE, NEW};
use crate::world::{Beside, CtrContainer, World};

pub(super) fn fifty_containers_of_a_new_image_compile_it_once(world: &World) -> Outcome {
    let containers: Vec<_> = (0..50)
        .map(|number| {
            world
                .container(NEW)
                .arguments(&["python", "-c", &format!("print('number', {number})")])
        })
        .collect();
    let running = containers
        .iter()
        .map(CtrContainer::run_beside)
        .collect::<Outcome<Vec<Beside<'_>>>>()?;
    for (number, running) in running.into_iter().enumerate() {
        running
            .finish()?
            .expect_code(0)?
            .expect_stdout(&format!("number {number}\n"))?;
    }
    // The shim logs what it does to get native code: one compiles, and the others wait for it.
    let compiling = world.wait_for_log("a line of the container that compiles", |log| {
        let compiling: BTreeSet<String> = log
            .lines()
            .filter(|line| line.contains(r#"stage="Compiling""#))
            .filter_map(|line| line.split("id=\"").nth(1)?.split('"').next())
            .filter(|id| containers.iter().any(|container| container.id == *id))
            .map(str::to_owned)
            .collect();
        (!compiling.is_empty()).then_some(compiling)
    })?;
    if compiling.len() != 1 {
        return Err(format!("compiled by {} containers: {compiling:?}", compiling.len()).into());
    }
    Ok(())
}

pub(super) fn a_container_has_its_own_cgroup_and_no_stray_descriptors(world: &World) -> Outcome {
    let container = world.container(IDLE);
    container.detach()?;
    container.wait_for_output("ready")?;
    let process = Path::new("/proc").join(container.pid()?.to_string());

    let spec = container.info()?;
    let wanted = spec["Spec"]["linux"]["cgroupsPath"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let cgroups = fs::read_to_string(process.join("cgroup"))?;
    let memory = cgroups
        .lines()
        .find(|line| line.contains(":memory:") || line.starts_with("0::/") && line.len() > 4);
    if wanted.is_empty() || !memory.is_some_and(|line| line.ends_with(&wanted)) {
        return Err(format!("not in the cgroup {wanted:?}:\n{cgroups}").into());
    }

    // Standard streams, and what the guest was granted: directories. Nothing else of the host.
    let mut stray = Vec::new();
    for entry in fs::read_dir(process.join("fd"))? {
        let entry = entry?;
        let number: u32 = entry.file_name().to_string_lossy().parse()?;
        let target = fs::read_link(entry.path())?.display().to_string();
        let engine = target.starts_with("anon_inode:") || target.contains("memfd:");
        // In a mount of its own, which is read-only: only there has a file the path of a root.
        let artifact = target == "/" && cannot_be_written(&entry.path());
        // A static program's random numbers come from there: the container's own device.
        let random = target == "/dev/urandom";
        // What the guest is refused goes there, for the shim's log.
        let log = target.starts_with("pipe:") && is_for_writing(&process, number)?;
        let directory = fs::metadata(entry.path())?.is_dir();
        if number > 2 && !(engine || artifact || random || log || directory) {
            stray.push(format!("{number} -> {target}"));
        }
    }
    if !stray.is_empty() {
        return Err(format!("the guest's process holds {stray:?}").into());
    }
    container.remove()
}

/// Whether a descriptor was opened for writing, not for reading.
fn is_for_writing(process: &Path, number: u32) -> Outcome<bool> {
    let info = fs::read_to_string(process.join(format!("fdinfo/{number}")))?;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = i32::from_str_radix(flags.ok_or("no flags in fdinfo")?.trim(), 8)?;
    Ok(flags & nix::libc::O_ACCMODE == nix::libc::O_WRONLY)
}

/// Whether the file may not be opened for writing, even by root.
fn cannot_be_written(descriptor: &Path) -> bool {
    let opened = fs::OpenOptions::new().write(true).open(descriptor);
    opened.is_err_and(|error| error.kind() == io::ErrorKind::ReadOnlyFilesystem)
}

pub(super) fn a_full_cache_disk_is_survived_and_reported(world: &World) -> Outcome {
    let cache = Tmpfs::mount(world, "size=64k", MsFlags::empty())?;
    uncached(world, &cache)
}

pub(super) fn a_read_only_cache_is_survived_and_reported(world: &World) -> Outcome {
    let cache = Tmpfs::mount(world, "size=64k", MsFlags::MS_RDONLY)?;
    uncached(world, &cache)
}

fn uncached(world: &World, cache: &Tmpfs) -> Outcome {
    world.with_cache(&cache.0, |world| {
        world
            .container(HELLO)
            .run()?
            .expect_code(0)?
            .expect_stdout("hello world")?;
        world.wait_for_log("a line that says that the cache cannot be used", |log| {
            let mut warnings = log.lines().filter(|line| line.contains("level=warn"));
            let told = warnings.any(|line| line.contains("cannot keep the native code"));
            told.then_some(())
        })
    })
}

/// A small file system for as long as a trial takes.
struct Tmpfs(std::path::PathBuf);

impl Tmpfs {
    fn mount(world: &World, options: &str, flags: MsFlags) -> Outcome<Self> {
        let folder = world.folder("cache")?;
        let options = format!("{options},mode=0700");
        mount(
            Some("tmpfs"),
            &folder,
            Some("tmpfs"),
            flags,
            Some(options.as_str()),
        )?;
        Ok(Self(folder))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Still there means that something holds it: the look at what is left reports it.
        let _ = umount2(&self.0, MntFlags::empty());
    }
}
