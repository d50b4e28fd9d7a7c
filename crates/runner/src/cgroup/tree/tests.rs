//! On plain directories, and as root on real cgroups: those of version 1, and the version 2 hierarchy that such a
//! machine may have besides, at `unified`.

use std::{
    fs,
    os::unix::fs::symlink,
    process::{Child, Command, Stdio},
};

use nix::sys::stat::{Mode, mkdirat};

use super::*;

/// A cgroup of the test's own, removed also if the test fails.
struct TestCgroup(PathBuf);

impl TestCgroup {
    /// `None` if this machine has no such hierarchy.
    fn make(hierarchy: &str, name: &str) -> Option<Self> {
        let top = Path::new("/sys/fs/cgroup").join(hierarchy);
        if !top.join("cgroup.procs").exists() {
            return None;
        }
        let path = top.join(format!("tree-test-{}-{name}", std::process::id()));
        fs::create_dir(&path).expect("make a cgroup");
        Some(Self(path))
    }

    fn nested(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(&path).expect("make a cgroup inside");
        path
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        // What the test has removed is gone; what it has not is its failure already.
        let _ = remove(std::slice::from_ref(&self.0));
    }
}

/// A process in a cgroup, which ends by a signal alone.
fn sleeper(cgroup: &Path) -> Child {
    let child = Command::new("sleep")
        .arg("1000")
        .stdin(Stdio::null())
        .spawn()
        .expect("start a process");
    fs::write(cgroup.join("cgroup.procs"), child.id().to_string()).expect("move it");
    child
}

fn killed(mut child: Child) -> bool {
    use std::os::unix::process::ExitStatusExt;
    let status = child.wait().expect("wait");
    status.signal() == Some(libc::SIGKILL)
}

/// The hierarchies of this machine that tests may use.
fn each(name: &str, test: impl Fn(&TestCgroup)) {
    let hierarchies = ["pids", "freezer", "unified", ""];
    let cgroups: Vec<_> = hierarchies
        .iter()
        .filter_map(|hierarchy| TestCgroup::make(hierarchy, name))
        .collect();
    assert!(!cgroups.is_empty(), "no cgroups at /sys/fs/cgroup");
    cgroups.iter().for_each(test);
}

#[test]
fn nested_cgroups_are_removed_with_their_processes() {
    each("nested", |cgroup| {
        let children = ["a", "a/b/c", "d"].map(|name| sleeper(&cgroup.nested(name)));
        cgroup.nested("a/empty");
        remove(std::slice::from_ref(&cgroup.0)).expect("remove");
        assert!(!cgroup.0.exists());
        assert!(children.into_iter().all(killed));
    });
}

#[test]
fn processes_outside_of_the_cgroup_are_not_killed() {
    each("beside", |cgroup| {
        let (ours, theirs) = (cgroup.nested("ours"), cgroup.nested("theirs"));
        let inside = sleeper(&ours);
        let mut beside = sleeper(&theirs);
        remove(std::slice::from_ref(&ours)).expect("remove");
        assert!(killed(inside));
        assert!(!ours.exists());
        assert_eq!(beside.try_wait().expect("look"), None);
        beside.kill().expect("kill");
        beside.wait().expect("wait");
    });
}

#[test]
fn a_frozen_cgroup_inside_is_removed_too() {
    each("frozen", |cgroup| {
        let inside = cgroup.nested("inside");
        let child = sleeper(&inside);
        for (file, value) in [("freezer.state", "FROZEN"), ("cgroup.freeze", "1")] {
            if inside.join(file).exists() {
                fs::write(inside.join(file), value).expect("freeze it");
            }
        }
        remove(std::slice::from_ref(&cgroup.0)).expect("remove");
        assert!(killed(child));
    });
}

/// Each level would cost a descriptor if they were opened one beneath the other.
#[test]
fn cgroups_may_be_nested_deeper_than_files_may_be_open() {
    const DEPTH: usize = 1100;
    let top = tempfile::tempdir().expect("directory");
    let path = top.path().join("cgroup");
    fs::create_dir(&path).expect("make");
    let mut current = open_top(&path).expect("open").expect("is there");
    for _ in 0..DEPTH {
        mkdirat(&current, c"x", Mode::S_IRWXU).expect("make");
        current = open(current.as_fd(), c"x", OFlag::O_DIRECTORY)
            .expect("open")
            .expect("is there");
    }
    drop(current);
    let open_now = fs::read_dir("/proc/self/fd").expect("descriptors").count();
    let mut most = 0;
    walk(
        &path,
        &mut |_| {
            most = most.max(fs::read_dir("/proc/self/fd")?.count());
            Ok(())
        },
        &mut |_, _| Ok(()),
    )
    .expect("walk");
    // Other tests open some meanwhile.
    assert!(most < open_now + DEPTH / 2, "{most} after {open_now}");
    remove(std::slice::from_ref(&path)).expect("remove");
    assert!(!path.exists());
}

#[test]
fn links_and_mounts_do_not_lead_out() {
    let outside = tempfile::tempdir().expect("directory");
    fs::create_dir(outside.path().join("kept")).expect("make");
    let top = tempfile::tempdir().expect("directory");
    let cgroup = top.path().join("cgroup");
    fs::create_dir_all(cgroup.join("a/b")).expect("make");
    symlink(outside.path(), cgroup.join("a/link")).expect("link");
    remove_beneath(&cgroup).expect("what is busy is left");
    assert!(outside.path().join("kept").exists());
    // The link is no cgroup, so it stays, and with it the directory that holds it.
    assert!(cgroup.join("a/link").is_symlink());
    assert!(!cgroup.join("a/b").exists());

    let link = top.path().join("link");
    symlink(outside.path(), &link).expect("link");
    let error = remove(std::slice::from_ref(&link)).expect_err("a link is no cgroup");
    assert!(error.to_string().contains("Not a directory"), "{error}");
    let beneath_a_link = link.join("kept");
    let error = refuse_used(&[beneath_a_link]).expect_err("a link in the way");
    assert!(error.to_string().contains("look into"), "{error}");
}

#[test]
fn cgroup_with_processes_or_cgroups_in_it_is_refused() {
    each("used", |cgroup| {
        let path = cgroup.0.clone();
        refuse_used(std::slice::from_ref(&path)).expect("an empty one is free");
        refuse_used(&[path.join("not-there")]).expect("so is one that is not there");
        let inside = cgroup.nested("inside");
        let error = refuse_used(std::slice::from_ref(&path)).expect_err("a cgroup is inside");
        assert!(error.to_string().contains("1 cgroup(s)"), "{error}");
        let mut child = sleeper(&inside);
        let error = refuse_used(std::slice::from_ref(&path)).expect_err("a process is inside");
        let expected = format!("1 process(es) [{}]", child.id());
        assert!(error.to_string().contains(&expected), "{error}");
        assert_eq!(child.try_wait().expect("look"), None);
        child.kill().expect("kill");
        child.wait().expect("wait");
    });
}

#[test]
fn removing_a_missing_cgroup_succeeds() {
    let top = tempfile::tempdir().expect("directory");
    let path = top.path().join("not-there");
    remove(std::slice::from_ref(&path)).expect("nothing to do");
    kill_in(&[path]).expect("nothing to do");
}

/// A container may have hundreds of thousands of processes.
#[test]
fn members_are_listed_a_few_times_however_many_they_are() {
    assert_eq!(at_once(10, Some(1024)), AT_ONCE);
    assert_eq!(at_once(16_000, Some(1 << 20)), 1000);
    assert_eq!(at_once(300_000, None), 300_000 / LISTS);
    // Not so many files may be open.
    assert_eq!(at_once(300_000, Some(1024)), 512);
    assert_eq!(at_once(300_000, Some(20)), AT_ONCE);
}
