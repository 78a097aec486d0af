//! How to reach a gateway, and how to print: the options that every command has, and the dial that follows from them.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use atoll_pairing::dial::{Dial, DialError, Speak, Target};
use atoll_pairing::handshake::Ask;
use atoll_pairing::identity::Identity;
use atoll_pairing::proven::Offered;
use atoll_pairing::tls::Fingerprint;
use atoll_protocol::capability::Surface;
use atoll_protocol::frame::ClientInfo;
use atoll_protocol::scope::{Role, Scope, Scopes};
use clap::Args;
use secrecy::SecretString;

use super::CliError;
use crate::state::StateDir;

/// Where the shared secret of a gateway elsewhere is looked for, the first one that is set.
const TOKEN_ENV: [&str; 2] = ["ATOLL_GATEWAY_TOKEN", "OPENCLAW_GATEWAY_TOKEN"];
const PASSWORD_ENV: [&str; 2] = ["ATOLL_GATEWAY_PASSWORD", "OPENCLAW_GATEWAY_PASSWORD"];

/// How long to wait for an answer unless somebody says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What is asked for of a gateway elsewhere; it gives what this device or the shared secret is good for.
const SCOPES: [Scope; 7] = [
    Scope::Admin,
    Scope::Read,
    Scope::Write,
    Scope::Approvals,
    Scope::Questions,
    Scope::Pairing,
    Scope::TalkSecrets,
];

/// How to reach the gateway, and how to print.
#[derive(Debug, Clone, Args)]
pub(super) struct Reach {
    /// The gateway's state folder (default: ~/.atoll); no token is needed
    #[arg(
        long,
        global = true,
        env = "ATOLL_STATE_DIR",
        hide_env = true,
        value_name = "DIR",
        help_heading = "Reach"
    )]
    pub(super) state_dir: Option<PathBuf>,
    /// A gateway elsewhere, e.g. ws://127.0.0.1:18789 through a tunnel
    #[arg(
        long,
        global = true,
        env = "ATOLL_GATEWAY_URL",
        hide_env = true,
        value_name = "URL",
        help_heading = "Reach"
    )]
    pub(super) url: Option<String>,
    /// File with the shared token for --url (or set ATOLL_GATEWAY_TOKEN)
    #[arg(long, global = true, value_name = "FILE", help_heading = "Reach")]
    pub(super) token_file: Option<PathBuf>,
    /// For wss://: the gateway's `tlsSha256` of `atoll gateway status`
    #[arg(long, global = true, value_name = "HEX", help_heading = "Reach")]
    pub(super) tls_fingerprint: Option<Fingerprint>,
    /// How long to wait for an answer, e.g. 30s or 500ms (default: 10s)
    #[arg(long, global = true, value_name = "TIME", value_parser = super::pictures::time, help_heading = "Reach")]
    timeout: Option<u64>,
    /// Print JSON, in the shape of OpenClaw's command of that name
    #[arg(long, global = true, help_heading = "Reach")]
    pub(super) json: bool,
}

impl Reach {
    /// The state folder of this machine's gateway, made when there is none.
    pub(super) fn state(&self) -> Result<StateDir, CliError> {
        StateDir::open(self.state_dir.as_deref()).map_err(CliError::local)
    }

    /// How long to wait for an answer.
    pub(super) fn timeout(&self) -> Duration {
        self.given_timeout().unwrap_or(TIMEOUT)
    }

    /// The same where somebody has said it.
    pub(super) fn given_timeout(&self) -> Option<Duration> {
        self.timeout.map(Duration::from_millis)
    }
}

/// A dial that is ready to be made.
#[derive(Debug)]
pub(super) struct Way {
    /// The dial.
    pub(super) dial: Dial,
    /// It leads to the gateway of this machine and user.
    pub(super) is_local: bool,
}

impl Way {
    /// The way that was asked for.
    pub(super) fn of(reach: &Reach) -> Result<Self, CliError> {
        match &reach.url {
            None => Ok(Self::local(reach.state()?)),
            Some(url) => Self::remote(reach, url),
        }
    }

    /// The operating system says who is at this end of the socket, so nothing else has to.
    fn local(state: StateDir) -> Self {
        let target = Target::Unix(state.socket());
        let dial = dial(target, None, Scopes::none(), Offered::default(), None);
        Self { dial, is_local: true }
    }

    fn remote(reach: &Reach, url: &str) -> Result<Self, CliError> {
        let target: Target = url
            .parse()
            .map_err(|error| CliError::Usage(format!("--url: {error}")))?;
        let identity = if needs_device(&target) {
            let path = reach.state()?.root().join("cli-identity.key");
            Some(Arc::new(Identity::load_or_create(&path).map_err(CliError::local)?))
        } else {
            None
        };
        let scopes = SCOPES.into_iter().collect();
        let dial = dial(target, identity, scopes, credentials(reach)?, reach.tls_fingerprint);
        Ok(Self { dial, is_local: false })
    }
}

fn dial(
    target: Target,
    identity: Option<Arc<Identity>>,
    scopes: Scopes,
    credentials: Offered,
    certificate: Option<Fingerprint>,
) -> Dial {
    let client = ClientInfo {
        id: "cli".to_owned(),
        mode: "cli".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        platform: std::env::consts::OS.to_owned(),
        instance_id: uuid::Uuid::new_v4().to_string(),
        ..ClientInfo::default()
    };
    let ask = Ask {
        role: Role::Operator,
        scopes,
        client,
        surface: Surface::default(),
        path_env: String::new(),
    };
    Dial {
        target,
        first: None,
        identity,
        ask,
        speak: Speak::Dialect {
            credentials,
            certificate,
        },
    }
}

/// Only on the gateway's own machine does the shared secret admit a program without a device.
fn needs_device(target: &Target) -> bool {
    let is_here = |host: &str| host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    target.host().is_some_and(|host| !is_here(host))
}

fn credentials(reach: &Reach) -> Result<Offered, CliError> {
    let token = match &reach.token_file {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the token file {}", path.display()))?;
            Some(text)
        }
        None => first_of(&TOKEN_ENV),
    };
    let secret = |text: String| {
        let text = text.trim();
        (!text.is_empty()).then(|| SecretString::from(text))
    };
    Ok(Offered {
        token: token.and_then(secret),
        password: first_of(&PASSWORD_ENV).and_then(secret),
        ..Offered::default()
    })
}

fn first_of(names: &[&str]) -> Option<String> {
    names
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.trim().is_empty()))
}

/// What to do about a dial that failed.
pub(super) fn not_connected(way: &Way, error: DialError) -> CliError {
    match error {
        DialError::Refused(refusal) => CliError::Refused(refusal),
        DialError::Unreachable { .. } | DialError::Timeout { .. } | DialError::Neither { .. } => {
            unreachable(way, &error.to_string())
        }
        DialError::Upgrade(_) | DialError::Link(_) | DialError::Handshake(_) | DialError::Tls { .. } => {
            let target = &way.dial.target;
            CliError::Unreachable(format!(
                "{target} does not answer like a gateway: {error}\nnext: check the address"
            ))
        }
        DialError::NoFingerprint { .. } => CliError::Usage(format!(
            "{error}\nnext: give it with --tls-fingerprint, or use an SSH tunnel and ws://127.0.0.1"
        )),
        DialError::TooOpen { .. } => CliError::Usage(format!("{error}, or an SSH tunnel and ws://127.0.0.1")),
        DialError::WrongCertificate { .. } => CliError::Unreachable(format!(
            "{error}\nnext: compare --tls-fingerprint with `atoll gateway status` on the gateway's machine"
        )),
        DialError::NativeOnly { .. } => CliError::Usage(error.to_string()),
        DialError::NoIdentity | DialError::Random => CliError::local(error),
    }
}

/// Connecting took longer than was said.
pub(super) fn too_late(way: &Way, patience: Duration) -> CliError {
    let target = &way.dial.target;
    unreachable(
        way,
        &format!("{target} did not answer within {} ms", patience.as_millis()),
    )
}

fn unreachable(way: &Way, what: &str) -> CliError {
    let next = if way.is_local {
        "start one with `atoll up` or `atoll gateway run`, or name another with --state-dir or --url"
    } else {
        "check the address, and that the gateway runs there and may be reached from here"
    };
    let who = if way.is_local { "no gateway runs here: " } else { "" };
    CliError::Unreachable(format!("{who}{what}\nnext: {next}"))
}

#[cfg(test)]
mod tests {
    use std::io;

    use secrecy::ExposeSecret;

    use super::*;

    fn reach(url: Option<&str>, folder: &tempfile::TempDir) -> Reach {
        Reach {
            state_dir: Some(folder.path().join("state")),
            url: url.map(str::to_owned),
            token_file: None,
            tls_fingerprint: None,
            timeout: Some(100),
            json: false,
        }
    }

    #[test]
    fn the_own_gateway_is_reached_without_a_secret_or_a_device() {
        let folder = tempfile::tempdir().expect("a folder");
        let way = Way::of(&reach(None, &folder)).expect("a way");
        assert!(way.is_local && way.dial.identity.is_none() && way.dial.ask.scopes.is_empty());
        assert!(matches!(&way.dial.target, Target::Unix(path) if path.ends_with("state/gateway.sock")));
        assert!(matches!(&way.dial.speak, Speak::Dialect { credentials, .. } if credentials.is_empty()));
    }

    #[test]
    fn a_gateway_elsewhere_sees_a_device_and_one_behind_a_tunnel_does_not() {
        for (url, expected) in [
            ("ws://127.0.0.1:1", false),
            ("ws://localhost:1", false),
            ("ws://[::1]:1", false),
            ("wss://example.org", true),
            ("ws://192.168.0.2:1", true),
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            let way = Way::of(&reach(Some(url), &folder)).expect(url);
            assert_eq!(way.dial.identity.is_some(), expected, "{url}");
            assert_eq!(folder.path().join("state/cli-identity.key").exists(), expected, "{url}");
            assert!(!way.is_local && way.dial.ask.scopes.give(Scope::Admin));
        }
    }

    #[test]
    fn a_token_file_is_read_without_its_line_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        std::fs::write(&path, "secret\n").expect("writes");
        let mut reach = reach(Some("ws://127.0.0.1:1"), &folder);
        reach.token_file = Some(path);
        let token = credentials(&reach).expect("reads").token.expect("a token");
        assert_eq!(token.expose_secret(), "secret");
        reach.token_file = Some(folder.path().join("none"));
        assert!(
            credentials(&reach)
                .expect_err("absent")
                .to_string()
                .contains("cannot read the token file")
        );
    }

    #[test]
    fn every_failure_says_what_to_do_next() {
        let folder = tempfile::tempdir().expect("a folder");
        let local = Way::of(&reach(None, &folder)).expect("a way");
        let remote = Way::of(&reach(Some("ws://127.0.0.1:9"), &folder)).expect("a way");
        let refused = |way: &Way| DialError::Unreachable {
            target: way.dial.target.clone(),
            source: io::ErrorKind::ConnectionRefused.into(),
        };
        let text = not_connected(&local, refused(&local)).to_string();
        assert!(text.contains("`atoll up`") && text.contains("gateway.sock"), "{text}");
        let text = not_connected(&remote, refused(&remote)).to_string();
        assert!(
            text.contains("ws://127.0.0.1:9") && text.contains("check the address"),
            "{text}"
        );
        let text = too_late(&local, Duration::from_millis(7)).to_string();
        assert!(text.contains("7 ms") && text.contains("next:"), "{text}");
        let open = DialError::TooOpen {
            target: "ws://example.org".parse().expect("an address"),
        };
        let text = not_connected(&remote, open).to_string();
        assert!(text.contains("wss://example.org") && text.contains("tunnel"), "{text}");
    }
}
