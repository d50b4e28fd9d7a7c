//! A store with entries of every kind of damage: only what a record describes is opened, and what is
//! removed is the store's own.
#![no_main]

use std::fs::{self, DirBuilder, File};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use serde_json::json;
use wasm_interp_artifact::{Digest, Integrity, Key, Store, fuzzing::open_entry};
use wasm_interp_fuzz::{planted, scratch};

#[derive(Debug, arbitrary::Arbitrary)]
struct Input<'a> {
    entries: Vec<Entry<'a>>,
    /// Other files, by the folder that they are in.
    others: Vec<(u8, Other, &'a [u8])>,
    most: u64,
}

#[derive(Debug, arbitrary::Arbitrary)]
struct Entry<'a> {
    module: u8,
    code: Code<'a>,
    record: Record<'a>,
    is_other_recipe: bool,
}

#[derive(Debug, arbitrary::Arbitrary)]
enum Code<'a> {
    Bytes(&'a [u8]),
    Link,
    Directory,
    Absent,
}

#[derive(Debug, arbitrary::Arbitrary)]
enum Record<'a> {
    Good,
    Text(&'a [u8]),
    Format(u32),
    Of(u8),
    CodeOf(&'a [u8]),
    Length(u64),
    Named(&'a str, f64),
    Link,
    Absent,
}

#[derive(Debug, arbitrary::Arbitrary)]
enum Other {
    Name(u8),
    Key(u8, bool),
    Temporary(u8),
}

const FOLDERS: [&str; 3] = ["entries", "digests", "locks"];
const NAMES: &[&str] = &[
    "x", ".json", ".code", "slot-0", "slot-9", "a.tmp", "-", "0-0.code", "é",
];

fn key(module: u8) -> Key {
    Key::of(Digest::of_bytes(&[module % 4]))
}

fn name(key: &Key, is_other_recipe: bool) -> String {
    match is_other_recipe {
        true => format!("{}-{}", key.wasm(), "0".repeat(16)),
        false => key.to_string(),
    }
}

/// Writes an entry; whether it is sound.
fn write(entries: &Path, secret: &Path, entry: &Entry<'_>) -> bool {
    let name = name(&key(entry.module), entry.is_other_recipe);
    let (code_path, record_path) = (
        entries.join(format!("{name}.code")),
        entries.join(format!("{name}.json")),
    );
    if fs::symlink_metadata(&code_path).is_ok() || fs::symlink_metadata(&record_path).is_ok() {
        return false;
    }
    let code = match entry.code {
        Code::Bytes(bytes) => {
            fs::write(&code_path, bytes).expect("code");
            Some(bytes)
        }
        Code::Link => {
            symlink(secret, &code_path).expect("a link");
            Some(&b"secret"[..])
        }
        Code::Directory => {
            fs::create_dir(&code_path).expect("a directory");
            None
        }
        Code::Absent => None,
    };
    let bytes = code.unwrap_or_default();
    let mut record = json!({
        "format": 1, "key": name, "code": Digest::of_bytes(bytes), "bytes": bytes.len(),
        "name": "m", "compile_seconds": 1.0,
    });
    let mut is_sound = matches!(entry.code, Code::Bytes(_));
    match entry.record {
        Record::Good => {}
        Record::Named(name, seconds) => {
            record["name"] = json!(name);
            record["compile_seconds"] = json!(seconds);
            is_sound &= seconds.is_finite();
        }
        Record::Format(format) => {
            record["format"] = json!(format);
            is_sound &= format == 1;
        }
        Record::Of(module) => {
            record["key"] = json!(key(module).to_string());
            is_sound &= key(module).to_string() == name;
        }
        Record::CodeOf(other) => {
            record["code"] = json!(Digest::of_bytes(other));
            is_sound &= other == bytes;
        }
        Record::Length(length) => {
            record["bytes"] = json!(length);
            is_sound &= length == bytes.len() as u64;
        }
        Record::Text(text) => {
            fs::write(&record_path, text).expect("a record");
            return false;
        }
        Record::Link => {
            symlink(secret, &record_path).expect("a link");
            return false;
        }
        Record::Absent => return false,
    }
    fs::write(&record_path, record.to_string()).expect("a record");
    is_sound
}

fn other(root: &Path, folder: u8, other: &Other, bytes: &[u8]) {
    let folder = root.join(FOLDERS[usize::from(folder) % FOLDERS.len()]);
    let name = match other {
        Other::Name(name) => NAMES[usize::from(*name) % NAMES.len()].to_owned(),
        Other::Key(module, true) => key(*module).to_string(),
        Other::Key(module, false) => key(*module).wasm().to_string(),
        Other::Temporary(module) => format!("{}.json.7-1.tmp", key(*module)),
    };
    let _ = fs::write(folder.join(name), bytes);
}

fn check(input: &Input<'_>, directory: &Path) {
    let root = directory.join("cache");
    let secret = directory.join("secret");
    fs::write(&secret, "secret").expect("a file");
    for folder in FOLDERS {
        let mut private = DirBuilder::new();
        private
            .recursive(true)
            .mode(0o700)
            .create(root.join(folder))
            .expect("a directory");
    }
    for (folder, kind, bytes) in input.others.iter().take(6) {
        other(&root, *folder, kind, bytes);
    }
    let mut sound = Vec::new();
    for entry in input.entries.iter().take(6) {
        if write(&root.join("entries"), &secret, entry) {
            sound.push(name(&key(entry.module), entry.is_other_recipe));
        }
    }
    let store = Store::open(&root);
    assert!(store.unusable().is_none(), "{:?}", store.unusable());
    let verified = store.verify().expect("the store is listed");
    for (entry, integrity) in &verified {
        let is_sound = sound.contains(&entry.key.to_string());
        assert_eq!(
            *integrity == Integrity::Sound,
            is_sound,
            "{entry:?}: {integrity:?}"
        );
        if !entry.current {
            continue;
        }
        // The first opening records the file's digest, the second uses it.
        for _ in 0..2 {
            match open_entry(&root, &entry.key) {
                Ok(mut file) => {
                    assert!(is_sound, "{entry:?} is opened");
                    let mut code = Vec::new();
                    file.read_to_end(&mut code).expect("code");
                    assert_eq!(code.len() as u64, entry.bytes);
                }
                Err(why) => assert!(!is_sound && !why.is_empty(), "{entry:?}: {why}"),
            }
        }
    }
    for name in &sound {
        assert!(
            verified
                .iter()
                .any(|(entry, _)| entry.key.to_string() == *name),
            "{name} is listed"
        );
    }
    planted(!sound.is_empty() && verified.len() > sound.len());

    let held = sound.first().map(|name| {
        let file = File::open(root.join("entries").join(format!("{name}.code"))).expect("code");
        file.lock_shared().expect("a lock");
        (name, file)
    });
    let _ = store.prune(input.most);
    let pruned = store.prune(0);
    let left = store.list().expect("the store is listed");
    for entry in &left {
        let code = root.join("entries").join(format!("{}.code", entry.key));
        let is_held = held
            .as_ref()
            .is_some_and(|(name, _)| entry.key.to_string() == **name);
        // What takes no space need not go.
        let size = |path: &Path| {
            let there = fs::symlink_metadata(path).ok();
            there
                .filter(|there| there.is_file())
                .map_or(0, |there| there.len())
        };
        let bytes = size(&code) + size(&code.with_extension("json"));
        assert!(is_held || code.is_dir() || bytes == 0, "{entry:?} stays");
    }
    let has_directory = left.iter().any(|entry| {
        root.join("entries")
            .join(format!("{}.code", entry.key))
            .is_dir()
    });
    assert!(pruned.is_ok() || has_directory, "{pruned:?}");
    if let Some((name, _)) = &held {
        let key: Key = name.parse().expect("a key");
        let listed = store.list().expect("the store is listed");
        assert!(
            listed.iter().any(|entry| entry.key == key),
            "what a container holds stays"
        );
    }
    assert_eq!(
        fs::read_to_string(&secret).expect("it is there"),
        "secret",
        "only the store's own is removed"
    );
}

fuzz_target!(|input: Input<'_>| {
    let directory = scratch::directory().join("entries");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir(&directory).expect("a directory");
    check(&input, &directory);
});
