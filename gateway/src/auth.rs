//! How peers show that they belong, as of now: what the command line says, else the configuration, else a secret that nobody knows. When
//! that changes, the links that came in by the old secret are closed. Never judges anybody.

use std::sync::{Arc, Mutex, PoisonError};

use atoll_pairing::admission::{AuthPolicy, ProxyRules};
use atoll_pairing::book::SecretHash;
use atoll_protocol::hex;
use atoll_protocol::scope::{Scope, Scopes};
use secrecy::SecretString;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::{self, AuthMode, Bind, Config, Gateway};
use crate::hub::Hub;

/// Close code and reason for links that came in by a secret that is no longer the one.
const CHANGED: (u16, &str) = (4001, "gateway auth changed");

/// What the command line says of `gateway`; it wins over the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overrides {
    /// `--port`
    pub(crate) port: Option<u16>,
    /// `--bind`
    pub(crate) bind: Option<Bind>,
    /// `--token`, or its environment variable.
    pub(crate) token: Option<SecretString>,
}

impl Overrides {
    /// The settings with these on top.
    pub(crate) fn on(&self, gateway: &Gateway) -> Gateway {
        let mut gateway = gateway.clone();
        gateway.port = self.port.unwrap_or(gateway.port);
        gateway.bind = self.bind.unwrap_or(gateway.bind);
        if self.token.is_some() {
            gateway.auth.token.clone_from(&self.token);
        }
        gateway
    }
}

/// The policy in force.
pub(crate) struct Auth {
    overrides: Overrides,
    /// How the listeners are bound until the next start, whatever the file says by now.
    bound: Bind,
    /// Stands where no secret is configured.
    nobody: SecretHash,
    last: Mutex<Last>,
}

struct Last {
    of: Arc<Config>,
    policy: Arc<AuthPolicy>,
}

impl Auth {
    /// The policy of a configuration that was found safe.
    pub(crate) fn new(overrides: Overrides, config: Arc<Config>) -> Self {
        let nobody = SecretHash::of(&unguessable());
        let gateway = overrides.on(&config.gateway);
        let policy = Arc::new(policy_of(&gateway, nobody));
        Self {
            overrides,
            bound: gateway.bind,
            nobody,
            last: Mutex::new(Last { of: config, policy }),
        }
    }

    /// The policy under this configuration; one that would not be safe leaves the last one in force.
    pub(crate) fn policy(&self, config: &Arc<Config>) -> Arc<AuthPolicy> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&last.of, config) {
            return last.policy.clone();
        }
        last.of = config.clone();
        let gateway = Gateway {
            bind: self.bound,
            ..self.overrides.on(&config.gateway)
        };
        let problems = config::exposure(&gateway);
        if problems.is_empty() {
            last.policy = Arc::new(policy_of(&gateway, self.nobody));
        }
        for problem in problems {
            tracing::error!("{problem}; the proof that peers must give stays as it was");
        }
        last.policy.clone()
    }
}

/// Follows the configuration until stopped.
pub(crate) async fn follow(auth: &Auth, mut configs: watch::Receiver<Arc<Config>>, hub: Hub, stop: CancellationToken) {
    let current = configs.borrow_and_update().clone();
    let mut before = auth.policy(&current);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = configs.changed() => if changed.is_err() { return },
        }
        let config = configs.borrow_and_update().clone();
        let now = auth.policy(&config);
        if *now != *before {
            tracing::info!("gateway.auth has changed; links that came in by the old proof are closed");
            hub.close_shared(CHANGED.0, CHANGED.1).await;
        }
        before = now;
    }
}

fn policy_of(gateway: &Gateway, nobody: SecretHash) -> AuthPolicy {
    let auth = &gateway.auth;
    let hash = |secret: &Option<SecretString>| secret.as_ref().map_or(nobody, SecretHash::of);
    match auth.effective() {
        AuthMode::None => AuthPolicy::None,
        AuthMode::Token => AuthPolicy::Token(hash(&auth.token)),
        AuthMode::Password => AuthPolicy::Password(hash(&auth.password)),
        AuthMode::TrustedProxy => AuthPolicy::TrustedProxy(ProxyRules {
            allow_users: auth.trusted_proxy.allow_users.clone(),
            scopes: Scope::ALL.iter().copied().collect(),
            browsers: browsers(&auth.trusted_proxy.device_auto_approve),
        }),
    }
}

/// What the proxy's users may bring in; names were checked with the configuration.
fn browsers(approve: &config::DeviceAutoApprove) -> Option<Scopes> {
    let scopes = approve.scopes.iter().filter_map(|scope| scope.parse().ok());
    approve.enabled.then(|| scopes.collect())
}

fn unguessable() -> SecretString {
    let bytes: [u8; 32] = crate::random();
    hex::encode(&bytes).into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(auth: serde_json::Value) -> Arc<Config> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("atoll.json");
        std::fs::write(&path, json!({"gateway": {"auth": auth}}).to_string()).expect("writes");
        crate::config::check_file(&path, &|_| None).expect("valid").config
    }

    fn token(text: &str) -> AuthPolicy {
        AuthPolicy::Token(SecretHash::of(&SecretString::from(text.to_owned())))
    }

    #[test]
    fn another_token_in_the_file_is_the_one_that_counts() {
        let auth = Auth::new(Overrides::default(), config(json!({"token": "one"})));
        let new = config(json!({"token": "two"}));
        assert_eq!(*auth.policy(&new), token("two"));
        assert_eq!(*auth.policy(&config(json!({"mode": "none"}))), AuthPolicy::None);
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let overrides = Overrides {
            token: Some("given".to_owned().into()),
            ..Overrides::default()
        };
        let auth = Auth::new(overrides, config(json!({"token": "one"})));
        assert_eq!(*auth.policy(&config(json!({"token": "two"}))), token("given"));
    }

    #[test]
    fn without_a_token_nobody_comes_in_by_one() {
        let auth = Auth::new(Overrides::default(), config(json!({})));
        let AuthPolicy::Token(hash) = *auth.policy(&config(json!({}))) else {
            panic!("a token is the default");
        };
        assert!(!hash.matches(&String::new().into()));
    }

    #[test]
    fn a_proof_that_is_too_weak_for_where_we_listen_is_not_taken_up() {
        let long = "x".repeat(32);
        let overrides = Overrides {
            bind: Some(Bind::Lan),
            ..Overrides::default()
        };
        let auth = Auth::new(overrides, config(json!({"token": long})));
        for weak in [json!({"token": "short"}), json!({"mode": "none"}), json!({})] {
            assert_eq!(*auth.policy(&config(weak.clone())), token(&long), "{weak}");
        }
    }
}
