//! Files in open folders, with every way out of them.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use atoll_protocol::blob::BlobHandle;
use atoll_protocol::id::{BlobId, CallId};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::blob::{Blobs, NewBlob, NewStream};

/// Keeps what is offered, and has one blob to take.
#[derive(Debug, Default)]
struct Desk {
    offered: Mutex<Vec<u8>>,
    given: Vec<u8>,
}

#[async_trait]
impl Blobs for Desk {
    fn offer(&self, mut blob: NewBlob) -> Result<BlobHandle, CallError> {
        let mut bytes = Vec::new();
        blob.file.read_to_end(&mut bytes).expect("reads");
        *self.offered.lock().expect("one at a time") = bytes;
        Ok(BlobHandle {
            id: BlobId::new("offered").expect("an id"),
            name: blob.name,
            size: blob.size,
            mime: blob.mime,
            kind: Default::default(),
        })
    }

    fn offer_stream(&self, _: NewStream) -> BlobHandle {
        panic!("files are no streams")
    }

    async fn take(&self, _: &BlobHandle, mut into: fs::File) -> Result<(), CallError> {
        into.write_all(&self.given).expect("writes");
        Ok(())
    }
}

struct Device {
    _state: TempDir,
    files: Files,
    open: TempDir,
    outside: TempDir,
}

impl Device {
    fn new(write: bool) -> Self {
        let (state, open, outside) = (folder(), folder(), folder());
        let roots = json!({"roots": [{"path": open.path(), "write": write}]});
        fs::write(state.path().join(ROOTS_FILE), roots.to_string()).expect("writes");
        fs::write(open.path().join("a.txt"), "hello").expect("writes");
        fs::write(outside.path().join("secret"), "secret").expect("writes");
        Self {
            files: Files::new(state.path()),
            _state: state,
            open,
            outside,
        }
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.open.path().join(inside)
    }

    async fn call(&self, command: &str, params: Value) -> Value {
        self.with_blobs(command, params, None).await
    }

    async fn with_blobs(&self, command: &str, params: Value, blobs: Option<Arc<dyn Blobs>>) -> Value {
        let call = Call {
            id: CallId::new("c").expect("an id"),
            command: command.to_owned(),
            params: Some(params.into()),
            deadline: Duration::from_secs(10),
            plan: None,
            cancel: CancellationToken::new(),
            progress: mpsc::channel(1).0,
            blobs,
            silent: None,
        };
        let result = self.files.invoke(call).await.expect("a result");
        result.expect("a payload").tree()
    }

    fn left(&self) -> Vec<String> {
        let names = fs::read_dir(self.open.path()).expect("lists").flatten();
        let mut names: Vec<_> = names
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn code(result: &Value) -> &str {
    assert_eq!(result["ok"], false, "{result}");
    result["code"].as_str().expect("a code")
}

#[tokio::test]
async fn a_file_comes_as_base64_where_blobs_do_not_travel_and_as_a_blob_where_they_do() {
    let device = Device::new(false);
    let params = json!({"path": device.path("a.txt")});
    let inline = device.call("file.fetch", params.clone()).await;
    assert_eq!(
        (&inline["base64"], &inline["size"], &inline["mimeType"]),
        (&json!("aGVsbG8="), &json!(5), &json!("text/plain"))
    );
    let sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    assert_eq!(inline["sha256"], sha256);
    let desk = Arc::new(Desk::default());
    let blob = device.with_blobs("file.fetch", params, Some(desk.clone())).await;
    assert_eq!(
        (&blob["blob"]["size"], &blob["blob"]["name"]),
        (&json!(5), &json!("a.txt"))
    );
    assert!(blob.get("base64").is_none());
    assert_eq!(*desk.offered.lock().expect("free"), b"hello");
}

#[tokio::test]
async fn stat_and_list_say_what_there_is() {
    let device = Device::new(false);
    fs::create_dir(device.path("sub")).expect("makes");
    let stat = device.call("file.stat", json!({"path": device.path("a.txt")})).await;
    assert_eq!((&stat["type"], &stat["size"]), (&json!("file"), &json!(5)));
    assert!(stat["mtimeMs"].as_u64().expect("a time") > 1_600_000_000_000);
    let list = device.call("dir.list", json!({"path": device.open.path()})).await;
    let names: Vec<_> = list["entries"]
        .as_array()
        .expect("entries")
        .iter()
        .map(|entry| &entry["name"])
        .collect();
    assert_eq!(names, ["a.txt", "sub"]);
    assert_eq!(
        (&list["entries"][1]["isDir"], &list["truncated"]),
        (&json!(true), &json!(false))
    );
    let first = device
        .call("dir.list", json!({"path": device.open.path(), "maxEntries": 1}))
        .await;
    assert_eq!(
        (&first["truncated"], &first["entries"][0]["name"]),
        (&json!(true), &json!("a.txt"))
    );
    let params = json!({"path": device.open.path(), "maxEntries": 1, "pageToken": first["nextPageToken"]});
    let second = device.call("dir.list", params).await;
    assert_eq!(
        (&second["truncated"], &second["entries"][0]["name"]),
        (&json!(false), &json!("sub"))
    );
    let file = device.call("dir.list", json!({"path": device.path("a.txt")})).await;
    assert_eq!(code(&file), "IS_FILE");
}

#[tokio::test]
async fn nothing_outside_of_the_open_folders_can_be_reached() {
    let device = Device::new(true);
    let outside = device.outside.path();
    std::os::unix::fs::symlink(outside.join("secret"), device.path("link")).expect("links");
    std::os::unix::fs::symlink(outside, device.path("folder")).expect("links");
    std::os::unix::fs::symlink("../../../../../../../../etc/hostname", device.path("dots")).expect("links");
    let dotted = device.path("sub/../../x");
    for (path, expected) in [
        (outside.join("secret"), "PERMISSION_DENIED"),
        (PathBuf::from("/etc/hostname"), "PERMISSION_DENIED"),
        (PathBuf::from("a.txt"), "INVALID_PATH"),
        (PathBuf::from(""), "INVALID_PATH"),
        (PathBuf::from("/x\0"), "INVALID_PATH"),
        (dotted, "PATH_TRAVERSAL"),
        (device.path("link"), "SYMLINK_REDIRECT"),
        (device.path("folder/secret"), "SYMLINK_REDIRECT"),
        (device.path("dots"), "SYMLINK_REDIRECT"),
        (device.path("none"), "NOT_FOUND"),
    ] {
        for command in ["file.fetch", "file.stat", "dir.list"] {
            let result = device.call(command, json!({"path": path})).await;
            assert_eq!(code(&result), expected, "{command} {}", path.display());
        }
    }
    for path in [
        device.path("link"),
        device.path("folder/new"),
        device.path("dots"),
        outside.join("new"),
    ] {
        let params = json!({"path": path, "contentBase64": "eA==", "overwrite": true});
        let result = device.call("file.write", params).await;
        let refused = ["SYMLINK_TARGET_DENIED", "SYMLINK_REDIRECT", "PERMISSION_DENIED"];
        assert!(refused.contains(&code(&result)), "{result}");
    }
    assert_eq!(fs::read(outside.join("secret")).expect("reads"), b"secret");
    assert!(!outside.join("new").exists());
}

#[tokio::test]
async fn a_write_happens_whole_or_not_at_all_and_leaves_nothing_behind() {
    let device = Device::new(true);
    let path = device.path("b.txt");
    let write = |extra: Value| {
        let mut params = json!({"path": path, "contentBase64": "aGVsbG8="});
        params
            .as_object_mut()
            .expect("an object")
            .extend(extra.as_object().expect("an object").clone());
        params
    };
    let done = device.call("file.write", write(json!({}))).await;
    assert_eq!(
        (&done["ok"], &done["size"], &done["overwritten"]),
        (&json!(true), &json!(5), &json!(false))
    );
    let again = device.call("file.write", write(json!({}))).await;
    assert_eq!(code(&again), "EXISTS_NO_OVERWRITE");
    let wrong = device
        .call("file.write", write(json!({"overwrite": true, "expectedSha256": "00"})))
        .await;
    assert_eq!(code(&wrong), "INTEGRITY_FAILURE");
    let broken = device
        .call("file.write", write(json!({"overwrite": true, "contentBase64": "%"})))
        .await;
    assert_eq!(code(&broken), "INVALID_BASE64");
    let done = device
        .call("file.write", write(json!({"overwrite": true, "contentBase64": "eA"})))
        .await;
    assert_eq!(done["overwritten"], true);
    assert_eq!(fs::read(&path).expect("reads"), b"x");
    assert_eq!(device.left(), ["a.txt", "b.txt"]);
    let deep = json!({"path": device.path("x/y/z"), "contentBase64": ""});
    assert_eq!(code(&device.call("file.write", deep.clone()).await), "PARENT_NOT_FOUND");
    let mut deep = deep;
    deep["createParents"] = json!(true);
    assert_eq!(device.call("file.write", deep).await["ok"], true);
}

#[tokio::test]
async fn a_blob_becomes_a_file() {
    let device = Device::new(true);
    let desk = Desk {
        given: b"from afar".to_vec(),
        ..Desk::default()
    };
    let params = json!({"path": device.path("c"), "blob": {"id": "b", "size": 9}});
    let done = device.with_blobs("file.write", params, Some(Arc::new(desk))).await;
    assert_eq!((&done["ok"], &done["size"]), (&json!(true), &json!(9)));
    assert_eq!(fs::read(device.path("c")).expect("reads"), b"from afar");
    assert_eq!(device.left(), ["a.txt", "c"]);
}

#[tokio::test]
async fn a_file_over_the_limit_is_refused_before_it_is_read() {
    let device = Device::new(false);
    let large = fs::File::create(device.path("large")).expect("makes");
    large.set_len(17 * 1024 * 1024).expect("sparse");
    let path = device.path("large");
    let usual = device.call("file.fetch", json!({"path": path})).await;
    assert_eq!(code(&usual), "FILE_TOO_LARGE");
    let most = device.call("file.fetch", json!({"path": path, "maxBytes": 1e15})).await;
    assert_eq!(code(&most), "FILE_TOO_LARGE", "base64 has a limit of its own");
    let checked = device
        .call(
            "file.fetch",
            json!({"path": device.path("a.txt"), "preflightOnly": true}),
        )
        .await;
    assert_eq!(
        (&checked["preflightOnly"], &checked["base64"]),
        (&json!(true), &json!(""))
    );
}

#[test]
fn what_is_not_open_is_not_declared() {
    let state = folder();
    let declared = |text: Option<&str>| {
        let path = state.path().join(ROOTS_FILE);
        match text {
            Some(text) => fs::write(&path, text).expect("writes"),
            None => drop(fs::remove_file(&path)),
        }
        Files::new(state.path()).describe().commands
    };
    assert!(declared(None).is_empty());
    assert!(declared(Some(r#"{"roots": []}"#)).is_empty());
    assert!(declared(Some(r#"{"roots": [{"path": "relative"}]}"#)).is_empty());
    assert!(declared(Some(r#"{"roots": [{"path": "/x", "wrong": 1}]}"#)).is_empty());
    assert!(declared(Some("{")).is_empty());
    let reading = ["file.fetch", "file.stat", "dir.list"];
    assert_eq!(declared(Some(r#"{"roots": [{"path": "/x"}]}"#)), reading);
    let all = ["file.fetch", "file.stat", "dir.list", "file.write"];
    assert_eq!(declared(Some(r#"{"roots": [{"path": "/x", "write": true}]}"#)), all);
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(state.path().join(ROOTS_FILE), fs::Permissions::from_mode(0o666)).expect("sets");
    assert!(
        Files::new(state.path()).describe().commands.is_empty(),
        "others can write to it"
    );
    let _: &Path = state.path();
}
