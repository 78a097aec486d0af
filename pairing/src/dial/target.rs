//! Where a gateway is, as a person writes it, and whether it may be reached without TLS.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

use atoll_protocol::limits;
use serde::{Deserialize, Serialize};

use crate::proven::Language;

/// What carries a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PipeKind {
    /// QUIC.
    Quic,
    /// WebSocket over TLS.
    Wss,
    /// Plain WebSocket within this machine.
    Ws,
}

impl fmt::Display for PipeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quic => "quic",
            Self::Wss => "wss",
            Self::Ws => "ws",
        })
    }
}

/// The address of a gateway: `atoll://host[:port]` for whichever encrypted pipe works, or one pipe by name: `quic://host[:port]`,
/// `wss://host[:port][/path]`, `ws://host[:port][/path]`, `unix:/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Over QUIC or TLS WebSocket.
    Any {
        /// A name or an address, an IPv6 one without brackets.
        host: String,
        /// The port, the same for TCP and UDP.
        port: u16,
    },
    /// Over QUIC.
    Quic {
        /// A name or an address, an IPv6 one without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// Over TCP, with or without TLS.
    Tcp {
        /// `wss`.
        tls: bool,
        /// A name or an address, an IPv6 one without brackets.
        host: String,
        /// The port.
        port: u16,
        /// The path of the upgrade, with its slash.
        path: String,
    },
    /// A socket in the file system, always plain.
    Unix(PathBuf),
}

/// Not the address of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not the address of a gateway; write atoll://host:port, or quic://, wss:// or ws:// for one pipe, or unix:/path"
)]
pub struct BadTarget(String);

impl FromStr for Target {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Self, BadTarget> {
        let bad = || BadTarget(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() {
                Err(bad())
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(bad)?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = split_port(authority).ok_or_else(bad)?;
        // What could break out of the request line, or say who somebody is in an address that gets logged.
        let is_clean = |text: &str| !text.contains(|c: char| c.is_whitespace() || c.is_control() || "@?#".contains(c));
        if host.is_empty() || !is_clean(host) || !is_clean(path) {
            return Err(bad());
        }
        let (host, has_path) = (host.to_ascii_lowercase(), !path.is_empty() && path != "/");
        let path = if has_path { path } else { "/" }.to_owned();
        match scheme {
            "atoll" if !has_path => Ok(Self::Any { host, port }),
            "quic" if !has_path => Ok(Self::Quic { host, port }),
            "ws" | "http" => Ok(tcp(false, host, port, path)),
            "wss" | "https" => Ok(tcp(true, host, port, path)),
            _ => Err(bad()),
        }
    }
}

fn tcp(tls: bool, host: String, port: u16, path: String) -> Target {
    Target::Tcp { tls, host, port, path }
}

fn split_port(authority: &str) -> Option<(&str, u16)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, tail) = rest.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        let port = match tail {
            "" => limits::PORT,
            tail => tail.strip_prefix(':')?.parse().ok()?,
        };
        return Some((host, port));
    }
    match authority.split_once(':') {
        Some((host, port)) => Some((host, port.parse().ok()?)),
        None => Some((authority, limits::PORT)),
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { tls, path, .. } => {
                let scheme = if *tls { "wss" } else { "ws" };
                let path = if path == "/" { "" } else { path };
                write!(f, "{scheme}://{}{path}", self.authority())
            }
            Self::Any { .. } => write!(f, "atoll://{}", self.authority()),
            Self::Quic { .. } => write!(f, "quic://{}", self.authority()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Target {
    /// Host and port, as in a `Host` header.
    pub fn authority(&self) -> String {
        match self {
            Self::Any { host, port } | Self::Quic { host, port } | Self::Tcp { host, port, .. } => {
                if host.contains(':') {
                    format!("[{host}]:{port}")
                } else {
                    format!("{host}:{port}")
                }
            }
            Self::Unix(_) => "localhost".to_owned(),
        }
    }

    /// The gateway's place, the same for every pipe to it: what is known of the gateway is known by this.
    pub fn place(&self) -> String {
        match self {
            Self::Any { .. } | Self::Quic { .. } | Self::Tcp { .. } => self.authority(),
            Self::Unix(_) => self.to_string(),
        }
    }

    /// The name or address of its machine; none for a socket in the file system.
    pub fn host(&self) -> Option<&str> {
        match self {
            Self::Any { host, .. } | Self::Quic { host, .. } | Self::Tcp { host, .. } => Some(host),
            Self::Unix(_) => None,
        }
    }

    /// Whether what is said to it could be read or changed on the way, though this language does not bear that.
    ///
    /// The native language takes plain connections within this machine only, which is also what an SSH tunnel looks like.
    /// OpenClaw's programs are used plainly in private networks, so the dialect allows those too.
    pub fn is_too_open(&self, language: Language) -> bool {
        match self {
            Self::Unix(_) | Self::Any { .. } | Self::Quic { .. } | Self::Tcp { tls: true, .. } => false,
            Self::Tcp { host, .. } => match language {
                Language::Native => !is_loopback(host),
                Language::Dialect => !is_loopback(host) && !is_private(host),
            },
        }
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_private(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => address.is_private() || address.is_link_local() || is_shared(address),
        Ok(IpAddr::V6(address)) => address.is_unique_local() || address.is_unicast_link_local(),
        Err(_) => host.ends_with(".local") || host.ends_with(".ts.net"),
    }
}

/// 100.64.0.0/10, the space of carriers and of Tailscale (RFC 6598).
fn is_shared(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    first == 100 && second & 0xc0 == 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, written) in [
            ("ws://127.0.0.1:1", "ws://127.0.0.1:1"),
            ("wss://Example.org", "wss://example.org:18789"),
            ("wss://[::1]:2/a/b", "wss://[::1]:2/a/b"),
            ("http://host:3/", "ws://host:3"),
            ("atoll://Example.org", "atoll://example.org:18789"),
            ("atoll://[::1]:2/", "atoll://[::1]:2"),
            ("quic://10.0.0.1:3", "quic://10.0.0.1:3"),
            ("unix:/run/atoll.sock", "unix:/run/atoll.sock"),
            ("unix:///run/atoll.sock", "unix:/run/atoll.sock"),
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), written);
        }
        for bad in [
            "",
            "host",
            "ftp://host",
            "ws://",
            "ws://a:b",
            "ws://a:1:2",
            "ws://u@h",
            "ws://h/\r\nx",
            "ws://[::1",
            "unix:",
            "quic://host/path",
            "atoll://host/path",
        ] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_pipe_to_one_gateway_leads_to_the_same_place() {
        for scheme in ["atoll", "quic", "wss", "ws"] {
            let target: Target = format!("{scheme}://[FD00::1]:7").parse().unwrap();
            assert_eq!(target.place(), "[fd00::1]:7", "{scheme}");
        }
        let socket: Target = "unix:/run/atoll.sock".parse().unwrap();
        assert_eq!(socket.place(), "unix:/run/atoll.sock");
    }

    #[test]
    fn plain_connections_stay_where_the_language_allows_them() {
        use Language::{Dialect, Native};
        for (host, native, dialect) in [
            ("127.0.0.1", true, true),
            ("127.8.8.8", true, true),
            ("[::1]", true, true),
            ("localhost", true, true),
            ("10.1.2.3", false, true),
            ("192.168.1.1", false, true),
            ("172.31.0.1", false, true),
            ("100.64.0.1", false, true),
            ("100.127.255.255", false, true),
            ("169.254.1.1", false, true),
            ("[fd00::1]", false, true),
            ("[fe80::1]", false, true),
            ("box.local", false, true),
            ("box.tail1.ts.net", false, true),
            ("100.128.0.1", false, false),
            ("172.32.0.1", false, false),
            ("8.8.8.8", false, false),
            ("[2001:db8::1]", false, false),
            ("example.org", false, false),
            ("localhost.example.org", false, false),
            ("evilts.net", false, false),
        ] {
            let target: Target = format!("ws://{host}:1").parse().unwrap();
            assert_eq!(!target.is_too_open(Native), native, "{host}");
            assert_eq!(!target.is_too_open(Dialect), dialect, "{host}");
            let target: Target = format!("wss://{host}:1").parse().unwrap();
            assert!(!target.is_too_open(Native), "{host}");
        }
    }
}
