//! `exec.approval.*`: may this command run?

use std::collections::BTreeMap;

use crate::id::ApprovalId;
use crate::json::Json;
use crate::method::{Int, Positive, Text};
use crate::strict::{closed, open, words};

words! {
    /// What a person answers.
    Decision {
        /// Yes, this once.
        AllowOnce = "allow-once",
        /// Yes, and do not ask again for the like.
        AllowAlways = "allow-always",
        /// No.
        Deny = "deny",
    }
}

words! {
    /// What a question is about.
    ApprovalKind {
        /// A command.
        Exec = "exec",
        /// Something of a plugin.
        Plugin = "plugin",
        /// Something of OpenClaw's own agent.
        SystemAgent = "system-agent",
    }
}

closed! {
    /// `exec.approval.request`. Many keys may be null, which is as good as absent.
    pub struct ApprovalRequest {;
        /// The id it shall have.
        id?: Text,
        /// The command as text.
        command?: Text,
        /// The command as a vector.
        command_argv?: Vec<String>,
        /// The plan that `system.run.prepare` gave.
        system_run_plan?: SystemRunPlan,
        /// The environment it asks for.
        env?: BTreeMap<String, String>,
        /// The working folder.
        cwd?: Option<String>,
        /// The node.
        node_id?: Option<Text>,
        /// `node` or `gateway`.
        host?: Option<String>,
        /// `deny`, `allowlist` or `full`.
        security?: Option<String>,
        /// `off`, `on-miss` or `always`.
        ask?: Option<String>,
        /// Shown to the person.
        warning_text?: Option<String>,
        /// Of no use here.
        scope?: Json,
        /// Answers that are not to be offered.
        unavailable_decisions?: Vec<Decision>,
        /// Of no use here.
        command_spans?: Vec<Json>,
        /// The agent that wants it.
        agent_id?: Option<String>,
        /// The program's path.
        resolved_path?: Option<String>,
        /// The session that wants it.
        session_key?: Option<String>,
        /// The conversation that wants it.
        session_id?: Option<String>,
        /// The run that wants it.
        run_id?: Option<String>,
        /// The tool call that wants it.
        tool_call_id?: Option<String>,
        /// Where the wish came from.
        turn_source_channel?: Option<String>,
        /// Where the wish came from.
        turn_source_to?: Option<String>,
        /// Where the wish came from.
        turn_source_account_id?: Option<String>,
        /// Where the wish came from: text or a number.
        turn_source_thread_id?: Json,
        /// Only these devices are asked.
        approval_reviewer_device_ids?: Vec<Text>,
        /// Whether it fails when nobody can be asked.
        require_delivery_route?: bool,
        /// Whether nobody is told.
        suppress_delivery?: bool,
        /// Whether chats are not told.
        deliver_to_approval_clients_only?: bool,
        /// How long to wait.
        timeout_ms?: Positive,
        /// Whether to answer `accepted` first.
        two_phase?: bool,
        /// Whether it is withdrawn when the link it came on ends. Not OpenClaw's.
        bound_to_link?: bool,
    }

    /// What `system.run.prepare` found out; the same plan is shown, approved and run.
    #[derive(PartialEq)]
    pub struct SystemRunPlan {
        /// The program, resolved, and its arguments.
        argv: Vec<String>,
        /// The working folder.
        cwd: Option<String>,
        /// The command as a person reads it.
        command_text: String,
        /// The agent that wants it.
        agent_id: Option<String>,
        /// The session that wants it.
        session_key: Option<String>;
        /// The interesting part of a wrapped command.
        command_preview?: Option<String>,
        /// The node's policy at that time.
        policy_snapshot?: Json,
        /// The file whose content was approved.
        mutable_file_operand?: Option<FileOperand>,
    }

    /// A script or program among the arguments.
    #[derive(PartialEq)]
    pub struct FileOperand {
        /// Which argument.
        argv_index: u64,
        /// Its absolute path.
        path: String,
        /// Of its content, hex.
        sha256: String;
    }

    /// `exec.approval.get`.
    pub struct ApprovalNamed {
        /// The approval.
        id: Text;
    }

    /// `approval.resolve`.
    pub struct AnyApprovalResolve {
        /// The approval.
        id: Text,
        /// `exec`, `plugin` or `system-agent`.
        kind: ApprovalKind,
        /// The answer.
        decision: Decision;
        /// Of no use here.
        reviewer?: Json,
        /// How long a grant lasts.
        grant_expires_in_days?: Int<1, 3650>,
    }

    /// `exec.approvals.set`: the gateway's own machine.
    pub struct PolicySet {
        /// The new document.
        file: Json;
        /// Of the document that the caller has read.
        base_hash?: Text,
    }

    /// `exec.approvals.node.get`.
    pub struct NodePolicyNamed {
        /// The node.
        node_id: Text;
    }

    /// `exec.approvals.node.set`.
    pub struct NodePolicySet {
        /// The node.
        node_id: Text,
        /// The new document.
        file: Json;
        /// Of the document that the caller has read.
        base_hash?: Text,
    }

    /// `exec.approval.waitDecision`.
    pub struct ApprovalWait {
        /// The approval.
        id: Text;
        /// How long.
        timeout_ms?: u64,
    }

    /// `exec.approval.resolve`.
    pub struct ApprovalResolve {
        /// The approval.
        id: Text,
        /// The answer.
        decision: Decision;
        /// Who answered in a chat: `{channel, accountId, senderId}`.
        reviewer?: Reviewer,
        /// Of no use here.
        grant_expires_in_days?: Int<1, 3650>,
    }

    /// Who answered in a chat.
    pub struct Reviewer {
        /// The channel.
        channel: Text,
        /// Its account.
        account_id: Text,
        /// The person.
        sender_id: Text;
    }
}

open! {
    /// The first reply of `exec.approval.request` with `twoPhase`.
    pub struct ApprovalAccepted {
        /// `accepted`.
        status: String,
        /// The approval.
        id: ApprovalId,
        /// Unix milliseconds.
        created_at_ms: u64,
        /// Unix milliseconds.
        expires_at_ms: u64;
        /// `approval-client` or `chat`.
        delivery_route?: String,
    }

    /// The last reply of `exec.approval.request`, and the reply of `exec.approval.waitDecision`.
    pub struct ApprovalDecided {
        /// The approval.
        id: ApprovalId,
        /// The answer; none when nobody gave one.
        decision: Option<Decision>,
        /// Unix milliseconds.
        created_at_ms: u64,
        /// Unix milliseconds.
        expires_at_ms: u64;
        /// `user`, `expired`, `no-route`, …
        terminal_reason?: String,
    }

    /// One approval: an entry of the reply of `exec.approval.list`, the reply of `.get`, and the event
    /// `exec.approval.requested`.
    pub struct Approval {
        /// The approval.
        id: ApprovalId,
        /// What is asked.
        request: ApprovalFacts,
        /// Unix milliseconds.
        created_at_ms: u64,
        /// Unix milliseconds.
        expires_at_ms: u64;
        /// `exec`.
        approval_kind?: String,
    }

    /// What is asked.
    pub struct ApprovalFacts {
        /// The command as a person reads it.
        command: String,
        /// The answers that can be given.
        allowed_decisions: Vec<Decision>;
        /// `node` or `gateway`.
        host?: String,
        /// The node.
        node_id?: String,
        /// The command as a vector.
        command_argv?: Vec<String>,
        /// The plan that would run.
        system_run_plan?: SystemRunPlan,
        /// The working folder.
        cwd?: String,
        /// `deny`, `allowlist` or `full`.
        security?: String,
        /// `off`, `on-miss` or `always`.
        ask?: String,
        /// Something to be careful about.
        warning_text?: String,
        /// The agent that wants it.
        agent_id?: String,
        /// The session that wants it.
        session_key?: String,
        /// The program's path.
        resolved_path?: String,
    }

    /// The event `exec.approval.resolved`.
    pub struct ApprovalResolved {
        /// The approval.
        id: ApprovalId,
        /// The answer.
        decision: Decision,
        /// Unix milliseconds.
        ts: u64;
        /// Who answered.
        resolved_by?: String,
        /// What was asked.
        request?: ApprovalFacts,
    }
}
