//! `config.*`.

use crate::json::Json;
use crate::method::Text;
use crate::strict::{closed, open};

closed! {
    /// `config.set`.
    pub struct ConfigSet {
        /// The whole file.
        raw: Text;
        /// The hash of what it replaces; another one in force: refused.
        base_hash?: Text,
    }

    /// `config.apply`: as `config.set`, then in force at once.
    pub struct ConfigApply {
        /// The whole file.
        raw: Text;
        /// The hash of what it replaces.
        base_hash?: Text,
        /// Whom to tell.
        session_key?: String,
        /// Where to tell it.
        delivery_context?: Json,
        /// What to tell.
        note?: String,
        /// Of no use here: nothing restarts.
        restart_delay_ms?: u64,
    }

    /// `config.patch`: a merge patch, null removes.
    pub struct ConfigPatch {
        /// The patch.
        raw: Text;
        /// The hash of what it changes.
        base_hash?: Text,
        /// Whom to tell.
        session_key?: String,
        /// Where to tell it.
        delivery_context?: Json,
        /// What to tell.
        note?: String,
        /// Of no use here: nothing restarts.
        restart_delay_ms?: u64,
        /// Paths that are replaced and not merged.
        replace_paths?: Vec<Text>,
    }
}

open! {
    /// The reply of `config.get`.
    pub struct ConfigSnapshot {
        /// The file.
        path: String,
        /// Whether there is one.
        exists: bool,
        /// Whether it can be in force.
        valid: bool,
        /// What is in force, secrets replaced.
        config: Json,
        /// What is wrong.
        issues: Vec<ConfigIssue>,
        /// What is odd.
        warnings: Vec<ConfigIssue>;
        /// What an older release wrote otherwise; nothing here.
        legacy_issues?: Vec<ConfigIssue>,
        /// The file's text, secrets replaced.
        raw?: String,
        /// The file as a tree, secrets replaced.
        parsed?: Json,
        /// The hash to give as `baseHash`.
        hash?: String,
    }

    /// One fault of a configuration.
    pub struct ConfigIssue {
        /// The key, e.g. `gateway.auth.token`.
        path: String,
        /// One sentence.
        message: String;
        /// What is allowed there.
        allowed_values?: Vec<Json>,
    }

    /// The reply of `config.set`, `.patch` and `.apply`.
    pub struct ConfigWritten {
        /// True.
        ok: bool,
        /// The file.
        path: String,
        /// What is in force now, secrets replaced.
        config: Json;
        /// The hash of what is in force now.
        hash?: String,
        /// Whether a restart is needed for some of it.
        restart?: Json,
    }

    /// The reply of `config.schema`.
    pub struct ConfigSchema {
        /// A JSON schema.
        schema: Json,
        /// How to show each key.
        ui_hints: Json,
        /// The gateway's version.
        version: String,
        /// When it was made.
        generated_at: String;
    }
}
