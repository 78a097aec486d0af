//! `health`, `status`, `system-presence`, `logs.tail`, and the events `tick`, `presence`, `shutdown`.

use crate::id::DeviceId;
use crate::json::Json;
use crate::method::Int;
use crate::strict::{closed, open};

closed! {
    /// `logs.tail`.
    #[derive(Default)]
    pub struct LogsTail {;
        /// Where the last reply ended.
        cursor?: u64,
        /// Lines.
        limit?: Int<1, 5000>,
        /// Bytes.
        max_bytes?: Int<1, 1_000_000>,
    }
}

open! {
    /// The reply of `logs.tail`.
    pub struct LogLines {
        /// The file.
        file: String,
        /// Where this reply ends.
        cursor: u64,
        /// The file's size, bytes.
        size: u64,
        /// The lines.
        lines: Vec<String>;
        /// There is more.
        truncated?: bool,
        /// The file has begun anew.
        reset?: bool,
        /// Bytes passed over.
        skipped_bytes?: u64,
    }

    /// The reply of `health`, and the event of that name.
    pub struct Health {
        /// Whether the gateway works.
        ok: bool,
        /// When this was found out, Unix milliseconds.
        ts: u64,
        /// How long that took.
        duration_ms: u64;
        /// Channel accounts by channel.
        channels?: Json,
        /// The order to show them in.
        channel_order?: Vec<String>,
        /// Their names for people.
        channel_labels?: Json,
        /// How often agents are woken; 0: never.
        heartbeat_seconds?: u64,
        /// The default agent.
        default_agent_id?: String,
        /// The agents.
        agents?: Json,
        /// The sessions of the default agent.
        sessions?: Json,
    }

    /// The reply of `status`.
    pub struct Status {
        /// The gateway's version.
        runtime_version: String;
        /// Since its start.
        uptime_ms?: u64,
        /// One line a channel.
        channel_summary?: Vec<String>,
        /// `{paths, count, defaults, recent, byAgent}`.
        sessions?: Json,
        /// `{defaultAgentId, agents}`.
        heartbeat?: Json,
        /// Counts of jobs.
        tasks?: Json,
        /// `{rssBytes}`.
        process_memory?: Json,
    }

    /// One entry of the reply of `system-presence`, and of the event `presence`.
    pub struct Presence {
        /// When it was last heard of, Unix milliseconds.
        ts: u64;
        /// The host's or the device's name.
        host?: String,
        /// Its program.
        client_id?: String,
        /// Its address.
        ip?: String,
        /// Its version.
        version?: String,
        /// Its system.
        platform?: String,
        /// Its kind.
        device_family?: String,
        /// Its hardware.
        model_identifier?: String,
        /// How it is used: `gateway`, `node`, `cli`, …
        mode?: String,
        /// What was last heard of it: `self`, `connect`, `disconnect`, …
        reason?: String,
        /// One line for a person.
        text?: String,
        /// Its device.
        device_id?: DeviceId,
        /// Its roles.
        roles?: Vec<String>,
        /// Its scopes.
        scopes?: Vec<String>,
        /// One start of its program.
        instance_id?: String,
        /// Since when it is here.
        online_since?: u64,
    }

    /// The event `presence`.
    pub struct PresenceChanged {
        /// Everybody.
        presence: Vec<Presence>;
    }

    /// The event `tick`.
    pub struct Tick {
        /// Unix milliseconds.
        ts: u64;
    }

    /// The event `shutdown`.
    pub struct Shutdown {
        /// Why.
        reason: String;
        /// When it will be back.
        restart_expected_ms?: u64,
    }
}
