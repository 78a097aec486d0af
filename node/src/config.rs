//! Everything the daemon needs to know, out of the command line and the environment. Reads no file.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use atoll_pairing::dial::Target;
use atoll_pairing::discovery::Air;
use atoll_pairing::tls::Fingerprint;
use secrecy::SecretString;

use crate::ask::Ways;

/// What is spoken to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `atoll/1`.
    Native,
    /// OpenClaw's JSON, for an OpenClaw gateway.
    Openclaw,
}

impl Dialect {
    /// The word that people use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Openclaw => "openclaw",
        }
    }
}

/// Neither of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the dialect is native or openclaw")]
pub struct BadDialect;

impl FromStr for Dialect {
    type Err = BadDialect;

    fn from_str(text: &str) -> Result<Self, BadDialect> {
        [Self::Native, Self::Openclaw]
            .into_iter()
            .find(|dialect| dialect.as_str() == text)
            .ok_or(BadDialect)
    }
}

/// The settings of one daemon.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the gateway is.
    pub gateway: Target,
    /// How it was found; none where a person named it.
    pub found: Option<Found>,
    /// What is spoken.
    pub dialect: Dialect,
    /// The shared token, for the first time.
    pub token: Option<SecretString>,
    /// What the owner calls this device.
    pub name: String,
    /// The folder.
    pub state_dir: PathBuf,
    /// The gateway's certificate (dialect over TLS).
    pub tls_fingerprint: Option<Fingerprint>,
    /// How soon QUIC is looked for again on a link that had to do without; then ever more rarely.
    pub quic_pause: Duration,
    /// How the person at the device is asked and shown what happens.
    pub ways: Ways,
}

/// The usual [`Config::quic_pause`].
pub const QUIC_PAUSE: Duration = Duration::from_secs(20);

/// How a gateway was found that nobody named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The key that it announced, which it must prove though nobody has vouched for it; none for the one that is remembered.
    pub announced: Option<[u8; 32]>,
    /// Where to look for it when it is not reached any more.
    pub air: Air,
}

/// The host's name, which a device has until its owner names it.
pub fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .or_else(|| std::env::var("COMPUTERNAME").ok())
        .unwrap_or_default();
    match name.trim() {
        "" => "node".to_owned(),
        name => name.to_owned(),
    }
}

/// Platform and device family in the words that OpenClaw's command policy knows, and that must not change between connects.
pub fn platform() -> (&'static str, &'static str) {
    platform_of(std::env::consts::OS, Path::new("/system"))
}

/// `system` is where Android has its own files: a static program for Linux runs there too, and is the same kind of node as one that was
/// built there.
fn platform_of(os: &'static str, system: &Path) -> (&'static str, &'static str) {
    let is_android = || {
        ["build.prop", "bin/app_process"]
            .iter()
            .any(|file| system.join(file).exists())
    };
    match os {
        "linux" if is_android() => ("android", "Android"),
        "linux" => ("linux", "Linux"),
        "macos" => ("macos", "Mac"),
        "windows" => ("windows", "Windows"),
        "android" => ("android", "Android"),
        other => (other, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_for_linux_knows_that_it_runs_on_android() {
        let system = tempfile::tempdir().expect("a folder");
        assert_eq!(platform_of("linux", system.path()), ("linux", "Linux"));
        std::fs::write(system.path().join("build.prop"), "").expect("room");
        assert_eq!(platform_of("linux", system.path()), ("android", "Android"));
        assert_eq!(platform_of("android", Path::new("/nowhere")), ("android", "Android"));
        assert_eq!(platform_of("macos", system.path()), ("macos", "Mac"));
    }
}
