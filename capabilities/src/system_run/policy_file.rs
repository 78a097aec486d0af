//! The file behind the policy: reads it afresh for every decision, and lets a gateway narrow it. A file that cannot be trusted denies all.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use atoll_protocol::error::CallError;
use atoll_protocol::json::Json;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::gate::denied;
use super::request::invalid;
use super::used::replace;
use crate::exec_policy::document::Document;
use crate::exec_policy::narrowing::is_narrowing;
use atoll_protocol::hex;

/// More than any owner writes. A larger file denies all.
const FILE_BYTES: u64 = 4 * 1024 * 1024;

/// The owner's policy on disk.
#[derive(Debug)]
pub(crate) struct PolicyFile {
    path: PathBuf,
    /// One change at a time; held across disk work in a blocking task only.
    writing: Mutex<()>,
}

/// What was read.
#[derive(Debug)]
struct Loaded {
    document: Document,
    /// The file's text; none when there is no file.
    text: Option<String>,
}

impl Loaded {
    fn hash(&self) -> String {
        hex::encode(&Sha256::digest(self.text.as_deref().unwrap_or_default()))
    }
}

impl PolicyFile {
    /// Names the file; it need not exist.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            writing: Mutex::new(()),
        }
    }

    /// The document in force; closed defaults when there is no file. Blocks on the disk.
    ///
    /// # Errors
    /// A sentence with the path, when the file cannot be trusted; then nothing may run.
    pub(crate) fn document(&self) -> Result<Document, String> {
        self.load().map(|loaded| loaded.document)
    }

    fn load(&self) -> Result<Loaded, String> {
        let broken = |why: String| {
            format!(
                "{} cannot be used, so nothing may run: {why}. Repair it, or remove it to get the closed defaults",
                self.path.display()
            )
        };
        let Some(text) = read_trusted(&self.path).map_err(broken)? else {
            return Ok(Loaded {
                document: Document::default(),
                text: None,
            });
        };
        let document = Document::parse(&text).map_err(|error| broken(error.to_string()))?;
        Ok(Loaded {
            document,
            text: Some(text),
        })
    }

    /// `system.execApprovals.get`. Blocks on the disk.
    pub(crate) fn show(&self) -> Result<Json, CallError> {
        let loaded = self.load().map_err(denied)?;
        Ok(self.answer(&loaded))
    }

    fn answer(&self, loaded: &Loaded) -> Json {
        let mut document = loaded.document.clone();
        // OpenClaw keeps the token of a local socket here.
        if let Some(token) = document
            .other
            .get_mut("socket")
            .and_then(|socket| socket.get_mut("token"))
        {
            *token = json!("***");
        }
        Json::from(json!({
            "path": self.path.to_string_lossy(),
            "exists": loaded.text.is_some(),
            "file": document,
            "hash": loaded.hash(),
        }))
    }

    /// `system.execApprovals.set`. Blocks on the disk.
    pub(crate) fn narrow(&self, params: Option<&Json>) -> Result<Json, CallError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Params {
            file: Document,
            base_hash: Option<String>,
        }
        let params: Params = params
            .ok_or_else(|| invalid("file required: the new document"))?
            .read()
            .map_err(|error| invalid(error.to_string()))?;
        params.file.check().map_err(|error| invalid(error.to_string()))?;
        let _one_at_a_time = self.writing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let old = self.load().map_err(denied)?;
        check_base(&old, params.base_hash.as_deref())?;
        let mut file = params.file;
        keep_secret(&old.document, &mut file);
        if !is_narrowing(&old.document, &file) {
            return Err(denied(format!(
                "a gateway can narrow what this device runs and never widen it. To widen it, edit {} on the device itself",
                self.path.display()
            )));
        }
        let unavailable = |error: io::Error| CallError::new("UNAVAILABLE", format!("{}: {error}", self.path.display()));
        let mut text = serde_json::to_string_pretty(&file).map_err(|error| invalid(error.to_string()))?;
        text.push('\n');
        replace(&self.path, &text).map_err(unavailable)?;
        Ok(self.answer(&Loaded {
            document: file,
            text: Some(text),
        }))
    }
}

fn check_base(old: &Loaded, base: Option<&str>) -> Result<(), CallError> {
    match base {
        Some(hash) if hash == old.hash() => Ok(()),
        None if old.text.is_none() => Ok(()),
        None => Err(invalid("exec approvals base hash required; reload and retry")),
        Some(_) => Err(invalid("exec approvals changed since last load; reload and retry")),
    }
}

/// What was masked on the way out comes back as it was.
fn keep_secret(old: &Document, new: &mut Document) {
    let shown = new
        .other
        .get("socket")
        .and_then(|socket| socket.get("token"))
        .and_then(|token| token.as_str());
    if shown == Some("***")
        && let Some(socket) = old.other.get("socket")
    {
        new.other.insert("socket".to_owned(), socket.clone());
    }
}

/// The text of a file that only its owner (or root) can have written; none when there is no file.
fn read_trusted(path: &Path) -> Result<Option<String>, String> {
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|error| error.to_string())?,
    };
    let meta = file.metadata().map_err(|error| error.to_string())?;
    check_owner(&meta)?;
    if meta.len() > FILE_BYTES {
        return Err(format!("it has {} bytes; {FILE_BYTES} are allowed", meta.len()));
    }
    let mut text = String::new();
    file.take(FILE_BYTES)
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    Ok(Some(text))
}

#[cfg(unix)]
fn check_owner(meta: &std::fs::Metadata) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt;
    if !meta.is_file() {
        return Err("it is not a file".to_owned());
    }
    if meta.mode() & 0o022 != 0 {
        return Err(format!(
            "others can write to it (mode {:o}); run chmod go-w on it",
            meta.mode() & 0o777
        ));
    }
    let me = rustix::process::geteuid().as_raw();
    if meta.uid() != me && meta.uid() != 0 {
        return Err(format!("it belongs to user {} and not to user {me}", meta.uid()));
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_owner(meta: &std::fs::Metadata) -> Result<(), String> {
    if meta.is_file() {
        Ok(())
    } else {
        Err("it is not a file".to_owned())
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn file(text: &str) -> (tempfile::TempDir, PolicyFile) {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("exec-approvals.json");
        replace(&path, text).expect("written");
        (folder, PolicyFile::new(path))
    }

    #[test]
    fn a_missing_file_means_the_closed_defaults() {
        let file = PolicyFile::new("/nonexistent/exec-approvals.json".into());
        assert_eq!(file.document().expect("defaults"), Document::default());
        assert_eq!(file.show().expect("shown").tree()["exists"], false);
    }

    #[test]
    fn a_broken_file_denies_all_and_says_why() {
        for (text, why) in [
            ("{", "does not parse"),
            (r#"{"version":2}"#, "version is 2"),
            (r#"{"version":1,"defaults":{"security":"open"}}"#, "`open`"),
            (
                r#"{"version":1,"agents":{"main":{"allowlist":[{"pattern":"ls","argPattern":"("}]}}}"#,
                "argPattern",
            ),
        ] {
            let (_folder, file) = file(text);
            let error = file.document().expect_err(text);
            assert!(error.contains(why) && error.contains("exec-approvals.json"), "{error}");
            assert_eq!(file.show().expect_err(text).code, "SYSTEM_RUN_DENIED");
        }
    }

    #[test]
    fn a_file_that_others_can_write_denies_all() {
        let (_folder, file) = file(r#"{"version":1}"#);
        file.document().expect("good");
        std::fs::set_permissions(&file.path, PermissionsExt::from_mode(0o666)).expect("changed");
        assert!(file.document().expect_err("refused").contains("others can write"));
    }

    #[test]
    fn a_gateway_narrows_and_never_widens() {
        let (_folder, file) = file(r#"{"version":1,"x":1,"defaults":{"security":"full","ask":"off"}}"#);
        let set = |document: serde_json::Value, hash: Option<&str>| {
            file.narrow(Some(&Json::from(json!({ "file": document, "baseHash": hash }))))
        };
        let hash = file.show().expect("shown").tree()["hash"]
            .as_str()
            .expect("text")
            .to_owned();
        let narrower = json!({"version":1,"x":1,"defaults":{"security":"allowlist","ask":"on-miss"}});
        assert_eq!(
            set(narrower.clone(), None).expect_err("no hash").code,
            "INVALID_REQUEST"
        );
        assert_eq!(
            set(narrower.clone(), Some("00")).expect_err("old hash").code,
            "INVALID_REQUEST"
        );
        let answer = set(narrower, Some(&hash)).expect("narrower").tree();
        assert_eq!(answer["file"]["defaults"]["security"], "allowlist");
        assert_eq!(file.show().expect("shown").tree(), answer);
        let wider = json!({"version":1,"x":1,"defaults":{"security":"full","ask":"off"}});
        let error = set(wider, answer["hash"].as_str()).expect_err("wider");
        assert_eq!(error.code, "SYSTEM_RUN_DENIED");
        assert!(error.message.contains("edit "), "{}", error.message);
        assert_eq!(file.show().expect("unchanged").tree(), answer);
    }

    #[test]
    fn the_token_of_a_local_socket_is_never_shown_and_never_lost() {
        let (_folder, file) = file(r#"{"version":1,"socket":{"path":"/s","token":"hunter2"}}"#);
        let shown = file.show().expect("shown");
        assert!(!shown.as_str().contains("hunter2"));
        let set = json!({ "file": shown.tree()["file"], "baseHash": shown.tree()["hash"] });
        file.narrow(Some(&Json::from(set))).expect("unchanged is no widening");
        assert_eq!(file.document().expect("reads").other["socket"]["token"], "hunter2");
    }
}
