//! A person's yes for a command on a device, where the conversation has read what is not the owner's: the same questions and cards as for
//! commands of a shell, with the reason on them.

use atoll_agent::port::{Caller, NodeCommand};
use atoll_agent::taint::Taint;
use atoll_pairing::approval::{Ended, NewApproval, Question, Requester, Spend, State};
use atoll_protocol::id::DeviceId;
use atoll_protocol::json::Json;
use sha2::{Digest, Sha256};

use super::NotInvoked;
use crate::approvals::Refused;
use crate::exec::{self, Commands};
use crate::journal::calls::ToolKey;

/// Commands that neither look nor listen nor change anything but what a person sees at once.
const HARMLESS: [&str; 6] = [
    "camera.list",
    "device.info",
    "device.status",
    "device.health",
    "system.which",
    "system.notify",
];

/// Whether a command needs a yes. What is not known to be harmless does.
pub(super) fn is_needed(command: &str) -> bool {
    !HARMLESS.contains(&command)
}

/// One command to be asked about.
pub(super) struct Consent<'a> {
    pub(super) exec: &'a Commands,
    pub(super) caller: &'a Caller,
    pub(super) key: &'a ToolKey,
    pub(super) node: DeviceId,
}

impl From<Refused> for NotInvoked {
    fn from(refused: Refused) -> Self {
        Self::No(refused.to_string())
    }
}

impl Consent<'_> {
    /// Asks, or finds the question that was asked before a restart, and waits for the yes and uses it.
    pub(super) async fn ask(&self, command: &NodeCommand, read: Taint) -> Result<(), NotInvoked> {
        let approvals = &self.exec.approvals;
        let config = self.exec.ring.config.current();
        let new = NewApproval {
            id: exec::approval_id(self.key),
            question: self.question(command, read),
            requester: Requester::default(),
            lifetime_ms: Some(config.approvals.exec.timeout_ms),
            is_bound: false,
        };
        let wanted = new.question.argv.clone();
        let asked = approvals.ask(new).await?;
        if asked.question.argv != wanted {
            return Err(NotInvoked::No(
                "something else was asked before under this call".to_owned(),
            ));
        }
        if asked.is_pending() && !approvals.has_route(&asked.requester).await {
            approvals.withdraw(asked.id.clone(), Ended::NoRoute).await?;
            approvals.say_nobody(&self.key.run).await;
        }
        let paused = self.caller.clock.pause();
        let approval = tokio::select! {
            approval = approvals.wait(&asked.id) => approval?,
            () = self.caller.cancel.cancelled() => {
                approvals.withdraw(asked.id.clone(), Ended::Withdrawn).await?;
                return Err(NotInvoked::No("stopped".to_owned()));
            }
        };
        drop(paused);
        match approval.map(|approval| approval.state) {
            None => return Err(NotInvoked::No("the question was forgotten".to_owned())),
            Some(State::Denied(answer)) => return Err(NotInvoked::No(format!("denied by {}", answer.by))),
            Some(State::Expired { reason, .. }) => return Err(NotInvoked::No(exec::unanswered(reason).to_owned())),
            Some(State::Pending | State::Allowed(_) | State::Used { .. }) => {}
        }
        let spend = Spend {
            call: exec::call_id(self.key),
            node: Some(self.node),
            by: Requester::default(),
        };
        approvals.spend(asked.id, spend).await?;
        Ok(())
    }

    fn question(&self, command: &NodeCommand, read: Taint) -> Question {
        let params = command.params.as_ref().map_or("{}", Json::as_str);
        Question {
            node: Some(self.node),
            command: format!("{} {params}", command.name),
            argv: vec![command.name.clone(), params.to_owned()],
            cwd: None,
            env_sha256: exec::env_sha256(&[]),
            stdin_sha256: Sha256::digest([]).into(),
            files: Vec::new(),
            agent: Some(self.caller.agent.clone()),
            session: Some(self.caller.session.clone()),
            system_run_plan: None,
            security: "allowlist".to_owned(),
            ask: "always".to_owned(),
            warning: Some(exec::why(read)),
            offers_always: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_listens_finds_runs_or_is_unknown_needs_a_yes() {
        for command in [
            "camera.snap",
            "camera.clip",
            "camera.stream",
            "screen.snapshot",
            "screen.record",
            "location.get",
            "talk.ptt.start",
            "computer.act",
            "file.fetch",
            "file.write",
            "sms.send",
            "x.unknown",
            "",
        ] {
            assert!(is_needed(command), "{command}");
        }
        for command in HARMLESS {
            assert!(!is_needed(command), "{command}");
        }
    }
}
