//! What the owner changes in the commands of a paired node, in force at once and for good.

use std::collections::BTreeSet;

use atoll_protocol::capability::Surface;
use atoll_protocol::scope::{Role, Scope};

use super::authority::{check_covers, check_manager};
use super::change::{self, Change, Decision};
use super::device::DeviceRecord;
use super::{Book, BookError, Reason};
use crate::access::commands::{is_opened_by_name, required_to_approve};
use crate::access::{ChangeCommands, Granted};

/// Commands that one record may name; more than any device offers.
pub(super) const COMMANDS: usize = 256;

impl Book {
    /// Approves some commands of a node and withdraws others. What is withdrawn is not asked for again by declaring it. Named by
    /// an administrator, a command can be used although it is dangerous or unknown to the node's platform; anybody else only approves it.
    ///
    /// # Errors
    /// No such node, too many commands, or the caller holds less than it would give.
    pub fn set_commands(
        &mut self,
        granted: &Granted<ChangeCommands>,
        now_ms: u64,
    ) -> Result<(DeviceRecord, Vec<Change>), BookError> {
        let ChangeCommands { device, allow, deny } = granted.action();
        check_manager(granted.principal(), *device)?;
        let given = Surface {
            commands: allow.clone(),
            ..Surface::default()
        };
        check_covers(granted.principal().scopes(), &required_to_approve(&given))?;
        let record = self.records.get_mut(device).ok_or(BookError::UnknownDevice)?;
        record.role(Role::Node).ok_or(BookError::NoSuchRole(Role::Node))?;
        let may_open = granted.principal().scopes().give(Scope::Admin);
        let by_name = allow
            .iter()
            .filter(|name| may_open && is_opened_by_name(&record.client, name));
        let mut opened: BTreeSet<String> = record.opened.iter().chain(by_name).cloned().collect();
        opened.retain(|command| !deny.contains(command));
        let mut commands: BTreeSet<String> = record.surface.commands.iter().chain(allow).cloned().collect();
        commands.retain(|command| !deny.contains(command));
        let mut denied: BTreeSet<String> = record.denied.iter().chain(deny).cloned().collect();
        denied.retain(|command| deny.contains(command) || !allow.contains(command));
        if [commands.len(), denied.len(), opened.len()]
            .iter()
            .any(|count| *count > COMMANDS)
        {
            return Err(BookError::TooManyCommands);
        }
        record.surface.commands = commands.into_iter().collect();
        record.denied = denied;
        record.opened = opened;
        record.surface_approved_ms = Some(now_ms);
        let record = record.clone();
        let mut changes = vec![Change::Put(Box::new(record.clone()))];
        // What it asked for beyond its record was asked of another record.
        if self
            .request_of(*device)
            .is_some_and(|request| request.reason == Reason::Surface)
            && let Some(request) = self.pending.take(*device)
        {
            changes.extend(change::resolved(&request, Decision::Rejected, now_ms));
        }
        changes.extend([change::changed(), Change::Surface(*device)]);
        Ok((record, changes))
    }
}
