//! Direct commands at work: what a person typed with a slash, done without any model. Decides by the same rules as everything else;
//! answers in short Markdown. Owns nothing.

use std::sync::Arc;

use atoll_agent::message::Media;
use atoll_agent::port::ToolReply;
use atoll_agent::turn::Outcome;
use atoll_pairing::access::{self, Action, Denied, Kind, Method, Principal, ResolveApproval};
use atoll_pairing::approval::Decision;
use atoll_protocol::id::{ApprovalId, DeviceId, RunId, SessionKey};
use atoll_protocol::scope::Scope;
use serde_json::json;

use crate::approvals::Refused;
use crate::clock;
use crate::command::{self, Command, Usage, What};
use crate::exec::Wanted;
use crate::house::House;
use crate::journal::calls::ToolKey;
use crate::select::SelectError;
use crate::sessions::SessionError;

mod look;
mod report;
mod typed;

pub(crate) use typed::Typed;

/// What a typed command is called beside the tool calls of a model.
const TOOL_CALL: &str = "run";

/// How the gateway's own machine is named where a node is asked for.
const GATEWAY: &str = "gateway";

/// Who typed a command, and where.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    /// Who.
    pub(crate) principal: Arc<Principal>,
    /// The conversation.
    pub(crate) session: SessionKey,
    /// Names this very command for ever.
    pub(crate) run: RunId,
}

impl Asker {
    /// Decides whether it may do something.
    fn decide<A: Action>(&self, house: &House, action: A) -> Result<access::Granted<A>, Denied> {
        access::decide(&self.principal, action, &house.policy(), clock::now_ms())
    }
}

/// Whether a command may take as long as a program on a device does.
pub(crate) fn is_long(parsed: &Result<Command, Usage>) -> bool {
    matches!(
        parsed,
        Ok(Command::Run { .. } | Command::Snap { .. } | Command::Screen { .. })
    )
}

/// What somebody gets who typed a command.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reply {
    /// Markdown. Beside a picture: its caption.
    pub(crate) text: String,
    /// Pictures, for a chat.
    pub(crate) media: Vec<Media>,
}

impl From<String> for Reply {
    fn from(text: String) -> Self {
        Self {
            text,
            media: Vec::new(),
        }
    }
}

/// For somebody whose program shows no pictures: where they are.
pub(crate) fn in_words(reply: &Reply) -> String {
    let mut text = reply.text.clone();
    for media in &reply.media {
        text.push_str(&format!(
            "\n{} ({} bytes): /media/{}",
            media.mime, media.size, media.handle
        ));
    }
    text
}

/// Does what was typed.
pub(crate) async fn execute(house: &House, asker: &Asker, parsed: Result<Command, Usage>) -> Reply {
    let command = match parsed {
        Ok(command) => command,
        Err(usage) => return usage.to_string().into(),
    };
    let wanted = wanted(&command);
    let done = match command {
        Command::Snap { node, camera } => look::snap(house, asker, &node, camera).await,
        Command::Screen { node } => look::screen(house, asker, &node).await,
        other @ (Command::Help
        | Command::Whoami
        | Command::Status
        | Command::Nodes
        | Command::Run { .. }
        | Command::Approve { .. }
        | Command::New
        | Command::Reset
        | Command::Stop) => answer(house, asker, other).await.map(Reply::from),
    };
    match done {
        Ok(reply) => reply,
        Err(refused) => {
            if let (Some((node, command)), Some(outcome)) = (wanted, refused.outcome()) {
                let (ring, by) = (&house.ring, &asker.principal);
                ring.unmade(by, node, command, outcome, &refused).await;
            }
            format!("⛔ {refused}").into()
        }
    }
}

/// Which command is wanted on which node, as it was typed.
fn wanted(command: &Command) -> Option<(String, &'static str)> {
    match command {
        Command::Run { node, .. } => Some((node.clone(), "system.run")),
        Command::Snap { node, .. } => Some((node.clone(), "camera.snap")),
        Command::Screen { node } => Some((node.clone(), "screen.snapshot")),
        Command::Help
        | Command::Whoami
        | Command::Status
        | Command::Nodes
        | Command::Approve { .. }
        | Command::New
        | Command::Reset
        | Command::Stop => None,
    }
}

/// Commands whose answer is a text.
async fn answer(house: &House, asker: &Asker, command: Command) -> Done {
    match command {
        Command::Snap { .. } | Command::Screen { .. } => Ok(String::new()),
        Command::Help => Ok(command::HELP.to_owned()),
        Command::Whoami => Ok(whoami(&asker.principal)),
        Command::Status => status(house, asker).await,
        Command::Nodes => nodes(house, asker).await,
        Command::Run { node, what } => run(house, asker, &node, what).await,
        Command::Approve { approval, decision } => approve(house, asker, approval, decision).await,
        Command::New => begin_anew(house, asker, "new").await,
        Command::Reset => begin_anew(house, asker, "reset").await,
        Command::Stop => Ok(stopped(stop_session(house, &asker.session).await.len())),
    }
}

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
enum NotDone {
    #[error("You may not do this here: {0}.")]
    Denied(#[from] Denied),
    #[error("{0}")]
    Node(#[from] SelectError),
    #[error("{0}.")]
    NotReset(#[from] SessionError),
    #[error("{0}.")]
    Unanswered(#[from] Unanswered),
    #[error("{} typed commands are running already; wait, or send /stop.", typed::AT_ONCE)]
    TooMany,
    #[error("That node is not connected now.")]
    Away,
}

impl NotDone {
    /// What the audit says of a call that came to nothing this way.
    fn outcome(&self) -> Option<&'static str> {
        match self {
            Self::Denied(_) => Some("denied"),
            Self::Node(_) => Some("unknown_node"),
            Self::Away => Some("node_away"),
            Self::NotReset(_) | Self::Unanswered(_) | Self::TooMany => None,
        }
    }
}

type Done = Result<String, NotDone>;

async fn status(house: &House, asker: &Asker) -> Done {
    let _ = asker.decide(house, Method::operator("status", Scope::Read))?;
    Ok(report::status(house).await)
}

async fn nodes(house: &House, asker: &Asker) -> Done {
    let _ = asker.decide(house, Method::operator("node.list", Scope::Read))?;
    Ok(report::nodes(&house.ring.rows().await))
}

async fn run(house: &House, asker: &Asker, named: &str, what: What) -> Done {
    let _ = asker.decide(house, Method::operator("node.invoke", Scope::Write))?;
    let node = target(house, named).await?;
    let (argv, is_exact) = match what {
        What::Argv(argv) => (argv, true),
        What::Shell(text) => (shell(text, &platform(house, node).await?), false),
    };
    // Exact words of somebody who may approve need no second yes; shell text is asked about all the same.
    let typed = is_exact && asker.principal.scopes().give(Scope::Approvals) && !asker.principal.is_agent();
    let running = house.typed.begin(&asker.run, &asker.session).ok_or(NotDone::TooMany)?;
    let wanted = Wanted {
        key: ToolKey {
            run: asker.run.clone(),
            tool_call: TOOL_CALL.to_owned(),
        },
        principal: asker.principal.clone(),
        typed,
        agent: None,
        session: Some(asker.session.clone()),
        node,
        argv,
        cwd: None,
        env: Vec::new(),
        timeout: None,
        cancel: running.cancel.clone(),
        clock: None,
        read: None,
    };
    let reply = house.exec.run(wanted).await;
    Ok(told(&reply))
}

/// The node that is meant; none for the gateway's own machine.
async fn target(house: &House, named: &str) -> Result<Option<DeviceId>, SelectError> {
    match house.ring.find(Some(named)).await {
        Ok(node) => Ok(Some(node)),
        Err(SelectError::NoNodes | SelectError::Unknown { .. }) if named.eq_ignore_ascii_case(GATEWAY) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn platform(house: &House, node: Option<DeviceId>) -> Result<String, NotDone> {
    match node {
        Some(node) => Ok(house
            .ring
            .awaited(node)
            .await
            .ok_or(NotDone::Away)?
            .client
            .platform
            .clone()),
        None => Ok(std::env::consts::OS.to_owned()),
    }
}

fn shell(text: String, platform: &str) -> Vec<String> {
    let shell: &[&str] = if platform.eq_ignore_ascii_case("windows") {
        &["cmd.exe", "/d", "/s", "/c"]
    } else {
        &["/bin/sh", "-c"]
    };
    shell.iter().map(|word| (*word).to_owned()).chain([text]).collect()
}

fn told(reply: &ToolReply) -> String {
    if reply.uncertain || reply.text.starts_with("not run: ") {
        return format!("⚠️ {}", reply.text);
    }
    fenced(&reply.text)
}

/// As a block of code that nothing in the text can end.
fn fenced(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    let fence = "`".repeat((longest + 1).max(3));
    format!("{fence}\n{}\n{fence}", text.trim_end())
}

async fn approve(house: &House, asker: &Asker, id: ApprovalId, decision: Decision) -> Done {
    resolve(house, &asker.principal, id, decision).await?;
    Ok(answered(decision).to_owned())
}

/// Why an answer to a question did not count.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unanswered {
    /// Not this person's to give.
    #[error("only the owner can answer this")]
    Denied(Denied),
    /// Too late, or not stored.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// Answers a question on behalf of somebody.
pub(crate) async fn resolve(
    house: &House,
    principal: &Arc<Principal>,
    id: ApprovalId,
    decision: Decision,
) -> Result<(), Unanswered> {
    let answered = give(house, principal, id.clone(), decision).await;
    let (by, action, id) = (principal.label(), "exec.approval.resolve", id.to_string());
    let detail = json!({"decision": decision.as_str()});
    match &answered {
        Ok(()) => house.audit(by, action, id, detail).await,
        Err(refusal) => house.audit_refused(by, action, id, refusal, detail).await,
    }
    answered
}

async fn give(house: &House, principal: &Arc<Principal>, id: ApprovalId, decision: Decision) -> Result<(), Unanswered> {
    let action = ResolveApproval { id };
    let granted = access::decide(principal, action, &house.policy(), clock::now_ms()).map_err(Unanswered::Denied)?;
    Ok(house.approvals.resolve(granted, decision).await?)
}

/// What somebody is told whose answer counted.
pub(crate) fn answered(decision: Decision) -> &'static str {
    match decision {
        Decision::AllowOnce => "✅ Allowed once.",
        Decision::AllowAlways => "✅ Allowed from now on.",
        Decision::Deny => "⛔ Denied.",
    }
}

async fn begin_anew(house: &House, asker: &Asker, reason: &'static str) -> Done {
    reset(house, &asker.session, reason).await?;
    Ok("🆕 A new conversation begins.".to_owned())
}

/// Ends what runs in a session and begins it anew; gives its new id, or none when there is no such session, which is new anyway.
pub(crate) async fn reset(
    house: &House,
    session: &SessionKey,
    reason: &'static str,
) -> Result<Option<String>, SessionError> {
    stop_session(house, session).await;
    let Some((_, transcript)) = house.sessions.find(session).await? else {
        return Ok(None);
    };
    let begun = house
        .sessions
        .begin_anew(session.clone(), transcript, reason.to_owned());
    begun.await.map(Some)
}

/// Ends what runs in a session and what waits in it; gives all of it.
pub(crate) async fn stop_session(house: &House, session: &SessionKey) -> Vec<RunId> {
    let lane = house.lanes.stop(session.clone()).await;
    for run in &lane.waiting {
        let outcome = Outcome::Aborted {
            message: "Stopped before it began.".to_owned(),
        };
        house.turns.end_unstarted(run, outcome, Vec::new()).await;
    }
    lane.running
        .into_iter()
        .chain(lane.waiting)
        .chain(house.typed.stop(session))
        .collect()
}

fn stopped(count: usize) -> String {
    match count {
        0 => "Nothing was running.".to_owned(),
        1 => "⏹ Stopped.".to_owned(),
        more => format!("⏹ Stopped {more} turns."),
    }
}

fn whoami(principal: &Principal) -> String {
    match principal.kind() {
        Kind::Sender { owner: true, .. } => format!("You are `{}`, the owner.", principal.label()),
        Kind::Sender { .. } => format!(
            "You are `{0}`. To make you the owner, on the gateway:\n```\natoll config set commands.ownerAllowFrom '[\"{0}\"]'\n```",
            principal.label()
        ),
        Kind::Device(_) | Kind::SharedSecret | Kind::LocalOwner { .. } | Kind::Proxy { .. } | Kind::Agent { .. } => {
            let scopes: Vec<_> = principal.scopes().iter().map(|scope| scope.to_string()).collect();
            format!("You are `{}` with {}.", principal.label(), scopes.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_cannot_leave_its_block() {
        assert_eq!(fenced("hi\n"), "```\nhi\n```");
        assert_eq!(fenced("a\n```\nb"), "````\na\n```\nb\n````");
        let reply = |text: &str, uncertain| ToolReply {
            uncertain,
            ..ToolReply::error(text)
        };
        assert_eq!(told(&reply("not run: no", false)), "⚠️ not run: no");
        assert_eq!(told(&reply("uncertain: lost", true)), "⚠️ uncertain: lost");
        assert_eq!(told(&reply("[exit code 2]\n", false)), "```\n[exit code 2]\n```");
    }

    #[test]
    fn a_stranger_learns_how_to_become_the_owner_and_the_owner_that_he_is() {
        let ask = |owner| whoami(&Principal::sender("telegram", "default", "42", owner));
        assert!(ask(false).contains(r#"ownerAllowFrom '["telegram:42"]'"#));
        assert!(ask(true).ends_with("the owner."));
    }

    #[test]
    fn shell_text_is_one_argument_of_the_platforms_shell() {
        assert_eq!(shell("a | b".to_owned(), "linux"), ["/bin/sh", "-c", "a | b"]);
        assert_eq!(
            shell("dir".to_owned(), "Windows").last().map(String::as_str),
            Some("dir")
        );
    }
}
