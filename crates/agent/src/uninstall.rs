//! The pre-delete hook: first asks every node to release the runtime, and then to remove it. It does not change a node
//! itself: it writes the request into the ConfigMap and reads the replies of the agents. If a step fails, it withdraws the
//! request, so that a release that is not deleted stays installed.
//!
//! Removing the runtime from a k3s server restarts the API server. So an error of the API ends an attempt only after its
//! time limit.

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

use crate::desired_state::{REQUEST, REVISION, UninstallRequest, UninstallStep, now_unix};
use crate::kube_api::{ClientError, KubeApiError, client, request as send};
use crate::names::{CONTROLLER, STATE_ANNOTATION};
use crate::node_state::{NodeState, Phase};

/// The interval between two looks at the nodes.
const POLL: Duration = Duration::from_secs(2);
/// How long the hook tries to withdraw the request. The Job's `terminationGracePeriodSeconds` is longer.
const WITHDRAW_LIMIT: Duration = Duration::from_secs(60);
/// How much longer a request is valid than the hook needs it: for clocks that differ, and for the deletion of the release
/// after the last node has replied at the last moment.
const MARGIN_SECONDS: u64 = 60;
/// How long nodes stay without the runtime after all have removed it. A user without Helm has this time to delete the
/// release.
const DELETED_WITHIN_SECONDS: u64 = 3600;
/// The number of nodes in one response.
const PAGE: u32 = 500;

/// Uninstall the runtime from every node, or name the nodes that cannot.
#[derive(clap::Args)]
pub(crate) struct UninstallArgs {
    /// Namespace of the release.
    #[arg(long, env = "POD_NAMESPACE")]
    pub(crate) namespace: String,
    /// ConfigMap with the desired state of the nodes.
    #[arg(long, value_name = "NAME")]
    pub(crate) wanted: String,
    /// Identifies this attempt.
    #[arg(long, env = "POD_UID", value_name = "ID")]
    pub(crate) id: String,
    /// Seconds to wait for all nodes.
    #[arg(long, value_name = "N", default_value_t = 240)]
    pub(crate) timeout_seconds: u64,
    /// Skip nodes that are not Ready.
    #[arg(long)]
    pub(crate) skip_unreachable: bool,
}

/// Not every node has removed the runtime.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UninstallError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    KubeApi(#[from] KubeApiError),
    #[error(
        "cannot use ConfigMap {0}: it has no key {REVISION}; name the ConfigMap of the release"
    )]
    NoRevision(String),
    #[error(
        "cannot find ConfigMap {0}; run this in the release's namespace, before the release is \
         deleted"
    )]
    NoConfigMap(String),
    #[error(
        "cannot continue: ConfigMap {map} does not have this attempt's request any more, {why}; \
         nothing more is removed"
    )]
    Void { map: String, why: String },
    #[error("cannot wait for signals: {0}; raise the limit of open files")]
    Signal(#[from] std::io::Error),
    #[error(
        "cannot continue: received TERM before all nodes had removed the runtime; nothing more is \
         removed"
    )]
    Terminated,
    #[error(
        "cannot uninstall the runtime from these nodes, so nothing was deleted:\n{}",
        listed(.0)
    )]
    Refused(BTreeMap<String, String>),
    #[error(
        "cannot uninstall the runtime within {after} s (uninstall.timeoutSeconds): these nodes \
         have not replied, so nothing was deleted:\n{}",
        listed(.nodes)
    )]
    TimedOut {
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

/// The replies of the nodes to one step.
#[derive(Debug, Default, PartialEq, Eq)]
struct StepReplies {
    refused: BTreeMap<String, String>,
    waiting: BTreeMap<String, String>,
    skipped: BTreeSet<String>,
}

/// Runs both steps with this pod's service account.
pub(crate) async fn run(args: &UninstallArgs) -> Result<(), UninstallError> {
    uninstall(client()?, args).await
}

pub(crate) async fn uninstall(client: Client, args: &UninstallArgs) -> Result<(), UninstallError> {
    let hook = UninstallHook {
        maps: Api::namespaced(client.clone(), &args.namespace),
        nodes: Api::all(client),
        args,
    };
    let mut term = signal(SignalKind::terminate())?;
    let steps = async {
        let mut logged_errors = LoggedErrors::default();
        let until = Instant::now() + Duration::from_secs(args.timeout_seconds);
        let expires_unix = now_unix()
            .saturating_add(args.timeout_seconds)
            .saturating_add(MARGIN_SECONDS);
        for step in [UninstallStep::Release, UninstallStep::Remove] {
            hook.step(step, until, expires_unix, &mut logged_errors)
                .await?;
        }
        hook.keep_removed().await;
        Ok(())
    };
    let outcome = tokio::select! {
        outcome = steps => outcome,
        _ = term.recv() => Err(UninstallError::Terminated),
    };
    if outcome.is_err() {
        hook.withdraw().await;
    }
    outcome
}

/// The errors that were logged. While a control plane restarts, every request fails in the same way.
#[derive(Default)]
struct LoggedErrors(BTreeSet<String>);

impl LoggedErrors {
    fn warn(&mut self, error: &KubeApiError) {
        let text = with_causes(error).to_string();
        if self.0.insert(text.clone()) {
            warn!("{text}; the hook tries again");
        }
    }
}

struct UninstallHook<'a> {
    maps: Api<ConfigMap>,
    nodes: Api<Node>,
    args: &'a UninstallArgs,
}

impl UninstallHook<'_> {
    /// Asks every node to do a step, and waits until all have done it. A request that fails is tried again.
    async fn step(
        &self,
        step: UninstallStep,
        until: Instant,
        expires_unix: u64,
        logged_errors: &mut LoggedErrors,
    ) -> Result<(), UninstallError> {
        let mut is_requested = false;
        let mut last = None;
        loop {
            let replies = match self.poll(step, expires_unix, &mut is_requested).await {
                Ok(replies) => replies,
                Err(UninstallError::KubeApi(error)) if Instant::now() <= until => {
                    logged_errors.warn(&error);
                    sleep(POLL).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if !replies.refused.is_empty() {
                return Err(UninstallError::Refused(replies.refused));
            }
            if replies.waiting.is_empty() {
                for node in replies.skipped {
                    warn!(
                        "skipped node {node}, which is not Ready: run `wasm-interp node \
                         uninstall` there"
                    );
                }
                info!("{step:?}: done on all nodes");
                return Ok(());
            }
            if Instant::now() > until {
                let after = self.args.timeout_seconds;
                return Err(UninstallError::TimedOut {
                    after,
                    nodes: replies.waiting,
                });
            }
            if last.as_ref() != Some(&replies) {
                info!("{step:?}: waiting for {} nodes", replies.waiting.len());
            }
            last = Some(replies);
            sleep(POLL).await;
        }
    }

    /// Requests the step, if that is not done yet, and reads the replies.
    async fn poll(
        &self,
        step: UninstallStep,
        expires_unix: u64,
        is_requested: &mut bool,
    ) -> Result<StepReplies, UninstallError> {
        if *is_requested {
            self.check_request(&self.config_map().await?)?;
        } else {
            self.request_step(step, expires_unix).await?;
            *is_requested = true;
        }
        let nodes = self.all_nodes().await?;
        let skip_unreachable = self.args.skip_unreachable;
        Ok(replies(&nodes, step, &self.args.id, skip_unreachable))
    }

    /// Writes the request. The first step replaces the request of an earlier attempt.
    async fn request_step(
        &self,
        step: UninstallStep,
        expires_unix: u64,
    ) -> Result<(), UninstallError> {
        loop {
            let map = self.config_map().await?;
            if step != UninstallStep::Release {
                self.check_request(&map)?;
            }
            let revision = map.data.as_ref().and_then(|data| data.get(REVISION));
            let request = UninstallRequest {
                id: self.args.id.clone(),
                revision: revision
                    .cloned()
                    .ok_or_else(|| UninstallError::NoRevision(self.args.wanted.clone()))?,
                step,
                expires_unix,
            };
            if self.write(&map, Some(&request)).await? {
                return Ok(());
            }
        }
    }

    /// Checks that the ConfigMap has this attempt's request, and that it is valid.
    fn check_request(&self, map: &ConfigMap) -> Result<(), UninstallError> {
        let revision = map.data.as_ref().and_then(|data| data.get(REVISION));
        let why = match UninstallRequest::of(map) {
            Ok(Some(request)) if request.id != self.args.id => {
                format!("but that of another attempt, {}", request.id)
            }
            Ok(Some(request)) if Some(&request.revision) != revision => {
                "because an upgrade or rollback made it void".to_owned()
            }
            Ok(Some(_)) => return Ok(()),
            Ok(None) => "because it was withdrawn".to_owned(),
            Err(_) => "because another program wrote something else".to_owned(),
        };
        let map = self.args.wanted.clone();
        Err(UninstallError::Void { map, why })
    }

    /// Makes the request valid for longer, so that no agent installs the runtime again before the release is deleted.
    async fn keep_removed(&self) {
        let expires_unix = now_unix().saturating_add(DELETED_WITHIN_SECONDS);
        if let Err(error) = self.request_step(UninstallStep::Remove, expires_unix).await {
            warn!(
                "cannot extend the request: {}; delete the release within {MARGIN_SECONDS} s, or \
                 the agents install the runtime again",
                with_causes(&error)
            );
        }
    }

    /// Withdraws the request if it is this attempt's. If that fails, the request expires.
    async fn withdraw(&self) {
        let mut logged_errors = LoggedErrors::default();
        let mut last = None;
        let withdrawn = timeout(WITHDRAW_LIMIT, async {
            while let Err(error) = self.try_withdraw().await {
                if let UninstallError::KubeApi(error) = &error {
                    logged_errors.warn(error);
                }
                last = Some(error);
                sleep(POLL).await;
            }
        });
        if withdrawn.await.is_err() {
            let why = last.map_or_else(
                || format!("no reply within {} s", WITHDRAW_LIMIT.as_secs()),
                |error| with_causes(&error),
            );
            warn!(
                "cannot withdraw the request: {why}; nodes get no Wasm pods until it expires, \
                 {MARGIN_SECONDS} s after the time limit of this attempt"
            );
        }
    }

    async fn try_withdraw(&self) -> Result<(), UninstallError> {
        loop {
            let map = match self.config_map().await {
                // It was deleted with the release.
                Err(UninstallError::NoConfigMap(_)) => return Ok(()),
                map => map?,
            };
            let request = UninstallRequest::of(&map).ok().flatten();
            let ours = request.is_some_and(|request| request.id == self.args.id);
            if !ours || self.write(&map, None).await? {
                return Ok(());
            }
        }
    }

    async fn config_map(&self) -> Result<ConfigMap, UninstallError> {
        let name = &self.args.wanted;
        let map = send(format!("read ConfigMap {name}"), self.maps.get_opt(name)).await?;
        map.ok_or_else(|| UninstallError::NoConfigMap(name.clone()))
    }

    /// Writes the request into the ConfigMap, or removes it. `false` if the ConfigMap has changed since it was read.
    async fn write(
        &self,
        map: &ConfigMap,
        request: Option<&UninstallRequest>,
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
        Ok(send(format!("change ConfigMap {name}"), written).await?)
    }

    async fn all_nodes(&self) -> Result<Vec<Node>, UninstallError> {
        let mut nodes = Vec::new();
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let list = send("list the nodes", self.nodes.list(&page)).await?;
            nodes.extend(list.items);
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(nodes),
            }
        }
    }
}

/// The replies in the annotations of the nodes. A node without the annotation has nothing of ours.
fn replies(
    nodes: &[Node],
    step: UninstallStep,
    request: &str,
    skip_unreachable: bool,
) -> StepReplies {
    let mut replies = StepReplies::default();
    for node in nodes {
        let Some(state) = NodeState::of(node) else {
            continue;
        };
        let name = node.name_any();
        let replied = state.request.as_deref() == Some(request);
        match (state.phase, step) {
            (Phase::InUse, _) if replied => {
                let users: Vec<&str> = state.users.iter().map(String::as_str).collect();
                replies.refused.insert(
                    name,
                    format!("in use by {}; delete these first", users.join(", ")),
                );
            }
            (Phase::Failed, _) if replied => {
                let way_out = format!(
                    "if the node has no files of wasm-interp, kubectl annotate node {name} \
                     {STATE_ANNOTATION}-"
                );
                replies
                    .refused
                    .insert(name, format!("{}; {way_out}", state.message));
            }
            (Phase::Released, UninstallStep::Release) if replied => {}
            _ if !is_reachable(node) => {
                if skip_unreachable {
                    replies.skipped.insert(name);
                } else {
                    let why = "is not Ready; upgrade the release with \
                               uninstall.skipUnreachable=true to skip it";
                    replies.waiting.insert(name, why.to_owned());
                }
            }
            (phase, _) => {
                let why = format!(
                    "{phase:?}: {}; check that its agent's pod runs",
                    state.message
                );
                replies.waiting.insert(name, why);
            }
        }
    }
    replies
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

    fn node(name: &str, ready: &str, state: Option<NodeState>) -> Node {
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

    fn state(phase: Phase, request: &str) -> Option<NodeState> {
        Some(NodeState::new(phase, "a message").replying_to(request))
    }

    #[test]
    fn hook_does_not_wait_for_nodes_without_the_annotation() {
        let nodes = [node("a", "True", None), node("b", "Unknown", None)];
        assert_eq!(
            replies(&nodes, UninstallStep::Release, "now", false),
            StepReplies::default()
        );
    }

    #[test]
    fn only_answers_to_this_attempt_count() {
        for phase in [Phase::Released, Phase::InUse, Phase::Failed, Phase::Ready] {
            let got = replies(
                &[node("a", "True", state(phase, "before"))],
                UninstallStep::Release,
                "now",
                false,
            );
            assert_eq!((got.refused.len(), got.waiting.len()), (0, 1), "{phase:?}");
        }
    }

    #[test]
    fn released_node_still_has_to_remove() {
        let nodes = [node("a", "True", state(Phase::Released, "now"))];
        assert_eq!(
            replies(&nodes, UninstallStep::Release, "now", false),
            StepReplies::default()
        );
        assert_eq!(
            replies(&nodes, UninstallStep::Remove, "now", false)
                .waiting
                .len(),
            1
        );
    }

    #[test]
    fn refusal_names_the_node_and_its_pods() {
        let used = state(Phase::InUse, "now")
            .map(|state| state.used_by(["shop/one".into(), "shop/two".into()].into()));
        let got = replies(
            &[node("a", "True", used)],
            UninstallStep::Release,
            "now",
            false,
        );
        let text = UninstallError::Refused(got.refused).to_string();
        assert!(
            text.contains("node a: in use by shop/one, shop/two"),
            "{text}"
        );
    }

    #[test]
    fn unreachable_node_is_skipped_only_on_request() {
        let nodes = [node("a", "Unknown", state(Phase::Ready, ""))];
        let got = replies(&nodes, UninstallStep::Release, "now", false);
        assert!(
            got.waiting["a"].contains("uninstall.skipUnreachable"),
            "{got:?}"
        );
        let got = replies(&nodes, UninstallStep::Release, "now", true);
        assert!(
            got.waiting.is_empty() && got.skipped.contains("a"),
            "{got:?}"
        );
    }
}
