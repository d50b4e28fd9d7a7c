//! The pre-delete hook: has every node let go of its pods, and then of the runtime. It changes no node itself; it
//! writes the request into the ConfigMap and reads what the agents say. Unless all goes well it takes the request
//! back, so that a release that is not deleted stays installed.
//!
//! Removing the runtime from a server of k3s restarts the API server with it. So no error of Kubernetes ends an
//! attempt before its time is over.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};
use wasm_interp_workload::with_causes;

use crate::agent::{AgentError, client};
use crate::cluster::{ClusterError, ask};
use crate::names::{CONTROLLER, STATE_ANNOTATION};
use crate::state::{Phase, State};
use crate::wanted::{REQUEST, REVISION, Request, Step, now_unix};

/// Between two looks at the nodes.
const POLL: Duration = Duration::from_secs(2);
/// How long it is tried to take the request back. The Job's `terminationGracePeriodSeconds` is longer.
const TAKE_BACK: Duration = Duration::from_secs(60);
/// A request is void this much later than the hook needs it: for clocks that differ, and for the release to be deleted
/// when the last node has answered at the last moment.
const MARGIN_SECONDS: u64 = 60;
/// How long nodes stay without the runtime after all have given it up: so long may somebody without Helm take to delete
/// the release.
const DELETED_WITHIN_SECONDS: u64 = 3600;
/// Nodes that one answer holds.
const PAGE: u32 = 500;

/// Have every node give the runtime up, or say which ones cannot.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Namespace of the release.
    #[arg(long, env = "POD_NAMESPACE")]
    pub(crate) namespace: String,
    /// ConfigMap through which the agents are told.
    #[arg(long, value_name = "NAME")]
    pub(crate) wanted: String,
    /// Tells this attempt from others.
    #[arg(long, env = "POD_UID", value_name = "ID")]
    pub(crate) id: String,
    /// How long to wait for all nodes.
    #[arg(long, value_name = "N", default_value_t = 240)]
    pub(crate) timeout_seconds: u64,
    /// Leave nodes as they are that are not Ready.
    #[arg(long)]
    pub(crate) skip_unreachable: bool,
}

/// Why not every node has given the runtime up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UninstallError {
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("ConfigMap {0} has no {REVISION}: is this the release's own?")]
    Revision(String),
    #[error(
        "there is no ConfigMap {0}: is this the release's namespace, and is it not deleted yet?"
    )]
    NoMap(String),
    #[error(
        "ConfigMap {map} does not hold this attempt's request any more, {why}: nothing more is taken away"
    )]
    Void { map: String, why: String },
    #[error("cannot wait for signals")]
    Signal(#[from] std::io::Error),
    #[error("told to end before all nodes had given the runtime up: nothing more is taken away")]
    Ended,
    #[error("these nodes cannot be uninstalled, so nothing was deleted:\n{}", listed(.0))]
    Refused(BTreeMap<String, String>),
    #[error(
        "after {after} s these nodes had not answered, so nothing was deleted (uninstall.timeoutSeconds says how long \
         to wait):\n{}",
        listed(.nodes)
    )]
    Slow {
        after: u64,
        nodes: BTreeMap<String, String>,
    },
}

fn listed(nodes: &BTreeMap<String, String>) -> String {
    let lines: Vec<String> = nodes
        .iter()
        .map(|(node, why)| format!("  node {node}: {why}"))
        .collect();
    lines.join("\n")
}

/// What the nodes say about one step.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answers {
    refused: BTreeMap<String, String>,
    waiting: BTreeMap<String, String>,
    skipped: BTreeSet<String>,
}

/// Runs both steps as this pod's service account.
pub(crate) async fn run(args: &Args) -> Result<(), UninstallError> {
    uninstall(client()?, args).await
}

pub(crate) async fn uninstall(client: Client, args: &Args) -> Result<(), UninstallError> {
    let hook = Hook {
        maps: Api::namespaced(client.clone(), &args.namespace),
        nodes: Api::all(client),
        args,
    };
    let mut term = signal(SignalKind::terminate())?;
    let steps = async {
        let mut complaints = Complaints::default();
        let until = Instant::now() + Duration::from_secs(args.timeout_seconds);
        let expires_unix = now_unix()
            .saturating_add(args.timeout_seconds)
            .saturating_add(MARGIN_SECONDS);
        for step in [Step::Release, Step::Remove] {
            hook.step(step, until, expires_unix, &mut complaints)
                .await?;
        }
        hook.keep_removed().await;
        Ok(())
    };
    let outcome = tokio::select! {
        outcome = steps => outcome,
        _ = term.recv() => Err(UninstallError::Ended),
    };
    if outcome.is_err() {
        hook.take_back().await;
    }
    outcome
}

/// What went wrong, said once: every look at a control plane that restarts goes wrong in the same way.
#[derive(Default)]
struct Complaints(BTreeSet<String>);

impl Complaints {
    fn warn(&mut self, error: &ClusterError) {
        let text = with_causes(error).to_string();
        if self.0.insert(text.clone()) {
            warn!("{text}; trying again");
        }
    }
}

struct Hook<'a> {
    maps: Api<ConfigMap>,
    nodes: Api<Node>,
    args: &'a Args,
}

impl Hook<'_> {
    /// Asks every node for a step and waits until all have taken it. What Kubernetes does not do is tried again.
    async fn step(
        &self,
        step: Step,
        until: Instant,
        expires_unix: u64,
        complaints: &mut Complaints,
    ) -> Result<(), UninstallError> {
        let mut asked = false;
        let mut last = None;
        loop {
            let answers = match self.look(step, expires_unix, &mut asked).await {
                Ok(answers) => answers,
                Err(UninstallError::Cluster(error)) if Instant::now() <= until => {
                    complaints.warn(&error);
                    sleep(POLL).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if !answers.refused.is_empty() {
                return Err(UninstallError::Refused(answers.refused));
            }
            if answers.waiting.is_empty() {
                for node in answers.skipped {
                    warn!(
                        "node {node} is not Ready and was skipped: run `wasm-interp node uninstall` there"
                    );
                }
                info!("{step:?}: all nodes have");
                return Ok(());
            }
            if Instant::now() > until {
                let after = self.args.timeout_seconds;
                return Err(UninstallError::Slow {
                    after,
                    nodes: answers.waiting,
                });
            }
            if last.as_ref() != Some(&answers) {
                info!("{step:?}: waiting for {} nodes", answers.waiting.len());
            }
            last = Some(answers);
            sleep(POLL).await;
        }
    }

    /// What the nodes say about a step that they are asked for.
    async fn look(
        &self,
        step: Step,
        expires_unix: u64,
        asked: &mut bool,
    ) -> Result<Answers, UninstallError> {
        if *asked {
            self.check_asked(&self.map().await?)?;
        } else {
            self.ask_for(step, expires_unix).await?;
            *asked = true;
        }
        let nodes = self.all_nodes().await?;
        let skip_unreachable = self.args.skip_unreachable;
        Ok(answers(&nodes, step, &self.args.id, skip_unreachable))
    }

    /// Writes the request. The first takes the place of whatever an attempt before this one left.
    async fn ask_for(&self, step: Step, expires_unix: u64) -> Result<(), UninstallError> {
        loop {
            let map = self.map().await?;
            if step != Step::Release {
                self.check_asked(&map)?;
            }
            let revision = map.data.as_ref().and_then(|data| data.get(REVISION));
            let request = Request {
                id: self.args.id.clone(),
                revision: revision
                    .cloned()
                    .ok_or_else(|| UninstallError::Revision(self.args.wanted.clone()))?,
                step,
                expires_unix,
            };
            if self.write(&map, Some(&request)).await? {
                return Ok(());
            }
        }
    }

    /// Whether this attempt's request is the one that agents follow.
    fn check_asked(&self, map: &ConfigMap) -> Result<(), UninstallError> {
        let revision = map.data.as_ref().and_then(|data| data.get(REVISION));
        let why = match Request::of(map) {
            Ok(Some(request)) if request.id != self.args.id => {
                format!("but that of another attempt, {}", request.id)
            }
            Ok(Some(request)) if Some(&request.revision) != revision => {
                "because an upgrade or rollback made it void".to_owned()
            }
            Ok(Some(_)) => return Ok(()),
            Ok(None) => "because somebody took it back".to_owned(),
            Err(_) => "because somebody wrote something else".to_owned(),
        };
        let map = self.args.wanted.clone();
        Err(UninstallError::Void { map, why })
    }

    /// Has the agents of nodes that have given the runtime up stay away from them until the release is deleted.
    async fn keep_removed(&self) {
        let expires_unix = now_unix().saturating_add(DELETED_WITHIN_SECONDS);
        if let Err(error) = self.ask_for(Step::Remove, expires_unix).await {
            warn!(
                "delete the release within {MARGIN_SECONDS} s, or nodes get the runtime back: {}",
                with_causes(&error)
            );
        }
    }

    /// Takes the request back if it is this attempt's. An agent takes it for void later in any case.
    async fn take_back(&self) {
        let mut complaints = Complaints::default();
        let mut last = None;
        let taken = timeout(TAKE_BACK, async {
            while let Err(error) = self.try_take_back().await {
                if let UninstallError::Cluster(error) = &error {
                    complaints.warn(error);
                }
                last = Some(error);
                sleep(POLL).await;
            }
        });
        if taken.await.is_err() {
            let why = last.map_or_else(
                || format!("no answer within {} s", TAKE_BACK.as_secs()),
                |error| with_causes(&error).to_string(),
            );
            warn!(
                "the request stays, and with it nodes that take no pods, until it is void, {MARGIN_SECONDS} s after \
                 this attempt's time: {why}"
            );
        }
    }

    async fn try_take_back(&self) -> Result<(), UninstallError> {
        loop {
            let map = match self.map().await {
                // Deleted with the release.
                Err(UninstallError::NoMap(_)) => return Ok(()),
                map => map?,
            };
            let ours = matches!(Request::of(&map), Ok(Some(request)) if request.id == self.args.id);
            if !ours || self.write(&map, None).await? {
                return Ok(());
            }
        }
    }

    async fn map(&self) -> Result<ConfigMap, UninstallError> {
        let name = &self.args.wanted;
        let map = ask(format!("read ConfigMap {name}"), self.maps.get_opt(name)).await?;
        map.ok_or_else(|| UninstallError::NoMap(name.clone()))
    }

    /// Makes that the request of the ConfigMap that was read; `false` if it has changed since.
    async fn write(
        &self,
        map: &ConfigMap,
        request: Option<&Request>,
    ) -> Result<bool, UninstallError> {
        let name = &self.args.wanted;
        let parameters = PatchParams {
            field_manager: Some(CONTROLLER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(json!({
            "metadata": { "resourceVersion": map.metadata.resource_version },
            "data": { REQUEST: request.map(|request| json!(request).to_string()) },
        }));
        let written = async {
            match self.maps.patch(name, &parameters, &patch).await {
                Ok(_) => Ok(true),
                Err(kube::Error::Api(status)) if status.is_conflict() => Ok(false),
                Err(error) => Err(error),
            }
        };
        Ok(ask(format!("change ConfigMap {name}"), written).await?)
    }

    async fn all_nodes(&self) -> Result<Vec<Node>, UninstallError> {
        let mut nodes = Vec::new();
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let list = ask("list the nodes", self.nodes.list(&page)).await?;
            nodes.extend(list.items);
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(nodes),
            }
        }
    }
}

/// Who has answered, and how. A node without the annotation has nothing of ours.
fn answers(nodes: &[Node], step: Step, request: &str, skip_unreachable: bool) -> Answers {
    let mut answers = Answers::default();
    for node in nodes {
        let Some(state) = State::of(node) else {
            continue;
        };
        let name = node.name_any();
        let answered = state.request.as_deref() == Some(request);
        match (state.phase, step) {
            (Phase::InUse, _) if answered => {
                let users: Vec<&str> = state.users.iter().map(String::as_str).collect();
                answers.refused.insert(
                    name,
                    format!("in use by {}; delete these first", users.join(", ")),
                );
            }
            (Phase::Failed, _) if answered => {
                let way_out = format!(
                    "if nothing of wasm-interp is there, kubectl annotate node {name} {STATE_ANNOTATION}-"
                );
                answers
                    .refused
                    .insert(name, format!("{}; {way_out}", state.message));
            }
            (Phase::Released, Step::Release) if answered => {}
            _ if !is_reachable(node) => {
                if skip_unreachable {
                    answers.skipped.insert(name);
                } else {
                    let why = "is not Ready; upgrade the release with uninstall.skipUnreachable=true to leave it as it is";
                    answers.waiting.insert(name, why.to_owned());
                }
            }
            (phase, _) => {
                let why = format!("{phase:?}: {}; is its agent's pod running?", state.message);
                answers.waiting.insert(name, why);
            }
        }
    }
    answers
}

fn is_reachable(node: &Node) -> bool {
    let conditions = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|conditions| {
        conditions
            .iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{NodeCondition, NodeStatus};

    fn node(name: &str, ready: &str, state: Option<State>) -> Node {
        let condition = NodeCondition {
            type_: "Ready".to_owned(),
            status: ready.to_owned(),
            ..Default::default()
        };
        let mut node = Node {
            status: Some(NodeStatus {
                conditions: Some(vec![condition]),
                ..Default::default()
            }),
            ..Default::default()
        };
        node.metadata.name = Some(name.to_owned());
        node.metadata.annotations =
            state.map(|state| [(STATE_ANNOTATION.to_owned(), json!(state).to_string())].into());
        node
    }

    fn state(phase: Phase, request: &str) -> Option<State> {
        Some(State::new(phase, "said so").answering(request))
    }

    #[test]
    fn nodes_without_us_are_not_waited_for() {
        let nodes = [node("a", "True", None), node("b", "Unknown", None)];
        assert_eq!(
            answers(&nodes, Step::Release, "now", false),
            Answers::default()
        );
    }

    #[test]
    fn only_answers_to_this_attempt_count() {
        for phase in [Phase::Released, Phase::InUse, Phase::Failed, Phase::Ready] {
            let got = answers(
                &[node("a", "True", state(phase, "before"))],
                Step::Release,
                "now",
                false,
            );
            assert_eq!((got.refused.len(), got.waiting.len()), (0, 1), "{phase:?}");
        }
    }

    #[test]
    fn a_released_node_still_has_to_remove() {
        let nodes = [node("a", "True", state(Phase::Released, "now"))];
        assert_eq!(
            answers(&nodes, Step::Release, "now", false),
            Answers::default()
        );
        assert_eq!(answers(&nodes, Step::Remove, "now", false).waiting.len(), 1);
    }

    #[test]
    fn a_refusal_names_node_and_pods() {
        let used = state(Phase::InUse, "now")
            .map(|state| state.used_by(["shop/one".into(), "shop/two".into()].into()));
        let got = answers(&[node("a", "True", used)], Step::Release, "now", false);
        let text = UninstallError::Refused(got.refused).to_string();
        assert!(
            text.contains("node a: in use by shop/one, shop/two"),
            "{text}"
        );
    }

    #[test]
    fn an_unreachable_node_is_skipped_only_if_told() {
        let nodes = [node("a", "Unknown", state(Phase::Ready, ""))];
        let got = answers(&nodes, Step::Release, "now", false);
        assert!(
            got.waiting["a"].contains("uninstall.skipUnreachable"),
            "{got:?}"
        );
        let got = answers(&nodes, Step::Release, "now", true);
        assert!(
            got.waiting.is_empty() && got.skipped.contains("a"),
            "{got:?}"
        );
    }
}
