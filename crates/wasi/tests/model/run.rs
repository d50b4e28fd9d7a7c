//! One sequence of operations on two new trees: first by the kernel, which also decides what is
//! done, then by the guest. Shrinks a sequence on which they differ.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use rustix::fs::Mode;
use rustix::process::{Gid, Uid, chdir, chroot, umask};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use wasm_interp_wasi::LateMounts;

use super::generate::Generator;
use super::guest::{Fault, GuestSide};
use super::kernel::KernelSide;
use super::operation::Operation;
use super::outcome::{Clock, Comparer, Outcome};
use super::tree::{GROUP, Tree, USER};

/// No call takes so long unless it waits for something that does not come.
const HANGS: Duration = Duration::from_secs(120);

/// As which process both sides run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    pub(crate) root: bool,
    pub(crate) umask: u32,
    /// How the host functions resolve paths.
    pub(crate) late_mounts: LateMounts,
}

/// Where operations come from.
#[derive(Clone)]
pub(crate) enum Source {
    Generated { seed: u64, steps: usize },
    Given(Vec<Operation>),
}

/// Kernel and guest differ.
#[derive(Debug)]
pub(crate) struct Difference {
    /// What was done before, and with what result.
    pub(crate) steps: Vec<(Operation, Outcome)>,
    pub(crate) what: String,
}

/// Gives the calling thread mounts of its own and the umask 0, so that it can make trees.
pub(crate) fn prepare_thread() {
    use nix::mount::{MsFlags, mount};
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace; the model test needs root");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("private mounts");
    umask(Mode::empty());
}

/// Makes the calling thread a process in the container whose root is `root`.
fn enter(root: &Path, process: Process) {
    unshare(CloneFlags::CLONE_FS).expect("a root directory of its own");
    chroot(root).expect("a root directory");
    chdir("/").expect("a working directory");
    umask(Mode::from_raw_mode(process.umask));
    if !process.root {
        let (user, group) = (Uid::from_raw(USER), Gid::from_raw(USER));
        set_thread_groups(&[Gid::from_raw(GROUP)]).expect("groups");
        set_thread_res_gid(group, group, group).expect("a group");
        set_thread_res_uid(user, user, user).expect("a user");
    }
}

/// Runs one sequence in `folder`, an empty directory. Returns how many operations were done.
pub(crate) fn sequence(
    folder: &Path,
    process: Process,
    source: Source,
    fault: Option<Fault>,
) -> Result<Vec<(Operation, Outcome)>, Box<Difference>> {
    let (kernels, guests) = (folder.join("kernel"), folder.join("guest"));
    for root in [&kernels, &guests] {
        std::fs::create_dir_all(root).expect("a directory");
    }
    let clock = Clock::start();
    let trees = (Tree::new(&kernels), Tree::new(&guests));
    let steps = thread::scope(|scope| {
        let kernel = scope.spawn(|| {
            enter(&kernels, process);
            by_kernel(source, clock)
        });
        kernel.join().expect("the kernel's side does not panic")
    });
    by_guest(&guests, process, &steps, clock, fault)?;
    let (kernel, guest) = (trees.0.picture(clock), trees.1.picture(clock));
    if kernel == guest {
        return Ok(steps);
    }
    let mut what = "the trees differ\n".to_owned();
    for path in kernel.keys().chain(guest.keys()) {
        let (kernel, guest) = (kernel.get(path), guest.get(path));
        if kernel != guest {
            let path = path.escape_ascii();
            let _ = writeln!(what, "{path}\n    kernel {kernel:?}\n    guest  {guest:?}");
        }
    }
    Err(Box::new(Difference { steps, what }))
}

/// Asks a guest in an empty root directory.
pub(crate) fn ask(folder: &Path, process: Process, question: fn(&mut GuestSide)) {
    let root = Tree::empty(folder);
    let asked = thread::scope(|scope| {
        let guest = scope.spawn(|| {
            enter(folder, process);
            question(&mut GuestSide::new(
                process.late_mounts,
                Clock::start(),
                None,
            ));
        });
        guest.join()
    });
    drop(root);
    if let Err(panic) = asked {
        std::panic::resume_unwind(panic);
    }
}

fn by_kernel(source: Source, clock: Clock) -> Vec<(Operation, Outcome)> {
    let mut kernel = KernelSide::new(clock);
    let step = |kernel: &mut KernelSide, operation: Operation| {
        let outcome = kernel.run(&operation);
        (operation, outcome)
    };
    match source {
        Source::Given(operations) => operations
            .into_iter()
            .map(|operation| step(&mut kernel, operation))
            .collect(),
        Source::Generated { seed, steps } => {
            let mut generator = Generator::new(seed);
            (0..steps)
                .map(|_| {
                    let operation = generator.operation(&kernel.descriptors());
                    step(&mut kernel, operation)
                })
                .collect()
        }
    }
}

/// Where paths are checked, both paths of an operation are resolved before the kernel sees them, so
/// that of two errors the other one may be reported.
fn fails_by_either(operation: &Operation, kernel: &Outcome, guest: &Outcome) -> bool {
    let has_two_paths = matches!(operation, Operation::Rename { .. } | Operation::Link { .. });
    has_two_paths && matches!((kernel, guest), (Outcome::Failed(_), Outcome::Failed(_)))
}

fn by_guest(
    root: &Path,
    process: Process,
    steps: &[(Operation, Outcome)],
    clock: Clock,
    fault: Option<Fault>,
) -> Result<(), Box<Difference>> {
    let at = AtomicUsize::new(0);
    let found = thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        scope.spawn({
            let at = &at;
            move || {
                enter(root, process);
                let mut guest = GuestSide::new(process.late_mounts, clock, fault);
                let mut comparer = Comparer::default();
                let mut found = None;
                for (number, (operation, kernel)) in steps.iter().enumerate() {
                    at.store(number, Ordering::Relaxed);
                    if *kernel == Outcome::WouldWait {
                        continue;
                    }
                    let outcome = guest.run(operation);
                    let checked = matches!(process.late_mounts, LateMounts::Checked(_));
                    let other_error = checked && fails_by_either(operation, kernel, &outcome);
                    if !comparer.equal(kernel, &outcome) && !other_error {
                        found = Some((number, outcome));
                        break;
                    }
                }
                let _ = sender.send(found);
            }
        });
        match receiver.recv_timeout(HANGS) {
            Ok(found) => found,
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                panic!(
                    "the guest's side panicked at {:?}",
                    steps[at.load(Ordering::Relaxed)]
                )
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                // Its thread cannot be ended, so the process is.
                eprintln!("the guest waits in {:?}", steps[at.load(Ordering::Relaxed)]);
                std::process::exit(1);
            }
        }
    });
    let Some((number, guest)) = found else {
        return Ok(());
    };
    let (operation, kernel) = &steps[number];
    let what = format!("{operation:?}\n    kernel {kernel:?}\n    guest  {guest:?}\n");
    let steps = steps[..=number].to_vec();
    Err(Box::new(Difference { steps, what }))
}

/// A short sequence on which they differ too: removes what can be removed.
pub(crate) fn shrink(
    folder: &Path,
    process: Process,
    mut found: Box<Difference>,
    fault: Option<Fault>,
) -> Box<Difference> {
    let mut part = found.steps.len() / 2;
    while part > 0 {
        let mut at = 0;
        while at < found.steps.len() {
            let end = (at + part).min(found.steps.len());
            let fewer = found.steps[..at].iter().chain(&found.steps[end..]);
            let fewer = fewer.map(|(operation, _)| operation.clone()).collect();
            match sequence(folder, process, Source::Given(fewer), fault) {
                Err(smaller) => found = smaller,
                Ok(_) => at = end,
            }
        }
        part /= 2;
    }
    found
}

impl Difference {
    /// For a person, with the results of the steps.
    pub(crate) fn report(&self) -> String {
        let mut text = String::new();
        for (operation, outcome) in &self.steps {
            let outcome = format!("{outcome:?}");
            let outcome: String = outcome.chars().take(160).collect();
            let _ = writeln!(text, "  {operation:?}\n    -> {outcome}");
        }
        text + &self.what
    }
}
