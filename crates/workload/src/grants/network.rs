//! Decides what a guest gets of the network: its annotations, the node's default, and the ceiling over both.
//! Called by [`crate::resolve`].

use wasm_interp_network::{
    CONNECT_ANNOTATION, CeilingError, ConnectRule, LISTEN_ANNOTATION, ListenRule,
    NETWORK_ANNOTATION, Network, NetworkMode, NetworkRules, RuleListError, parse_connect,
    parse_listen, parse_mode,
};
use wasm_interp_policy::GuestNetworkPolicy;

use super::NO_UNIX_SOCKETS;
use crate::annotations::{AnnotationScope, AnnotationValue, Annotations};
use crate::error::PlanError;
use crate::plan::{Withheld, Withholding};
use crate::view::HostNetwork;

/// What the annotations ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NetworkRequest {
    listen: Option<AnnotationValue<Vec<ListenRule>>>,
    connect: Option<AnnotationValue<Vec<ConnectRule>>>,
    mode: Option<AnnotationValue<NetworkMode>>,
}

impl NetworkRequest {
    pub(crate) fn parse(annotations: &Annotations<'_>) -> Result<Self, PlanError> {
        let request = Self {
            listen: parsed(annotations, LISTEN_ANNOTATION, parse_listen)?,
            connect: parsed(annotations, CONNECT_ANNOTATION, parse_connect)?,
            mode: parsed(annotations, NETWORK_ANNOTATION, parse_mode)?,
        };
        match request.contradiction() {
            Some(error) => Err(error),
            None => Ok(request),
        }
    }

    /// An annotation that takes the network away, and one that grants some of it to as many containers. What is said for
    /// fewer containers has the last word.
    fn contradiction(&self) -> Option<PlanError> {
        let none = self.none()?;
        let listen = self.listen.as_ref().filter(|own| !own.value.is_empty());
        let connect = self.connect.as_ref().filter(|own| !own.value.is_empty());
        let listen = listen.map(|own| (&own.key, own.scope));
        let connect = connect.map(|own| (&own.key, own.scope));
        let (key, _) = [listen, connect]
            .into_iter()
            .flatten()
            .find(|(_, scope)| *scope == none.scope)?;
        Some(PlanError::NetworkNone {
            none: none.key.clone(),
            rules: key.clone(),
        })
    }

    /// The annotation that takes the network away.
    fn none(&self) -> Option<&AnnotationValue<NetworkMode>> {
        self.mode
            .as_ref()
            .filter(|mode| mode.value == NetworkMode::None)
    }

    /// What the guest gets by `policy`, and what of the node's default it does not get.
    pub(crate) fn resolve(
        self,
        policy: &GuestNetworkPolicy,
        host: HostNetwork,
    ) -> Result<(Network, Vec<Withheld>), PlanError> {
        let (ceiling, setting) = match host {
            HostNetwork::Separate => (&policy.ceiling, "network.ceiling"),
            HostNetwork::Shared => (&policy.host_network_ceiling, "network.host_network_ceiling"),
        };
        let none = self.none().map(|none| none.scope);
        let default = match none {
            Some(_) => NetworkRules::none(),
            None => policy.default.clone(),
        };
        let keys = [
            key(&self.mode, NETWORK_ANNOTATION),
            key(&self.listen, LISTEN_ANNOTATION),
            key(&self.connect, CONNECT_ANNOTATION),
        ];
        let mut asked = NetworkRules::none();
        let mut rest = default;
        if let Some(mode) = self.mode {
            asked.mode = mode.value;
            rest.mode = NetworkMode::None;
        }
        if let Some(listen) = self.listen {
            asked.listen = unless_taken(listen, none);
            rest.listen.clear();
        }
        if let Some(connect) = self.connect {
            asked.connect = unless_taken(connect, none);
            rest.connect.clear();
        }
        let exceeds = |error: CeilingError| {
            let found = keys.iter().find(|(own, _)| *own == error.annotation);
            let annotation = found.map_or(error.annotation, |(_, key)| key.as_str());
            PlanError::NetworkCeiling {
                annotation: annotation.to_owned(),
                what: error.what,
                allowed: error.allowed,
                setting: format!("{setting}.{}", error.setting),
            }
        };
        asked.check(ceiling).map_err(&exceeds)?;
        let cut = rest.cut(ceiling);
        let withheld = withheld(&rest, &cut, setting);
        let granted = NetworkRules {
            mode: if asked.mode == NetworkMode::Pod {
                NetworkMode::Pod
            } else {
                cut.mode
            },
            listen: [asked.listen, cut.listen].concat(),
            connect: [asked.connect, cut.connect].concat(),
        };
        // Both parts are beneath the ceiling, so their sum is.
        let network = Network::new(granted, ceiling.clone()).map_err(exceeds)?;
        Ok((network, withheld))
    }
}

/// The rules, unless they are for more containers than the annotation that takes the network away.
fn unless_taken<R>(rules: AnnotationValue<Vec<R>>, none: Option<AnnotationScope>) -> Vec<R> {
    if none.is_some_and(|none| rules.scope < none) {
        Vec::new()
    } else {
        rules.value
    }
}

/// The key as it is written, with the one that it stands for.
fn key<T>(annotated: &Option<AnnotationValue<T>>, known: &'static str) -> (&'static str, String) {
    let key = annotated.as_ref().map(|annotated| annotated.key.clone());
    (known, key.unwrap_or_else(|| known.to_owned()))
}

fn parsed<T>(
    annotations: &Annotations<'_>,
    key: &str,
    parse: impl FnOnce(&str) -> Result<T, RuleListError>,
) -> Result<Option<AnnotationValue<T>>, PlanError> {
    annotations
        .get(key)
        .map(|found| match parse(found.value) {
            Ok(value) => Ok(AnnotationValue {
                key: found.key,
                scope: found.scope,
                value,
            }),
            Err(source) => Err(PlanError::NetworkRules {
                annotation: found.key,
                source,
            }),
        })
        .transpose()
}

/// What a component gets of `network`, and its rules that have no effect then. So its process may not make what its
/// interface does not offer.
pub(crate) fn without_unix_sockets(network: Network) -> (Network, Vec<Withheld>) {
    let (network, taken) = network.without_unix();
    let withheld = written(&taken).map(|(name, rule)| Withheld {
        path: format!("network.{name}"),
        reason: format!("{rule} has no effect: {NO_UNIX_SOCKETS}"),
        by: Withholding::Network,
    });
    (network, withheld.collect())
}

/// Each rule as it is written, with the name of its list.
fn written(rules: &NetworkRules) -> impl Iterator<Item = (&'static str, String)> {
    let listen = rules.listen.iter().map(|rule| ("listen", rule.to_string()));
    let connect = rules.connect.iter();
    listen.chain(connect.map(|rule| ("connect", rule.to_string())))
}

/// What of the default the ceiling does not allow: under the node's network, whose ceiling is another one.
fn withheld(default: &NetworkRules, cut: &NetworkRules, setting: &str) -> Vec<Withheld> {
    let mode = (default.mode != cut.mode).then(|| ("mode", default.mode.to_string()));
    let kept: Vec<_> = written(cut).collect();
    mode.into_iter()
        .chain(written(default).filter(|rule| !kept.contains(rule)))
        .map(|(name, what)| Withheld {
            path: format!("network.default.{name}"),
            reason: format!(
                "{what} exceeds {setting}, which holds because the network is the node's"
            ),
            by: Withholding::Network,
        })
        .collect()
}
