//! `gateway`: where it listens and who gets in.

use std::time::Duration;

use atoll_pairing::lockout::Patience;
use secrecy::SecretString;
use serde::Deserialize;

use super::secret;

/// `gateway`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gateway {
    /// The TCP and UDP port.
    pub port: u16,
    /// Which addresses.
    pub bind: Bind,
    /// The address for [`Bind::Custom`].
    pub custom_bind_host: Option<String>,
    /// What a client must show.
    pub auth: Auth,
    /// Addresses of proxies whose headers are believed.
    pub trusted_proxies: Vec<String>,
    /// Whether their `X-Real-IP` counts where they send nothing better.
    pub allow_real_ip_fallback: bool,
    /// The browser pages.
    pub control_ui: ControlUi,
    /// What nodes may be asked for.
    pub nodes: Nodes,
    /// Encryption of the port.
    pub tls: Tls,
}

/// Which addresses the gateway listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bind {
    /// This machine only.
    Loopback,
    /// Every address.
    Lan,
    /// The tailnet's address and loopback.
    Tailnet,
    /// [`Gateway::custom_bind_host`].
    Custom,
    /// Every address in a container, else loopback.
    Auto,
}

/// `gateway.auth`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// As written; [`Auth::effective`] is what holds.
    pub mode: Option<AuthMode>,
    /// The shared token.
    #[serde(default, deserialize_with = "secret")]
    pub token: Option<SecretString>,
    /// The shared password.
    #[serde(default, deserialize_with = "secret")]
    pub password: Option<SecretString>,
    /// Who is let in when a proxy names the user.
    pub trusted_proxy: TrustedProxy,
    /// When an address that guesses is locked out.
    pub rate_limit: RateLimit,
}

/// `gateway.auth.rateLimit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Failures that lock it.
    pub max_attempts: usize,
    /// The time over which they count.
    pub window_ms: u64,
    /// How long it stays locked.
    pub lockout_ms: u64,
    /// Whether this machine is not counted.
    pub exempt_loopback: bool,
}

impl RateLimit {
    /// As the lockouts take it.
    pub fn patience(self) -> Patience {
        Patience {
            failures: self.max_attempts,
            window: Duration::from_millis(self.window_ms),
            locked: Duration::from_millis(self.lockout_ms),
            exempts_loopback: self.exempt_loopback,
        }
    }
}

impl Auth {
    /// The mode that holds: as written, else by the one secret there is, else token.
    pub fn effective(&self) -> AuthMode {
        self.mode.unwrap_or(match (&self.token, &self.password) {
            (None, Some(_)) => AuthMode::Password,
            (Some(_) | None, _) => AuthMode::Token,
        })
    }
}

/// How clients prove themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuthMode {
    /// The shared token.
    Token,
    /// The shared password.
    Password,
    /// Not at all; loopback only.
    None,
    /// A proxy did it.
    TrustedProxy,
}

/// `gateway.auth.trustedProxy`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrustedProxy {
    /// The header that names the user.
    pub user_header: Option<String>,
    /// Headers that must be there too.
    pub required_headers: Vec<String>,
    /// Users that are let in; empty: every one.
    pub allow_users: Vec<String>,
    /// Whether a proxy on this machine counts.
    pub allow_loopback: bool,
    /// Whether new browsers come in by the proxy's word.
    pub device_auto_approve: DeviceAutoApprove,
}

/// `gateway.auth.trustedProxy.deviceAutoApprove`.
#[derive(Debug, Clone, Deserialize)]
pub struct DeviceAutoApprove {
    /// Whether they do.
    pub enabled: bool,
    /// The most that they get.
    pub scopes: Vec<String>,
}

/// `gateway.controlUi`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ControlUi {
    /// Origins of pages that may connect.
    pub allowed_origins: Vec<String>,
}

/// `gateway.nodes`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Nodes {
    /// Commands beyond, and without, the usual ones of a platform.
    pub commands: AllowDeny,
    /// Tools that nodes publish.
    pub plugin_tools: PluginTools,
}

/// `gateway.nodes.pluginTools`.
#[derive(Debug, Clone, Deserialize)]
pub struct PluginTools {
    /// Whether agents are offered them.
    pub enabled: bool,
}

/// Two lists of names; `deny` wins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct AllowDeny {
    /// In addition.
    pub allow: Vec<String>,
    /// Never.
    pub deny: Vec<String>,
}

/// `gateway.tls`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// Whether WebSocket clients must use TLS.
    pub enabled: bool,
    /// Make the two files where there are none.
    pub auto_generate: bool,
    /// The certificate chain, PEM.
    pub cert_path: Option<String>,
    /// Its key, PEM.
    pub key_path: Option<String>,
}
