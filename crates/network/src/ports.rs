//! Ports and ranges of them.

use std::fmt;
use std::ops::RangeInclusive;

/// Ports from the first to the last, both included. Never port 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// `*`.
    pub const EVERY: Self = Self {
        first: 1,
        last: u16::MAX,
    };

    /// The ports from `first` to `last`; `None` if that holds port 0 or nothing.
    pub(crate) fn new(first: u16, last: u16) -> Option<Self> {
        (0 < first && first <= last).then_some(Self { first, last })
    }

    /// Whether `port` is one of them.
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    /// Whether all of `other` are among them.
    pub(crate) fn covers(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// The ports, as numbers.
    #[must_use]
    pub fn range(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::EVERY {
            f.write_str("*")
        } else if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// What is wrong with a text for ports.
pub(crate) enum PortsProblem {
    NotANumber,
    Zero,
    Reversed { first: u16, last: u16 },
}

/// `8080`, `8080-8090` or `*`.
pub(crate) fn parse(text: &str) -> Result<PortRange, PortsProblem> {
    if text == "*" {
        return Ok(PortRange::EVERY);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| {
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse::<u16>().ok()).flatten()
    };
    match (number(first), number(last)) {
        (Some(0), _) | (_, Some(0)) => Err(PortsProblem::Zero),
        (Some(first), Some(last)) => {
            PortRange::new(first, last).ok_or(PortsProblem::Reversed { first, last })
        }
        _ => Err(PortsProblem::NotANumber),
    }
}

/// Ports that are granted at all, whatever the address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PortSet {
    /// None.
    #[default]
    None,
    /// These, in no order. They may overlap.
    Some(Vec<PortRange>),
    /// Every port, 0 included.
    Every,
}

impl PortSet {
    /// Whether any port is granted.
    #[must_use]
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(crate) fn add(&mut self, ports: PortRange) {
        match self {
            _ if ports == PortRange::EVERY => *self = Self::Every,
            Self::None => *self = Self::Some(vec![ports]),
            Self::Some(ranges) => ranges.push(ports),
            Self::Every => {}
        }
    }
}
