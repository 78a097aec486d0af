//! The list of methods. A new one is one line here and one function in its family's file.

use std::sync::Arc;

use atoll_pairing::access::Method;
use atoll_protocol::scope::Scope;
use futures_util::future::BoxFuture;

use super::{
    Answer, Ask, approval, audit, channel, chat, config, device, gateway, invocation, media, node, policy, session,
    setup,
};
use crate::house::House;

/// Who may call.
#[derive(Debug, Clone, Copy)]
enum For {
    Everybody,
    Operator(Scope),
    Node,
}

/// One method.
pub(super) struct Entry {
    name: &'static str,
    callers: For,
    /// Listed in hello.
    listed: bool,
    /// Answers it.
    pub(super) run: fn(Arc<House>, Ask) -> BoxFuture<'static, Answer>,
}

impl Entry {
    pub(super) fn action(&self) -> Method {
        match self.callers {
            For::Everybody => Method::open(self.name),
            For::Operator(scope) => Method::operator(self.name, scope),
            For::Node => Method::node(self.name),
        }
    }
}

macro_rules! methods {
    ($($name:literal $callers:expr => $family:ident::$handler:ident $(, $unlisted:ident)?;)*) => {
        const METHODS: &[Entry] = &[$(Entry {
            name: $name,
            callers: $callers,
            listed: methods!(@listed $($unlisted)?),
            run: |house, ask| Box::pin(async move { $family::$handler(&house, ask).await }),
        },)*];
    };
    (@listed) => { true };
    (@listed unlisted) => { false };
}

use For::{Everybody, Node, Operator};
use Scope::{Admin, Approvals, Pairing, Read, Write};

methods! {
    "agent" Operator(Write) => chat::agent;
    "agent.wait" Operator(Write) => chat::agent_wait;
    "agents.list" Operator(Read) => session::agents;
    "approval.get" Operator(Approvals) => approval::of_any_kind;
    "approval.resolve" Operator(Approvals) => approval::resolve_any;
    "audit.entries" Operator(Admin) => audit::entries;
    "channels.pairing.approve" Operator(Pairing) => channel::pairing_approve;
    "channels.pairing.list" Operator(Pairing) => channel::pairing_list;
    "channels.status" Operator(Read) => channel::status;
    "chat.abort" Operator(Write) => chat::abort;
    "chat.history" Operator(Read) => chat::history;
    "chat.send" Operator(Write) => chat::send;
    "chat.startup" Operator(Read) => chat::startup;
    "config.apply" Operator(Admin) => config::apply;
    "config.get" Operator(Read) => config::get;
    "config.patch" Operator(Admin) => config::patch;
    "config.schema" Operator(Read) => config::schema;
    "config.set" Operator(Admin) => config::set;
    "device.commands.set" Operator(Pairing) => device::set_commands;
    "device.invite" Operator(Pairing) => setup::invite;
    "device.invite.revoke" Operator(Pairing) => setup::revoke;
    "device.pair.approve" Operator(Pairing) => device::approve;
    "device.pair.list" Operator(Pairing) => device::list;
    "device.pair.reject" Operator(Pairing) => device::reject;
    "device.pair.remove" Operator(Pairing) => device::remove;
    "device.pair.rename" Operator(Pairing) => device::rename;
    "device.pair.setupCode" Operator(Admin) => setup::setup_code, unlisted;
    "device.pair.setupStatus" Operator(Admin) => setup::setup_status, unlisted;
    "device.token.revoke" Operator(Pairing) => device::revoke;
    "device.token.rotate" Operator(Pairing) => device::rotate;
    "exec.approval.get" Operator(Approvals) => approval::one;
    "exec.approval.list" Operator(Approvals) => approval::list;
    "exec.approval.request" Operator(Approvals) => approval::request;
    "exec.approval.resolve" Operator(Approvals) => approval::resolve;
    "exec.approval.waitDecision" Operator(Approvals) => approval::wait_decision;
    "exec.approvals.get" Operator(Admin) => policy::here;
    "exec.approvals.node.get" Operator(Admin) => policy::of_node;
    "exec.approvals.node.set" Operator(Admin) => policy::change_node;
    "exec.approvals.set" Operator(Admin) => policy::change_here;
    "health" Everybody => gateway::health;
    "logs.tail" Operator(Read) => gateway::logs;
    "media.ticket" Operator(Read) => media::ticket;
    "models.list" Operator(Read) => session::models;
    "node.calls.list" Operator(Read) => invocation::list;
    "node.describe" Operator(Read) => node::describe;
    "node.event" Node => node::event;
    "node.invoke" Operator(Write) => invocation::invoke;
    "node.invoke.cancel" Operator(Write) => invocation::cancel;
    "node.invoke.progress" Node => node::progress;
    "node.invoke.result" Node => node::result;
    "node.list" Operator(Read) => node::list;
    "node.pair.approve" Operator(Pairing) => device::node_approve;
    "node.pair.list" Operator(Pairing) => device::node_list;
    "node.pair.reject" Operator(Pairing) => device::node_reject;
    "node.pair.remove" Operator(Pairing) => device::node_remove;
    "node.pluginTools.update" Node => node::plugin_tools;
    "node.rename" Operator(Pairing) => node::rename;
    "node.runnerInventory.update" Node => node::runner_inventory, unlisted;
    "node.skills.update" Node => node::skills;
    "node.stream.chunk" Node => node::stream_part;
    "node.stream.end" Node => node::stream_end;
    "openclaw.approval.list" Operator(Approvals) => approval::none;
    "plugin.approval.list" Operator(Approvals) => approval::none;
    "send" Operator(Write) => channel::send;
    "sessions.compact" Operator(Admin) => session::compact;
    "sessions.delete" Operator(Admin) => session::delete;
    "sessions.history" Operator(Read) => chat::history, unlisted;
    "sessions.list" Operator(Read) => session::list;
    "sessions.messages.subscribe" Operator(Read) => session::subscribe_messages;
    "sessions.messages.unsubscribe" Operator(Read) => session::unsubscribe_messages;
    "sessions.reset" Operator(Admin) => session::reset;
    "sessions.send" Operator(Write) => chat::send_to_session;
    "sessions.subscribe" Operator(Read) => session::subscribe;
    "status" Operator(Read) => gateway::status;
    "system-presence" Operator(Read) => gateway::presence;
}

/// The method of that name.
pub(super) fn find(name: &str) -> Option<&'static Entry> {
    let place = METHODS.binary_search_by(|entry| entry.name.cmp(name)).ok()?;
    METHODS.get(place)
}

/// What hello tells.
pub(crate) fn names() -> Vec<String> {
    METHODS
        .iter()
        .filter(|entry| entry.listed)
        .map(|entry| entry.name.to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_every_name_is_found() {
        assert!(METHODS.is_sorted_by(|a, b| a.name < b.name));
        assert!(
            METHODS
                .iter()
                .all(|entry| find(entry.name).is_some_and(|found| found.name == entry.name))
        );
        assert!(find("no.such.method").is_none());
    }
}
