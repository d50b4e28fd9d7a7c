//! A guest whose functions a test calls, and the tree that is its root directory.

use std::{
    cell::RefCell,
    fmt::Write as _,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Arc, Once, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use nix::{
    sched::{CloneFlags, unshare},
    sys::resource::{Resource, getrlimit, setrlimit},
};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use wasm_interp_network::Network;
use wasm_interp_wasi::{
    Guest, GuestSettings, LateMounts, ModesBy,
    abi::types,
    add_to_linker,
    errno::{Errno, Result},
    imports::{CoreType, NAMESPACES},
    paths,
};
use wasmtime::{Engine, Instance, Linker, Memory, Module, Store, Val};

/// Where results are written in the guest's memory, and where the arguments of a call begin.
pub(crate) const OUT: u32 = 64;
const ARGUMENTS: u32 = 1024;
/// Bytes of the guest's memory.
pub(crate) const MEMORY: u32 = 32 * 65536;
/// Where a test has buffers of its own.
pub(crate) const BUFFER: u32 = 65536;
/// The one preopen.
pub(crate) const ROOT: u32 = 3;

/// Runs `test` in a thread with a mount namespace of its own, whose root directory is an empty tmpfs
/// with a `/dev`. The path of that directory is passed too; it is of use before [`enter`] only.
pub(crate) fn in_tree(test: impl FnOnce(&Path) + Send + 'static) {
    same_limits();
    let directory = tempfile::tempdir().expect("a directory");
    let tree = directory.path().to_owned();
    let thread = std::thread::spawn(move || {
        let tree = tree.as_path();
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).expect("unshare");
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).expect("make mounts private");
        tmpfs(tree);
        let dev = tree.join("dev");
        std::fs::create_dir(&dev).expect("/dev");
        for name in ["null", "zero", "full"] {
            std::fs::write(dev.join(name), "").expect("a place");
            let host = Path::new("/dev").join(name);
            rustix::mount::mount_bind(&host, dev.join(name)).expect("bind a device");
        }
        for (link, target) in [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
        ] {
            std::os::unix::fs::symlink(target, dev.join(link)).expect("a link");
        }
        // The namespace ends with the thread, and its mounts with it.
        test(tree);
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Gives every test the same limit of descriptors, before the first of them looks: limits are the process's. Enough
/// for the test that holds the most.
fn same_limits() {
    const DESCRIPTORS: u64 = 4096;
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("the limit of descriptors");
        let limit = DESCRIPTORS.min(most);
        setrlimit(Resource::RLIMIT_NOFILE, limit, most).expect("set the limit of descriptors");
    });
}

/// Mounts an empty file system.
pub(crate) fn tmpfs(at: &Path) {
    mount("tmpfs", at, "tmpfs", MountFlags::empty(), None).expect("mount a tmpfs");
}

/// A program that starts holds every open file of this process until it has become another one, and what a guest of
/// another test has closed, as a socket that listened, is still there. So none starts while a guest runs.
static STARTS: RwLock<()> = RwLock::new(());

thread_local! {
    /// Held from [`enter`] on, until the thread ends.
    static INSIDE: RefCell<Option<RwLockReadGuard<'static, ()>>> = const { RefCell::new(None) };
}

/// Waits until no guest runs, and keeps others from starting.
pub(crate) fn without_guests() -> RwLockWriteGuard<'static, ()> {
    STARTS.write().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a program to its end, started while no guest runs.
pub(crate) fn run(command: &mut Command) -> Output {
    let started = {
        let _alone = without_guests();
        command.spawn()
    };
    let ended = started.and_then(std::process::Child::wait_with_output);
    ended.unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Makes `tree` the root directory of this thread, which starts no program any more.
pub(crate) fn enter(tree: &Path) {
    INSIDE.with_borrow_mut(|inside| {
        inside.get_or_insert_with(|| STARTS.read().unwrap_or_else(PoisonError::into_inner));
    });
    rustix::process::chroot(tree).expect("chroot");
    rustix::process::chdir("/").expect("chdir");
}

/// As [`in_tree`], with a guest that has entered the tree.
pub(crate) fn with_guest(test: impl FnOnce(&mut Caller) + Send + 'static) {
    in_tree(|tree| {
        enter(tree);
        test(&mut Caller::new(LateMounts::Impossible));
    });
}

/// A guest whose functions are called one by one.
pub(crate) struct Caller {
    store: Store<Guest>,
    instance: Instance,
    memory: Memory,
    next: u32,
}

/// A module that exports each function of all namespaces, as one that calls it.
fn module() -> String {
    let types = |types: &[CoreType]| {
        let mut text = String::new();
        for kind in types {
            text += match kind {
                CoreType::I32 => " i32",
                CoreType::I64 => " i64",
            };
        }
        text
    };
    let mut imports = String::new();
    let mut bodies = String::new();
    let functions = NAMESPACES.iter().flat_map(|namespace| {
        namespace
            .functions
            .iter()
            .map(|one| (namespace.module, one))
    });
    for (module, function) in functions {
        let name = function.name;
        let parameters = types(function.parameters);
        let results = types(function.results);
        let signature = format!("(param{parameters}) (result{results})");
        writeln!(
            imports,
            r#"(import "{module}" "{name}" (func ${name} {signature}))"#
        )
        .expect("text");
        let arguments: String = (0..function.parameters.len())
            .map(|index| format!("(local.get {index}) "))
            .collect();
        writeln!(
            bodies,
            r#"(func (export "{name}") {signature} {arguments} (call ${name}))"#
        )
        .expect("text");
    }
    let pages = MEMORY / 65536;
    format!(r#"(module {imports} (memory (export "memory") {pages}) {bodies})"#)
}

impl Caller {
    pub(crate) fn new(late_mounts: LateMounts) -> Self {
        Self::with_network(late_mounts, Network::none(), None)
    }

    /// As [`Caller::new`], with grants, and where refusals are logged.
    pub(crate) fn with_network(
        late_mounts: LateMounts,
        network: Network,
        refusals: Option<OwnedFd>,
    ) -> Self {
        Self::with(late_mounts, ModesBy::of_kernel(), network, refusals)
    }

    /// As [`Caller::new`], with the call that changes modes.
    pub(crate) fn with_modes_by(late_mounts: LateMounts, modes_by: ModesBy) -> Self {
        Self::with(late_mounts, modes_by, Network::none(), None)
    }

    fn with(
        late_mounts: LateMounts,
        modes_by: ModesBy,
        network: Network,
        refusals: Option<OwnedFd>,
    ) -> Self {
        let guest = Guest::new(GuestSettings {
            arguments: vec![b"program".to_vec(), b"\xff".to_vec()],
            environment: vec![(b"NAME".to_vec(), b"value".to_vec())],
            root: paths::root().expect("the root directory"),
            late_mounts,
            modes_by,
            network,
            refusals: refusals.map(Arc::new),
        });
        let engine = Engine::default();
        let module = wat::parse_str(module()).expect("a module");
        let module = Module::new(&engine, module).expect("compiled");
        let mut linker = Linker::new(&engine);
        add_to_linker(&mut linker, |guest| guest).expect("linked");
        let mut store = Store::new(&engine, guest.expect("a guest"));
        let instance = linker.instantiate(&mut store, &module).expect("started");
        let memory = instance.get_memory(&mut store, "memory").expect("memory");
        Self {
            store,
            instance,
            memory,
            next: ARGUMENTS,
        }
    }

    /// Calls a function; a trap is a failure of the test.
    pub(crate) fn call(&mut self, name: &str, arguments: &[u64]) -> Result<()> {
        self.next = ARGUMENTS;
        let function = self.instance.get_func(&mut self.store, name).expect(name);
        let types = function.ty(&self.store);
        let arguments: Vec<_> = types
            .params()
            .zip(arguments)
            .map(|(kind, &value)| match kind {
                wasmtime::ValType::I32 => Val::I32(value as u32 as i32),
                _ => Val::I64(value.cast_signed()),
            })
            .collect();
        let mut results = [Val::I32(0)];
        function
            .call(&mut self.store, &arguments, &mut results)
            .unwrap_or_else(|trap| panic!("{name} trapped: {trap:#}"));
        let number = results[0].unwrap_i32();
        match Errno::try_from(u16::try_from(number).expect("an errno")).expect("an errno") {
            Errno::Success => Ok(()),
            error => Err(error),
        }
    }

    /// Puts `bytes` into the guest's memory, until the next call.
    pub(crate) fn put(&mut self, bytes: impl AsRef<[u8]>) -> [u64; 2] {
        let bytes = bytes.as_ref();
        let address = self.next.next_multiple_of(8);
        self.write(address, bytes);
        let length = u32::try_from(bytes.len()).expect("a length");
        self.next = address + length;
        [address.into(), length.into()]
    }

    pub(crate) fn write(&mut self, address: u32, bytes: &[u8]) {
        let data = self.memory.data_mut(&mut self.store);
        data[address as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    pub(crate) fn bytes(&self, address: u32, length: u32) -> Vec<u8> {
        self.memory.data(&self.store)[address as usize..][..length as usize].to_vec()
    }

    pub(crate) fn u8(&self, address: u32) -> u8 {
        self.bytes(address, 1)[0]
    }

    pub(crate) fn u16(&self, address: u32) -> u16 {
        u16::from_le_bytes(self.bytes(address, 2).try_into().expect("2"))
    }

    pub(crate) fn u32(&self, address: u32) -> u32 {
        u32::from_le_bytes(self.bytes(address, 4).try_into().expect("4"))
    }

    pub(crate) fn u64(&self, address: u32) -> u64 {
        u64::from_le_bytes(self.bytes(address, 8).try_into().expect("8"))
    }

    /// A list of buffers.
    pub(crate) fn vectors(&mut self, list: &[(u32, u32)]) -> [u64; 2] {
        let bytes: Vec<u8> = list
            .iter()
            .flat_map(|(start, length)| [start.to_le_bytes(), length.to_le_bytes()])
            .flatten()
            .collect();
        let [address, _] = self.put(bytes);
        [address, list.len() as u64]
    }

    pub(crate) fn open(&mut self, open: &Opening<'_>) -> Result<u32> {
        let [path, length] = self.put(open.path);
        let all = types::Rights::all().bits();
        self.call(
            "path_open",
            &[
                open.from.into(),
                open.lookup.bits().into(),
                path,
                length,
                open.oflags.bits().into(),
                open.rights.bits(),
                all,
                open.fdflags.bits().into(),
                OUT.into(),
            ],
        )?;
        Ok(self.u32(OUT))
    }

    /// Opens a file for reading and writing; makes it if it is not there.
    pub(crate) fn create(&mut self, path: &str) -> u32 {
        let mut open = Opening::read(path.as_bytes());
        open.oflags = types::Oflags::CREAT;
        open.rights |= types::Rights::FD_WRITE;
        self.open(&open).expect(path)
    }

    pub(crate) fn read(&mut self, fd: u32, length: u32) -> Result<Vec<u8>> {
        let [list, count] = self.vectors(&[(BUFFER, length)]);
        self.call("fd_read", &[fd.into(), list, count, OUT.into()])?;
        Ok(self.bytes(BUFFER, self.u32(OUT)))
    }

    pub(crate) fn put_out(&mut self, fd: u32, bytes: &[u8]) -> Result<u32> {
        self.write(BUFFER, bytes);
        let length = u32::try_from(bytes.len()).expect("a length");
        let [list, count] = self.vectors(&[(BUFFER, length)]);
        self.call("fd_write", &[fd.into(), list, count, OUT.into()])?;
        Ok(self.u32(OUT))
    }

    pub(crate) fn close(&mut self, fd: u32) -> Result<()> {
        self.call("fd_close", &[fd.into()])
    }

    pub(crate) fn stat(&mut self, path: impl AsRef<[u8]>, follow: bool) -> Result<Filestat> {
        let [path, length] = self.put(path);
        let root = u64::from(ROOT);
        self.call(
            "path_filestat_get",
            &[root, follow.into(), path, length, OUT.into()],
        )?;
        Ok(self.filestat())
    }

    pub(crate) fn stat_open(&mut self, fd: u32) -> Result<Filestat> {
        self.call("fd_filestat_get", &[fd.into(), OUT.into()])?;
        Ok(self.filestat())
    }

    fn filestat(&self) -> Filestat {
        Filestat {
            dev: self.u64(OUT),
            ino: self.u64(OUT + 8),
            filetype: self.u8(OUT + 16).try_into().expect("a type"),
            nlink: self.u64(OUT + 24),
            size: self.u64(OUT + 32),
            atim: self.u64(OUT + 40),
            mtim: self.u64(OUT + 48),
        }
    }

    /// Type, flags and rights.
    pub(crate) fn fdstat(
        &mut self,
        fd: u32,
    ) -> Result<(types::Filetype, types::Fdflags, types::Rights)> {
        self.call("fd_fdstat_get", &[fd.into(), OUT.into()])?;
        Ok((
            self.u8(OUT).try_into().expect("a type"),
            types::Fdflags::from_bits(self.u16(OUT + 2)).expect("flags"),
            types::Rights::from_bits(self.u64(OUT + 8)).expect("rights"),
        ))
    }

    /// A function with a descriptor and a path.
    pub(crate) fn path(&mut self, name: &str, path: impl AsRef<[u8]>) -> Result<()> {
        let [path, length] = self.put(path);
        self.call(name, &[ROOT.into(), path, length])
    }

    /// A function with two paths: `path_rename`.
    pub(crate) fn rename(&mut self, old: impl AsRef<[u8]>, new: impl AsRef<[u8]>) -> Result<()> {
        let ([old, old_length], [new, length]) = (self.put(old), self.put(new));
        let root = u64::from(ROOT);
        self.call("path_rename", &[root, old, old_length, root, new, length])
    }

    pub(crate) fn symlink(
        &mut self,
        target: impl AsRef<[u8]>,
        path: impl AsRef<[u8]>,
    ) -> Result<()> {
        let ([target, size], [path, length]) = (self.put(target), self.put(path));
        self.call("path_symlink", &[target, size, ROOT.into(), path, length])
    }

    pub(crate) fn link(
        &mut self,
        old: impl AsRef<[u8]>,
        follow: bool,
        new: impl AsRef<[u8]>,
    ) -> Result<()> {
        let ([old, size], [new, length]) = (self.put(old), self.put(new));
        let root = u64::from(ROOT);
        self.call(
            "path_link",
            &[root, follow.into(), old, size, root, new, length],
        )
    }

    pub(crate) fn readlink(&mut self, path: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        let [path, length] = self.put(path);
        let (root, buffer) = (u64::from(ROOT), u64::from(BUFFER));
        self.call(
            "path_readlink",
            &[root, path, length, buffer, 4096, OUT.into()],
        )?;
        Ok(self.bytes(BUFFER, self.u32(OUT)))
    }

    /// One call of `fd_readdir`: its entries that fit, and the bytes used.
    pub(crate) fn readdir(&mut self, fd: u32, size: u32, cookie: u64) -> Result<(Vec<Entry>, u32)> {
        self.call(
            "fd_readdir",
            &[fd.into(), BUFFER.into(), size.into(), cookie, OUT.into()],
        )?;
        let used = self.u32(OUT);
        let mut entries = Vec::new();
        let mut at = BUFFER;
        while at + 24 <= BUFFER + used {
            let length = self.u32(at + 16);
            if at + 24 + length > BUFFER + used {
                break;
            }
            entries.push(Entry {
                next: self.u64(at),
                ino: self.u64(at + 8),
                kind: self.u8(at + 20).try_into().expect("a type"),
                name: self.bytes(at + 24, length),
            });
            at += 24 + length;
        }
        Ok((entries, used))
    }

    /// Lists a directory as a C library does, and calls `each` between.
    pub(crate) fn list(
        &mut self,
        fd: u32,
        size: u32,
        mut each: impl FnMut(&mut Self, &Entry),
    ) -> Result<Vec<Entry>> {
        let mut all = Vec::new();
        let mut cookie = 0;
        loop {
            let (entries, used) = self.readdir(fd, size, cookie)?;
            for entry in &entries {
                cookie = entry.next;
                each(self, entry);
            }
            let end = used < size;
            assert!(end || !entries.is_empty(), "a buffer of {size} is enough");
            all.extend(entries);
            if end {
                all.retain(|entry| entry.name != b"." && entry.name != b"..");
                return Ok(all);
            }
        }
    }
}

/// What to open.
pub(crate) struct Opening<'a> {
    pub(crate) from: u32,
    pub(crate) path: &'a [u8],
    pub(crate) lookup: types::Lookupflags,
    pub(crate) oflags: types::Oflags,
    pub(crate) rights: types::Rights,
    pub(crate) fdflags: types::Fdflags,
}

impl<'a> Opening<'a> {
    pub(crate) fn read(path: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self {
            from: ROOT,
            path: path.as_ref(),
            lookup: types::Lookupflags::SYMLINK_FOLLOW,
            oflags: types::Oflags::empty(),
            rights: types::Rights::FD_READ | types::Rights::FD_READDIR,
            fdflags: types::Fdflags::empty(),
        }
    }

    pub(crate) fn write(path: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self {
            rights: types::Rights::FD_WRITE,
            ..Self::read(path)
        }
    }

    pub(crate) fn directory(path: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self {
            oflags: types::Oflags::DIRECTORY,
            ..Self::read(path)
        }
    }
}

/// What `filestat_get` writes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Filestat {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    pub(crate) filetype: types::Filetype,
    pub(crate) nlink: u64,
    pub(crate) size: u64,
    pub(crate) atim: u64,
    pub(crate) mtim: u64,
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) next: u64,
    pub(crate) ino: u64,
    pub(crate) kind: types::Filetype,
    pub(crate) name: Vec<u8>,
}

/// A path of bytes.
pub(crate) fn bytes(name: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(name))
}

/// The answer that the kernel gave to this process, in preview 1's words.
pub(crate) fn kernel<T>(answer: rustix::io::Result<T>) -> Result<T> {
    answer.map_err(Errno::from)
}

impl Caller {
    /// Why a file cannot be made.
    pub(crate) fn create_error(&mut self, path: &str) -> Errno {
        let mut open = Opening::write(path);
        open.oflags = types::Oflags::CREAT;
        self.open(&open).expect_err(path)
    }
}
