//! Open files: what is read and written, positions, sizes, times, kinds.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    time::{Duration, SystemTime},
};

use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mknodat};
use wasm_interp_wasi::{abi::types, errno::Errno};

use crate::support::{BUFFER, Caller, OUT, Opening, ROOT, with_guest};

fn seek(guest: &mut Caller, fd: u32, offset: i64, whence: u64) -> Result<u64, Errno> {
    let offset = offset.cast_unsigned();
    guest.call("fd_seek", &[fd.into(), offset, whence, OUT.into()])?;
    Ok(guest.u64(OUT))
}

#[test]
fn positions_are_the_kernels() {
    with_guest(|guest| {
        let fd = guest.create("f");
        assert_eq!(guest.put_out(fd, b"0123456789"), Ok(10));
        assert_eq!(seek(guest, fd, -3, 2), Ok(7));
        assert_eq!(guest.read(fd, 10).expect("read"), b"789");
        assert_eq!(guest.read(fd, 10).expect("read"), b"");
        assert_eq!(seek(guest, fd, 2, 0), Ok(2));
        assert_eq!(seek(guest, fd, 3, 1), Ok(5));
        guest
            .call("fd_tell", &[fd.into(), OUT.into()])
            .expect("tell");
        assert_eq!(guest.u64(OUT), 5);
        assert_eq!(seek(guest, fd, -6, 1), Err(Errno::Inval));
        assert_eq!(seek(guest, fd, -1, 0), Err(Errno::Inval));
        assert_eq!(seek(guest, fd, i64::MAX, 2), Err(Errno::Inval));
    });
}

#[test]
fn reads_and_writes_take_many_buffers_which_may_overlap() {
    with_guest(|guest| {
        let fd = guest.create("f");
        guest.write(BUFFER, b"abcdef");
        // An empty buffer may be anywhere.
        let [list, count] =
            guest.vectors(&[(BUFFER, 2), (u32::MAX, 0), (BUFFER + 1, 3), (BUFFER, 1)]);
        guest
            .call("fd_write", &[fd.into(), list, count, OUT.into()])
            .expect("write");
        assert_eq!(guest.u32(OUT), 6);
        assert_eq!(fs::read("/f").expect("read"), b"abbcda");
        guest.write(BUFFER, &[b'.'; 8]);
        let [list, count] = guest.vectors(&[(BUFFER, 3), (BUFFER + 1, 2), (BUFFER + 6, 2)]);
        guest
            .call("fd_pread", &[fd.into(), list, count, 0, OUT.into()])
            .expect("pread");
        assert_eq!(guest.u32(OUT), 6);
        // The second overwrites a part of the first.
        assert_eq!(guest.bytes(BUFFER, 8), b"acd...a.");
        let [list, count] = guest.vectors(&[(BUFFER, 1), (BUFFER + 2, 1)]);
        guest
            .call("fd_pwrite", &[fd.into(), list, count, 100, OUT.into()])
            .expect("pwrite");
        assert_eq!(fs::metadata("/f").expect("stat").len(), 102);
        assert_eq!(
            guest.call("fd_read", &[fd.into(), list, 0, OUT.into()]),
            Ok(())
        );
        assert_eq!(guest.u32(OUT), 0);
        for offset in [u64::MAX, 1 << 63] {
            let answer = guest.call("fd_pread", &[fd.into(), list, count, offset, OUT.into()]);
            assert_eq!(answer, Err(Errno::Inval));
        }
    });
}

#[test]
fn appending_ignores_positions_as_linux_does() {
    with_guest(|guest| {
        fs::write("/f", "old").expect("f");
        let mut open = Opening::write("f");
        open.fdflags = types::Fdflags::APPEND;
        let fd = guest.open(&open).expect("open");
        guest.put_out(fd, b"+").expect("write");
        guest.write(BUFFER, b"@");
        let [list, count] = guest.vectors(&[(BUFFER, 1)]);
        // pwrite(2): a bug of Linux that programs know.
        guest
            .call("fd_pwrite", &[fd.into(), list, count, 0, OUT.into()])
            .expect("pwrite");
        assert_eq!(fs::read("/f").expect("read"), b"old+@");
        assert_eq!(guest.fdstat(fd).expect("fdstat").1, types::Fdflags::APPEND);
        guest
            .call("fd_fdstat_set_flags", &[fd.into(), 0])
            .expect("no flags");
        guest
            .call("fd_pwrite", &[fd.into(), list, count, 0, OUT.into()])
            .expect("pwrite");
        assert_eq!(fs::read("/f").expect("read"), b"@ld+@");
    });
}

#[test]
fn files_may_have_holes_and_more_than_4_gib() {
    with_guest(|guest| {
        let fd = guest.create("big");
        let size = 5 << 30;
        guest
            .call("fd_filestat_set_size", &[fd.into(), size])
            .expect("truncate");
        assert_eq!(guest.stat("big", true).expect("stat").size, size);
        assert_eq!(seek(guest, fd, -1, 2), Ok(size - 1));
        guest.put_out(fd, b"end").expect("write");
        assert_eq!(guest.stat_open(fd).expect("stat").size, size + 2);
        assert!(fs::metadata("/big").expect("stat").blocks() < 100);
        guest
            .call("fd_allocate", &[fd.into(), 0, 1 << 20])
            .expect("allocate");
        assert!(fs::metadata("/big").expect("stat").blocks() >= 2048);
        assert_eq!(
            guest.call("fd_allocate", &[fd.into(), 0, 0]),
            Err(Errno::Inval)
        );
        guest
            .call("fd_filestat_set_size", &[fd.into(), 1])
            .expect("truncate");
        assert_eq!(fs::read("/big").expect("read"), b"\0");
        let answer = guest.call("fd_filestat_set_size", &[fd.into(), u64::MAX]);
        assert_eq!(answer, Err(Errno::Inval));
        guest
            .call("fd_advise", &[fd.into(), 0, 0, 1])
            .expect("advise");
    });
}

#[test]
fn directories_and_files_can_be_synced() {
    with_guest(|guest| {
        let file = guest.create("f");
        let directory = guest.open(&Opening::directory(".")).expect("open");
        for fd in [file, directory] {
            guest.call("fd_sync", &[fd.into()]).expect("fsync");
            guest.call("fd_datasync", &[fd.into()]).expect("fdatasync");
        }
        assert_eq!(guest.read(directory, 1), Err(Errno::Isdir));
        assert_eq!(guest.open(&Opening::write(".")), Err(Errno::Isdir));
        assert_eq!(guest.open(&Opening::directory("f")), Err(Errno::Notdir));
    });
}

#[test]
fn how_a_file_was_opened_is_told_by_its_rights() {
    use types::Rights as R;
    with_guest(|guest| {
        fs::write("/f", "").expect("f");
        for (asked, reads, writes) in [
            (R::FD_READ, true, false),
            (R::FD_WRITE, false, true),
            (R::FD_READ | R::FD_WRITE, true, true),
            (R::empty(), false, false),
        ] {
            let mut open = Opening::read("f");
            open.rights = asked;
            let fd = guest.open(&open).expect("open");
            let (kind, _, rights) = guest.fdstat(fd).expect("fdstat");
            assert_eq!(kind, types::Filetype::RegularFile);
            assert_eq!(rights.contains(R::FD_READ), reads, "{asked:?}");
            assert_eq!(rights.contains(R::FD_WRITE), writes, "{asked:?}");
            assert_eq!(guest.read(fd, 1).is_ok(), reads);
            assert_eq!(guest.put_out(fd, b"x").is_ok(), writes);
            assert!(rights.contains(R::FD_SEEK | R::FD_TELL));
        }
        let directory = guest.open(&Opening::directory(".")).expect("open");
        guest
            .call("fd_fdstat_get", &[directory.into(), OUT.into()])
            .expect("fdstat");
        assert_eq!(
            guest.u64(OUT + 16),
            R::all().bits(),
            "inherited by what it opens"
        );
        let answer = guest.call("fd_fdstat_set_rights", &[directory.into(), 0, 0]);
        assert_eq!(answer, Err(Errno::Notsup));
    });
}

#[test]
fn identity_and_times_are_the_kernels() {
    with_guest(|guest| {
        let fd = guest.create("f");
        let (atim, mtim) = (1_234_567_890_123_456_789, 987_654_321);
        guest
            .call("fd_filestat_set_times", &[fd.into(), atim, mtim, 1 | 4])
            .expect("times");
        let of_path = guest.stat("f", true).expect("stat");
        let native = fs::metadata("/f").expect("stat");
        assert_eq!((of_path.atim, of_path.mtim), (atim, mtim));
        assert_eq!(
            (of_path.dev, of_path.ino, of_path.nlink),
            (native.dev(), native.ino(), 1)
        );
        assert_eq!(guest.stat_open(fd).expect("stat"), of_path);
        let [path, length] = guest.put("f");
        let root = u64::from(ROOT);
        guest
            .call("path_filestat_set_times", &[root, 1, path, length, 0, 5, 4])
            .expect("mtime alone");
        let changed = guest.stat("f", true).expect("stat");
        assert_eq!((changed.atim, changed.mtim), (atim, 5));
        let before_1970 = SystemTime::UNIX_EPOCH - Duration::from_millis(1500);
        let times = fs::FileTimes::new()
            .set_modified(before_1970)
            .set_accessed(before_1970);
        fs::File::open("/f")
            .expect("open")
            .set_times(times)
            .expect("times");
        let old = guest.stat("f", true).expect("stat");
        assert_eq!((old.atim, old.mtim), (0, 0));
        guest.symlink("f", "link").expect("a link");
        let [path, length] = guest.put("link");
        guest
            .call("path_filestat_set_times", &[root, 0, path, length, 7, 7, 5])
            .expect("times of the link");
        assert_eq!(guest.stat("link", false).expect("stat").mtim, 7);
        assert_eq!(guest.stat("link", true).expect("stat").mtim, 0);
    });
}

#[test]
fn a_fifo_is_read_and_written_without_a_position() {
    with_guest(|guest| {
        mknodat(CWD, "/fifo", FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("a FIFO");
        let mut both = Opening::read("fifo");
        both.rights |= types::Rights::FD_WRITE;
        let fd = guest.open(&both).expect("open");
        assert_eq!(guest.put_out(fd, b"through"), Ok(7));
        assert_eq!(guest.read(fd, 100).expect("read"), b"through");
        assert_eq!(
            guest.stat("fifo", true).expect("stat").filetype,
            types::Filetype::SocketStream
        );
        assert_eq!(
            guest.fdstat(fd).expect("fdstat").0,
            types::Filetype::SocketStream
        );
        assert_eq!(seek(guest, fd, 0, 1), Err(Errno::Spipe));
        let mut waits_not = Opening::write("fifo");
        waits_not.fdflags = types::Fdflags::NONBLOCK;
        guest.close(fd).expect("close");
        // No process reads it.
        assert_eq!(guest.open(&waits_not), Err(Errno::Nxio));
        waits_not.rights = types::Rights::FD_READ;
        let fd = guest.open(&waits_not).expect("open");
        assert_eq!(guest.read(fd, 1).expect("no writer"), b"");
    });
}

#[test]
fn a_blocking_open_of_a_fifo_waits_for_the_other_side() {
    with_guest(|guest| {
        mknodat(CWD, "/fifo", FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("a FIFO");
        // Closed by an exec: another test may start a program meanwhile.
        let directory = OFlags::PATH | OFlags::CLOEXEC;
        let root = rustix::fs::open("/", directory, Mode::empty()).expect("/");
        let writer = std::thread::spawn(move || {
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let fifo = rustix::fs::openat(&root, "fifo", flags, Mode::empty());
            rustix::io::write(fifo.expect("open"), b"hello").expect("write");
        });
        let fd = guest.open(&Opening::read("fifo")).expect("open");
        assert_eq!(guest.read(fd, 10).expect("read"), b"hello");
        writer.join().expect("the writer");
        assert_eq!(guest.read(fd, 10).expect("end"), b"");
    });
}

#[test]
fn devices_have_no_position_and_null_is_no_terminal() {
    with_guest(|guest| {
        let mut open = Opening::read("dev/zero");
        open.rights |= types::Rights::FD_WRITE;
        let zero = guest.open(&open).expect("zero");
        assert_eq!(guest.read(zero, 3).expect("read"), [0; 3]);
        let null = guest
            .open(&Opening {
                path: b"dev/null",
                ..open
            })
            .expect("null");
        assert_eq!(guest.put_out(null, b"xyz"), Ok(3));
        assert_eq!(guest.read(null, 3).expect("read"), b"");
        let (kind, _, rights) = guest.fdstat(null).expect("fdstat");
        assert_eq!(kind, types::Filetype::CharacterDevice);
        // A C library takes a character device without these for a terminal.
        assert!(rights.contains(types::Rights::FD_SEEK | types::Rights::FD_TELL));
        let full = guest.open(&Opening::write("dev/full")).expect("full");
        assert_eq!(guest.put_out(full, b"x"), Err(Errno::Nospc));
        let stat = guest.stat("dev/null", true).expect("stat");
        assert_eq!(stat.filetype, types::Filetype::CharacterDevice);
        assert_eq!(
            fs::metadata("/dev/null").expect("stat").rdev(),
            makedev(1, 3)
        );
    });
}

#[test]
fn creating_obeys_excl_and_trunc() {
    with_guest(|guest| {
        fs::write("/f", "content").expect("f");
        let mut open = Opening::write("f");
        open.oflags = types::Oflags::CREAT | types::Oflags::EXCL;
        assert_eq!(guest.open(&open), Err(Errno::Exist));
        open.oflags = types::Oflags::TRUNC;
        guest.open(&open).expect("open");
        assert_eq!(fs::read("/f").expect("read"), b"");
        open.oflags = types::Oflags::CREAT | types::Oflags::DIRECTORY;
        assert_eq!(guest.open(&open), Err(Errno::Inval));
        open.path = b"new";
        open.oflags = types::Oflags::CREAT;
        open.rights = types::Rights::empty();
        guest
            .open(&open)
            .expect("made by a descriptor without rights");
        assert!(fs::exists("/new").expect("stat"));
    });
}
