//! What is full, missing or read-only around a container: errors in words, nothing left, and the same id again.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use containerd_shim_protos::api::CreateTaskRequest;
use nix::libc::O_NONBLOCK;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::native::{same, shell};
use super::second::SecondTask;
use crate::Outcome;
use crate::command::wait_for;
use crate::guests::{IDLE, NATIVE};
use crate::leftovers::Leftovers;
use crate::world::{CtrContainer, OURS, World};

const SLEEPS: &str = "echo ready; exec busybox sleep 3600";

/// A small file system that can be filled and made read-only.
struct Disk {
    at: PathBuf,
    /// What fills it.
    ballast: PathBuf,
}

impl Disk {
    const OPTIONS: &str = "size=4m,mode=0711";
    const PAGE: u64 = 4096;

    fn mount(at: PathBuf) -> Outcome<Self> {
        fs::create_dir_all(&at)?;
        mount(
            Some("tmpfs"),
            &at,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(Self::OPTIONS),
        )?;
        let ballast = at.join("ballast");
        Ok(Self { at, ballast })
    }

    /// Leaves room for so many pages.
    fn fill_but(&self, pages: u64) -> Outcome {
        let file = File::create(&self.ballast)?;
        let page = [0; Self::PAGE as usize];
        let mut length = 0;
        loop {
            match file.write_at(&page, length) {
                Ok(_) => length += Self::PAGE,
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(file.set_len(length.saturating_sub(pages * Self::PAGE))?)
    }

    fn empty(&self) -> Outcome {
        Ok(fs::remove_file(&self.ballast)?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Still there means that something holds it: the look at what is left reports it.
        let _ = umount2(&self.at, MntFlags::empty());
    }
}

/// A second containerd whose bundles are on a disk of their own.
fn with_state_on_a_disk(world: &World, trial: impl FnOnce(&World, &Disk) -> Outcome) -> Outcome {
    let folder = world.folder("second")?;
    let disk = Disk::mount(folder.join("state"))?;
    let images = folder.join("images.tar");
    let file = images.display().to_string();
    world
        .daemon()
        .ctr(&["image", "export", &file, IDLE, NATIVE])?
        .expect_code(0)?;
    world.with_second(folder, world.daemon().cache(), &[images], |second| {
        trial(second, &disk)
    })
}

/// One container of each kind.
fn both(world: &World) -> [CtrContainer<'_>; 2] {
    [world.container(IDLE), shell(world, OURS, SLEEPS)]
}

/// The disk is full at each of the writes on the way to a container.
pub(super) fn full_disk_fails_a_create_in_words_and_leaves_nothing(world: &World) -> Outcome {
    with_state_on_a_disk(world, |world, disk| {
        let mut failed = 0;
        let mut pages = 0;
        loop {
            let before = Leftovers::during(world.name());
            let mut ids = Vec::new();
            for container in both(world) {
                disk.fill_but(pages)?;
                let tried = container.try_detach()?;
                if tried.code == 0 {
                    container.wait_for_output("ready")?;
                    // Nothing of its end needs room.
                    container.end_by("SIGKILL", 137)?;
                } else {
                    failed += 1;
                    tried.expect_stderr(&["no space left on device"])?;
                    ids.push(container.id.clone());
                }
                disk.empty()?;
                container.remove()?;
            }
            if !ids.is_empty() {
                // It keeps the connection to a shim that it could not note, whatever the runtime, until it ends.
                world.daemon().stop()?;
                world.daemon().launch()?;
            }
            let left = before.what_is_new();
            let bundles = world.daemon().bundles();
            if !left.is_empty() || !bundles.is_empty() {
                return Err(format!(
                    "left after a disk with room for {pages} pages: {left:?}, bundles {bundles:?}"
                )
                .into());
            }
            if ids.is_empty() {
                // Else the disk was never full.
                return crate::expect(&(failed > 0), &true);
            }
            for id in ids {
                let mut again = shell(world, OURS, "exit 7");
                again.id = id;
                again.run()?.expect_code(7)?;
            }
            pages += 1;
        }
    })
}

/// A container that runs already goes on, and its end is known.
pub(super) fn full_disk_keeps_no_container_from_its_end(world: &World) -> Outcome {
    with_state_on_a_disk(world, |world, disk| {
        for container in both(world) {
            container.detach()?;
            container.wait_for_output("ready")?;
            disk.fill_but(0)?;
            let exec = container.task(&["exec", "--exec-id", "full"], &["sh", "-c", "exit 3"])?;
            if exec.code != 3 && exec.stderr.is_empty() {
                return Err(format!("an exec on a full disk says nothing: {exec}").into());
            }
            container.wait_for_status("RUNNING")?;
            container.end_by("SIGKILL", 137)?;
            disk.empty()?;
            container.remove()?;
        }
        Ok(())
    })
}

/// The end of a container is known also while its state cannot be removed; later it can.
pub(super) fn read_only_state_keeps_no_exit_status_back(world: &World) -> Outcome {
    for container in both(world) {
        container.detach()?;
        container.wait_for_output("ready")?;
        let state = ReadOnly::make(&world.daemon().bundle(&container.id).join("runner"))?;
        container.signal("SIGKILL")?;
        container.wait_for_status("STOPPED")?;
        container
            .task(&["rm"], &[])?
            .expect_failure()?
            .expect_stderr(&["read-only file system"])?;
        drop(state);
        container.delete_expecting(137)?;
        container.remove()?;
    }
    Ok(())
}

/// A bundle on a disk that cannot be written: the create says so, and makes nothing.
pub(super) fn read_only_bundle_fails_a_create_in_words(world: &World) -> Outcome {
    let first = shell(world, OURS, SLEEPS);
    first.detach()?;
    first.wait_for_output("ready")?;
    let before = Leftovers::during(world.name());
    let second = SecondTask::new(world, &first, |_| {})?;
    let disk = ReadOnly::make(second.bundle())?;
    let refused = second.create(CreateTaskRequest::default())?;
    let words = refused
        .err()
        .ok_or("a create on a read-only disk succeeded")?;
    if !words.to_lowercase().contains("read-only file system") {
        return Err(format!("the error does not say what is the matter: {words}").into());
    }
    drop(disk);
    let left = before.what_is_new();
    if !left.is_empty() {
        return Err(format!("left: {left:?}").into());
    }
    // The same task on the same disk, which can be written now.
    second.create(CreateTaskRequest::default())??;
    second.start()??;
    second.kill(9)??;
    let status = second.wait()??;
    second.delete()??;
    first.remove()?;
    crate::expect_equal("exit status", &status, &137)
}

/// A folder that is mounted read-only on itself.
struct ReadOnly(PathBuf);

impl ReadOnly {
    fn make(folder: &Path) -> Outcome<Self> {
        let none = None::<&str>;
        mount(Some(folder), folder, none, MsFlags::MS_BIND, none)?;
        let made = Self(folder.to_owned());
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, folder, none, flags, none)?;
        Ok(made)
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::empty());
    }
}

/// A FIFO without room and with a reader that does not read: the program waits, its shim does not, and a kill ends
/// it. When the reader reads, nothing is lost.
pub(super) fn full_fifo_blocks_the_program_alone(world: &World) -> Outcome {
    same("a full FIFO", |runtime| {
        let first = shell(world, runtime, SLEEPS);
        first.detach()?;
        first.wait_for_output("ready")?;
        let mut answers = Vec::new();
        for (ending, speaks) in [
            (Ending::Killed, "echo last; exec busybox sleep 3600"),
            (Ending::Read, "echo last; exit 3"),
        ] {
            let folder = world.folder("fifo")?;
            let fifo = FullFifo::make(&folder.join("stdout"))?;
            let second = SecondTask::new(world, &first, |spec| {
                spec["process"]["args"] = serde_json::json!(["sh", "-c", speaks]);
            })?;
            let stdout = fifo.path.display().to_string();
            second.create(CreateTaskRequest {
                stdout: stdout.clone(),
                stderr: stdout,
                ..Default::default()
            })??;
            second.start()??;
            match ending {
                Ending::Killed => {
                    // The shim answers also now.
                    answers.push(format!("{:?}", second.state()??.status));
                    second.kill(9)??;
                }
                Ending::Read => answers.push(fifo.read_to("last\n")?),
            }
            answers.push(second.wait()??.to_string());
            answers.push(second.delete()??.to_string());
        }
        first.remove()?;
        Ok(answers)
    })
}

#[derive(Clone, Copy)]
enum Ending {
    Killed,
    Read,
}

/// A FIFO that is open for reading, and holds as much as it can.
struct FullFifo {
    path: PathBuf,
    both_ends: File,
}

impl FullFifo {
    fn make(path: &Path) -> Outcome<Self> {
        mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR)?;
        let mut both_ends = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(O_NONBLOCK)
            .open(path)?;
        loop {
            match both_ends.write(&[b'.'; 4096]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        let path = path.to_owned();
        Ok(Self { path, both_ends })
    }

    /// Reads until this text has come; returns what came after what filled the FIFO.
    fn read_to(&self, text: &str) -> Outcome<String> {
        let mut all = Vec::new();
        wait_for(&format!("{text:?} in a FIFO"), || {
            let mut buffer = [0; 4096];
            loop {
                match (&self.both_ends).read(&mut buffer) {
                    Ok(length) => all.extend_from_slice(&buffer[..length]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
            let found = String::from_utf8_lossy(&all).into_owned();
            let found = found.trim_start_matches('.');
            Ok(found.contains(text).then(|| found.to_owned()))
        })
    }
}

/// A bundle that is removed under a running container. runc's shim cannot even kill it then: it has its log in there.
pub(super) fn vanished_bundle_keeps_no_exit_status_back(world: &World) -> Outcome {
    let script = "busybox sleep 3600 & echo ready; wait";
    for container in [world.container(IDLE), shell(world, OURS, script)] {
        let before = Leftovers::during(world.name());
        container.detach()?;
        container.wait_for_output("ready")?;
        vanish(&world.daemon().bundle(&container.id))?;
        container.wait_for_status("RUNNING")?;
        container.signal("SIGKILL")?;
        container.wait_for_status("STOPPED")?;
        container.delete_expecting(137)?;
        container.remove()?;
        let left = before.what_is_new();
        if !left.is_empty() {
            return Err(format!("left: {left:?}").into());
        }
    }
    Ok(())
}

/// Removes a bundle, but nothing of the image whose files are mounted in it. containerd finds its own folder of a task
/// by a link in the bundle, and keeps that folder without it.
fn vanish(bundle: &Path) -> Outcome {
    let work = fs::read_link(bundle.join("work"))?;
    umount2(&bundle.join("rootfs"), MntFlags::MNT_DETACH)?;
    fs::remove_dir_all(bundle)?;
    Ok(fs::remove_dir_all(work)?)
}
