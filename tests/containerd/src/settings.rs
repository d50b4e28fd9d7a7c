//! What a run is about: the environment says it.

use std::env;
use std::path::PathBuf;
use std::str::FromStr;

use wasm_interp_test_support::repository;
use wasm_interp_test_support::run::Run;

/// What the environment says, and where this run lives.
#[derive(Clone)]
pub(crate) struct Settings {
    /// Folder with containerd, ctr and runc's shim.
    pub(crate) programs: PathBuf,
    pub(crate) dist: PathBuf,
    pub(crate) busybox: PathBuf,
    pub(crate) guests: PathBuf,
    /// What pip installed of `tests/python/requirements.txt`, for the trials of languages.
    pub(crate) python_packages: PathBuf,
    /// Images of `deployments/apps`, and the root of its database, for the same.
    pub(crate) apps: PathBuf,
    pub(crate) database: PathBuf,
    /// CPython's own tests, from the source of the image.
    pub(crate) python_tests: PathBuf,
    /// Whether CPython is compiled before the first trial, with all the time that it takes: on an emulated processor
    /// that is longer than a trial waits.
    pub(crate) compiles_first: bool,
    /// Which trials run.
    pub(crate) suite: Suite,
    /// How many rounds the trial of many rounds makes.
    pub(crate) rounds: usize,
    /// How often each victim of `chaos` is killed.
    pub(crate) chaos_tries: u64,
    /// When: the same seed means the same moments.
    pub(crate) chaos_seed: u64,
    pub(crate) run: Run,
}

/// Which of the lists of trials a run is about.
#[derive(Clone, Copy)]
pub(crate) enum Suite {
    Runtime,
    Languages,
    Robustness,
}

impl Suite {
    fn from_env() -> Self {
        match env::var("WASM_INTERP_TEST_SUITE").as_deref() {
            Ok("languages") => Self::Languages,
            Ok("robustness") => Self::Robustness,
            _ => Self::Runtime,
        }
    }
}

impl Settings {
    /// `None` unless the environment names a containerd.
    pub(crate) fn from_env() -> Result<Option<Self>, String> {
        let Some(programs) = env::var_os("WASM_INTERP_TEST_PROGRAMS") else {
            return Ok(None);
        };
        let programs = PathBuf::from(programs);
        let path =
            |variable: &str, default: PathBuf| env::var_os(variable).map_or(default, PathBuf::from);
        Ok(Some(Self {
            programs,
            dist: path("WASM_INTERP_TEST_DIST", repository().join("dist")),
            busybox: path("WASM_INTERP_TEST_BUSYBOX", "/bin/busybox".into()),
            guests: path("WASM_INTERP_TEST_GUESTS", "guests".into()),
            python_packages: path("WASM_INTERP_TEST_PYTHON_PACKAGES", "packages".into()),
            apps: path("WASM_INTERP_TEST_APPS", "apps".into()),
            database: path("WASM_INTERP_TEST_DATABASE", "database".into()),
            python_tests: path("WASM_INTERP_TEST_PYTHON_TESTS", "tests".into()),
            compiles_first: env::var_os("WASM_INTERP_TEST_COMPILE_FIRST").is_some(),
            suite: Suite::from_env(),
            rounds: number("WASM_INTERP_TEST_ROUNDS", 32)?,
            chaos_tries: number("WASM_INTERP_TEST_CHAOS_TRIES", 2)?,
            chaos_seed: number("WASM_INTERP_TEST_CHAOS_SEED", 1)?,
            // Also containerd's namespace, and so in the path of every cgroup.
            run: Run::new(format!("wasm-interp-test-{}", std::process::id())),
        }))
    }

    pub(crate) fn run(&self) -> &Run {
        &self.run
    }

    /// The executables under test, where their path tells whose they are.
    pub(crate) fn bin(&self) -> PathBuf {
        self.run.folder().join("bin")
    }
}

/// The number in a variable. A mistake in it must not become the default.
fn number<T: FromStr>(variable: &str, default: T) -> Result<T, String> {
    match env::var(variable) {
        Err(_) => Ok(default),
        Ok(text) => text
            .parse()
            .map_err(|_| format!("{variable} is no number: {text:?}")),
    }
}
