//! The ceiling: the most that a container may be granted.

use std::fmt::Display;

use thiserror::Error;

use crate::address::AddressClass;
use crate::host::HostPattern;
use crate::rule::{ConnectRule, ListenRule};
use crate::rules::{NetworkMode, NetworkRules};
use crate::{CONNECT_ANNOTATION, LISTEN_ANNOTATION, NETWORK_ANNOTATION};

/// Something that exceeds a ceiling.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{what:?} exceeds it: it allows {allowed}")]
pub struct CeilingError {
    /// The annotation that asks for it, or would.
    pub annotation: &'static str,
    /// The name of the setting in [`NetworkRules`].
    pub setting: &'static str,
    /// The rule, or the mode.
    pub what: String,
    /// What the ceiling allows of this, in words.
    pub allowed: String,
}

impl NetworkRules {
    /// Whether all of it is beneath `ceiling`. A rule has to be beneath one rule of the ceiling, or beneath its mode.
    ///
    /// A rule by name is beneath a rule by address, if the ports are: which of its addresses are reached
    /// is checked when it is used.
    ///
    /// # Errors
    /// The first mode or rule that is not.
    pub fn check(&self, ceiling: &Self) -> Result<(), CeilingError> {
        if self.mode == NetworkMode::Pod && ceiling.mode == NetworkMode::None {
            return Err(CeilingError {
                annotation: NETWORK_ANNOTATION,
                setting: "mode",
                what: self.mode.to_string(),
                allowed: "none".to_owned(),
            });
        }
        if let Some(rule) = self.listen.iter().find(|rule| !ceiling.has_listen(rule)) {
            return Err(CeilingError {
                annotation: LISTEN_ANNOTATION,
                setting: "listen",
                what: rule.to_string(),
                allowed: allowed(ceiling.mode, &ceiling.listen, None),
            });
        }
        if let Some(rule) = self.connect.iter().find(|rule| !ceiling.has_connect(rule)) {
            return Err(CeilingError {
                annotation: CONNECT_ANNOTATION,
                setting: "connect",
                what: rule.to_string(),
                allowed: allowed(ceiling.mode, &ceiling.connect, beyond_every_mode(rule)),
            });
        }
        Ok(())
    }

    /// What of it is beneath `ceiling`: whole rules, as in [`NetworkRules::check`].
    #[must_use]
    pub fn cut(&self, ceiling: &Self) -> Self {
        let mode = match (self.mode, ceiling.mode) {
            (NetworkMode::Pod, NetworkMode::Pod) => NetworkMode::Pod,
            _ => NetworkMode::None,
        };
        let listen = self.listen.iter().filter(|rule| ceiling.has_listen(rule));
        let connect = self.connect.iter().filter(|rule| ceiling.has_connect(rule));
        Self {
            mode,
            listen: listen.cloned().collect(),
            connect: connect.cloned().collect(),
        }
    }

    pub(crate) fn has_listen(&self, rule: &ListenRule) -> bool {
        let by_mode = self.mode == NetworkMode::Pod && matches!(rule, ListenRule::Ports { .. });
        by_mode || self.listen.iter().any(|own| own.covers(rule))
    }

    pub(crate) fn has_connect(&self, rule: &ConnectRule) -> bool {
        let by_mode = self.mode == NetworkMode::Pod
            && match rule {
                ConnectRule::Dns => true,
                ConnectRule::Unix(_) => false,
                ConnectRule::Host { host, .. } => match host {
                    HostPattern::Block(block) => matches!(
                        block.class(),
                        AddressClass::Ordinary | AddressClass::Loopback
                    ),
                    HostPattern::Every | HostPattern::Localhost | HostPattern::Name(_) => true,
                },
            };
        by_mode || self.connect.iter().any(|own| own.covers(rule))
    }
}

/// The addresses of `rule` in words, if they are none of the pod's network in any mode.
fn beyond_every_mode(rule: &ConnectRule) -> Option<&'static str> {
    let ConnectRule::Host {
        host: HostPattern::Block(block),
        ..
    } = rule
    else {
        return None;
    };
    match block.class() {
        AddressClass::Ordinary | AddressClass::Loopback => None,
        AddressClass::LinkLocal => Some("link-local addresses"),
        AddressClass::Multicast => Some("multicast addresses"),
        AddressClass::Metadata => Some("metadata addresses"),
        AddressClass::Translated => Some("addresses that a translator makes special ones of"),
    }
}

/// What a ceiling allows, in words. `never` is what was asked for and is no part of the pod's network.
fn allowed<R: Display>(mode: NetworkMode, rules: &[R], never: Option<&str>) -> String {
    /// More would hide the error in a log.
    const SHOWN: usize = 8;
    let mut words: Vec<String> = Vec::new();
    if mode == NetworkMode::Pod {
        words.push(match never {
            Some(never) => format!("the pod's network (of which {never} are never a part)"),
            None => "the pod's network".to_owned(),
        });
    }
    words.extend(rules.iter().take(SHOWN).map(ToString::to_string));
    if rules.len() > SHOWN {
        words.push(format!("{} more", rules.len() - SHOWN));
    }
    if words.is_empty() {
        "none".to_owned()
    } else {
        words.join(", ")
    }
}

impl ListenRule {
    /// Whether all that `other` allows is allowed by this rule too.
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Ports { transport, ports },
                Self::Ports {
                    transport: other,
                    ports: others,
                },
            ) => transport == other && ports.covers(*others),
            (Self::Unix(path), Self::Unix(other)) => path.covers(other),
            _ => false,
        }
    }
}

impl ConnectRule {
    /// Whether all that `other` allows is allowed by this rule too, or is checked against it when it is used.
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Host {
                    transport,
                    host,
                    ports,
                },
                Self::Host {
                    transport: other,
                    host: hosts,
                    ports: others,
                },
            ) => transport == other && ports.covers(*others) && host.covers(hosts),
            (Self::Unix(path), Self::Unix(other)) => path.covers(other),
            (Self::Dns, Self::Dns) => true,
            _ => false,
        }
    }
}

impl HostPattern {
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Every, Self::Every | Self::Name(_)) | (Self::Localhost, Self::Localhost) => true,
            (Self::Every, Self::Block(block)) => block.class() == AddressClass::Ordinary,
            (Self::Localhost, Self::Block(block)) => block.class() == AddressClass::Loopback,
            (Self::Block(own), Self::Block(block)) => {
                own.covers(block) && own.class() == block.class()
            }
            // Its addresses are checked against the ceiling when it is used.
            (Self::Block(own), Self::Name(_)) => own.class() == AddressClass::Ordinary,
            (Self::Name(own), Self::Name(name)) => own == name,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_of_special_addresses_says_that_no_mode_has_them() {
        let ceiling = NetworkRules {
            mode: NetworkMode::Pod,
            ..NetworkRules::none()
        };
        for (rule, expected) in [
            ("tcp:169.254.169.254:80", "metadata addresses are never a"),
            ("udp:[fd00:ec2::254]:53", "metadata addresses are never a"),
            ("tcp:169.254.0.0/16:*", "link-local addresses are never a"),
            ("udp:224.0.0.251:5353", "multicast addresses are never a"),
            (
                "tcp:[64:ff9b::a9fe:a9fe]:80",
                "a translator makes special ones of are never a",
            ),
        ] {
            let asked = NetworkRules {
                connect: vec![rule.parse().expect(rule)],
                ..NetworkRules::none()
            };
            let error = asked.check(&ceiling).expect_err(rule);
            let expected = format!("{expected} part)");
            assert!(error.allowed.starts_with("the pod's network (of which "));
            assert!(error.allowed.ends_with(&expected), "{rule}: {error}");
        }
        let asked = NetworkRules {
            connect: vec!["unix:/run/s".parse().expect("a rule")],
            ..NetworkRules::none()
        };
        let error = asked.check(&ceiling).expect_err("no mode has Unix sockets");
        assert_eq!(error.allowed, "the pod's network");
    }
}
