//! Which commands this device's owner allows: what `node.json` says now. What looks, listens or tells where one is starts denied; the
//! other commands have rules of their own. The gateway cannot widen it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use atoll_capabilities::owned::{OWNERS_FILE, read_trusted};
use jiff::{Timestamp, Zoned};
use tokio::sync::watch;

pub(crate) mod document;
pub(crate) mod edit;
pub(crate) mod folder;
pub(crate) mod limits;
mod quiet;

use document::{Document, InForce, Rule, is_closed};
use folder::FolderWatch;
use limits::Rate;

/// A file that is being written is read when it has been left alone this long.
const SETTLED: Duration = Duration::from_millis(100);

/// The end of a rule is looked for again this often at least: the clock on the wall may be set meanwhile.
const CLOCK_CHECK: Duration = Duration::from_secs(60);

/// What the owner's word for a call is, before anybody is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It runs.
    Allow {
        /// Where that is written.
        because: String,
    },
    /// Somebody at the device has to say so.
    Ask {
        /// Where that is written.
        because: String,
    },
    /// It does not run.
    Deny {
        /// Where that is written.
        because: String,
        /// Why not, and what the owner can do about it.
        why: String,
    },
}

/// The owner's file, read again when it has changed.
#[derive(Debug)]
pub(crate) struct Rules {
    path: Arc<Path>,
    look: Mutex<Option<Look>>,
    /// Counts changes.
    changes: watch::Sender<u64>,
}

/// What the file said when it looked like this.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    path: Arc<Path>,
    stamp: Stamp,
    document: Arc<Result<Document, String>>,
    /// What it said when it could be used last.
    good: Arc<Document>,
}

/// None: there is no file.
type Stamp = Option<(SystemTime, u64)>;

impl Rules {
    /// Under the owner's file in `state_dir`.
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self {
            path: state_dir.join(OWNERS_FILE).into(),
            look: Mutex::new(None),
            changes: watch::Sender::new(0),
        }
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What the file says now, for all questions about one call: one look at the disk, unless the file has changed.
    pub(crate) fn look(&self) -> Look {
        let metadata = std::fs::metadata(&self.path).ok();
        let stamp = metadata.and_then(|data| Some((data.modified().ok()?, data.len())));
        let mut last = self.look.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match last.as_ref() {
            Some(same) if same.stamp == stamp => return same.clone(),
            before => before.map(|before| before.good.clone()),
        };
        let is_first = before.is_none();
        let loaded = self.load();
        let good = match &loaded {
            Ok(document) => Arc::new(document.clone()),
            Err(_) => before.unwrap_or_default(),
        };
        let look = Look {
            path: Arc::clone(&self.path),
            stamp,
            document: Arc::new(loaded),
            good,
        };
        *last = Some(look.clone());
        drop(last);
        if !is_first {
            self.changes.send_modify(|count| *count += 1);
        }
        look
    }

    /// What the file said when somebody looked last. Whoever hears of changes hears of what is new since.
    fn last_look(&self) -> Look {
        let last = self.look.lock().unwrap_or_else(PoisonError::into_inner).clone();
        last.unwrap_or_else(|| self.look())
    }

    /// The rule of a command, for lists.
    ///
    /// # Errors
    /// The file cannot be used.
    pub(crate) fn in_force(&self, command: &str, now: Timestamp) -> Result<InForce, String> {
        let look = self.look();
        look.document
            .as_ref()
            .as_ref()
            .map_err(Clone::clone)
            .map(|document| document.rule(command, now))
    }

    /// Whether the device shows when what looks or listens is used.
    pub(crate) fn shows_use(&self) -> bool {
        self.look().good.shows_use
    }

    /// The names that have a rule, as far as the file can be used.
    pub(crate) fn ruled(&self) -> Vec<String> {
        self.look().good.ruled().map(str::to_owned).collect()
    }

    /// All names in the file, as far as it can be used.
    pub(crate) fn names(&self) -> Vec<String> {
        let look = self.look();
        let document = look.document.as_ref().as_ref();
        document
            .map(|document| document.names().map(str::to_owned).collect())
            .unwrap_or_default()
    }

    /// Hears of each change.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Resolves when a call of this command has to stop, with the reason.
    pub(crate) async fn stopped(&self, command: &str) -> String {
        let mut changes = self.changes();
        loop {
            let look = self.last_look();
            if let Decision::Deny { why, .. } = look.decide(command, Timestamp::now()) {
                return why;
            }
            if let Some(why) = look.rest(command) {
                return why;
            }
            let rest = look.good.next_rest(command, Zoned::now);
            tokio::select! {
                changed = changes.changed() => if changed.is_err() {
                    return std::future::pending().await;
                },
                () = sleep_at_most(rest.map(until)) => {}
            }
        }
    }

    /// Looks after the file for as long as this is awaited, so that [`Self::changes`] is told soon.
    pub(crate) async fn follow(&self) {
        let Some(folder) = self.path.parent() else { return };
        let mut watch = FolderWatch::new(folder);
        loop {
            let next_end = self.look().good.next_end(Timestamp::now());
            tokio::select! {
                () = watch.changed() => tokio::time::sleep(SETTLED).await,
                () = sleep_at_most(next_end.map(until)) => {
                    if next_end.is_some_and(|end| end <= Timestamp::now()) {
                        self.changes.send_modify(|count| *count += 1);
                    }
                }
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

impl Look {
    /// What counts for this command now.
    pub(crate) fn decide(&self, command: &str, now: Timestamp) -> Decision {
        let path = self.path.display();
        let document = match self.document.as_ref() {
            Ok(document) => document,
            Err(error) if is_closed(command) => {
                return Decision::Deny {
                    because: "node.json cannot be used".to_owned(),
                    why: format!("{command} is denied on this device: {error}"),
                };
            }
            // What is open without the file would be closed by a typing error in it, commands to repair it with included.
            Err(_) => &self.good,
        };
        let found = document.rule(command, now);
        let because = because(&found);
        match (found.rule, found.from) {
            (Rule::Allow, _) => Decision::Allow { because },
            (Rule::Ask, _) => Decision::Ask { because },
            (Rule::Deny, Some(_)) => Decision::Deny {
                because,
                why: format!(
                    "{command} is denied on this device by {path}; its owner can run: atoll-node allow {command}"
                ),
            },
            (Rule::Deny, None) => Decision::Deny {
                because,
                why: format!(
                    "{command} is denied on this device until its owner runs `atoll-node allow {command}` there, which writes \
                     {{\"commands\": {{\"{command}\": \"allow\"}}}} into {path}"
                ),
            },
        }
    }

    /// Whether a command runs at all, perhaps after a question.
    pub(crate) fn is_open(&self, command: &str) -> bool {
        !matches!(self.decide(command, Timestamp::now()), Decision::Deny { .. })
    }

    /// All rates that count a command.
    pub(crate) fn rates(&self, command: &str) -> Vec<(String, Rate)> {
        self.good.rates(command)
    }

    /// Why a command rests at this hour, while it does.
    pub(crate) fn rest(&self, command: &str) -> Option<String> {
        self.good.rest(command, Zoned::now)
    }
}

/// Where a rule comes from, in a few words.
fn because(found: &InForce) -> String {
    let rule = found.rule;
    match (&found.from, found.until) {
        (Some(name), Some(until)) => format!("{name}: {rule} until {until}"),
        (Some(name), None) => format!("{name}: {rule}"),
        (None, _) => format!("default: {rule}"),
    }
}

/// From now on; nothing when it is past.
fn until(time: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(Timestamp::now())).unwrap_or_default()
}

async fn sleep_at_most(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time.min(CLOCK_CHECK)).await,
        None => std::future::pending().await,
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

    /// The word for what is decided, and why not.
    fn decide(rules: &Rules, command: &str) -> (&'static str, String) {
        match rules.look().decide(command, Timestamp::UNIX_EPOCH) {
            Decision::Allow { .. } => ("allow", String::new()),
            Decision::Ask { .. } => ("ask", String::new()),
            Decision::Deny { why, .. } => ("deny", why),
        }
    }

    #[test]
    fn what_looks_or_listens_starts_denied_and_the_rest_does_not() {
        for (text, command, expected) in [
            (None, "camera.snap", "deny"),
            (None, "screen.snapshot", "deny"),
            (None, "device.info", "allow"),
            (Some("{}"), "camera.list", "deny"),
            (
                Some(r#"{"commands": {"camera.snap": "allow"}}"#),
                "camera.snap",
                "allow",
            ),
            (Some(r#"{"commands": {"camera.snap": "allow"}}"#), "camera.clip", "deny"),
            (Some(r#"{"commands": {"camera.snap": "ask"}}"#), "camera.snap", "ask"),
            (
                Some(r#"{"commands": {"camera": "allow", "camera.snap": "deny"}}"#),
                "camera.snap",
                "deny",
            ),
            (Some(r#"{"commands": {"device.info": "deny"}}"#), "device.info", "deny"),
            (Some(r#"{"commands": {"camera.snap": "yes"}}"#), "camera.snap", "deny"),
            (Some("{"), "camera.snap", "deny"),
            (Some("{"), "device.info", "allow"),
            (Some("[]"), "camera.snap", "deny"),
        ] {
            let (_folder, rules) = rules(text);
            assert_eq!(decide(&rules, command).0, expected, "{text:?} {command}");
        }
    }

    #[test]
    fn a_refusal_names_the_command_the_file_and_the_next_step() {
        let (_folder, fresh) = rules(None);
        let why = decide(&fresh, "camera.snap").1;
        let path = fresh.path.display().to_string();
        for word in ["camera.snap", "\"allow\"", "atoll-node allow", path.as_str()] {
            assert!(why.contains(word), "{why}");
        }
        let (_folder, wrong) = rules(Some(r#"{"commands": {"camera.snap": "yes"}}"#));
        let why = decide(&wrong, "camera.snap").1;
        assert!(why.contains("allow") && why.contains("yes"), "{why}");
    }

    #[test]
    fn a_file_that_changes_counts_at_once_and_whoever_watches_is_told() {
        let (_folder, rules) = rules(None);
        let mut changes = rules.changes();
        assert_eq!(decide(&rules, "camera.snap").0, "deny");
        assert!(!changes.has_changed().expect("there"), "the first look is no change");
        for rule in ["allow", "ask", "deny"] {
            write(&rules, &format!(r#"{{"commands": {{"camera.snap": {rule:?}}}}}"#));
            assert_eq!(decide(&rules, "camera.snap").0, rule);
            assert!(changes.has_changed().expect("there"));
            changes.mark_unchanged();
        }
        std::fs::remove_file(&rules.path).expect("there");
        assert_eq!(decide(&rules, "camera.snap").0, "deny");
    }

    #[test]
    fn a_mistake_in_the_file_opens_nothing_that_was_closed_before() {
        let (_folder, rules) = rules(Some(r#"{"commands": {"system": "deny", "camera": "allow"}}"#));
        assert_eq!(decide(&rules, "system.run").0, "deny");
        assert_eq!(decide(&rules, "camera.snap").0, "allow");
        write(&rules, r#"{"commands": {"system": "deny", "camera": "allow"}"#);
        assert_eq!(decide(&rules, "system.run").0, "deny");
        assert_eq!(decide(&rules, "device.info").0, "allow");
        assert_eq!(decide(&rules, "camera.snap").0, "deny");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_can_write_allows_nothing() {
        let (_folder, rules) = rules(Some(r#"{"commands": {"camera.snap": "allow"}}"#));
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        std::fs::set_permissions(&rules.path, open).expect("ours");
        assert_eq!(decide(&rules, "camera.snap").0, "deny");
    }

    #[tokio::test]
    async fn a_change_is_noticed_without_a_call() {
        let (_folder, rules) = rules(None);
        rules.look();
        let mut changes = rules.changes();
        let follow = rules.follow();
        tokio::pin!(follow);
        // The watch is set before the change.
        assert!(futures_util::poll!(&mut follow).is_pending());
        write(&rules, r#"{"commands": {"camera.snap": "allow"}}"#);
        let changed = tokio::time::timeout(Duration::from_secs(20), changes.changed());
        tokio::select! {
            () = &mut follow => panic!("it goes on"),
            changed = changed => changed.expect("soon").expect("there"),
        }
        assert_eq!(decide(&rules, "camera.snap").0, "allow");
    }
}
