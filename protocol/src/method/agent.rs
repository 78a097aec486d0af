//! `agent`, `agent.wait`, `agents.list` and the event `agent`.

use crate::json::Json;
use crate::method::{Positive, Text};
use crate::strict::{closed, open};

closed! {
    /// `agent`.
    pub struct Agent {
        /// What is said.
        message: Text,
        /// Becomes the run's id; the same key again does nothing.
        idempotency_key: Text;
        /// The agent.
        agent_id?: Text,
        /// Another provider, this once.
        provider?: String,
        /// Another model, this once.
        model?: String,
        /// The person or room whose session it is, and where the answer goes.
        to?: String,
        /// Where the answer goes instead.
        reply_to?: String,
        /// The conversation.
        session_id?: String,
        /// The session.
        session_key?: String,
        /// The conversation must be this one still.
        expected_existing_session_id?: Text,
        /// How hard to think.
        thinking?: String,
        /// Whether the answer goes to a channel.
        deliver?: bool,
        /// Files.
        attachments?: Vec<Json>,
        /// The channel.
        channel?: String,
        /// Where the answer goes instead.
        reply_channel?: String,
        /// The channel's account.
        account_id?: String,
        /// Where the answer goes instead.
        reply_account_id?: String,
        /// The thread.
        thread_id?: String,
        /// The group.
        group_id?: String,
        /// The group.
        group_channel?: String,
        /// The group.
        group_space?: String,
        /// How long the run may take, seconds.
        timeout?: u64,
        /// Whether a failed delivery is no failure.
        best_effort_deliver?: bool,
        /// Of no use here.
        lane?: String,
        /// Where commands run.
        cwd?: Text,
        /// Of no use here.
        cleanup_bundle_mcp_on_run_end?: bool,
        /// Of no use here.
        model_run?: bool,
        /// Of no use here.
        prompt_mode?: String,
        /// More instructions.
        extra_system_prompt?: String,
        /// Of no use here.
        bootstrap_context_mode?: String,
        /// Of no use here.
        bootstrap_context_run_kind?: String,
        /// Of no use here.
        acp_turn_source?: String,
        /// Of no use here.
        internal_runtime_handoff_id?: String,
        /// Of no use here.
        internal_execution_identity_retry?: bool,
        /// Of no use here.
        internal_execution_identity_recovery_attempt?: Positive,
        /// Of no use here.
        exec_approval_followup_expected_session_id?: Text,
        /// Of no use here.
        internal_events?: Json,
        /// Of no use here.
        input_provenance?: Json,
        /// Of no use here.
        suppress_prompt_persistence?: bool,
        /// Of no use here.
        session_effects?: String,
        /// Of no use here.
        source_reply_delivery_mode?: String,
        /// Of no use here.
        disable_message_tool?: bool,
        /// Of no use here.
        swarm_collector?: bool,
        /// Of no use here.
        swarm_output_schema?: Json,
        /// Of no use here.
        force_restart_safe_tools?: bool,
        /// Of no use here.
        force_code_mode_tools?: bool,
        /// Of no use here.
        voice_wake_trigger?: String,
        /// The session's name for people.
        label?: Text,
    }

    /// `agent.wait`.
    pub struct AgentWait {
        /// The run.
        run_id: Text;
        /// How long.
        timeout_ms?: u64,
    }
}

open! {
    /// The first reply of `agent`.
    pub struct AgentAccepted {
        /// The run.
        run_id: String,
        /// `accepted`, or `in_flight` when the key was seen before.
        status: String;
        /// Unix milliseconds.
        accepted_at?: u64,
        /// The session it runs in.
        session_key?: String,
    }

    /// The last reply of `agent`.
    pub struct AgentDone {
        /// The run.
        run_id: String,
        /// `ok`, `error` or `timeout`.
        status: String;
        /// One word for a list: `completed`, `aborted`, …
        summary?: String,
        /// `{payloads: [{text, mediaUrl?}], meta}`.
        result?: Json,
        /// Why it failed.
        error?: String,
    }

    /// The reply of `agent.wait`.
    pub struct AgentWaited {
        /// The run.
        run_id: String,
        /// `ok`, `error`, or `timeout` when it still runs.
        status: String;
        /// Unix milliseconds.
        started_at?: u64,
        /// Unix milliseconds.
        ended_at?: u64,
        /// Why it failed.
        error?: String,
    }

    /// The reply of `agents.list`.
    pub struct Agents {
        /// The default one.
        default_id: String,
        /// The name of its main session.
        main_key: String,
        /// `per-sender` or `global`.
        scope: String,
        /// All of them.
        agents: Vec<AgentSummary>;
    }

    /// One agent.
    pub struct AgentSummary {
        /// Its id.
        id: String;
        /// Its name for people.
        name?: String,
        /// How it shows itself: `{name, emoji, avatar}`.
        identity?: Json,
        /// Its folder.
        workspace?: String,
        /// Its model: `{primary}`.
        model?: Json,
    }

    /// The event `agent`.
    pub struct AgentEvent {
        /// The run.
        run_id: String,
        /// Counts the events of the run.
        seq: u64,
        /// `lifecycle`, `assistant`, `tool`, …
        stream: String,
        /// Unix milliseconds.
        ts: u64,
        /// Its facts.
        data: Json;
        /// The session.
        session_key?: String,
    }
}
