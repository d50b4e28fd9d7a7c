//! The pre-delete hook: has every node let go of its pods, and then of the runtime. It changes no node itself; it
//! writes the request into the ConfigMap and reads what the agents say. Unless all goes well it takes the request
//! back, so that a release that is not deleted stays installed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::agent::{AgentError, client};
use crate::cluster::{ClusterError, ask};
use crate::names::{CONTROLLER, STATE_ANNOTATION};
use crate::state::{Phase, State};
use crate::wanted::{REQUEST, REVISION, Request, Step};

/// Between two looks at the nodes.
const POLL: Duration = Duration::from_secs(2);
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
    #[error("cannot wait for signals")]
    Signal(#[from] std::io::Error),
    #[error("told to end before all nodes had given the runtime up: nothing more is taken away")]
    Ended,
    #[error("these nodes cannot be uninstalled, so nothing was deleted:\n{}", listed(.0))]
    Refused(BTreeMap<String, String>),
    #[error("after {after} s these nodes had not answered, so nothing was deleted:\n{}", listed(.nodes))]
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
        let until = Instant::now() + Duration::from_secs(args.timeout_seconds);
        for step in [Step::Release, Step::Remove] {
            hook.step(step, until).await?;
        }
        Ok(())
    };
    let outcome = tokio::select! {
        outcome = steps => outcome,
        _ = term.recv() => Err(UninstallError::Ended),
    };
    if outcome.is_err()
        && let Err(error) = hook.ask_for(None).await
    {
        warn!(
            "the request stays, and with it nodes that take no pods, until an upgrade or another attempt: {}",
            wasm_interp_workload::with_causes(&error)
        );
    }
    outcome
}

struct Hook<'a> {
    maps: Api<ConfigMap>,
    nodes: Api<Node>,
    args: &'a Args,
}

impl Hook<'_> {
    async fn step(&self, step: Step, until: Instant) -> Result<(), UninstallError> {
        self.ask_for(Some(step)).await?;
        let mut last = None;
        loop {
            let answers = answers(
                &self.all_nodes().await?,
                step,
                &self.args.id,
                self.args.skip_unreachable,
            );
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

    /// Writes the request, or takes it back.
    async fn ask_for(&self, step: Option<Step>) -> Result<(), UninstallError> {
        let name = &self.args.wanted;
        let map = ask(format!("read ConfigMap {name}"), self.maps.get(name)).await?;
        let revision = map.data.and_then(|mut data| data.remove(REVISION));
        let request = match step {
            None => None,
            Some(step) => Some(
                json!(Request {
                    id: self.args.id.clone(),
                    revision: revision.ok_or_else(|| UninstallError::Revision(name.clone()))?,
                    step,
                })
                .to_string(),
            ),
        };
        let parameters = PatchParams {
            field_manager: Some(CONTROLLER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(json!({ "data": { REQUEST: request } }));
        ask(
            format!("change ConfigMap {name}"),
            self.maps.patch(name, &parameters, &patch),
        )
        .await?;
        Ok(())
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
