//! The file under changes from inside and outside.

use serde_json::json;

use super::*;
use crate::config::{REDACTED, parse_path};

struct Folder {
    dir: tempfile::TempDir,
}

impl Folder {
    fn new(text: &str) -> Self {
        let folder = Self {
            dir: tempfile::tempdir().expect("a folder"),
        };
        fs::write(folder.path(), text).expect("writes");
        folder
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("atoll.json")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path()).expect("reads")
    }

    fn edit(&self, change: Change) -> Result<Loaded, ChangeError> {
        edit_file(&self.path(), &change, None, &no_env)
    }
}

fn no_env(_: &str) -> Option<String> {
    None
}

fn set(key: &str, value: Value) -> Change {
    Change::Set(parse_path(key).expect("a path"), value)
}

#[test]
fn a_change_keeps_comments_and_the_version_before() {
    let folder = Folder::new("{\n  // mine\n  gateway: {port: 1}, // here\n}\n");
    let loaded = folder.edit(set("gateway.port", json!(2))).expect("changes");
    assert_eq!(loaded.config.gateway.port, 2);
    assert_eq!(folder.text(), "{\n  // mine\n  gateway: {port: 2}, // here\n}\n");
    let backup = fs::read_to_string(folder.dir.path().join("atoll.json.bak")).expect("reads");
    assert_eq!(backup, "{\n  // mine\n  gateway: {port: 1}, // here\n}\n");
}

#[test]
fn five_earlier_versions_are_kept() {
    let folder = Folder::new("{gateway: {port: 1}}");
    for port in 2..10 {
        folder.edit(set("gateway.port", json!(port))).expect("changes");
    }
    let ports = ["bak", "bak.1", "bak.2", "bak.3", "bak.4", "bak.5"].map(|end| {
        let text = fs::read_to_string(folder.dir.path().join(format!("atoll.json.{end}"))).ok()?;
        text.chars().find(char::is_ascii_digit)
    });
    assert_eq!(ports, [Some('8'), Some('7'), Some('6'), Some('5'), Some('4'), None]);
}

#[test]
fn a_change_that_would_break_it_is_refused_and_nothing_is_written() {
    let folder = Folder::new("{}");
    let error = folder.edit(set("gateway.bind", json!("lan"))).expect_err("refused");
    assert!(
        matches!(&error, ChangeError::Invalid(invalid) if invalid.errors[0].key == "gateway.auth.token"),
        "{error}"
    );
    assert_eq!(folder.text(), "{}");
    assert_eq!(fs::read_dir(folder.dir.path()).expect("lists").count(), 1);
}

#[test]
fn a_change_of_another_version_is_refused() {
    let folder = Folder::new("{}");
    let seen = source::hash(Some("{}"));
    let change = |base: &str| edit_file(&folder.path(), &set("gateway.port", json!(2)), Some(base), &no_env);
    change(&seen).expect("is the version that was seen");
    let error = change(&seen).expect_err("has changed");
    assert!(matches!(error, ChangeError::Stale { hash } if hash == source::hash(Some(&folder.text()))));
}

#[test]
fn a_patch_goes_member_by_member() {
    let folder = Folder::new("{gateway: {port: 1, /* c */ bind: 'loopback'}, bindings: [], logging: {level: 'warn'}}");
    let patch = json!({"gateway": {"port": 5, "controlUi": {"allowedOrigins": ["http://x"]}}, "logging": null});
    let loaded = folder.edit(Change::Patch(patch)).expect("changes");
    assert_eq!(loaded.config.gateway.port, 5);
    assert_eq!(loaded.config.gateway.control_ui.allowed_origins, ["http://x"]);
    assert!(folder.text().contains("/* c */ bind: 'loopback'"), "{}", folder.text());
    assert!(!folder.text().contains("logging"), "{}", folder.text());
}

#[test]
fn a_placeholder_that_comes_back_means_the_secret_that_was_there() {
    let folder = Folder::new("{gateway: {auth: {token: 'hush', mode: 'token'}}}");
    let shown = check_file(&folder.path(), &no_env).expect("loads").redacted();
    assert_eq!(shown["gateway"]["auth"]["token"], REDACTED);
    folder.edit(Change::Replace(shown.to_string())).expect("changes");
    let stored: Value = source::parse(&folder.text()).expect("parses");
    assert_eq!(stored["gateway"]["auth"]["token"], "hush");
    let error = folder
        .edit(set("gateway.auth.password", json!(REDACTED)))
        .expect_err("refused");
    assert!(
        matches!(&error, ChangeError::Placeholder(key) if key == "gateway.auth.password"),
        "{error}"
    );
}

#[test]
fn a_missing_file_is_made() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("atoll.json");
    edit_file(&path, &set("gateway.port", json!(7)), None, &no_env).expect("makes it");
    assert_eq!(check_file(&path, &no_env).expect("loads").config.gateway.port, 7);
}

#[tokio::test]
async fn changes_reach_everybody_who_listens() {
    let folder = Folder::new("{}");
    let (store, keeper) = ConfigStore::open(folder.path(), Box::new(no_env)).expect("opens");
    let stop = CancellationToken::new();
    let task = tokio::spawn(keeper.run(stop.clone()));
    let mut configs = store.subscribe();
    let base = store.hash();
    store
        .change(set("gateway.port", json!(9)), Some(base.clone()))
        .await
        .expect("changes");
    configs.changed().await.expect("is told");
    assert_eq!((configs.borrow().gateway.port, store.current().gateway.port), (9, 9));
    let stale = store.change(set("gateway.port", json!(10)), Some(base)).await;
    assert!(matches!(stale, Err(ChangeError::Stale { .. })), "{stale:?}");
    stop.cancel();
    task.await.expect("ends");
    assert!(matches!(
        store.change(set("gateway.port", json!(1)), None).await,
        Err(ChangeError::Closed)
    ));
}

#[tokio::test]
async fn a_broken_edit_leaves_the_last_good_version_in_force_until_it_is_repaired() {
    let folder = Folder::new("{gateway: {port: 1}}");
    let (store, mut keeper) = ConfigStore::open(folder.path(), Box::new(no_env)).expect("opens");
    keeper.every = Duration::from_millis(2);
    let stop = CancellationToken::new();
    let task = tokio::spawn(keeper.run(stop.clone()));
    fs::write(folder.path(), "{gateway: {port: 'twenty'}}").expect("writes");
    let mut state = store.state.clone();
    state.wait_for(|state| state.broken.is_some()).await.expect("is told");
    assert_eq!(store.broken().expect("is broken").errors[0].key, "gateway.port");
    assert_eq!(store.current().gateway.port, 1);
    fs::write(folder.path(), "{gateway: {port: 20}}").expect("writes");
    let mut configs = store.subscribe();
    configs
        .wait_for(|config| config.gateway.port == 20)
        .await
        .expect("is told");
    assert!(store.broken().is_none());
    stop.cancel();
    task.await.expect("ends");
}

#[test]
fn a_broken_file_does_not_start() {
    let folder = Folder::new("{gateway: {port: 0, bind: 1}}");
    let invalid = ConfigStore::open(folder.path(), Box::new(no_env)).expect_err("refused");
    assert_eq!(invalid.errors.len(), 2);
}
