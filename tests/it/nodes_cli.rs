//! `atoll nodes run` and `atoll nodes top` as a person types them.

use std::process::Output;

use atoll_tests::mesh::{Mesh, Pipe};
use atoll_tests::wait::{until, within};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader, Lines};
use tokio::process::Child;

mod asking;
mod many;
pub(crate) mod top;

atoll_tests::over_every_pipe! {
    its_output_comes_as_it_is_written_and_its_code_is_passed_on,
    its_output_is_the_same_to_the_byte,
    ctrl_c_ends_the_program_and_all_that_it_started,
}

/// A script for a shell on a node.
fn run<'a>(options: &[&'a str], script: &'a str) -> Vec<&'a str> {
    [&["nodes", "run"], options, &["--", "sh", "-c", script]].concat()
}

pub(crate) fn lines<R: AsyncRead + Unpin>(stream: Option<R>) -> Lines<BufReader<R>> {
    BufReader::new(stream.expect("a pipe")).lines()
}

async fn line<R: AsyncRead + Unpin>(lines: &mut Lines<BufReader<R>>) -> String {
    let line = within("a line", lines.next_line()).await.expect("readable");
    line.expect("one more line")
}

pub(crate) async fn code(mut child: Child) -> Option<i32> {
    within("the end", child.wait()).await.expect("an end").code()
}

pub(crate) fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

async fn its_output_comes_as_it_is_written_and_its_code_is_passed_on(pipe: Pipe) {
    let mesh = Mesh::start().await.over(pipe);
    let _laptop = mesh.permissive_node("laptop").await;
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().to_str().expect("text");
    let options = ["laptop", "--cwd", folder, "--env", "WORD=hello"];
    let script = "mkfifo go; echo out $WORD; echo err >&2; read word < go; echo $word; exit 3";
    let mut child = mesh.cli_begun(&run(&options, script));
    let (mut out, mut err) = (lines(child.stdout.take()), lines(child.stderr.take()));
    assert_eq!(
        (line(&mut out).await, line(&mut err).await),
        ("out hello".to_owned(), "err".to_owned())
    );
    // It still runs, so this came while it did.
    tokio::fs::write(format!("{folder}/go"), "later\n")
        .await
        .expect("a reader");
    assert_eq!(line(&mut out).await, "later");
    assert_eq!(out.next_line().await.expect("readable"), None);
    assert_eq!(err.next_line().await.expect("readable"), None);
    assert_eq!(code(child).await, Some(3));
}

async fn its_output_is_the_same_to_the_byte(pipe: Pipe) {
    let mesh = Mesh::start().await.over(pipe);
    let _laptop = mesh.permissive_node("laptop").await;
    let bytes: Vec<u8> = (0..1_000_000_u32)
        .flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[..1].to_vec())
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("bytes");
    std::fs::write(&file, &bytes).expect("a writable folder");
    let output = mesh
        .cli(&["nodes", "run", "laptop", "--", "cat", file.to_str().expect("text")])
        .await;
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.stdout == bytes,
        "{} of {} bytes",
        output.stdout.len(),
        bytes.len()
    );
}

async fn ctrl_c_ends_the_program_and_all_that_it_started(pipe: Pipe) {
    let mesh = Mesh::start().await.over(pipe);
    let _laptop = mesh.permissive_node("laptop").await;
    let mut child = mesh.cli_begun(&run(&["laptop"], "sleep 1000 & echo $$ $!; wait"));
    let pids = line(&mut lines(child.stdout.take())).await;
    let interrupt = rustix::process::Pid::from_raw(child.id().expect("running").cast_signed()).expect("a process");
    rustix::process::kill_process(interrupt, rustix::process::Signal::INT).expect("it runs");
    assert_eq!(code(child).await, Some(130));
    for pid in pids.split(' ') {
        until("the program to be dead", async || (!is_alive(pid)).then_some(())).await;
    }
}

fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
}

#[tokio::test]
async fn each_way_to_end_has_its_code() {
    let mesh = Mesh::start().await;
    let _laptop = mesh.permissive_node("laptop").await;
    for (arguments, expected, word) in [
        (run(&["laptop"], "kill -9 $$"), 137, "SIGKILL"),
        (
            run(&["laptop", "--timeout", "300ms"], "sleep 100"),
            124,
            "its time was over",
        ),
        (
            vec!["nodes", "run", "laptop", "--", "no-such-program"],
            127,
            "no-such-program",
        ),
        (run(&["desktop"], "true"), 125, "no node matches"),
        (run(&["laptop", "--url", "ws://127.0.0.1:1"], "true"), 125, "next:"),
        (vec!["nodes", "run", "laptop", "true"], 2, "--"),
        // More than is passed on while it runs, and more than the result holds.
        (
            run(&["laptop"], "yes | head -c 6000000"),
            1,
            "bytes of the output are missing",
        ),
    ] {
        let (code, _, complaint) = said(&mesh.cli(&arguments).await);
        assert_eq!(code, Some(expected), "{arguments:?}: {complaint}");
        assert!(complaint.contains(word), "{arguments:?}: {complaint}");
    }
    // What the program says is all that is said.
    let (code, _, complaint) = said(&mesh.cli(&run(&["laptop"], "echo no >&2; exit 7")).await);
    assert_eq!((code, complaint.as_str()), (Some(7), "no\n"));
}

#[tokio::test]
async fn it_reads_what_it_is_given_and_tells_programs_how_it_went() {
    let mesh = Mesh::start().await;
    let _laptop = mesh.permissive_node("laptop").await;
    let mut child = mesh.cli_begun(&["nodes", "run", "--stdin", "--json", "--", "tr", "a-z", "A-Z"]);
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all("words".as_bytes()).await.expect("a reader");
    drop(stdin);
    let output = within("the end", child.wait_with_output()).await.expect("an end");
    let result: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (&result["stdout"], &result["exitCode"], &result["node"]),
        (&json!("WORDS"), &json!(0), &json!("laptop"))
    );
}

#[tokio::test]
async fn a_node_that_asks_gets_a_yes_from_somebody_else_and_the_words_say_how() {
    let mesh = Mesh::start().await;
    let _laptop = mesh.node("laptop").await;
    let approving = async |word: &str| {
        let mut child = mesh.cli_begun(&["nodes", "run", "laptop", "--env", "A=b", "--", "uname", "-s"]);
        let mut err = lines(child.stderr.take());
        assert_eq!(line(&mut err).await, "laptop wants a yes before it runs this:");
        assert_eq!(line(&mut err).await.trim(), "uname -s");
        let words = line(&mut err).await;
        let command = words
            .strip_prefix("waiting for: atoll ")
            .expect("the next step")
            .to_owned();
        let id = command.rsplit(' ').next().expect("an id").to_owned();
        let answer = mesh.cli(&["approvals", word, &id]).await;
        assert!(answer.status.success(), "{answer:?}");
        let said = within("the end", child.wait_with_output()).await.expect("an end");
        (said.status.code(), String::from_utf8_lossy(&said.stdout).into_owned())
    };
    assert_eq!(approving("approve").await, (Some(0), "Linux\n".to_owned()));
    assert_eq!(approving("deny").await, (Some(125), String::new()));
    // Input is no part of an approval.
    let output = mesh.cli(&["nodes", "run", "laptop", "--stdin", "--", "cat"]).await;
    let (code, _, complaint) = said(&output);
    assert!(
        code == Some(125) && complaint.contains("covers no standard input"),
        "{complaint}"
    );
    // Elsewhere, where nobody else is, nobody can say yes.
    let (url, token) = (
        format!("ws://127.0.0.1:{}", mesh.target().port),
        mesh.state().join("token"),
    );
    std::fs::write(&token, &mesh.target().token).expect("a writable folder");
    let remote = ["--url", &url, "--token-file", token.to_str().expect("text")];
    let (code, _, complaint) = said(
        &mesh
            .cli(&[&["nodes", "run"], &remote[..], &["--", "uname"]].concat())
            .await,
    );
    assert!(
        code == Some(125) && complaint.contains("nobody is connected who may"),
        "{complaint}"
    );
}

#[tokio::test]
async fn on_many_nodes_it_says_how_it_went_on_each() {
    let mesh = Mesh::start().await;
    let _laptop = mesh.permissive_node("laptop").await;
    let mut builder = mesh.permissive_node("builder").await;
    let (code, table, complaint) = said(&mesh.cli(&run(&["--all", "os=linux"], "echo one; echo two")).await);
    assert_eq!(code, Some(0), "{complaint}");
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NODE", "EXIT", "TIME", "LAST", "LINE"]);
    let mut names: Vec<_> = rows[1..].iter().map(|row| (row[0], row[1], row[3])).collect();
    names.sort_unstable();
    assert_eq!(names, [("builder", "0", "two"), ("laptop", "0", "two")], "{table}");

    builder.stop().await;
    until("the builder to be away", async || {
        let nodes = mesh.cli_json(&["nodes", "list", "--json"]).await;
        let row = nodes["nodes"]
            .as_array()?
            .iter()
            .find(|node| node["displayName"] == "builder")?;
        (row["connected"] == false).then_some(())
    })
    .await;
    let output = mesh.cli(&run(&["--all", "--json"], "echo one; exit 4")).await;
    assert_eq!(output.status.code(), Some(1));
    let results: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let rows = results["results"].as_array().expect("a list");
    let of = |name: &str| rows.iter().find(|row| row["node"] == name).expect("a row");
    assert_eq!(
        (&of("laptop")["code"], &of("laptop")["lastLine"]),
        (&json!(4), &json!("one"))
    );
    assert_eq!(
        (&of("builder")["code"], &of("builder")["error"]),
        (&Value::Null, &json!("away"))
    );
}

#[tokio::test]
async fn output_that_nobody_reads_ends_the_program() {
    let mesh = Mesh::start().await;
    let _laptop = mesh.permissive_node("laptop").await;
    let mut child = mesh.cli_begun(&run(&["laptop"], "echo $$; while :; do echo more; sleep 0.02; done"));
    let mut out = lines(child.stdout.take());
    let pid = line(&mut out).await;
    drop(out);
    assert_eq!(code(child).await, Some(141));
    until("the program to be dead", async || (!is_alive(&pid)).then_some(())).await;
}
