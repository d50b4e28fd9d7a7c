//! Lists of rules, as an annotation and the policy hold them.

use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::rule::{ConnectRule, ListenRule, RuleError};

/// The most rules of a list: each check reads all of them.
pub const MAX_RULES: usize = 256;

/// Whether a guest has the pod's network without a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkMode {
    /// Only what rules name.
    #[default]
    None,
    /// Whatever the network of the pod allows: any port, any ordinary address, and the pod's own loopback.
    /// Never link-local, multicast and metadata addresses.
    Pod,
}

impl Display for NetworkMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Pod => "pod",
        })
    }
}

/// Rules as they are written: a default, a ceiling, or what a container asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkRules {
    /// Whether the pod's network is part of it.
    pub mode: NetworkMode,
    /// What to listen on.
    #[serde(serialize_with = "write_list", deserialize_with = "read_list")]
    pub listen: Vec<ListenRule>,
    /// What to connect and send to.
    #[serde(serialize_with = "write_list", deserialize_with = "read_list")]
    pub connect: Vec<ConnectRule>,
}

impl NetworkRules {
    /// Nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Whether they allow nothing.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::none()
    }
}

/// Why a list of rules cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RuleListError {
    /// A rule of it cannot be used.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// Too many rules.
    #[error(
        "{count} rules are too many; write at most {MAX_RULES}: join ports into ranges and \
         addresses into blocks"
    )]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// Not a mode.
    #[error("{value:?} is not a mode; write none or pod")]
    Mode {
        /// The text.
        value: String,
    },
}

/// Reads the value of [`crate::LISTEN_ANNOTATION`]: rules between commas. An empty text is no rule.
///
/// # Errors
/// Names the first rule that cannot be used, and what to write instead.
pub fn parse_listen(text: &str) -> Result<Vec<ListenRule>, RuleListError> {
    list(text)
}

/// Reads the value of [`crate::CONNECT_ANNOTATION`]: rules between commas. An empty text is no rule.
///
/// # Errors
/// Names the first rule that cannot be used, and what to write instead.
pub fn parse_connect(text: &str) -> Result<Vec<ConnectRule>, RuleListError> {
    list(text)
}

/// Reads the value of [`crate::NETWORK_ANNOTATION`].
///
/// # Errors
/// If it is neither `none` nor `pod`.
pub fn parse_mode(text: &str) -> Result<NetworkMode, RuleListError> {
    match text.trim() {
        "none" => Ok(NetworkMode::None),
        "pod" => Ok(NetworkMode::Pod),
        _ => Err(RuleListError::Mode {
            value: text.to_owned(),
        }),
    }
}

fn list<R: FromStr<Err = RuleError> + PartialEq>(text: &str) -> Result<Vec<R>, RuleListError> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let count = text.split(',').count();
    if count > MAX_RULES {
        return Err(RuleListError::TooMany { count });
    }
    let mut rules = Vec::new();
    for rule in text.split(',') {
        let rule = rule.trim().parse()?;
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    Ok(rules)
}

fn write_list<R: Display, S: Serializer>(rules: &[R], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(rules.iter().map(ToString::to_string))
}

/// A list of texts, each a rule, or one text as in an annotation.
fn read_list<'de, R, D>(deserializer: D) -> Result<Vec<R>, D::Error>
where
    R: FromStr<Err = RuleError> + PartialEq,
    D: Deserializer<'de>,
{
    struct ListVisitor<R>(PhantomData<R>);

    impl<'de, R: FromStr<Err = RuleError> + PartialEq> Visitor<'de> for ListVisitor<R> {
        type Value = Vec<R>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of rules, or a text with rules between commas")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<R>, E> {
            list(text).map_err(E::custom)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<Vec<R>, A::Error> {
            let mut rules = Vec::new();
            let mut count = 0;
            while let Some(text) = texts.next_element::<String>()? {
                count += 1;
                if count > MAX_RULES {
                    return Err(de::Error::custom(RuleListError::TooMany { count }));
                }
                let rule = text.trim().parse().map_err(de::Error::custom)?;
                if !rules.contains(&rule) {
                    rules.push(rule);
                }
            }
            Ok(rules)
        }
    }

    deserializer.deserialize_any(ListVisitor(PhantomData))
}
