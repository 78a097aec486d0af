//! The clipboard of a real X server through the real xclip.

use atoll_tests::desktop::Screen;
use atoll_tests::mesh::Pipe;
use atoll_tests::wait::{until, within};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::Home;
use crate::camera::descendants;

atoll_tests::over_every_pipe! {
    text_goes_into_the_clipboard_and_comes_out_of_it,
}

const COMMANDS: [&str; 2] = ["clipboard.read", "clipboard.write"];

/// What another program finds in the clipboard.
async fn pasted(screen: &Screen) -> String {
    let mut command = Command::new("xclip");
    command
        .args(["-selection", "clipboard", "-out"])
        .env("DISPLAY", &screen.display);
    let output = within("xclip", command.output()).await.expect("xclip");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Another program copies something.
async fn copied(screen: &Screen, text: &str) -> tokio::process::Child {
    let mut command = Command::new("xclip");
    command
        .args(["-quiet", "-selection", "clipboard", "-in"])
        .env("DISPLAY", &screen.display);
    command
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true);
    let mut child = command.spawn().expect("xclip");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(text.as_bytes()).await.expect("it reads");
    drop(stdin);
    until("the other program's text", async || {
        (pasted(screen).await == text).then_some(())
    })
    .await;
    child
}

async fn write(home: &Home, text: &str) -> Result<Value, String> {
    home.invoke("clipboard.write", json!({"text": text})).await
}

async fn text_goes_into_the_clipboard_and_comes_out_of_it(pipe: Pipe) {
    let screen = Screen::start().await;
    let mut home = Home::new(pipe, &COMMANDS, json!({}), &[("DISPLAY", &screen.display)]).await;
    let error = home
        .invoke("clipboard.read", json!({}))
        .await
        .expect_err("nobody has copied anything");
    assert!(
        error.starts_with("CLIPBOARD_UNAVAILABLE: the clipboard holds no text"),
        "{error}"
    );

    let odd = "-o $(id) \"ü\"\n\ttwo\n";
    assert_eq!(write(&home, odd).await, Ok(json!({"ok": true})));
    assert_eq!(pasted(&screen).await, odd);
    assert_eq!(home.invoke("clipboard.read", json!({})).await, Ok(json!({"text": odd})));

    // One program holds it, however often it is written, and none once somebody else has copied something.
    for count in 0..3 {
        write(&home, &format!("text {count}")).await.expect("written");
    }
    let pid = home.node.program().pid();
    until("one holder", async || (descendants(pid).len() == 1).then_some(())).await;
    let _other = copied(&screen, "of another program").await;
    assert_eq!(
        home.invoke("clipboard.read", json!({})).await,
        Ok(json!({"text": "of another program"}))
    );
    until("no holder", async || descendants(pid).is_empty().then_some(())).await;

    assert_eq!(
        home.cli(&["clipboard", "write", "--node", "home", "typed here"]).await,
        Ok("done\n".to_owned())
    );
    assert_eq!(
        home.cli(&["clipboard", "read", "--node", "home"]).await,
        Ok("typed here".to_owned())
    );
    let long = "x".repeat(200_000);
    let error = write(&home, &long).await.expect_err("too long");
    assert!(
        error.starts_with("PAYLOAD_TOO_LARGE: text has more than 131072 bytes"),
        "{error}"
    );
    let _other = copied(&screen, &long).await;
    let error = home.invoke("clipboard.read", json!({})).await.expect_err("too long");
    assert!(
        error.starts_with("PAYLOAD_TOO_LARGE: the clipboard holds more than"),
        "{error}"
    );
}

#[tokio::test]
async fn a_node_that_ends_takes_the_holder_along() {
    let screen = Screen::start().await;
    let mut home = Home::new(Pipe::Quic, &COMMANDS, json!({}), &[("DISPLAY", &screen.display)]).await;
    write(&home, "x").await.expect("written");
    let holders = descendants(home.node.program().pid());
    assert_eq!(holders.len(), 1);
    home.node.stop().await;
    until("the holder to be gone", async || {
        let is_alive =
            |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
        (!holders.iter().any(is_alive)).then_some(())
    })
    .await;
    assert_eq!(pasted(&screen).await, "");
}
