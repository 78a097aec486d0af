//! Which gateways this node was admitted by, and what it must remember of each: the key to insist on, the token of the dialect.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use atoll_pairing::dial::{PipeKind, Target};
use atoll_protocol::id::DeviceId;
use serde::{Deserialize, Serialize};

use super::{StateError, json_text, read, replace};
use crate::config::Dialect;

/// What is remembered of one gateway, by its place ([`Target::place`]), whatever pipe it was reached by.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Known {
    /// Its public key, 64 hex digits; never replaced by the program itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<DeviceId>,
    /// The dialect's token of this device there.
    #[serde(skip_serializing_if = "Option::is_none")]
    device_token: Option<String>,
    /// The pipe that worked last, where the address left that open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pipe: Option<PipeKind>,
    /// The whole address that it was reached at last.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// What is spoken there.
    #[serde(skip_serializing_if = "Option::is_none")]
    dialect: Option<String>,
    /// The certificate that its owner named, SHA-256.
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_fingerprint: Option<String>,
    /// When it last let this device in, Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_ms: Option<u64>,
}

/// How a gateway was reached when it let this device in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The address.
    pub address: String,
    /// What is spoken there.
    pub dialect: Dialect,
    /// The certificate that its owner named, SHA-256.
    pub tls_fingerprint: Option<String>,
}

/// What is remembered of the gateways that let this device in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remembered {
    /// There is none.
    Nobody,
    /// This one, and how many others there are.
    One(Way, usize),
    /// Several, and nothing says which was used last.
    Several(Vec<Way>),
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known")
            .field("public_key", &self.public_key)
            .field("device_token", &self.device_token.as_ref().map(|_| "…"))
            .field("pipe", &self.pipe)
            .field("address", &self.address)
            .field("dialect", &self.dialect)
            .field("tls_fingerprint", &self.tls_fingerprint)
            .field("last_used_ms", &self.last_used_ms)
            .finish()
    }
}

impl Known {
    /// The key that the gateway at that address must prove.
    pub fn pin(&self) -> Option<[u8; 32]> {
        // A key has the same shape as an id: 32 bytes, written as hex digits.
        self.public_key.map(|key| *key.as_bytes())
    }

    /// The dialect's token.
    pub fn device_token(&self) -> Option<&str> {
        self.device_token.as_deref()
    }

    /// The pipe that worked last.
    pub fn pipe(&self) -> Option<PipeKind> {
        self.pipe
    }

    /// How it was reached last, as far as that is remembered; `place` is what it is remembered by.
    fn way(&self, place: &str) -> Way {
        let spoken = self.dialect.as_deref().and_then(|dialect| dialect.parse().ok());
        // Before this was written down, only a gateway of ours had a key.
        let guessed = if self.public_key.is_some() {
            Dialect::Native
        } else {
            Dialect::Openclaw
        };
        Way {
            address: self.address.clone().unwrap_or_else(|| place.to_owned()),
            dialect: spoken.unwrap_or(guessed),
            tls_fingerprint: self.tls_fingerprint.clone(),
        }
    }

    /// Whether it ever let this device in.
    pub fn was_admitted(&self) -> bool {
        self.public_key.is_some() || self.device_token.is_some()
    }
}

/// The file.
#[derive(Debug)]
pub struct Gateways {
    path: PathBuf,
    known: BTreeMap<String, Known>,
}

/// Another key is pinned already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("another key is pinned for this gateway")]
pub struct PinnedOtherwise;

impl Gateways {
    pub(super) fn load(path: PathBuf) -> Result<Self, StateError> {
        let known: BTreeMap<String, Known> = match read(&path)? {
            None => BTreeMap::new(),
            Some(text) => serde_json::from_str(&text).map_err(|error| StateError::Malformed {
                path: path.clone(),
                reason: error.to_string(),
            })?,
        };
        Ok(Self {
            path,
            known: known
                .into_iter()
                .map(|(address, known)| (place(address), known))
                .collect(),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// What is known of the gateway at a place.
    pub fn known(&self, place: &str) -> Known {
        self.known.get(place).cloned().unwrap_or_default()
    }

    /// Whether a gateway with this key ever let this device in.
    pub fn is_pinned(&self, key: [u8; 32]) -> bool {
        self.known.values().any(|known| known.pin() == Some(key))
    }

    /// Which gateway is meant where none is named: the one that let this device in last. With a dialect, of those that speak it.
    pub fn remembered(&self, dialect: Option<Dialect>) -> Remembered {
        let speaks = |known: &Known, place: &str| dialect.is_none_or(|dialect| known.way(place).dialect == dialect);
        let admitted: Vec<_> = self
            .known
            .iter()
            .filter(|(place, known)| known.was_admitted() && speaks(known, place))
            .collect();
        let Some((place, last)) = admitted.iter().max_by_key(|(_, known)| known.last_used_ms) else {
            return Remembered::Nobody;
        };
        let is_same = |other: &Known| other.pin().is_some() && other.pin() == last.pin();
        let others = admitted
            .iter()
            .filter(|(other, known)| other != place && !is_same(known))
            .count();
        if others > 0 && last.last_used_ms.is_none() {
            return Remembered::Several(admitted.iter().map(|(place, known)| known.way(place)).collect());
        }
        Remembered::One(last.way(place), others)
    }

    /// A gateway has just let this device in, reached like this.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn used(&mut self, place: &str, way: Way, now_ms: u64) -> Result<(), StateError> {
        let known = self.known.entry(place.to_owned()).or_default();
        known.address = Some(way.address);
        known.dialect = Some(way.dialect.as_str().to_owned());
        known.tls_fingerprint = way.tls_fingerprint;
        known.last_used_ms = Some(now_ms);
        self.save()
    }

    /// A gateway is at another address now; what is known of it goes with it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn moved(&mut self, from: &str, to: &str) -> Result<(), StateError> {
        let Some(known) = self.known.remove(from) else {
            return Ok(());
        };
        self.known.insert(to.to_owned(), known);
        self.save()
    }

    /// Remembers the key that a gateway proved when it first let this device in. The handshake insists on a pinned key, so another
    /// one here is a defect and is not written down.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn pin(&mut self, place: &str, key: [u8; 32]) -> Result<Result<(), PinnedOtherwise>, StateError> {
        let known = self.known.entry(place.to_owned()).or_default();
        match known.pin() {
            Some(pinned) if pinned == key => Ok(Ok(())),
            Some(_) => Ok(Err(PinnedOtherwise)),
            None => {
                known.public_key = Some(DeviceId::from_digest(key));
                self.save().map(Ok)
            }
        }
    }

    /// Remembers the key of a gateway whose invitation a person followed: what was pinned at that address before is of an older
    /// one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn adopt(&mut self, address: &str, key: [u8; 32]) -> Result<(), StateError> {
        self.known.entry(address.to_owned()).or_default().public_key = Some(DeviceId::from_digest(key));
        self.save()
    }

    /// Keeps, replaces or forgets the dialect's token.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_device_token(&mut self, place: &str, token: Option<String>) -> Result<(), StateError> {
        let known = self.known.entry(place.to_owned()).or_default();
        if known.device_token == token {
            return Ok(());
        }
        known.device_token = token;
        self.save()
    }

    /// Remembers the pipe that worked.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_pipe(&mut self, place: &str, pipe: PipeKind) -> Result<(), StateError> {
        let known = self.known.entry(place.to_owned()).or_default();
        if known.pipe == Some(pipe) {
            return Ok(());
        }
        known.pipe = Some(pipe);
        self.save()
    }

    fn save(&self) -> Result<(), StateError> {
        replace(&self.path, &json_text(&self.known))
    }
}

/// Earlier versions wrote whole addresses.
fn place(address: String) -> String {
    let target = address.parse::<Target>();
    target.map_or(address, |target| target.place())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_by_address_is_found_by_place_and_the_pipe_is_remembered_beside_it() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("gateways.json");
        let key = "07".repeat(32);
        let text = serde_json::json!({"wss://Box:7/": {"publicKey": key}, "unix:/run/a": {"deviceToken": "t"}});
        std::fs::write(&path, text.to_string()).expect("written");
        let mut gateways = Gateways::load(path.clone()).expect("reads");
        assert_eq!(gateways.known("box:7").pin(), Some([7; 32]));
        assert_eq!(gateways.known("unix:/run/a").device_token(), Some("t"));
        assert_eq!(gateways.known("box:7").pipe(), None);
        gateways.set_pipe("box:7", PipeKind::Wss).expect("written");
        let known = Gateways::load(path).expect("reads").known("box:7");
        assert_eq!((known.pin(), known.pipe()), (Some([7; 32]), Some(PipeKind::Wss)));
    }

    #[test]
    fn a_pinned_key_stays_whatever_comes() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("gateways.json");
        let mut gateways = Gateways::load(path.clone()).expect("empty");
        assert!(!gateways.known("a:1").was_admitted());
        assert_eq!(gateways.pin("a:1", [1; 32]).expect("written"), Ok(()));
        assert_eq!(gateways.pin("a:1", [1; 32]).expect("same"), Ok(()));
        assert_eq!(gateways.pin("a:1", [2; 32]).expect("refused"), Err(PinnedOtherwise));
        assert_eq!(gateways.pin("b:1", [2; 32]).expect("another address"), Ok(()));
        let again = Gateways::load(path).expect("reads");
        assert_eq!(again.known("a:1").pin(), Some([1; 32]));
        assert_eq!(again.known("b:1").pin(), Some([2; 32]));
    }

    #[test]
    fn a_token_is_kept_per_gateway_replaced_and_forgotten_and_never_shown() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("gateways.json");
        let mut gateways = Gateways::load(path.clone()).expect("empty");
        gateways
            .set_device_token("a:1", Some("hunter2".to_owned()))
            .expect("written");
        gateways.pin("a:1", [1; 32]).expect("written").expect("first");
        let known = Gateways::load(path.clone()).expect("reads").known("a:1");
        assert_eq!((known.device_token(), known.pin()), (Some("hunter2"), Some([1; 32])));
        assert!(!format!("{known:?}").contains("hunter2"));
        gateways.set_device_token("a:1", None).expect("written");
        assert_eq!(Gateways::load(path).expect("reads").known("a:1").device_token(), None);
    }

    fn way(address: &str, dialect: Dialect) -> Way {
        Way {
            address: address.to_owned(),
            dialect,
            tls_fingerprint: None,
        }
    }

    #[test]
    fn the_gateway_that_let_this_device_in_last_is_meant_and_several_that_are_as_likely_are_all_named() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("gateways.json");
        let mut gateways = Gateways::load(path.clone()).expect("empty");
        let native = |address: &str| way(address, Dialect::Native);
        assert_eq!(gateways.remembered(None), Remembered::Nobody);
        gateways.pin("a:1", [1; 32]).expect("written").expect("first");
        assert_eq!(gateways.remembered(None), Remembered::One(native("a:1"), 0));
        gateways.pin("b:1", [1; 32]).expect("written").expect("first");
        assert!(
            matches!(gateways.remembered(None), Remembered::One(_, 0)),
            "two addresses of one gateway"
        );
        gateways.set_device_token("c:1", Some("t".to_owned())).expect("written");
        let several = [native("a:1"), native("b:1"), way("c:1", Dialect::Openclaw)];
        assert_eq!(gateways.remembered(None), Remembered::Several(several.to_vec()));
        assert!(matches!(
            gateways.remembered(Some(Dialect::Native)),
            Remembered::One(_, 0)
        ));
        let last = way("ws://c:1", Dialect::Openclaw);
        gateways.used("c:1", last.clone(), 7).expect("written");
        let gateways = Gateways::load(path).expect("reads");
        assert_eq!(gateways.remembered(None), Remembered::One(last, 2));
        assert!(gateways.is_pinned([1; 32]) && !gateways.is_pinned([3; 32]));
    }

    #[test]
    fn what_is_known_moves_with_a_gateway() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("gateways.json");
        let mut gateways = Gateways::load(path.clone()).expect("empty");
        gateways.pin("a:1", [1; 32]).expect("written").expect("first");
        gateways.moved("a:1", "b:1").expect("written");
        gateways.moved("x:1", "y:1").expect("nothing to do");
        let again = Gateways::load(path).expect("reads");
        assert_eq!(
            (again.known("b:1").pin(), again.known("a:1").pin()),
            (Some([1; 32]), None)
        );
    }

    #[test]
    fn a_broken_file_is_no_empty_file() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("gateways.json");
        std::fs::write(&path, "{").expect("written");
        assert!(matches!(Gateways::load(path), Err(StateError::Malformed { .. })));
    }
}
