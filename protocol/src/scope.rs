//! Roles and scopes: what a principal may do, and which scope includes which.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The two kinds of peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Somebody who gives orders: a person's client.
    Operator,
    /// A device that carries them out.
    Node,
}

impl Role {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Node => "node",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! scopes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// One right of an operator. The set is closed; an unknown name grants nothing.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Scope {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
        }

        impl Scope {
            /// Every scope there is.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The word on the wire.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }

        impl FromStr for Scope {
            type Err = UnknownScope;

            fn from_str(text: &str) -> Result<Self, UnknownScope> {
                match text {
                    $($text => Ok(Self::$name),)*
                    _ => Err(UnknownScope),
                }
            }
        }
    };
}

scopes! {
    /// Everything.
    Admin = "operator.admin",
    /// Look at anything that is not secret.
    Read = "operator.read",
    /// Send messages, run agents, invoke nodes.
    Write = "operator.write",
    /// Answer exec approvals.
    Approvals = "operator.approvals",
    /// Answer questions of agents.
    Questions = "operator.questions",
    /// Approve, rename and remove devices.
    Pairing = "operator.pairing",
    /// Voice sessions.
    Talk = "operator.talk",
    /// The keys behind voice sessions.
    TalkSecrets = "operator.talk.secrets",
    /// Read sessions only.
    SessionsRead = "operator.sessions.read",
    /// Change sessions only.
    SessionsWrite = "operator.sessions.write",
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A scope name outside the closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown scope")]
pub struct UnknownScope;

impl Scope {
    /// Whether holding `self` gives `wanted`.
    pub fn includes(self, wanted: Self) -> bool {
        if self == wanted {
            return true;
        }
        match self {
            Self::Admin => true,
            Self::Write => {
                matches!(
                    wanted,
                    Self::Read | Self::Talk | Self::SessionsRead | Self::SessionsWrite
                )
            }
            Self::Read => wanted == Self::SessionsRead,
            Self::Approvals
            | Self::Questions
            | Self::Pairing
            | Self::Talk
            | Self::TalkSecrets
            | Self::SessionsRead
            | Self::SessionsWrite => false,
        }
    }
}

/// A set of scopes, in the order they were named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scopes(Vec<Scope>);

impl Scopes {
    /// No right at all.
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Whether any member gives `wanted`.
    pub fn give(&self, wanted: Scope) -> bool {
        self.0.iter().any(|held| held.includes(wanted))
    }

    /// Whether every right in `other` is given by this set.
    pub fn cover(&self, other: &Self) -> bool {
        other.0.iter().all(|wanted| self.give(*wanted))
    }

    /// The members of this set that `ceiling` gives too: never more than either.
    #[must_use]
    pub fn within(&self, ceiling: &Self) -> Self {
        self.iter().filter(|scope| ceiling.give(*scope)).collect()
    }

    /// The members, in order.
    pub fn iter(&self) -> impl Iterator<Item = Scope> + '_ {
        self.0.iter().copied()
    }

    /// Whether the set has no member.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        let mut set = Vec::new();
        for scope in scopes {
            if !set.contains(&scope) {
                set.push(scope);
            }
        }
        Self(set)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_scopes() -> impl Strategy<Value = Scopes> {
        proptest::collection::vec(proptest::sample::select(Scope::ALL), 0..6).prop_map(|all| all.into_iter().collect())
    }

    proptest! {
        #[test]
        fn narrowing_never_gives_more_than_either_side(asked in any_scopes(), ceiling in any_scopes()) {
            let granted = asked.within(&ceiling);
            prop_assert!(asked.cover(&granted));
            prop_assert!(ceiling.cover(&granted));
        }
    }

    #[test]
    fn admin_gives_everything_and_write_gives_no_approvals() {
        assert!(Scope::ALL.iter().all(|scope| Scope::Admin.includes(*scope)));
        assert!(!Scope::Write.includes(Scope::Approvals));
        assert!(!Scope::Read.includes(Scope::Write));
    }

    #[test]
    fn names_round_trip() {
        for scope in Scope::ALL {
            assert_eq!(scope.as_str().parse(), Ok(*scope));
        }
    }
}
