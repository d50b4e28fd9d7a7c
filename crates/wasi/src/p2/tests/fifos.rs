//! FIFOs, pipes and standard error, of which the other side waits until a connection has all that was sent on it.

use std::{
    fs::File,
    io::{Read as _, Write as _, pipe},
    net::TcpStream,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixListener,
    },
    path::{Path, PathBuf},
    sync::Arc,
    thread::{JoinHandle, sleep, spawn},
    time::Duration,
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl, mknodat},
    io::Errno as Kernel,
    pipe::fcntl_getpipe_size,
};
use tempfile::TempDir;
use wasmtime::component::Resource;

use super::{Connection, connect, directory, guest, kept, lend, send_much};
use crate::{
    p2::{
        bindings::wasi::{
            filesystem::types::{DescriptorFlags, HostDescriptor, OpenFlags, PathFlags},
            io::streams::{HostInputStream, HostOutputStream},
        },
        failure::{FileFailure, FileResult},
        guest::ComponentGuest,
        handles::{FileHandle, OutputStream, Source, WriteAt},
    },
    wait::{Meanwhile, write_all},
};

/// A folder with a FIFO, and the guest's handle of the folder.
fn folder(guest: &mut ComponentGuest) -> (TempDir, Resource<FileHandle>, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("fifo");
    make(&path);
    let directory = directory(guest, folder.path());
    (folder, directory, path)
}

fn make(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO");
}

fn open(
    guest: &mut ComponentGuest,
    folder: &Resource<FileHandle>,
    name: &str,
    flags: DescriptorFlags,
) -> FileResult<Resource<FileHandle>> {
    let follow = PathFlags::SYMLINK_FOLLOW;
    guest.open_at(
        lend(folder),
        follow,
        name.to_owned(),
        OpenFlags::empty(),
        flags,
    )
}

/// The other side of a FIFO.
fn other(path: &Path, flags: DescriptorFlags) -> File {
    let (read, write) = (
        flags == DescriptorFlags::READ,
        flags == DescriptorFlags::WRITE,
    );
    let opened = File::options().read(read).write(write).open(path);
    opened.expect("the other side")
}

/// A guest that has sent much to a peer which then reads it.
fn sender() -> (ComponentGuest, Connection, TcpStream, usize) {
    let mut guest = guest();
    let (connection, peer) = connect(&mut guest);
    let sent = send_much(&mut guest, &connection.output);
    (guest, connection, peer, sent)
}

/// Reads all that was sent, and then does what the guest waits for, in any case. Whether all had come before.
fn after_all(
    mut peer: TcpStream,
    sent: usize,
    then: impl FnOnce() + Send + 'static,
) -> JoinHandle<bool> {
    peer.set_read_timeout(Some(Duration::from_secs(5)))
        .expect("a time-out");
    spawn(move || {
        let all = peer.read_exact(&mut vec![0; sent]);
        then();
        all.is_ok()
    })
}

fn all_had_come(peer: JoinHandle<bool>) {
    assert!(peer.join().expect("the peer"), "nothing was sent meanwhile");
}

const READ: DescriptorFlags = DescriptorFlags::READ;
const WRITE: DescriptorFlags = DescriptorFlags::WRITE;

#[test]
fn what_is_kept_is_sent_while_a_fifo_is_opened() {
    for (ours, theirs) in [(READ, WRITE), (WRITE, READ)] {
        let (mut guest, _connection, peer, sent) = sender();
        let (_folder, directory, path) = folder(&mut guest);
        let peer = after_all(peer, sent, move || drop(other(&path, theirs)));
        open(&mut guest, &directory, "fifo", ours).expect("open");
        all_had_come(peer);
        assert_eq!(kept(&guest), 0);
    }
}

#[test]
fn what_is_kept_is_sent_while_a_fifo_is_read_or_written() {
    // There is nothing in it yet.
    for by_stream in [false, true] {
        let (mut guest, _connection, peer, sent) = sender();
        let (_folder, directory, path) = folder(&mut guest);
        let both = OFlags::RDWR | OFlags::NONBLOCK;
        let writer = rustix::fs::open(&path, both, Mode::empty()).expect("a writer");
        let fifo = open(&mut guest, &directory, "fifo", READ).expect("open");
        let peer = after_all(peer, sent, move || {
            rustix::io::write(writer, b"late").expect("write");
        });
        let bytes = if by_stream {
            let stream = guest.read_via_stream(lend(&fifo), 0).expect("a stream");
            HostInputStream::blocking_read(&mut guest, stream, 100).expect("open")
        } else {
            HostDescriptor::read(&mut guest, lend(&fifo), 100, 0)
                .expect("read")
                .0
        };
        assert_eq!(bytes, b"late");
        all_had_come(peer);
        if !by_stream {
            let (bytes, end) = HostDescriptor::read(&mut guest, fifo, 100, 0).expect("read");
            assert!(bytes.is_empty() && end, "the writer is gone");
        }
    }

    // It is full already, and all of a further write has no room.
    for by_stream in [false, true] {
        let (mut guest, _connection, peer, sent) = sender();
        let (_folder, directory, path) = folder(&mut guest);
        let both = OFlags::RDWR | OFlags::NONBLOCK;
        let reader = rustix::fs::open(&path, both, Mode::empty()).expect("a reader");
        let room = fcntl_getpipe_size(&reader).expect("a size");
        assert_eq!(rustix::io::write(&reader, &vec![1; room]), Ok(room));
        let fifo = open(&mut guest, &directory, "fifo", WRITE).expect("open");
        let more = if by_stream { 4096 } else { 3 * room };
        let reader = File::from(reader);
        let peer = after_all(peer, sent, move || {
            fcntl_setfl(&reader, OFlags::empty()).expect("to wait");
            let mut all = vec![0; room + more];
            (&reader).read_exact(&mut all).expect("read");
            assert!(all[room..].iter().all(|byte| *byte == 2));
        });
        if by_stream {
            let stream = guest.write_via_stream(lend(&fifo), 0).expect("a stream");
            HostOutputStream::blocking_write_and_flush(&mut guest, stream, vec![2; more])
                .expect("open");
        } else {
            let written = HostDescriptor::write(&mut guest, fifo, vec![2; more], 0).expect("write");
            assert_eq!(written, more as u64);
        }
        all_had_come(peer);
    }
}

/// A pipe whose writer waits for its reader, and that has no room.
fn full_pipe() -> (File, OwnedFd, usize) {
    let (reader, writer) = pipe().expect("a pipe");
    let room = fcntl_getpipe_size(&writer).expect("a size");
    (&writer).write_all(&vec![1; room]).expect("write");
    let flags = fcntl_getfl(&writer).expect("flags");
    assert!(!flags.contains(OFlags::NONBLOCK));
    (File::from(OwnedFd::from(reader)), writer.into(), room)
}

/// As standard output may be, and standard error, where refusals are told.
#[test]
fn what_is_kept_is_sent_while_a_pipe_or_standard_error_takes_nothing() {
    let read = |mut reader: File, length: usize| {
        move || reader.read_exact(&mut vec![0; length]).expect("read")
    };
    let (mut guest, _connection, peer, sent) = sender();
    let (reader, writer, room) = full_pipe();
    let peer = after_all(peer, sent, read(reader, room + 3));
    let stream = OutputStream::new(Source::Own(Arc::new(writer)), WriteAt::Next);
    let stream = guest.push(stream).expect("a handle");
    let written = HostOutputStream::blocking_write_and_flush(&mut guest, stream, vec![2; 3]);
    written.expect("open");
    all_had_come(peer);

    let (guest, _connection, peer, sent) = sender();
    let (reader, writer, room) = full_pipe();
    let peer = after_all(peer, sent, read(reader, room + 10_000));
    let beside: &dyn Meanwhile = &*guest.unsent;
    write_all(writer.as_fd(), &[2; 10_000], Some(beside));
    all_had_come(peer);
}

/// As on Linux: no sooner, and no later. The peer takes nothing all the time.
#[test]
fn fifo_is_opened_when_its_other_side_is_though_something_is_kept() {
    let (mut guest, _connection, _peer, _) = sender();
    let (folder, directory, path) = folder(&mut guest);
    let answers = folder.path().join("answers");
    make(&answers);
    let between = Duration::from_millis(50);
    let client = spawn(move || {
        sleep(between);
        let questions = other(&path, WRITE);
        // Nothing is written: the guest has to notice it by itself.
        let mut text = String::new();
        let mut answers = other(&answers, READ);
        answers.read_to_string(&mut text).expect("read");
        drop(questions);
        sleep(between);
        // One that comes and goes at once.
        drop(other(&path, WRITE));
        text
    });
    let begun = std::time::Instant::now();
    let questions = open(&mut guest, &directory, "fifo", READ).expect("open");
    assert!(begun.elapsed() >= between, "there is no other side yet");
    let answers = open(&mut guest, &directory, "answers", WRITE).expect("open");
    assert_eq!(
        HostDescriptor::write(&mut guest, lend(&answers), b"yes".to_vec(), 0).expect("write"),
        3
    );
    HostDescriptor::drop(&mut guest, answers).expect("there");
    let (_, end) = HostDescriptor::read(&mut guest, lend(&questions), 1, 0).expect("read");
    assert!(end);
    HostDescriptor::drop(&mut guest, questions).expect("there");
    let again = open(&mut guest, &directory, "fifo", READ).expect("open");
    assert!(
        HostDescriptor::read(&mut guest, again, 1, 0)
            .expect("read")
            .1
    );
    assert_eq!(client.join().expect("the client"), "yes");

    // What is no FIFO is not waited for.
    let _socket = UnixListener::bind(folder.path().join("socket")).expect("bind");
    let opened = open(&mut guest, &directory, "socket", WRITE);
    assert!(matches!(opened, Err(FileFailure::Failed(Kernel::NXIO))));
    assert!(kept(&guest) > 0);
}

/// Its calls wait by a poll, and not in the kernel. A device stays as it was opened.
#[test]
fn fifo_that_a_guest_opens_does_not_let_calls_wait() {
    let (mut busy, _connection, _peer, _) = sender();
    for guest in [&mut guest(), &mut busy] {
        let (_folder, directory, path) = folder(guest);
        let reader = File::options().read(true).write(true).open(path);
        let _reader = reader.expect("a reader");
        let fifo = open(guest, &directory, "fifo", READ | WRITE).expect("open");
        let root = directory_of_devices(guest);
        let device = open(guest, &root, "null", READ).expect("open");
        for (handle, nonblocking) in [(fifo, true), (device, false)] {
            let file = guest.table.get(&handle).expect("there");
            let flags = fcntl_getfl(file).expect("flags");
            assert_eq!(flags.contains(OFlags::NONBLOCK), nonblocking, "{flags:?}");
        }
    }
}

fn directory_of_devices(guest: &mut ComponentGuest) -> Resource<FileHandle> {
    directory(guest, Path::new("/dev"))
}
