//! Which commands this device's owner allows: the section `commands` of `node.json`. What looks, listens or tells where one is starts
//! denied; the other commands have rules of their own. The gateway cannot widen it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;

use atoll_capabilities::owned::{OWNERS_FILE, read_trusted};
use atoll_capabilities::{Call, Capability, Description};
use atoll_protocol::error::CallError;
use atoll_protocol::json::Json;
use serde::Deserialize;

/// Families whose commands run only where the owner's file says so.
const CLOSED: [&str; 5] = ["camera.", "screen.", "location.", "clipboard.", "audio."];

/// What the owner says of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Rule {
    Allow,
    Deny,
}

#[derive(Debug, Default, Deserialize)]
struct Document {
    #[serde(default)]
    commands: BTreeMap<String, Rule>,
}

/// The owner's file, read again when it has changed.
#[derive(Debug)]
pub(crate) struct Rules {
    path: PathBuf,
    read: Mutex<Option<Read>>,
}

/// What the file said when it looked like this.
#[derive(Debug, Clone)]
struct Read {
    stamp: Stamp,
    document: Arc<Result<Document, String>>,
}

/// None: there is no file.
type Stamp = Option<(SystemTime, u64)>;

impl Rules {
    /// Under the owner's file in `state_dir`.
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self {
            path: state_dir.join(OWNERS_FILE),
            read: Mutex::new(None),
        }
    }

    /// May this command run now? One look at the disk, unless the file has changed.
    ///
    /// # Errors
    /// Why not, and what its owner can do about it.
    pub(crate) fn check(&self, command: &str) -> Result<(), String> {
        let document = self.document();
        let is_closed = CLOSED.iter().any(|family| command.starts_with(family));
        let rules = match document.as_ref() {
            Ok(document) => &document.commands,
            // What is open without the file would be closed by a typing error in it, commands to repair it with included.
            Err(_) if !is_closed => return Ok(()),
            Err(error) => return Err(format!("{command} is denied on this device: {error}")),
        };
        match rules.get(command) {
            Some(Rule::Allow) => Ok(()),
            None if !is_closed => Ok(()),
            Some(Rule::Deny) => Err(format!("{command} is denied on this device by {}", self.path.display())),
            None => Err(format!(
                "{command} is denied on this device until its owner writes {{\"commands\": {{\"{command}\": \"allow\"}}}} into {}",
                self.path.display()
            )),
        }
    }

    fn document(&self) -> Arc<Result<Document, String>> {
        let metadata = std::fs::metadata(&self.path).ok();
        let stamp = metadata.and_then(|data| Some((data.modified().ok()?, data.len())));
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        match read.as_ref().filter(|read| read.stamp == stamp) {
            Some(read) => read.document.clone(),
            None => {
                let document = Arc::new(self.load());
                read.insert(Read { stamp, document }).document.clone()
            }
        }
    }

    fn load(&self) -> Result<Document, String> {
        let broken = |why: String| format!("{} cannot be used: {why}", self.path.display());
        match read_trusted(&self.path) {
            Ok(Some(text)) => serde_json::from_str(&text).map_err(|error| broken(error.to_string())),
            Ok(None) => Ok(Document::default()),
            Err(error) => Err(broken(error.to_string())),
        }
    }
}

/// A capability under the owner's rules.
pub(crate) struct Ruled {
    capability: Arc<dyn Capability>,
    rules: Arc<Rules>,
}

impl Ruled {
    /// Offers less where the rules say so.
    pub(crate) fn new(capability: Arc<dyn Capability>, rules: Arc<Rules>) -> Self {
        Self { capability, rules }
    }
}

#[async_trait]
impl Capability for Ruled {
    fn describe(&self) -> Description {
        let mut description = self.capability.describe();
        let all = std::mem::take(&mut description.commands);
        for command in all {
            match self.rules.check(command) {
                Ok(()) => description.commands.push(command),
                Err(why) => description.missing.push((command, why)),
            }
        }
        description
    }

    async fn invoke(&self, call: Call) -> Result<Option<Json>, CallError> {
        match self.rules.check(&call.command) {
            Ok(()) => self.capability.invoke(call).await,
            Err(why) => Err(CallError::new(refusal(&call.command), why)),
        }
    }
}

/// OpenClaw's code for a command that its owner keeps off.
fn refusal(command: &str) -> &'static str {
    match command.split('.').next() {
        Some("camera") => "CAMERA_DISABLED",
        Some("location") => "LOCATION_DISABLED",
        Some("audio") if command == "audio.record" => "MIC_DISABLED",
        Some("system") if command == "system.notify" => "NOTIFICATIONS_DISABLED",
        _ => "COMMAND_DENIED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: Option<&str>) -> (tempfile::TempDir, Rules) {
        let folder = tempfile::tempdir().expect("a folder");
        let rules = Rules::new(folder.path());
        if let Some(text) = text {
            write(&rules, text);
        }
        (folder, rules)
    }

    fn write(rules: &Rules, text: &str) {
        std::fs::write(&rules.path, text).expect("room");
        #[cfg(unix)]
        {
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(&rules.path, private).expect("ours");
        }
    }

    #[test]
    fn what_looks_or_listens_starts_denied_and_the_rest_does_not() {
        for (text, command, is_allowed) in [
            (None, "camera.snap", false),
            (None, "screen.snapshot", false),
            (None, "device.info", true),
            (Some("{}"), "camera.list", false),
            (Some(r#"{"commands": {"camera.snap": "allow"}}"#), "camera.snap", true),
            (Some(r#"{"commands": {"camera.snap": "allow"}}"#), "camera.clip", false),
            (Some(r#"{"commands": {"camera.snap": "deny"}}"#), "camera.snap", false),
            (Some(r#"{"commands": {"device.info": "deny"}}"#), "device.info", false),
            (Some(r#"{"commands": {"camera.snap": "yes"}}"#), "camera.snap", false),
            (Some("{"), "camera.snap", false),
            (Some("{"), "device.info", true),
        ] {
            let (_folder, rules) = rules(text);
            assert_eq!(rules.check(command).is_ok(), is_allowed, "{text:?} {command}");
        }
    }

    #[test]
    fn a_refusal_names_the_command_the_file_and_the_next_step() {
        let (_folder, fresh) = rules(None);
        let why = fresh.check("camera.snap").expect_err("denied");
        let path = fresh.path.display().to_string();
        for word in ["camera.snap", "\"allow\"", path.as_str()] {
            assert!(why.contains(word), "{why}");
        }
        let (_folder, wrong) = rules(Some(r#"{"commands": {"camera.snap": "yes"}}"#));
        let why = wrong.check("camera.snap").expect_err("denied");
        assert!(why.contains("allow") && why.contains("yes"), "{why}");
    }

    #[test]
    fn a_file_that_changes_counts_at_once() {
        let (_folder, rules) = rules(None);
        assert!(rules.check("camera.snap").is_err());
        write(&rules, r#"{"commands": {"camera.snap": "allow"}}"#);
        assert!(rules.check("camera.snap").is_ok());
        write(&rules, r#"{"commands": {"camera.snap": "deny"}}"#);
        assert!(rules.check("camera.snap").is_err());
        std::fs::remove_file(&rules.path).expect("there");
        assert!(rules.check("camera.snap").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_can_write_allows_nothing() {
        let (_folder, rules) = rules(Some(r#"{"commands": {"camera.snap": "allow"}}"#));
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        std::fs::set_permissions(&rules.path, open).expect("ours");
        assert!(rules.check("camera.snap").is_err());
    }
}
