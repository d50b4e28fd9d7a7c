//! `scripts/debootstrap` makes nothing of packages that it cannot check. The mirror is a folder whose release file is
//! not signed. Run as root, in mounts of its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use sha2::{Digest, Sha256};
use wasm_interp_test_support::Outcome;
use wasm_interp_test_support::command::{Finished, run};
use wasm_interp_test_support::repository;

/// The mirror's index: one package.
const PACKAGES: &str = "Package: apt\nVersion: 1\nPriority: required\nFilename: pool/a.deb\n\
                        Size: 1\nArchitecture: amd64\nSHA256: 00\n\n";
/// How a call of debootstrap begins.
const OPTIONS: &[u8] = b"debootstrap --";
/// Hides Debian's keys of this machine from what follows.
const WITHOUT_KEYS: &str = r#"mount -t tmpfs tmpfs /usr/share/keyrings; exec "$@""#;

#[test]
fn packages_that_cannot_be_checked_are_refused() -> Outcome {
    let folder = tempfile::tempdir()?;
    let mirror = folder.path().join("mirror");
    write_mirror(&mirror)?;
    let url = format!("file://{}", mirror.display());
    let target = folder.path().join("root").display().to_string();
    let print = ["--print-debs", "--arch=amd64"];
    let script = repository()
        .join("scripts/debootstrap")
        .display()
        .to_string();
    let ours = [&[script.as_str(), target.as_str(), "apt"], &print[..]].concat();

    // What is missing is the signature alone.
    let unchecked = ["debootstrap", "--no-check-gpg", "--variant=minbase"];
    let unchecked = [&unchecked[..], &print, &["bookworm", &target, &url]].concat();
    made(&unchecked, &url)?
        .expect_code(0)?
        .expect_stdout("apt")?;

    let no_keys = ["unshare", "--mount", "sh", "-euc", WITHOUT_KEYS, "sh"];
    made(&[&no_keys[..], &ours].concat(), &url)?
        .expect_failure()?
        .expect_stderr(&["debian-archive-keyring"])?;
    made(&ours, &url)?
        .expect_failure()?
        .expect_stderr(&["signature"])?;
    fs::write(mirror.join("dists/bookworm/Release.gpg"), "no signature")?;
    made(&ours, &url)?.expect_failure()?;
    Ok(())
}

#[test]
fn every_script_makes_a_debian_by_that_script() -> Outcome {
    let mut callers = Vec::new();
    for folder in ["scripts", "images", "benches"] {
        let mut folders = vec![repository().join(folder)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if fs::read(&path)?
                    .windows(OPTIONS.len())
                    .any(|part| part == OPTIONS)
                {
                    callers.push(path);
                }
            }
        }
    }
    assert_eq!(callers, [repository().join("scripts/debootstrap")]);
    Ok(())
}

fn made(words: &[&str], mirror: &str) -> Outcome<Finished> {
    let mut command = Command::new(words[0]);
    command
        .args(&words[1..])
        .env("WASM_INTERP_DEBIAN_MIRROR", mirror)
        .env_remove("WASM_INTERP_DEBIAN_KEYRING");
    run(command, None)
}

fn write_mirror(mirror: &Path) -> Outcome {
    let dists = mirror.join("dists/bookworm");
    let index = "main/binary-amd64/Packages";
    fs::create_dir_all(dists.join("main/binary-amd64"))?;
    fs::write(dists.join(index), PACKAGES)?;
    let digest: String = Sha256::digest(PACKAGES)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let length = PACKAGES.len();
    fs::write(
        dists.join("Release"),
        format!(
            "Codename: bookworm\nSuite: stable\nComponents: main\nArchitectures: amd64\n\
             SHA256:\n {digest} {length} {index}\n"
        ),
    )?;
    Ok(())
}
