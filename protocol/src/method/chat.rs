//! `chat.*` and the event `chat`.

use crate::json::Json;
use crate::method::{Int, Positive, Text};
use crate::strict::{closed, open, words};

words! {
    /// Where a run stands, in the event `chat`.
    ChatState {
        /// Not writing yet.
        Status = "status",
        /// A piece of the answer.
        Delta = "delta",
        /// The answer.
        Final = "final",
        /// Called off.
        Aborted = "aborted",
        /// Failed.
        Error = "error",
    }

    /// What to do with a message that comes while a run is on.
    QueueMode {
        /// Into the run.
        Steer = "steer",
        /// After the run, on its own.
        Followup = "followup",
        /// After the run, with others.
        Collect = "collect",
        /// In place of the run.
        Interrupt = "interrupt",
    }
}

closed! {
    /// `chat.send`.
    pub struct ChatSend {
        /// The session.
        session_key: Text,
        /// What is said.
        message: String,
        /// Becomes the run's id; the same key again does nothing.
        idempotency_key: Text;
        /// The agent, where the key does not say.
        agent_id?: Text,
        /// The session must be this one still.
        session_id?: Text,
        /// Of no use here.
        mentions?: Json,
        /// Of no use here.
        work_context?: Json,
        /// Of no use here.
        intent?: Json,
        /// How hard to think.
        thinking?: String,
        /// Of no use here.
        fast_mode?: Json,
        /// Of no use here.
        fast_auto_on_seconds?: Positive,
        /// What to do while a run is on.
        queue_mode?: QueueMode,
        /// Whether the answer goes to the session's channel too.
        deliver?: bool,
        /// Where it came from.
        originating_channel?: String,
        /// Where it came from.
        originating_to?: String,
        /// Where it came from.
        originating_account_id?: String,
        /// Where it came from.
        originating_thread_id?: String,
        /// The message it answers.
        reply_to_id?: Text,
        /// Files.
        attachments?: Vec<Json>,
        /// Of no use here.
        tool_bindings?: Json,
        /// How long the run may take.
        timeout_ms?: u64,
        /// Of no use here.
        system_input_provenance?: Json,
        /// Of no use here.
        system_provenance_receipt?: String,
        /// Whether `/word` is just text.
        suppress_command_interpretation?: bool,
        /// Of no use here.
        expected_leaf_entry_id?: Option<Text>,
        /// Of no use here.
        expected_session_routing_contract?: String,
        /// Of no use here.
        expected_permission_mode?: Json,
        /// Of no use here.
        expected_tool_overrides?: Json,
    }

    /// `chat.startup` of a session that is named by the beginning of its id.
    pub struct ChatStartup {
        /// The beginning of the conversation's id.
        short_id: Text,
        /// The agent.
        agent_id: Text;
        /// Of no use here.
        slug_hint?: Text,
        /// Messages.
        limit?: Int<1, 1000>,
        /// Bytes.
        max_bytes?: Int<1024, { u64::MAX }>,
    }

    /// `chat.history`.
    pub struct ChatHistory {
        /// The session.
        session_key: Text;
        /// The agent, where the key does not say.
        agent_id?: Text,
        /// Where the last reply ended.
        cursor?: String,
        /// Messages.
        limit?: Int<1, 1000>,
        /// Bytes.
        max_bytes?: Int<1024, { u64::MAX }>,
        /// Messages to pass over, from the newest.
        offset?: u64,
        /// Of no use here.
        pending_before?: Positive,
        /// Of no use here.
        input_run_ids?: Vec<Text>,
        /// Around this message.
        message_id?: Text,
        /// Of this past session.
        session_id?: Text,
        /// Characters of one message.
        max_chars?: Int<1, 500_000>,
    }

    /// `chat.abort`.
    pub struct ChatAbort {
        /// The session.
        session_key: Text;
        /// The agent, where the key does not say.
        agent_id?: Text,
        /// This run only.
        run_id?: Text,
        /// Of no use here.
        preserve_side_runs?: bool,
    }
}

open! {
    /// The reply of `chat.send`.
    pub struct ChatStarted {
        /// The run.
        run_id: String,
        /// `started`, or `in_flight` when the key was seen before.
        status: String;
    }

    /// The reply of `chat.history`.
    pub struct ChatMessages {
        /// The session.
        session_key: String,
        /// The messages, oldest first.
        messages: Vec<Json>,
        /// Whether there are older ones.
        has_more: bool,
        /// How many there are.
        total_messages: u64;
        /// The conversation's id.
        session_id?: String,
        /// `{modelProvider, model, contextTokens}` of its agent.
        defaults?: Json,
        /// Its row in the list of sessions, with `hasActiveRun` and `activeRunIds`.
        session_info?: Json,
        /// How the session was found, where it was named by `shortId`: `{ok, key, agentId}`.
        resolution?: Json,
        /// How hard the agent thinks.
        thinking_level?: String,
    }

    /// The reply of `chat.abort`.
    pub struct ChatAborted {
        /// True.
        ok: bool,
        /// Whether anything was called off.
        aborted: bool,
        /// What.
        run_ids: Vec<String>;
    }

    /// The event `chat`.
    pub struct ChatEvent {
        /// The run.
        run_id: String,
        /// The session.
        session_key: String,
        /// Counts the events of the run.
        seq: u64,
        /// Where the run stands.
        state: ChatState;
        /// The agent.
        agent_id?: String,
        /// The message so far, or whole.
        message?: Json,
        /// The piece that is new.
        delta_text?: String,
        /// Whether the piece replaces what came before.
        replace?: bool,
        /// What the run waits for.
        phase?: String,
        /// Why it failed.
        error_message?: String,
        /// Why it failed, as a word.
        error_kind?: String,
        /// Why it stopped.
        stop_reason?: String,
        /// What it cost.
        usage?: Json,
    }
}
