//! What a device says it can do, and the parts of that which its owner approved.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bounded;

/// Capabilities and commands of a node, as declared or as approved.
///
/// A declaration is a claim: it can narrow what was approved and never widen it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Surface {
    /// Families, e.g. `system`, `camera`.
    #[serde(deserialize_with = "bounded::names")]
    pub caps: Vec<String>,
    /// Commands, e.g. `system.run`.
    #[serde(deserialize_with = "bounded::names")]
    pub commands: Vec<String>,
    /// Permissions that the device's system has given, by name.
    #[serde(default, deserialize_with = "bounded::permissions")]
    pub permissions: BTreeMap<String, bool>,
}

impl Surface {
    /// Whether `command` is in it.
    pub fn offers(&self, command: &str) -> bool {
        self.commands.iter().any(|offered| offered == command)
    }

    /// The entries of this surface that are in `ceiling` too, in this surface's order.
    #[must_use]
    pub fn within(&self, ceiling: &Self) -> Self {
        Self {
            caps: self
                .caps
                .iter()
                .filter(|cap| ceiling.caps.contains(cap))
                .cloned()
                .collect(),
            commands: self
                .commands
                .iter()
                .filter(|command| ceiling.offers(command))
                .cloned()
                .collect(),
            permissions: self.permissions.clone(),
        }
    }

    /// Whether `other` names nothing that is not in this surface.
    pub fn covers(&self, other: &Self) -> bool {
        other.caps.iter().all(|cap| self.caps.contains(cap))
            && other.commands.iter().all(|command| self.offers(command))
    }

    /// Sorted, each entry once: the form that is stored and compared.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        self.caps.sort();
        self.caps.dedup();
        self.commands.sort();
        self.commands.dedup();
        self
    }
}
