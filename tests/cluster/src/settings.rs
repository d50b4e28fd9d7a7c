//! What the environment says: which cluster the trials run on, and where one of our own lives.
//! `scripts/e2e` sets it; nothing else reads variables.

use std::env;
use std::path::PathBuf;

use crate::run::Run;

/// The cluster that the trials run on.
pub(crate) enum ClusterChoice {
    /// None was asked for.
    None,
    /// One of our own, made for this run.
    Own(Box<ClusterSettings>),
    /// One that someone named twice, by file and by context.
    Given {
        kubeconfig: PathBuf,
        context: String,
        programs: Option<PathBuf>,
    },
}

impl ClusterChoice {
    /// `KUBECONFIG` is not looked at: a cluster is named on purpose or not at all.
    pub(crate) fn from_env() -> Result<Self, String> {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty());
        match (set("E2E_KUBECONFIG"), set("E2E_CONTEXT")) {
            (Some(kubeconfig), Some(context)) => Ok(Self::Given {
                kubeconfig: kubeconfig.into(),
                context: context
                    .into_string()
                    .map_err(|_| "E2E_CONTEXT is not UTF-8".to_owned())?,
                programs: set("WASM_INTERP_E2E_COMPONENTS").map(PathBuf::from),
            }),
            (Some(_), None) => {
                Err("E2E_KUBECONFIG names a cluster, E2E_CONTEXT does not: set both".to_owned())
            }
            (None, Some(_)) => {
                Err("E2E_CONTEXT names a cluster, E2E_KUBECONFIG does not: set both".to_owned())
            }
            (None, None) => {
                let own = ClusterSettings::from_env()?;
                Ok(own.map_or(Self::None, |settings| Self::Own(Box::new(settings))))
            }
        }
    }
}

/// How often the Job of [`crate::trials`] has to complete.
pub(crate) fn completions() -> Result<u32, String> {
    let Ok(text) = env::var("E2E_COMPLETIONS") else {
        return Ok(100);
    };
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!(
            "E2E_COMPLETIONS is {text:?}: give a number of completions, like 500"
        )),
    }
}

/// Where a cluster of our own comes from, and where it lives.
#[derive(Clone)]
pub(crate) struct ClusterSettings {
    /// kube-apiserver and the others.
    pub(crate) components: PathBuf,
    /// containerd, ctr and runc's shim of the newest series.
    pub(crate) containerd: PathBuf,
    /// A Debian with systemd; only read.
    pub(crate) distribution: PathBuf,
    /// Our executables and images.
    pub(crate) dist: PathBuf,
    /// A native program for images.
    pub(crate) busybox: PathBuf,
    /// The C programs of the tests, as `scripts/guests` leaves them.
    pub(crate) guests: PathBuf,
    /// The images of `deployments/apps`, as `scripts/apps` leaves them.
    pub(crate) apps: PathBuf,
    /// Run the trials of `deployments/apps` instead of the others: the root of a Debian with Chromium.
    pub(crate) browser: Option<PathBuf>,
    /// What failed trials leave for people to read.
    pub(crate) logs: PathBuf,
    /// Keep the cluster for someone to play with instead of running trials.
    pub(crate) keep: bool,
    /// Measure instead of running trials.
    pub(crate) bench: Option<Bench>,
    pub(crate) run: Run,
}

/// What is measured with.
#[derive(Clone)]
pub(crate) struct Bench {
    /// Archive of the image of native CPython.
    pub(crate) native: PathBuf,
    /// How many pods of each kind.
    pub(crate) pods: usize,
}

impl Bench {
    /// As many as there are unless someone says otherwise.
    pub(crate) const PODS: usize = 100;
    /// As many as a node has room for, beside its agent.
    const MOST: usize = 140;

    fn from_env() -> Result<Option<Self>, String> {
        let Some(native) = env::var_os("WASM_INTERP_E2E_BENCH") else {
            return Ok(None);
        };
        let pods = match env::var("E2E_BENCH_PODS") {
            Err(_) => Self::PODS,
            Ok(number) => number
                .parse()
                .ok()
                .filter(|pods| (1..=Self::MOST).contains(pods))
                .ok_or_else(|| {
                    format!(
                        "E2E_BENCH_PODS is {number:?}: set a number of pods from 1 to {}",
                        Self::MOST
                    )
                })?,
        };
        Ok(Some(Self {
            native: native.into(),
            pods,
        }))
    }
}

impl ClusterSettings {
    fn from_env() -> Result<Option<Self>, String> {
        let bench = Bench::from_env()?;
        Ok(Self::with(bench))
    }

    fn with(bench: Option<Bench>) -> Option<Self> {
        let path = |name: &str| env::var_os(name).map(PathBuf::from);
        // Inside the namespaces process ids are others: the name is handed in.
        let name = env::var("WASM_INTERP_E2E_NAME")
            .unwrap_or_else(|_| format!("wasm-interp-e2e-{}", std::process::id()));
        Some(Self {
            components: path("WASM_INTERP_E2E_COMPONENTS")?,
            containerd: path("WASM_INTERP_E2E_CONTAINERD")?,
            distribution: path("WASM_INTERP_E2E_DISTRIBUTION")?,
            dist: path("WASM_INTERP_E2E_DIST")?,
            busybox: path("WASM_INTERP_E2E_BUSYBOX")?,
            guests: path("WASM_INTERP_E2E_GUESTS")?,
            apps: path("WASM_INTERP_E2E_APPS")?,
            browser: path("WASM_INTERP_E2E_BROWSER"),
            logs: path("WASM_INTERP_E2E_LOGS")?.join(&name),
            keep: env::var_os("WASM_INTERP_E2E_KEEP").is_some(),
            bench,
            run: Run::new(name),
        })
    }
}
