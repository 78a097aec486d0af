//! `sessions.*` and `models.list`.

use crate::json::Json;
use crate::method::{Int, Positive, Text};
use crate::strict::{closed, open, words};

words! {
    /// How a list of sessions is sorted, the newest first.
    SessionSort {
        /// By the last change.
        UpdatedAt = "updatedAt",
        /// By the last message of a person.
        LastInteractionAt = "lastInteractionAt",
        /// By the last of anything.
        Activity = "activity",
    }

    /// Why a session begins anew.
    ResetReason {
        /// Somebody wants a new one.
        New = "new",
        /// Somebody wants to forget the old one.
        Reset = "reset",
    }
}

closed! {
    /// `sessions.list`.
    #[derive(Default)]
    pub struct SessionsList {;
        /// How many.
        limit?: Positive,
        /// How many to pass over.
        offset?: u64,
        /// Only those of the last minutes.
        active_minutes?: Positive,
        /// Only those with a run on.
        active_only?: bool,
        /// Only those a person spoke in.
        require_last_interaction?: bool,
        /// The order.
        sort_by?: SessionSort,
        /// With the global one.
        include_global?: bool,
        /// With those of no known kind.
        include_unknown?: bool,
        /// Without those that agents started.
        exclude_subagents?: bool,
        /// Without those of jobs.
        exclude_cron?: bool,
        /// Without those of the system.
        exclude_system?: bool,
        /// Only those of agents that are configured.
        configured_agents_only?: bool,
        /// With titles made of their text.
        include_derived_titles?: bool,
        /// With the last message.
        include_last_message?: bool,
        /// Of no use here.
        include_activity_summary?: bool,
        /// Of this name.
        label?: Text,
        /// Of no use here.
        project_id?: Text,
        /// Of no use here.
        workspace_dir?: Text,
        /// Of no use here.
        group?: String,
        /// Only pinned ones, or only others.
        pinned?: bool,
        /// Of no use here.
        board_face?: String,
        /// Of no use here.
        has_board?: bool,
        /// Of no use here.
        creator_id?: Text,
        /// Of no use here.
        owner_id?: Text,
        /// Of no use here.
        owner_first?: bool,
        /// Of no use here.
        involving_me?: bool,
        /// Of no use here.
        profile_relation?: Json,
        /// Of no use here.
        involving_profile_id?: Text,
        /// Of no use here.
        include_people?: bool,
        /// Of this parent.
        spawned_by?: Text,
        /// Of this agent.
        agent_id?: Text,
        /// With this in key, name or title.
        search?: String,
        /// `true`, `false` or `"all"`.
        archived?: Json,
    }

    /// `sessions.history`, a short form of `chat.history`.
    pub struct SessionsHistory {
        /// The session.
        key: Text;
        /// The agent, where the key does not say.
        agent_id?: Text,
        /// Messages.
        limit?: Int<1, 1000>,
        /// Messages to pass over, from the newest.
        offset?: u64,
    }

    /// `sessions.send`.
    pub struct SessionsSend {
        /// The session.
        key: Text,
        /// What is said.
        message: String;
        /// The agent, where the key does not say.
        agent_id?: Text,
        /// Of no use here.
        mentions?: Json,
        /// How hard to think.
        thinking?: String,
        /// Files.
        attachments?: Vec<Json>,
        /// How long the run may take.
        timeout_ms?: u64,
        /// Becomes the run's id; the same key again does nothing.
        idempotency_key?: Text,
    }

    /// `sessions.reset`.
    pub struct SessionsReset {
        /// The session.
        key: Text;
        /// The agent, where the key does not say.
        agent_id?: Text,
        /// Why.
        reason?: ResetReason,
        /// The conversation must be this one still.
        expected_session_id?: Text,
    }

    /// `sessions.compact`.
    pub struct SessionsCompact {
        /// The session.
        key: Text;
        /// The agent, where the key does not say.
        agent_id?: Text,
        /// Keep so many of the newest messages, in the place of a summary.
        max_lines?: Positive,
    }

    /// `sessions.messages.subscribe`.
    pub struct SessionSubscribe {
        /// The session.
        key: Text;
        /// The agent, where the key does not say.
        agent_id?: Text,
        /// Whether its approvals are wanted too.
        include_approvals?: bool,
    }

    /// `sessions.messages.unsubscribe`.
    pub struct SessionUnsubscribe {
        /// The session.
        key: Text;
        /// The agent, where the key does not say.
        agent_id?: Text,
    }

    /// `sessions.delete`.
    pub struct SessionsDelete {
        /// The session.
        key: Text;
        /// The agent, where the key does not say.
        agent_id?: Text,
        /// Whether the transcript goes too.
        delete_transcript?: bool,
        /// The conversation must be this one still.
        expected_session_id?: Text,
        /// Of no use here.
        expected_lifecycle_revision?: Text,
        /// Of no use here.
        expected_session_updated_at?: Json,
        /// Of no use here.
        emit_lifecycle_hooks?: bool,
        /// Only if it is archived.
        archived_only?: bool,
    }

    /// `models.list`.
    #[derive(Default)]
    pub struct ModelsList {;
        /// `default`, `configured` or `all`.
        view?: String,
        /// As this agent sees them.
        agent_id?: Text,
        /// As this session sees them.
        session_key?: Text,
        /// With this credential.
        auth_profile_id?: Text,
        /// Of this provider.
        provider?: Text,
        /// What is known now.
        prepared_only?: bool,
        /// What the providers say now.
        refresh?: bool,
        /// Whether every fact of a model is wanted; all are told anyway.
        include_details?: bool,
    }
}

open! {
    /// The reply of `sessions.list`.
    pub struct Sessions {
        /// Unix milliseconds.
        ts: u64,
        /// The index.
        path: String,
        /// How many are in `sessions`.
        count: u64,
        /// `{modelProvider, model, contextTokens}` of a new session.
        defaults: Json,
        /// They.
        sessions: Vec<SessionRow>;
        /// How many there are.
        total_count?: u64,
        /// How many were asked for.
        limit_applied?: u64,
        /// The `offset` of the next page.
        next_offset?: u64,
        /// Whether there are more.
        has_more?: bool,
    }

    /// One session.
    pub struct SessionRow {
        /// Its key.
        key: String,
        /// `direct`, `group`, `global` or `unknown`.
        kind: String;
        /// The conversation.
        session_id?: String,
        /// Its name.
        label?: String,
        /// Its name for people.
        display_name?: String,
        /// Made of its text.
        derived_title?: String,
        /// The last message.
        last_message_preview?: String,
        /// The channel it came from.
        channel?: String,
        /// The channel's account.
        account_id?: String,
        /// Its agent.
        agent_id?: String,
        /// `direct`, `group` or `channel`.
        chat_type?: String,
        /// Unix milliseconds.
        updated_at?: u64,
        /// Unix milliseconds.
        last_interaction_at?: u64,
        /// Of the last run: `queued`, `running`, `done`, `failed`, `killed`, `timeout`.
        status?: String,
        /// Its provider.
        model_provider?: String,
        /// Its model.
        model?: String,
        /// Tokens it fills.
        total_tokens?: u64,
        /// Tokens it can fill.
        context_tokens?: u64,
        /// How hard the agent thinks.
        thinking_level?: String,
    }

    /// The reply of `sessions.reset`.
    pub struct SessionStarted {
        /// True.
        ok: bool,
        /// The session.
        key: String,
        /// `{sessionId, updatedAt}` of the new conversation.
        entry: Json;
    }

    /// The reply of `sessions.compact`.
    pub struct SessionCompacted {
        /// Whether it is as it was asked for.
        ok: bool,
        /// The session.
        key: String,
        /// Whether anything was taken out.
        compacted: bool;
        /// Why nothing was.
        reason?: String,
        /// Messages that are left, with `maxLines`.
        kept?: u64,
        /// `{summary, tokensBefore, tokensAfter}`.
        result?: Json,
    }

    /// The reply of `sessions.delete`.
    pub struct SessionDeleted {
        /// True.
        ok: bool,
        /// The session.
        key: String,
        /// Whether there was one.
        deleted: bool,
        /// Files that were put away.
        archived: Vec<String>;
    }

    /// The reply of `models.list`.
    pub struct Models {
        /// They.
        models: Vec<ModelChoice>;
    }

    /// One model.
    pub struct ModelChoice {
        /// Its id at the provider.
        id: String,
        /// Its name for people.
        name: String,
        /// Its provider.
        provider: String;
        /// `default` for the model of the default agent.
        tags?: Vec<String>,
        /// Another name.
        alias?: String,
        /// Whether it can be used now.
        available?: bool,
        /// `missing-auth`, `auth-failed` or `cooldown`.
        unavailable_reason?: String,
        /// Tokens.
        context_window?: u64,
        /// Whether it thinks.
        reasoning?: bool,
        /// `text`, `image`, …
        input?: Vec<String>,
    }
}
