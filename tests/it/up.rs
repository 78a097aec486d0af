//! `atoll up`: the whole ring by one command on one machine, and nothing of it left behind.

use std::ops::Deref;

use atoll_tests::mesh::Mesh;
use atoll_tests::wait::{until, within};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWriteExt, BufReader, Lines};

use crate::nodes_cli::{code, lines, said};

const UP: [&str; 5] = ["up", "--port", "0", "--name", "laptop"];

/// A state folder on which a command starts programs that may outlive it, though never this value.
struct Home(Mesh);

impl Home {
    fn new() -> Self {
        Self(Mesh::prepare(&json!({})))
    }

    /// The programs that were started on it and run.
    fn running(&self) -> Vec<Pid> {
        let folder = self.state().display().to_string();
        let is_ours = |pid: &Pid| {
            let words = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
            words.is_ok_and(|words| String::from_utf8_lossy(&words).contains(&folder))
        };
        let entries = std::fs::read_dir("/proc").expect("a list of processes").flatten();
        let pids = entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
        pids.filter(is_ours).collect()
    }

    async fn has_running(&self, count: usize) {
        let what = format!("{count} programs to run, not {:?}", self.running());
        until(&what, async || (self.running().len() == count).then_some(())).await;
    }
}

impl Deref for Home {
    type Target = Mesh;

    fn deref(&self) -> &Mesh {
        &self.0
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for pid in self.running() {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// The next line with these words in it.
async fn heard<R: AsyncRead + Unpin>(lines: &mut Lines<BufReader<R>>, words: &str) -> String {
    within(&format!("a line with {words}"), async {
        loop {
            let line = lines.next_line().await.expect("readable").expect("one more line");
            if line.contains(words) {
                return line;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_command_at_the_prompt_runs_on_the_node_beside_it_and_nothing_is_left_behind() {
    let home = Home::new();
    let mut first = home.cli_begun(&UP);
    let (mut typed, mut shown) = (first.stdin.take().expect("a pipe"), lines(first.stdout.take()));
    for words in [
        "gateway: ws://127.0.0.1:",
        "node: approved",
        "node: laptop is connected",
    ] {
        heard(&mut shown, words).await;
    }
    typed
        .write_all(b"/run laptop -- uname -a\n")
        .await
        .expect("a prompt that listens");
    heard(&mut shown, "Linux").await;
    home.has_running(2).await;

    // Its input is empty, so it leaves at once, and takes nothing with it that it has not started.
    let (code_of_second, told, complaint) = said(&home.cli(&UP).await);
    assert_eq!(code_of_second, Some(0), "{complaint}");
    for words in ["gateway: was running already", "node: laptop was running already"] {
        assert!(told.contains(words), "{words} in {told}");
    }
    home.has_running(2).await;

    drop(typed);
    assert_eq!(code(first).await, Some(0));
    assert_eq!(home.running(), []);
}

#[tokio::test]
async fn the_prompt_on_a_terminal_ends_with_its_input() {
    let home = Home::new();
    let mut up = home.cli_on_terminal(&UP);
    let (mut typed, mut shown) = (up.stdin.take().expect("a pipe"), lines(up.stdout.take()));
    heard(&mut shown, "Ctrl-D leaves").await;
    typed
        .write_all(b"/run laptop -- uname -a\n")
        .await
        .expect("a terminal that listens");
    heard(&mut shown, "Linux").await;
    typed.write_all(b"\x04").await.expect("a terminal that listens");
    assert_eq!(code(up).await, Some(0));
    assert_eq!(home.running(), []);
}

#[tokio::test]
async fn a_detached_ring_goes_on_and_is_found_again() {
    let home = Home::new();
    let detach = [&UP[..], &["--detach", "--json"]].concat();
    let first = home.cli_json(&detach).await;
    assert_eq!(first["url"], format!("ws://127.0.0.1:{}", first["port"]), "{first}");
    assert_eq!(
        (&first["ok"], &first["stateDir"], &first["node"]["displayName"]),
        (&json!(true), &json!(home.state()), &json!("laptop")),
        "{first}"
    );
    home.has_running(2).await;
    let answer = home
        .cli_json(&["agent", "--message", "/run laptop -- uname -s", "--json"])
        .await;
    assert_eq!(answer["result"]["payloads"][0]["text"], "```\nLinux\n```", "{answer}");

    let mut again = home.cli_json(&detach).await;
    assert_eq!(again["node"]["pid"].take(), json!(null), "it was not started again");
    let pid = first["node"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    let mut expected = first;
    expected["node"]["pid"].take();
    assert_eq!(again, expected);

    assert_eq!(said(&home.cli(&["gateway", "stop"]).await).0, Some(0));
    home.has_running(1).await;
    let node = pid.and_then(Pid::from_raw).expect("the node's process");
    assert_eq!(home.running(), [node]);
    kill_process(node, Signal::TERM).expect("it runs");
    home.has_running(0).await;
}

#[tokio::test]
async fn what_cannot_be_brought_up_says_what_to_leave_away() {
    let home = Home::new();
    for (more, words) in [(&["--json"][..], "--detach"), (&["--url", "ws://127.0.0.1:1"], "--url")] {
        let (code, _, complaint) = said(&home.cli(&[&UP[..], more].concat()).await);
        assert_eq!(code, Some(2), "{complaint}");
        assert!(complaint.contains(words), "{complaint}");
    }
    assert_eq!(home.running(), []);
}
