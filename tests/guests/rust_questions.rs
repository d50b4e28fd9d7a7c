//! What the test suite of WASI asks of preview 1 (github.com/WebAssembly/wasi-testsuite, November 2026), as far as Rust's
//! standard library has words for it: questions.c asks the rest. One line per fact, the same from a guest and from a native
//! program.
//!
//!     rust_questions files FOLDER WORD …    each function names the suite's tests whose questions it asks
//!     rust_questions directory FOLDER       paths that begin at the working directory
//!     rust_questions limits                 what std refuses for wasm32-wasip1; of a guest only
//!     rust_questions lines                  numbers the lines of standard input
//!     rust_questions exit NUMBER            ends with this exit code, by std::process::exit
//!     rust_questions return NUMBER          the same, from main
//!     rust_questions panic
//!
//! docs/use/rust-programs.md names the limits.

#![allow(
    deprecated,
    reason = "soft_link and home_dir are the only ones that both targets have"
)]

use std::{
    collections::HashSet,
    env,
    ffi::OsStr,
    fs::{self, File, FileTimes, FileType, Metadata, OpenOptions},
    hash::{BuildHasher as _, RandomState},
    io::{
        self, BufRead as _, BufReader, BufWriter, IoSlice, IoSliceMut, IsTerminal as _, Read as _,
        Seek as _, SeekFrom, Write as _,
    },
    net::{TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{self, Command, ExitCode},
    thread,
    time::{Duration, Instant, SystemTime},
};

/// The errors that an operation may have, with Linux's number and WASI's.
const ERRORS: &[(&str, i32, i32)] = &[
    ("EACCES", 13, 2),
    ("EAGAIN", 11, 6),
    ("EBADF", 9, 8),
    ("EBUSY", 16, 10),
    ("EEXIST", 17, 20),
    ("EFBIG", 27, 22),
    ("EINVAL", 22, 28),
    ("EIO", 5, 29),
    ("EISDIR", 21, 31),
    ("ELOOP", 40, 32),
    ("ENAMETOOLONG", 36, 37),
    ("ENOENT", 2, 44),
    ("ENOSPC", 28, 51),
    ("ENOTDIR", 20, 54),
    ("ENOTEMPTY", 39, 55),
    ("ENOTSUP", 95, 58),
    ("EOVERFLOW", 75, 61),
    ("EPERM", 1, 63),
    ("EPIPE", 32, 64),
    ("EROFS", 30, 69),
    ("ESPIPE", 29, 70),
    ("EXDEV", 18, 75),
];

/// An answer to a question.
trait Printable {
    fn text(&self) -> String;
}

impl<T: Printable> Printable for io::Result<T> {
    fn text(&self) -> String {
        self.as_ref().map_or_else(error_name, Printable::text)
    }
}

impl Printable for () {
    fn text(&self) -> String {
        "ok".to_owned()
    }
}

impl Printable for File {
    fn text(&self) -> String {
        "open".to_owned()
    }
}

impl Printable for fs::ReadDir {
    fn text(&self) -> String {
        "open".to_owned()
    }
}

/// Of a directory the size depends on the file system.
impl Printable for Metadata {
    fn text(&self) -> String {
        let kind = kind(self.file_type());
        let read_only = self.permissions().readonly();
        match kind {
            "directory" => format!("directory, read-only: {read_only}"),
            _ => format!("{kind} of {} bytes, read-only: {read_only}", self.len()),
        }
    }
}

impl Printable for PathBuf {
    fn text(&self) -> String {
        visible(self.as_os_str())
    }
}

impl Printable for SystemTime {
    fn text(&self) -> String {
        let since = self.duration_since(SystemTime::UNIX_EPOCH);
        since.map_or_else(
            |_| "before 1970".to_owned(),
            |since| format!("{}.{:09}", since.as_secs(), since.subsec_nanos()),
        )
    }
}

impl Printable for Vec<u8> {
    fn text(&self) -> String {
        self.escape_ascii().to_string()
    }
}

macro_rules! printed_by_display {
    ($($type:ty),*) => {
        $(impl Printable for $type {
            fn text(&self) -> String {
                self.to_string()
            }
        })*
    };
}

printed_by_display!(bool, u64, usize, String);

fn error_name(error: &io::Error) -> String {
    let Some(number) = error.raw_os_error() else {
        // An error of std's own.
        return format!("{:?}", error.kind());
    };
    let wasi = cfg!(target_os = "wasi");
    let known = ERRORS
        .iter()
        .find(|(_, linux, of_wasi)| number == if wasi { *of_wasi } else { *linux });
    known.map_or_else(|| format!("{error}"), |(name, ..)| (*name).to_owned())
}

/// Prints a question and its answer.
macro_rules! ask {
    ($question:expr) => {
        say(stringify!($question), $question)
    };
}

/// Calls a function that asks, in an empty folder.
macro_rules! ask_all {
    ($($function:ident)*) => {
        $({
            println!("-- {}", stringify!($function));
            $function();
            forget();
        })*
    };
}

fn say(question: &str, answer: impl Printable) {
    // Compilers differ in how they space what they were given.
    let question: String = question.split_whitespace().collect();
    println!("{question}: {}", answer.text());
}

fn kind(kind: FileType) -> &'static str {
    match (kind.is_file(), kind.is_dir(), kind.is_symlink()) {
        (true, false, false) => "file",
        (false, true, false) => "directory",
        (false, false, true) => "link",
        _ => "other",
    }
}

/// Removes everything that a question has made.
fn forget() {
    for entry in fs::read_dir(".").expect("the folder") {
        let entry = entry.expect("an entry");
        if entry.file_type().expect("its type").is_dir() {
            fs::remove_dir_all(entry.path()).expect("a folder to remove");
        } else {
            fs::remove_file(entry.path()).expect("a file to remove");
        }
    }
}

fn made(name: &str, size: usize) {
    fs::write(name, vec![b'x'; size]).expect(name);
}

/// A new file of so many bytes, open for both.
fn file(name: &str, size: usize) -> File {
    made(name, size);
    both().open(name).expect(name)
}

fn both() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options
}

/// A name on one line.
fn visible(name: &OsStr) -> String {
    name.to_string_lossy().escape_default().to_string()
}

/// The names in a folder, sorted: a file system has an order of its own.
fn names(folder: &str) -> io::Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(folder)?
        .map(|entry| {
            let entry = entry?;
            let kind = kind(entry.file_type()?);
            Ok(format!("{} ({kind})", visible(&entry.file_name())))
        })
        .collect::<io::Result<_>>()?;
    names.sort_unstable();
    Ok(names)
}

fn list(folder: &str) -> io::Result<String> {
    names(folder).map(|names| names.join(", "))
}

// big_random_buf, random_get
fn random_numbers() {
    let hashes: HashSet<u64> = (0..64)
        .map(|_| RandomState::new().hash_one("the same"))
        .collect();
    say("different hashes of the same", hashes.len());
}

// clock_time_get, clock_getres, monotonic_clock, poll_oneoff
fn clocks() {
    let (instant, time) = (Instant::now(), SystemTime::now());
    thread::sleep(Duration::from_millis(2));
    ask!(instant.elapsed() >= Duration::from_millis(2));
    ask!(Instant::now() >= instant);
    ask!(time > SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    thread::yield_now();
    made("file", 1);
    let modified = fs::metadata("file").and_then(|metadata| metadata.modified());
    // The file system's clock has coarser ticks.
    ask!(modified.expect("a time") + Duration::from_secs(1) > time);
}

// path_open_create_existing, path_open_missing, path_open_read_write, truncation_rights
fn open_options() {
    let open = OpenOptions::new;
    ask!(File::open("file"));
    ask!(open().write(true).open("file"));
    ask!(open().write(true).create(true).open("nowhere/file"));
    ask!(open().write(true).create_new(true).open("file"));
    ask!(open().write(true).create_new(true).open("file"));
    ask!(File::create_new("file"));
    ask!(fs::metadata("file"));
    made("file", 8);
    ask!(open().read(true).open("file"));
    ask!(open().write(true).create(true).truncate(false).open("file"));
    ask!(fs::metadata("file"));
    ask!(open().write(true).truncate(true).open("file"));
    ask!(fs::metadata("file"));
    made("file", 8);
    ask!(File::create("file"));
    ask!(fs::metadata("file"));
    ask!(open().append(true).create(true).open("new"));
    ask!(open().read(true).append(true).open("new"));
    made("file", 8);
    let mut reader = File::open("file").expect("a file");
    ask!(reader.write(b"x"));
    ask!(reader.set_len(1));
    let mut writer = open().write(true).open("file").expect("a file");
    ask!(writer.read(&mut [0; 4]));
    ask!(File::open("file\0"));
    ask!(File::open("x".repeat(256)));
    ask!(File::create("x".repeat(255)));
}

// file_pread_pwrite, file_unbuffered_write, fopen-with-access
fn read_and_write() {
    let mut file = file("file", 0);
    ask!(file.write(b"some text\nand more\n"));
    ask!(file.write_vectored(&[
        IoSlice::new(b"in "),
        IoSlice::new(b""),
        IoSlice::new(b"parts")
    ]));
    ask!(file.read(&mut [0; 4]));
    ask!(file.rewind());
    let (mut first, mut second) = ([0; 4], [0; 5]);
    ask!(file.read_vectored(&mut [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)]));
    ask!([&first[..], &second].concat());
    let mut text = String::new();
    ask!(file.read_to_string(&mut text));
    ask!(text.as_str().lines().collect::<Vec<_>>().join("|"));
    ask!(file.sync_all());
    ask!(file.sync_data());
    ask!(fs::read("file"));
    ask!(fs::read_to_string("nothing"));
    made("bytes", 0);
    ask!(fs::write("bytes", [0xff, 0xfe]));
    ask!(fs::read_to_string("bytes"));
    let mut writer = BufWriter::new(File::create("lines").expect("a file"));
    for number in 0..10_000 {
        writeln!(writer, "line {number}").expect("written");
    }
    ask!(writer.into_inner().expect("flushed").stream_position());
    let lines = BufReader::new(File::open("lines").expect("a file")).lines();
    ask!(lines.map(|line| line.expect("a line").len()).sum::<usize>());
}

// file_seek_tell, lseek
fn seek_and_tell() {
    let mut file = file("file", 100);
    ask!(file.seek(SeekFrom::End(0)));
    ask!(file.seek(SeekFrom::Current(-50)));
    ask!(file.seek(SeekFrom::End(-100)));
    ask!(file.seek(SeekFrom::Start(1000)));
    ask!(file.read(&mut [0]));
    ask!(file.seek(SeekFrom::Current(-2000)));
    ask!(file.seek(SeekFrom::Start(u64::MAX)));
    ask!(file.stream_position());
    ask!(file.write(b"behind a hole"));
    ask!(fs::metadata("file"));
    ask!(file.seek(SeekFrom::Start(998)));
    let mut rest = Vec::new();
    ask!(file.read_to_end(&mut rest));
    ask!(rest);
    let folder = File::open(".");
    ask!(folder.and_then(|mut folder| folder.read(&mut [0])));
}

// fd_flags_set, pwrite-with-append
fn append() {
    made("file", 4);
    let mut file = OpenOptions::new()
        .append(true)
        .open("file")
        .expect("a file");
    ask!(file.seek(SeekFrom::Start(0)));
    ask!(file.write(b"end"));
    ask!(file.stream_position());
    ask!(fs::read("file"));
}

// file_truncation, file_allocate
fn set_len() {
    let mut file = file("file", 10);
    ask!(file.set_len(4));
    ask!(file.metadata());
    ask!(file.set_len(5 << 30));
    ask!(file.metadata());
    ask!(file.seek(SeekFrom::End(-2)));
    let mut end = Vec::new();
    ask!(file.read_to_end(&mut end));
    ask!(end);
    ask!(file.set_len(0));
    ask!(fs::metadata("file"));
}

// fd_filestat_set, fd_filestat_get, path_filestat
fn times() {
    let file = file("file", 0);
    let at = |seconds, nanoseconds| SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds);
    ask!(
        file.set_times(
            FileTimes::new()
                .set_accessed(at(5, 0))
                .set_modified(at(7, 1))
        )
    );
    ask!(fs::metadata("file").expect("a file").accessed());
    ask!(fs::metadata("file").expect("a file").modified());
    ask!(file.set_times(FileTimes::new().set_accessed(at(1, 999_999_999))));
    ask!(file.metadata().expect("a file").accessed());
    ask!(file.metadata().expect("a file").modified());
    ask!(file.set_times(FileTimes::new()));
    ask!(file.metadata().expect("a file").accessed());
    ask!(file.set_modified(at(4_000_000_000, 5)));
    ask!(file.metadata().expect("a file").modified());
    let reader = File::open("file").expect("a file");
    ask!(reader.set_modified(at(11, 0)));
    ask!(fs::metadata("file").expect("a file").modified());
    fs::create_dir("folder").expect("a folder");
    let folder = File::open("folder").expect("a folder");
    ask!(folder.set_modified(at(13, 0)));
    ask!(fs::symlink_metadata("folder").expect("a folder").modified());
}

// path_exists, path_filestat, symlink_filestat, lstat, stat-dev-ino
fn metadata() {
    made("file", 7);
    fs::create_dir("folder").expect("a folder");
    fs::soft_link("file", "link").expect("a link");
    fs::soft_link("nothing", "dangling").expect("a link");
    for name in [
        "file", "file/", "folder", "folder/.", "link", "link/", "dangling", "nothing",
    ] {
        println!("{name}");
        ask!(fs::metadata(name));
        ask!(fs::symlink_metadata(name));
        ask!(fs::exists(name));
        ask!(Path::new(name).is_file());
        ask!(Path::new(name).is_dir());
        ask!(Path::new(name).is_symlink());
    }
    ask!(fs::metadata("file/nothing"));
    ask!(fs::exists("file/nothing"));
    ask!(File::open("file").expect("a file").metadata());
    ask!(File::open("folder").expect("a folder").metadata());
}

// dangling_fd
fn removed_while_open() {
    let mut file = file("file", 5);
    ask!(fs::remove_file("file"));
    ask!(File::open("file"));
    ask!(file.metadata());
    let mut text = Vec::new();
    ask!(file.read_to_end(&mut text));
    fs::create_dir("folder").expect("a folder");
    let mut listing = fs::read_dir("folder").expect("a folder");
    ask!(fs::remove_dir("folder"));
    ask!(listing.next().is_none());
}

// dangling_symlink, nofollow_errors, symlink_create, symlink_loop, readlink
fn links() {
    ask!(fs::soft_link("target", "link"));
    ask!(File::open("link"));
    ask!(File::create_new("link"));
    ask!(File::create("link"));
    ask!(fs::symlink_metadata("target"));
    ask!(fs::soft_link("other", "link"));
    ask!(fs::soft_link("", "empty"));
    ask!(fs::read_link("link"));
    ask!(fs::read_link("target"));
    ask!(fs::read_link("nothing"));
    ask!(fs::soft_link("circle", "circle"));
    ask!(File::open("circle"));
    ask!(File::create("circle/file"));
    ask!(fs::soft_link("x".repeat(1000), "long"));
    ask!(fs::read_link("long").expect("a link").as_os_str().len());
    ask!(fs::remove_file("circle"));
    ask!(fs::remove_file("link"));
    ask!(fs::symlink_metadata("target"));
}

// path_link
fn hard_links() {
    made("file", 3);
    fs::create_dir("folder").expect("a folder");
    fs::soft_link("file", "link").expect("a link");
    ask!(fs::hard_link("file", "folder/same"));
    ask!(fs::hard_link("file", "folder/same"));
    ask!(fs::hard_link("nothing", "new"));
    ask!(fs::hard_link("folder", "new"));
    ask!(fs::hard_link("file", "new/"));
    ask!(fs::hard_link("link", "other-link"));
    ask!(fs::symlink_metadata("other-link"));
    ask!(fs::write("folder/same", "changed"));
    ask!(fs::read("file"));
}

// fd_readdir, fdopendir-with-access
fn read_dir() {
    fs::create_dir("folder").expect("a folder");
    for number in 0..200 {
        made(&format!("folder/{number:03}"), number);
    }
    ask!(names("folder").map(|names| names.len()));
    ask!(names("folder").map(|names| names.join(", ")));
    let lengths = fs::read_dir("folder")
        .expect("a folder")
        .map(|entry| entry.and_then(|entry| entry.metadata()).expect("an entry"));
    ask!(lengths.map(|metadata| metadata.len()).sum::<u64>());
    // A listing that removes what it lists.
    for entry in fs::read_dir("folder").expect("a folder") {
        fs::remove_file(entry.expect("an entry").path()).expect("removed");
    }
    ask!(list("folder"));
    fs::create_dir("folder/inner").expect("a folder");
    made(&format!("folder/{}", "long".repeat(60)), 0);
    fs::soft_link("inner", "folder/link").expect("a link");
    made("folder/ä\u{301} \n", 0);
    ask!(list("folder"));
    let mut paths: Vec<String> = fs::read_dir("folder/")
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path().text())
        .collect();
    paths.sort_unstable();
    ask!(paths.join(", "));
    ask!(fs::read_dir("nothing"));
    ask!(fs::read_dir("folder/link/../link"));
    made("file", 0);
    ask!(fs::read_dir("file"));
}

// create_dir, remove_nonempty_directory, remove_directory_trailing_slashes, unlink_file_trailing_slashes
fn make_and_remove() {
    ask!(fs::create_dir("folder"));
    ask!(fs::create_dir("folder"));
    ask!(fs::create_dir("nowhere/folder"));
    ask!(fs::create_dir("folder/inner/"));
    ask!(fs::create_dir_all("folder/inner/one/two/three"));
    ask!(fs::create_dir_all("folder/inner/one"));
    made("file", 0);
    ask!(fs::create_dir_all("file"));
    ask!(fs::create_dir_all("file/inner"));
    ask!(fs::remove_dir("folder"));
    ask!(fs::remove_dir("file"));
    ask!(fs::remove_dir("file/"));
    ask!(fs::remove_dir("nothing"));
    ask!(fs::remove_file("file/"));
    ask!(fs::remove_file("folder"));
    ask!(fs::remove_file("folder/"));
    ask!(fs::remove_file("nothing"));
    ask!(fs::remove_dir("folder/inner/one/two/three/"));
    ask!(fs::remove_dir("folder/inner/one/two/."));
    fs::soft_link("../..", "folder/inner/up").expect("a link");
    made("folder/inner/file", 1);
    ask!(fs::remove_dir_all("folder"));
    ask!(fs::remove_dir_all("folder"));
    ask!(fs::remove_dir_all("file"));
    ask!(list("."));
}

// path_rename, path_rename_dir_trailing_slashes, path_rename_file_trailing_slashes
fn renames() {
    made("file", 3);
    made("other", 5);
    fs::create_dir("folder").expect("a folder");
    fs::create_dir("empty").expect("a folder");
    made("folder/file", 0);
    ask!(fs::rename("file", "other"));
    ask!(fs::metadata("file"));
    ask!(fs::metadata("other"));
    ask!(fs::rename("other", "folder"));
    ask!(fs::rename("folder", "other"));
    ask!(fs::rename("empty", "folder"));
    ask!(fs::rename("folder", "folder/inside"));
    ask!(fs::rename("folder", "empty"));
    ask!(list("empty"));
    ask!(fs::rename("nothing", "new"));
    ask!(fs::rename("other", "other"));
    ask!(fs::rename("other/", "new"));
    ask!(fs::rename("other", "new/"));
    ask!(fs::rename("empty/", "moved/"));
    fs::soft_link("other", "link").expect("a link");
    ask!(fs::rename("link", "moved/link"));
    ask!(fs::read_link("moved/link"));
}

fn copies() {
    made("file", 100_000);
    ask!(fs::copy("file", "copy"));
    ask!(fs::metadata("copy"));
    ask!(fs::copy("nothing", "copy"));
    made("small", 3);
    ask!(fs::copy("small", "copy"));
    ask!(fs::read("copy"));
    ask!(fs::copy("file", "nowhere/copy"));
    let (mut from, mut to) = (File::open("file").expect("a file"), file("to", 0));
    ask!(io::copy(&mut from, &mut to));
    ask!(from.rewind());
    ask!(io::copy(&mut from.take(3), &mut to));
    ask!(to.stream_position());
}

// interesting_paths: where the suite demands that a path stays beneath its descriptor, Linux follows it.
fn paths() {
    made("file", 3);
    fs::create_dir_all("folder/nested").expect("a folder");
    let here = env::current_dir().expect("a folder");
    fs::soft_link(here.join("file"), "folder/absolute").expect("a link");
    ask!(fs::metadata(here.join("file")));
    ask!(fs::metadata("folder/nested/../../file"));
    ask!(fs::metadata("folder/nested/..//.././folder/nested/."));
    ask!(fs::metadata("folder/absolute"));
    ask!(fs::metadata("folder/nested/../../file/.."));
    ask!(fs::metadata("/../../.."));
    ask!(fs::metadata(format!(
        "{}/file",
        here.join("folder/..").display()
    )));
    ask!(fs::create_dir("/"));
    ask!(fs::remove_dir("/."));
    ask!(fs::metadata("///"));
    ask!(File::create("/"));
}

// isatty, stdio
fn streams() {
    ask!(file("file", 0).is_terminal());
    ask!(io::stdout().write(b""));
    ask!(io::stdout().flush());
    ask!(io::stderr().flush());
}

// args_get, args_sizes_get, environ_get, environ_sizes_get
fn arguments() {
    for word in env::args().skip(3) {
        println!("argument: {word}");
    }
    ask!(env::args_os().len());
    for name in ["NOTHING", "ASKED", "A=B", ""] {
        println!("{name}: {:?}", env::var(name));
    }
    ask!(env::vars_os().filter(|(name, _)| name == "ASKED").count());
    // SAFETY: this program has one thread.
    unsafe { env::set_var("ASKED", "again") };
    println!("ASKED: {:?}", env::var("ASKED"));
    // SAFETY: the same.
    unsafe { env::remove_var("ASKED") };
    println!("ASKED: {:?}", env::var_os("ASKED"));
}

fn files(folder: &Path) {
    let folder = folder.join("questions");
    fs::create_dir(&folder).expect("a folder");
    env::set_current_dir(&folder).expect("a folder");
    ask_all!(
        random_numbers clocks open_options read_and_write seek_and_tell append set_len times
        metadata removed_while_open links hard_links read_dir make_and_remove renames copies paths
        streams arguments
    );
    env::set_current_dir("/").expect("the root directory");
    ask!(fs::remove_dir(&folder));
}

fn directory(folder: &Path) {
    ask!(env::current_dir());
    ask!(list("."));
    ask!(env::set_current_dir("nothing"));
    ask!(env::set_current_dir(folder));
    ask!(env::current_dir());
    ask!(fs::create_dir("inner"));
    ask!(fs::soft_link("inner", "link"));
    ask!(env::set_current_dir("link"));
    ask!(env::current_dir());
    made("file", 3);
    ask!(fs::metadata("file"));
    ask!(fs::metadata("../inner/file"));
    ask!(fs::metadata(""));
    ask!(File::open(""));
    ask!(env::set_current_dir("file"));
    ask!(env::set_current_dir(".."));
    ask!(env::current_dir());
    ask!(list("."));
    // Longer than what std first has room for.
    let long: PathBuf = (0..9).map(|_| "long".repeat(50)).collect();
    ask!(fs::create_dir_all(&long));
    ask!(File::create(long.join("file")));
    ask!(fs::metadata(folder.join(&long).join("file")));
    ask!(env::set_current_dir(&long));
    ask!(env::current_dir().expect("a folder").starts_with(folder));
    ask!(list("."));
    ask!(env::set_current_dir(folder));
    forget();
}

fn limits() {
    ask!(env::current_dir());
    made("file", 3);
    ask!(thread::Builder::new().spawn(|| ()).map(drop));
    ask!(Command::new("/program").status().map(drop));
    ask!(TcpStream::connect("127.0.0.1:1").map(drop));
    ask!(TcpListener::bind("127.0.0.1:0").map(drop));
    ask!(UdpSocket::bind("127.0.0.1:0").map(drop));
    let permissions = fs::metadata("file").expect("a file").permissions();
    ask!(fs::set_permissions("file", permissions));
    ask!(File::open("file").expect("a file").try_clone());
    ask!(fs::canonicalize("file"));
    ask!(env::current_exe());
    ask!(env::home_dir().is_none());
    // SAFETY: the bytes are of this platform, where a name is any bytes without a NUL.
    let name = unsafe { OsStr::from_encoded_bytes_unchecked(b"\xff") };
    ask!(File::open(name));
    ask!(File::open(format!("/{}file", "long/".repeat(101))));
    ask!(File::open(format!("/{}file", "long/".repeat(102))));
    ask!(fs::remove_file("file"));
}

fn lines() {
    let mut bytes = 0;
    for (number, line) in io::stdin().lines().enumerate() {
        let line = line.expect("text");
        bytes += line.len() + 1;
        println!("{}: {line}", number + 1);
    }
    println!("{bytes} bytes");
    ask!(io::stdin().read(&mut [0; 10]));
}

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["files", folder, ..] => files(folder.as_ref()),
        ["directory", folder] => directory(folder.as_ref()),
        ["limits"] => limits(),
        ["lines"] => lines(),
        ["exit", code] => {
            print!("not flushed by a line's end");
            process::exit(code.parse().expect("a number"));
        }
        ["return", code] => return code.parse::<u8>().expect("a number").into(),
        ["panic"] => {
            println!("before");
            panic!("as asked");
        }
        _ => panic!("unknown words: {words:?}"),
    }
    ExitCode::SUCCESS
}
