//! The person at the terminal that the daemon was started in, which is a real one (`script` of util-linux).

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use atoll_tests::mesh::{Mesh, TOKEN, admit};
use atoll_tests::program::built;
use atoll_tests::wait::{PATIENCE, until, within};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};

use super::words;

/// A daemon in a terminal.
struct Terminal {
    _child: Child,
    keys: ChildStdin,
    screen: Arc<Mutex<String>>,
}

impl Terminal {
    fn start(address: &str, state: &Path) -> Self {
        let program = built("atoll-node");
        let typed = format!(
            "{} run --gateway {address} --name home --state-dir {}",
            program.display(),
            state.display()
        );
        let mut command = Command::new("script");
        command.args(["--quiet", "--flush", "--return", "--command", &typed, "/dev/null"]);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").expect("a path"))
            .env("SHELL", "/bin/sh");
        command.env("HOME", state).env("ATOLL_GATEWAY_TOKEN", TOKEN);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("script, of util-linux");
        let (keys, mut out) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let screen = Arc::new(Mutex::new(String::new()));
        let shown = screen.clone();
        tokio::spawn(async move {
            let mut bytes = [0; 1024];
            while let Ok(count) = out.read(&mut bytes).await {
                if count == 0 {
                    return;
                }
                let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
                shown.lock().expect("whole").push_str(&text);
            }
        });
        Self {
            _child: child,
            keys,
            screen,
        }
    }

    async fn shows(&self, words: &str, times: usize) {
        let screen = || self.screen.lock().expect("whole").clone();
        let shown = until(words, async || (screen().matches(words).count() >= times).then(screen));
        assert_eq!(shown.await.matches(words).count(), times, "{}", screen());
    }

    async fn types(&mut self, line: &str) {
        self.keys
            .write_all(format!("{line}\n").as_bytes())
            .await
            .expect("a terminal");
        self.keys.flush().await.expect("a terminal");
    }
}

fn request(id: &str) -> Value {
    json!({"nodeId": id, "command": "camera.list", "params": {}, "timeoutMs": 20_000,
        "idempotencyKey": uuid::Uuid::new_v4().to_string()})
}

#[tokio::test]
async fn a_line_at_the_terminal_answers_and_use_is_shown_there() {
    let mesh = Mesh::start().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let rules = json!({"commands": {"camera": "ask"}, "camera": {"testPattern": true}});
    std::fs::write(folder.path().join("node.json"), rules.to_string()).expect("room");
    let mut terminal = Terminal::start(&mesh.target().ws(), folder.path());
    let mut operator = mesh.operator().await;
    let id = admit(&mut operator, "home", PATIENCE).await;
    // Typed before anything was asked: no answer.
    terminal.types("y").await;
    let call = operator.ask("node.invoke", request(&id)).await;
    terminal.shows("wants camera.list. Allow it? [y/n", 1).await;
    terminal.types("perhaps").await;
    terminal.shows("wants camera.list. Allow it? [y/n", 2).await;
    terminal.types("y").await;
    words(operator.answer(&call).await).expect("allowed");
    terminal.shows("In use: camera.list, for gateway ", 1).await;

    let call = operator.ask("node.invoke", request(&id)).await;
    terminal.shows("wants camera.list. Allow it? [y/n", 3).await;
    terminal.types("n").await;
    let error = words(operator.answer(&call).await).expect_err("denied");
    assert!(error.contains("(terminal)"), "{error}");

    let call = operator.ask("node.invoke", request(&id)).await;
    terminal.shows("wants camera.list. Allow it? [y/n", 4).await;
    let question = std::fs::read_dir(folder.path().join("asks"))
        .expect("a folder")
        .flatten()
        .next()
        .expect("a question");
    let question = question
        .path()
        .file_stem()
        .and_then(|name| name.to_str())
        .expect("an id")
        .to_owned();
    let mut answer = Command::new(built("atoll-node"));
    answer
        .args(["answer", &question, "yes", "--state-dir"])
        .arg(folder.path());
    assert!(within("an answer", answer.status()).await.expect("a program").success());
    words(operator.answer(&call).await).expect("allowed elsewhere");
    terminal.shows(&format!("Question {question} is over."), 1).await;
    terminal.shows("In use: ", 1).await;
}
