//! `channels.*` and `send`.

use std::collections::BTreeMap;

use crate::method::Text;
use crate::strict::{closed, open};

closed! {
    /// `channels.status`.
    #[derive(Default)]
    pub struct ChannelsStatus {;
        /// Whether to ask the platforms now.
        probe?: bool,
        /// How long that may take.
        timeout_ms?: u64,
        /// Only this channel.
        channel?: Text,
    }

    /// `send`: a message to somebody, without an agent.
    pub struct Send {
        /// The person, group or room.
        to: Text,
        /// The same key again sends nothing.
        idempotency_key: Text;
        /// The text.
        message?: String,
        /// A file.
        media_url?: String,
        /// Files.
        media_urls?: Vec<String>,
        /// A file's bytes, base64.
        buffer?: String,
        /// Its name.
        filename?: String,
        /// Its kind.
        content_type?: String,
        /// Whether sound goes as a voice message.
        as_voice?: bool,
        /// Whether a film loops.
        gif_playback?: bool,
        /// The channel.
        channel?: String,
        /// The channel's account.
        account_id?: String,
        /// The agent in whose name.
        agent_id?: String,
        /// The message it answers.
        reply_to_id?: String,
        /// The thread.
        thread_id?: String,
        /// Whether pictures go as files.
        force_document?: bool,
        /// Whether no phone rings.
        silent?: bool,
        /// `HTML`.
        parse_mode?: String,
        /// The session to note it in.
        session_key?: String,
    }

    /// `channels.pairing.list`.
    #[derive(Default)]
    pub struct SenderRequests {;
        /// Only of this channel.
        channel?: Text,
        /// Only of this account.
        account_id?: Text,
    }

    /// `channels.pairing.approve`.
    pub struct SenderApprove {
        /// The channel.
        channel: Text,
        /// Its account.
        account_id: Text,
        /// The request, or the code that the person was given.
        request_id: Text;
        /// Whether to tell the person.
        notify?: bool,
        /// Whether this person becomes the owner; admin only.
        bootstrap_command_owner?: bool,
    }

    /// `channels.pairing.dismiss`.
    pub struct SenderDismiss {
        /// The channel.
        channel: Text,
        /// Its account.
        account_id: Text,
        /// The request.
        request_id: Text;
    }
}

open! {
    /// The reply of `channels.status`.
    pub struct Channels {
        /// Unix milliseconds.
        ts: u64,
        /// The order to show them in.
        channel_order: Vec<String>,
        /// Their names for people.
        channel_labels: BTreeMap<String, String>,
        /// A summary of each.
        channels: BTreeMap<String, ChannelSummary>,
        /// The accounts of each.
        channel_accounts: BTreeMap<String, Vec<ChannelAccount>>,
        /// The default account of each.
        channel_default_account_id: BTreeMap<String, String>;
    }

    /// One channel.
    pub struct ChannelSummary {
        /// Whether it has what it needs.
        configured: bool,
        /// Whether it runs.
        running: bool;
        /// What is wrong.
        last_error?: String,
    }

    /// One account of a channel.
    pub struct ChannelAccount {
        /// Its id.
        account_id: String;
        /// Its name for people.
        name?: String,
        /// Whether it is switched on.
        enabled?: bool,
        /// Whether it has what it needs.
        configured?: bool,
        /// Whether it runs.
        running?: bool,
        /// Whether the platform answers.
        connected?: bool,
        /// Times it has tried again.
        reconnect_attempts?: u64,
        /// Unix milliseconds.
        last_connected_at?: u64,
        /// What is wrong.
        last_error?: String,
        /// Unix milliseconds.
        last_start_at?: u64,
        /// Unix milliseconds.
        last_stop_at?: u64,
        /// Unix milliseconds.
        last_inbound_at?: u64,
        /// Unix milliseconds.
        last_outbound_at?: u64,
        /// How it gets messages: `polling`, `webhook`, …
        mode?: String,
        /// Who may write to it.
        dm_policy?: String,
        /// Who in particular.
        allow_from?: Vec<String>,
        /// Where its token comes from.
        token_source?: String,
    }

    /// The reply of `send`.
    pub struct Sent {
        /// The run under whose id it is noted.
        run_id: String,
        /// The channel.
        channel: String;
        /// The platform's id of the message.
        message_id?: String,
        /// The chat it went to.
        chat_id?: String,
    }

    /// The reply of `channels.pairing.list`.
    pub struct Senders {
        /// Accounts that pair.
        accounts: Vec<SenderAccount>,
        /// People who wait.
        requests: Vec<SenderRequest>,
        /// Whether there is an owner.
        command_owner_configured: bool,
        /// The bounds.
        limits: SenderLimits;
    }

    /// An account that pairs.
    pub struct SenderAccount {
        /// The channel.
        channel: String,
        /// Its name for people.
        channel_label: String,
        /// The account.
        account_id: String,
        /// Whether people can be told.
        notify_supported: bool;
        /// Its name for people.
        account_label?: String,
    }

    /// Somebody who waits.
    pub struct SenderRequest {
        /// The request.
        request_id: String,
        /// The channel.
        channel: String,
        /// Its name for people.
        channel_label: String,
        /// The account.
        account_id: String,
        /// The person.
        sender_id: String,
        /// The person's name.
        sender_label: String,
        /// ISO 8601.
        created_at: String,
        /// ISO 8601.
        last_seen_at: String,
        /// ISO 8601.
        expires_at: String,
        /// Whether the person can be told.
        notify_supported: bool;
        /// The account's name for people.
        account_label?: String,
        /// What else is known.
        metadata?: BTreeMap<String, String>,
    }

    /// The bounds of pairing with people.
    pub struct SenderLimits {
        /// How many may wait.
        pending_per_account: u64,
        /// For how long.
        ttl_ms: u64;
    }

    /// The reply of `channels.pairing.approve`.
    pub struct SenderApproved {
        /// The request.
        request_id: String,
        /// The person.
        sender_id: String,
        /// `not-requested`, `sent`, `unsupported` or `failed`.
        notification: String,
        /// `not-requested`, `configured`, `already-configured` or `unavailable`.
        command_owner_bootstrap: String;
    }

    /// The reply of `channels.pairing.dismiss`.
    pub struct SenderDismissed {
        /// The request.
        request_id: String,
        /// The person.
        sender_id: String;
    }
}
