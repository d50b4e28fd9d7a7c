//! What the tests on real containerds (`tests/containerd`), nodes (`tests/node`) and clusters (`tests/cluster`)
//! share: commands with a time limit, images and the guests in them, nodes, and the search for what a run leaves
//! behind. Knows nothing of Kubernetes, and of a containerd only that its clients pull images. Crates' own tests use
//! [`executables`], [`lines`] and [`network`].
#![forbid(unsafe_code)]

pub mod boot;
pub mod command;
pub mod executables;
pub mod guests;
pub mod hostile;
pub mod image;
pub mod leftovers;
pub mod lines;
pub mod network;
pub mod random;
pub mod registry;
pub mod run;
pub mod signals;
pub mod suite;

/// What a trial, or a part of one, comes to.
pub type Outcome<T = ()> = Result<T, libtest_mimic::Failed>;

/// Fails, with both, unless `got` is `expected`.
pub fn expect<T: PartialEq + std::fmt::Debug + ?Sized>(got: &T, expected: &T) -> Outcome {
    if got == expected {
        return Ok(());
    }
    Err(format!("expected {expected:?}, got {got:?}").into())
}

/// As [`expect`]; the error says of what.
pub fn expect_equal<T: PartialEq + std::fmt::Debug + ?Sized>(
    what: &str,
    got: &T,
    expected: &T,
) -> Outcome {
    expect(got, expected).map_err(|error| {
        let message = error.message().unwrap_or_default();
        format!("{what}: {message}").into()
    })
}

/// A folder with both forms of each program of tests/guests: `WASM_INTERP_TEST_GUESTS`, or what `scripts/guests` makes.
pub fn guest_programs() -> std::path::PathBuf {
    if let Some(made) = std::env::var_os("WASM_INTERP_TEST_GUESTS") {
        return made.into();
    }
    let script = repository().join("scripts/guests");
    let made = std::process::Command::new(&script)
        .stderr(std::process::Stdio::inherit())
        .output()
        .expect("run scripts/guests");
    assert!(made.status.success(), "{script:?}: {}", made.status);
    String::from_utf8(made.stdout)
        .expect("a path")
        .trim()
        .into()
}

/// Path of the repository, from whatever folder Cargo runs a test.
pub fn repository() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
