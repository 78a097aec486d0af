//! What a setup link or code holds: which gateway, where, and the code that lets a device in. Ours and OpenClaw's
//! (reference §14). Reads and writes text; never dials.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::dial::Target;
use crate::tls::Fingerprint;

/// Starts a link of ours.
const LINK: &str = "atoll://pair?";

/// Starts a link of OpenClaw's.
const FOREIGN: &str = "oc-pair://";

/// Addresses that one invitation may name; more is no invitation.
const ADDRESSES: usize = 16;

/// Characters of the longest link that is read.
const LINK_CHARS: usize = 4096;

/// An invitation to one ring.
#[derive(Debug, Clone)]
pub enum Invitation {
    /// To a gateway of ours.
    Native(NativeInvitation),
    /// To a gateway that speaks OpenClaw's dialect.
    Foreign(ForeignInvitation),
}

/// `atoll://pair?key=…&at=…&at=…&code=…`
#[derive(Debug, Clone)]
pub struct NativeInvitation {
    /// The gateway's raw Ed25519 key: nobody else gets to see the code.
    pub gateway: [u8; 32],
    /// Where it may be found, best first; never empty.
    pub addresses: Vec<Target>,
    /// The setup code.
    pub code: SecretString,
}

/// What an OpenClaw setup code holds.
#[derive(Debug, Clone)]
pub struct ForeignInvitation {
    /// Where the gateway may be found, best first; never empty.
    pub addresses: Vec<Target>,
    /// `bootstrapToken`.
    pub code: SecretString,
    /// The gateway's certificate, where there is TLS.
    pub certificate: Option<Fingerprint>,
    /// When it ends, Unix milliseconds.
    pub expires_ms: u64,
}

/// Not an invitation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadInvitation {
    /// Neither kind.
    #[error("this is neither a link that begins with {LINK} nor an OpenClaw setup code; copy all of it")]
    Shape,
    /// A part is missing or broken.
    #[error("the link has no proper {0}; copy all of it")]
    Part(&'static str),
}

impl FromStr for Invitation {
    type Err = BadInvitation;

    fn from_str(text: &str) -> Result<Self, BadInvitation> {
        let text = text.trim();
        if text.len() > LINK_CHARS {
            return Err(BadInvitation::Shape);
        }
        if let Some(query) = text.strip_prefix(LINK) {
            return read_native(query).map(Self::Native);
        }
        let code = text.strip_prefix(FOREIGN).unwrap_or(text);
        let json = URL_SAFE_NO_PAD
            .decode(code.trim_end_matches('='))
            .map_err(|_| BadInvitation::Shape)?;
        ForeignInvitation::read(&json).map(Self::Foreign)
    }
}

fn read_native(query: &str) -> Result<NativeInvitation, BadInvitation> {
    let (mut gateway, mut addresses, mut code) = (None, Vec::new(), None);
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        match name {
            "key" => gateway = read_key(value),
            "at" => addresses.push(value.parse().map_err(|_| BadInvitation::Part("address"))?),
            "code" => code = is_code(value).then(|| SecretString::from(value)),
            _ => {} // of a later version
        }
    }
    if addresses.is_empty() || addresses.len() > ADDRESSES {
        return Err(BadInvitation::Part("address"));
    }
    Ok(NativeInvitation {
        gateway: gateway.ok_or(BadInvitation::Part("gateway key"))?,
        addresses,
        code: code.ok_or(BadInvitation::Part("code"))?,
    })
}

fn read_key(text: &str) -> Option<[u8; 32]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

fn is_code(text: &str) -> bool {
    text.len() == 43
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

impl NativeInvitation {
    /// The link, which holds the code: to be shown to whoever may use it, and to nobody else.
    pub fn link(&self) -> SecretString {
        let key = URL_SAFE_NO_PAD.encode(self.gateway);
        let at: String = self.addresses.iter().map(|address| format!("&at={address}")).collect();
        format!("{LINK}key={key}{at}&code={}", self.code.expose_secret()).into()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Setup {
    url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    urls: Option<Vec<String>>,
    bootstrap_token: String,
    expires_at_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tls_fingerprint: Option<String>,
}

impl ForeignInvitation {
    /// Reads what a setup code holds, or a join link answered.
    ///
    /// # Errors
    /// It is none.
    pub fn read(json: &[u8]) -> Result<Self, BadInvitation> {
        let setup: Setup = serde_json::from_slice(json).map_err(|_| BadInvitation::Shape)?;
        let all = std::iter::once(setup.url).chain(setup.urls.unwrap_or_default());
        let mut addresses: Vec<Target> = Vec::new();
        for url in all.take(ADDRESSES) {
            let address = url.parse().map_err(|_| BadInvitation::Part("address"))?;
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        let certificate = setup.tls_fingerprint.map(|text| text.parse()).transpose();
        if setup.bootstrap_token.is_empty() {
            return Err(BadInvitation::Part("code"));
        }
        Ok(Self {
            addresses,
            code: setup.bootstrap_token.into(),
            certificate: certificate.map_err(|_| BadInvitation::Part("certificate fingerprint"))?,
            expires_ms: setup.expires_at_ms,
        })
    }

    /// The JSON that [`Self::read`] reads.
    pub fn json(&self) -> String {
        let mut urls: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        let setup = Setup {
            url: urls.first().cloned().unwrap_or_default(),
            urls: (urls.len() > 1).then(|| std::mem::take(&mut urls)),
            bootstrap_token: self.code.expose_secret().to_owned(),
            expires_at_ms: self.expires_ms,
            tls_fingerprint: self.certificate.map(|certificate| certificate.to_string()),
        };
        serde_json::to_string(&setup).expect("text keys always serialise")
    }

    /// The setup code as it is typed.
    pub fn setup_code(&self) -> SecretString {
        URL_SAFE_NO_PAD.encode(self.json()).into()
    }

    /// The same as a link.
    pub fn link(&self) -> SecretString {
        format!("{FOREIGN}{}", self.setup_code().expose_secret()).into()
    }
}

/// Whether a text is the address of a join link: `http(s)://host[:port]/j/<22 characters>`.
pub fn is_join_link(text: &str) -> bool {
    let Some((head, code)) = text.trim().rsplit_once("/j/") else {
        return false;
    };
    let is_web = head.starts_with("http://") || head.starts_with("https://");
    is_web && is_join_code(code)
}

/// Whether a text has the shape of what a join link ends in.
pub fn is_join_code(text: &str) -> bool {
    text.len() == 22
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

impl fmt::Display for Invitation {
    /// Whom it is to, without the code.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = match self {
            Self::Native(native) => &native.addresses,
            Self::Foreign(foreign) => &foreign.addresses,
        };
        let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;

    fn native() -> NativeInvitation {
        NativeInvitation {
            gateway: Identity::from_seed(&[7; 32]).public_key(),
            addresses: vec![
                "wss://192.168.1.5:18789".parse().unwrap(),
                "wss://[fd00::1]:18789".parse().unwrap(),
            ],
            code: "A".repeat(43).into(),
        }
    }

    #[test]
    fn a_link_reads_back_and_fits_a_small_picture() {
        let link = native().link();
        let Ok(Invitation::Native(back)) = link.expose_secret().parse() else {
            panic!("a link of ours")
        };
        assert_eq!((back.gateway, &back.addresses), (native().gateway, &native().addresses));
        assert_eq!(back.code.expose_secret(), native().code.expose_secret());
        assert!(link.expose_secret().len() <= 192, "{}", link.expose_secret().len());
        assert!(!format!("{back:?}").contains("AAAA"), "the code is not in a log");
        assert_eq!(
            Invitation::Native(back).to_string(),
            "wss://192.168.1.5:18789, wss://[fd00::1]:18789"
        );
    }

    #[test]
    fn a_link_that_lost_a_part_is_refused_and_the_part_is_named() {
        let link = native().link();
        let link = link.expose_secret();
        for (name, text) in [
            ("gateway key", link.replace("key=", "kee=")),
            ("gateway key", link.replace("key=", "key=AA")),
            ("address", link.replace("at=", "to=")),
            ("address", link.replace("at=wss", "at=ftp")),
            ("code", link[..link.len() - 1].to_owned()),
            ("code", link.replace("code=A", "code=/")),
        ] {
            assert_eq!(
                text.parse::<Invitation>().err(),
                Some(BadInvitation::Part(name)),
                "{text}"
            );
        }
        for text in ["", "atoll://", "https://example.org", "oc-pair://!!", "oc-pair://e30"] {
            assert_eq!(text.parse::<Invitation>().err(), Some(BadInvitation::Shape), "{text}");
        }
    }

    #[test]
    fn their_code_is_read_with_and_without_its_prefix() {
        let json = r#"{"url":"wss://box.local:18789","urls":["wss://box.local:18789","wss://10.0.0.2:18789"],"bootstrapToken":"b","expiresAtMs":5,"tlsFingerprint":"sha256:0000000000000000000000000000000000000000000000000000000000000001","later":1}"#;
        let code = URL_SAFE_NO_PAD.encode(json);
        for text in [code.clone(), format!("oc-pair://{code}"), format!(" {code}==\n")] {
            let Ok(Invitation::Foreign(read)) = text.parse() else {
                panic!("{text}")
            };
            assert_eq!((read.addresses.len(), read.expires_ms), (2, 5));
            assert!(read.certificate.is_some());
            assert_eq!(read.code.expose_secret(), "b");
            let Ok(Invitation::Foreign(again)) = read.link().expose_secret().parse() else {
                panic!("a link")
            };
            assert_eq!(again.json(), read.json());
        }
    }

    #[test]
    fn a_join_link_is_told_from_anything_else() {
        assert!(is_join_link("http://127.0.0.1:18789/j/0123456789abcdefABCDEF"));
        for text in [
            "http://h/j/short",
            "ftp://h/j/0123456789abcdefABCDEF",
            "http://h/k/0123456789abcdefABCDEF",
        ] {
            assert!(!is_join_link(text), "{text}");
        }
    }
}
