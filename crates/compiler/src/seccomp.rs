//! The system call filter of the confined compiler: it allows the calls to read, to compute with threads
//! and to write. Every other call fails with EPERM, so that harmless probes by libraries do not end the
//! process. The process cannot open or create a file, socket, process or namespace.
#![allow(unsafe_code)]

use std::io;

use wasm_interp_bpf::{
    ALLOW, ARCHITECTURE, AT_LEAST, BITS, EQUAL, LOAD, NUMBER, RETURN, THIS_ARCHITECTURE, X32,
    low_half, step,
};

/// Read the module, write the code, allocate, run threads, end.
const ALLOWED: &[libc::c_long] = &[
    // The three descriptors.
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_dup3,
    // Memory.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    // Threads; `clone` is filtered below.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_membarrier,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_set_tid_address,
    libc::SYS_prctl,
    // Signals: stack overflow handlers, abort.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    // Time and random numbers.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_getrandom,
    // glibc asks for the stack's limit when it makes a thread.
    libc::SYS_prlimit64,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
const DENY: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
/// glibc then falls back from clone3, whose flags a filter cannot see, to clone.
const ABSENT: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

fn program() -> Vec<libc::sock_filter> {
    let mut program = vec![
        step(LOAD, ARCHITECTURE, 0, 0),
        step(EQUAL, THIS_ARCHITECTURE, 1, 0),
        step(RETURN, KILL, 0, 0),
        step(LOAD, NUMBER, 0, 0),
        step(AT_LEAST, X32, 0, 1),
        step(RETURN, KILL, 0, 0),
        step(EQUAL, libc::SYS_clone3 as u32, 0, 1),
        step(RETURN, ABSENT, 0, 0),
        // A thread of this process, not a process.
        step(EQUAL, libc::SYS_clone as u32, 0, 4),
        step(LOAD, low_half(0), 0, 0),
        step(BITS, libc::CLONE_THREAD as u32, 0, 1),
        step(RETURN, ALLOW, 0, 0),
        step(RETURN, DENY, 0, 0),
    ];
    for number in ALLOWED {
        program.push(step(EQUAL, *number as u32, 0, 1));
        program.push(step(RETURN, ALLOW, 0, 0));
    }
    program.push(step(RETURN, DENY, 0, 0));
    program
}

/// Installs the filter for this process and its children. It cannot be removed. On a kernel built without
/// seccomp only the other restrictions hold.
pub(crate) fn install() -> io::Result<()> {
    // SAFETY: prctl with integer arguments; it returns a mode or an error.
    if unsafe { libc::prctl(libc::PR_GET_SECCOMP) } < 0 {
        return Ok(());
    }
    let mut program = program();
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: `filter` points to `program`, which lives until the call returns; the kernel copies
    // it. There is no other thread yet, so none escapes the filter.
    let result = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER as libc::c_ulong,
            &raw const filter,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
