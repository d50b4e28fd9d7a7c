//! What a run is about: the environment says it.

use std::env;
use std::path::PathBuf;

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
    /// Whether this run is about the interpreters.
    pub(crate) languages: bool,
    pub(crate) run: Run,
}

impl Settings {
    /// `None` unless the environment names a containerd.
    pub(crate) fn from_env() -> Option<Self> {
        let programs = PathBuf::from(env::var_os("WASM_INTERP_TEST_PROGRAMS")?);
        let path =
            |variable: &str, default: PathBuf| env::var_os(variable).map_or(default, PathBuf::from);
        Some(Self {
            programs,
            dist: path("WASM_INTERP_TEST_DIST", repository().join("dist")),
            busybox: path("WASM_INTERP_TEST_BUSYBOX", "/bin/busybox".into()),
            guests: path("WASM_INTERP_TEST_GUESTS", "guests".into()),
            python_packages: path("WASM_INTERP_TEST_PYTHON_PACKAGES", "packages".into()),
            languages: env::var_os("WASM_INTERP_TEST_LANGUAGES").is_some(),
            // Also containerd's namespace, and so in the path of every cgroup.
            run: Run::new(format!("wasm-interp-test-{}", std::process::id())),
        })
    }

    pub(crate) fn run(&self) -> &Run {
        &self.run
    }

    /// The executables under test, where their path tells whose they are.
    pub(crate) fn bin(&self) -> PathBuf {
        self.run.folder().join("bin")
    }
}
