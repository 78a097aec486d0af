//! `hello-ok`: what an admitted client is told. Written with every field that we know, read with none required.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::connect::CURRENT;
use crate::frame::StateVersion;
use crate::json::Json;
use crate::limits;

macro_rules! lenient {
    ($($(#[$meta:meta])* $name:ident {
        $($(#[$field_meta:meta])* $field:ident: $type:ty),* $(,)? ;
        $($(#[$optional_meta:meta])* $optional:ident?: $optional_type:ty),* $(,)?
    })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
            $(
                $(#[$optional_meta])*
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $optional: Option<$optional_type>,
            )*
        }
    )*};
}

/// The word that marks the payload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HelloType {
    /// `hello-ok`.
    #[default]
    #[serde(rename = "hello-ok")]
    HelloOk,
}

lenient! {
    /// The whole of it.
    HelloOk {
        /// `hello-ok`.
        r#type: HelloType,
        /// The protocol in force.
        protocol: u64,
        /// The gateway.
        server: Server,
        /// What it serves.
        features: Features,
        /// How things stand.
        snapshot: Snapshot;
        /// Where the Control UI is.
        control_ui_url?: String,
        /// Extra tabs of the Control UI.
        control_ui_tabs?: Vec<Json>,
        /// Widgets of the Control UI.
        control_ui_widget_kinds?: Vec<Json>,
        /// Link readers of the Control UI.
        control_ui_link_readers?: Vec<Json>,
        /// Pages of extensions, by surface.
        plugin_surface_urls?: BTreeMap<String, String>,
        /// Who the client is here.
        auth?: Auth,
        /// The bounds in force.
        policy?: Policy,
    }

    /// `server`.
    #[derive(Default)]
    Server {
        /// Its version.
        version: String,
        /// The id of this connection.
        conn_id: String;
        /// Its build.
        build_id?: String,
        /// This start of it.
        boot_id?: String,
        /// Hash of the certificate that it shows: SHA-256, hex.
        tls_sha256?: String,
        /// Where its Control UI comes from.
        control_ui_build_source?: String,
    }

    /// `features`.
    #[derive(Default)]
    Features {
        /// Methods.
        methods: Vec<String>,
        /// Events.
        events: Vec<String>;
        /// Extras by name.
        capabilities?: Vec<String>,
    }

    /// `snapshot`.
    Snapshot {
        /// Who is here; empty without `operator.read`.
        presence: Vec<Json>,
        /// Health, as the `health` event has it.
        health: Json,
        /// Their versions.
        state_version: StateVersion,
        /// Since the gateway's start, milliseconds.
        uptime_ms: u64;
        /// `{phase}`.
        suspension?: Json,
        /// Which configuration is in force.
        applied_config_hash?: String,
        /// Path of the configuration, for admins only.
        config_path?: String,
        /// Path of the state folder, for admins only.
        state_dir?: String,
        /// The default agent and its main session.
        session_defaults?: SessionDefaults,
        /// `none`, `token`, `password` or `trusted-proxy`, for admins only.
        auth_mode?: String,
        /// A newer version.
        update_available?: Json,
        /// When it will be installed.
        update_schedule?: Json,
    }

    /// `snapshot.sessionDefaults`.
    #[derive(Default)]
    SessionDefaults {
        /// The default agent.
        default_agent_id: String,
        /// The name of its main session.
        main_key: String,
        /// The key of its main session.
        main_session_key: String;
        /// Whether it can think.
        model_configured?: bool,
        /// How agents are owned.
        ownership?: String,
        /// Whether a person must choose an agent first.
        selection_required?: bool,
        /// `per-sender` or `global`.
        scope?: String,
    }

    /// `auth`.
    #[derive(Default)]
    Auth {
        /// The role in force.
        role: String,
        /// The scopes in force.
        scopes: Vec<String>;
        /// What let the client in: `token`, `device-token`, …
        method?: String,
        /// The token of a paired device, a secret.
        device_token?: SecretText,
        /// When that token was made, Unix milliseconds.
        issued_at_ms?: u64,
        /// Tokens of further roles after a setup code.
        device_tokens?: Vec<RoleToken>,
        /// For browsers.
        recovery_scope?: SecretText,
        /// For browsers.
        recovery_migration_allowed?: bool,
    }

    /// A token of one role.
    #[derive(Default)]
    RoleToken {
        /// The secret.
        device_token: SecretText,
        /// The role.
        role: String,
        /// Its scopes.
        scopes: Vec<String>,
        /// When it was made, Unix milliseconds.
        issued_at_ms: u64;
    }

    /// `policy`.
    Policy {
        /// One frame, bytes.
        max_payload: u64,
        /// Waiting for one client, bytes.
        max_buffered_bytes: u64,
        /// How often to expect a tick, milliseconds.
        tick_interval_ms: u64;
        /// `{maxBytes, maxImageBytes}`.
        attachments?: Json,
        /// Which visibilities a session may have.
        allowed_session_visibilities?: Vec<String>,
        /// Whether sessions are shared between people.
        has_multiple_session_sharing_identities?: bool,
    }
}

/// A secret that only the message shows.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText(pub String);

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl Default for HelloOk {
    fn default() -> Self {
        Self {
            r#type: HelloType::HelloOk,
            protocol: CURRENT,
            server: Server::default(),
            features: Features::default(),
            snapshot: Snapshot::default(),
            control_ui_url: None,
            control_ui_tabs: None,
            control_ui_widget_kinds: None,
            control_ui_link_readers: None,
            plugin_surface_urls: None,
            auth: None,
            policy: None,
        }
    }
}

impl HelloOk {
    /// The bounds in force; ours where the gateway names none.
    pub fn policy(&self) -> Policy {
        self.policy.clone().unwrap_or_default()
    }
}

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            presence: Vec::new(),
            health: serde_json::json!({}).into(),
            state_version: StateVersion { presence: 0, health: 0 },
            uptime_ms: 0,
            suspension: None,
            applied_config_hash: None,
            config_path: None,
            state_dir: None,
            session_defaults: None,
            auth_mode: None,
            update_available: None,
            update_schedule: None,
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        let tick = limits::TICK.as_millis();
        Self {
            max_payload: limits::JSON_FRAME as u64,
            max_buffered_bytes: limits::SEND_BUFFER as u64,
            tick_interval_ms: u64::try_from(tick).expect("the tick is seconds"),
            attachments: None,
            allowed_session_visibilities: None,
            has_multiple_session_sharing_identities: None,
        }
    }
}
