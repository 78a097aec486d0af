//! How often and when: limits, quiet hours, and the device's own record of what came to it.

use atoll_tests::clock::Clock;
use atoll_tests::mesh::Pipe;
use atoll_tests::wait::until;
use serde_json::{Value, json};

use super::{Home, words};

atoll_tests::over_every_pipe! {
    a_command_that_is_called_too_often_says_when_it_works_again,
    the_device_writes_down_what_came_to_it_and_nothing_of_what_was_said,
}

async fn a_command_that_is_called_too_often_says_when_it_works_again(pipe: Pipe) {
    let rules = json!({"commands": {"camera": "allow"}, "limits": {"camera": "2/h", "system.which": "1/s"}});
    let home = Home::new(pipe, rules).await;
    for _ in 0..2 {
        home.list().await.expect("within the limit");
    }
    let error = home.list().await.expect_err("one too many");
    assert!(
        error.starts_with("RATE_LIMITED: camera may run 2 times a hour on this device; it works again in "),
        "{error}"
    );
    // Others are not counted with it, and a larger rate counts at once.
    home.call("system.which", json!({"bins": ["sh"]}), 15_000)
        .await
        .expect("another limit");
    home.node
        .rules(&json!({"commands": {"camera": "allow"}, "limits": {"camera": "3/h"}}));
    home.list().await.expect("room again");
    home.list().await.expect_err("full again");
}

/// Seconds from the time of day that it is in UTC to another, forward.
fn until_hour(hour: u64) -> i64 {
    let now = atoll_tests::wire::now_ms() / 1000 % 86_400;
    i64::try_from((hour * 3600 + 86_400 - now) % 86_400).expect("a day at most")
}

#[tokio::test]
async fn commands_rest_in_quiet_hours_over_midnight_by_the_clock_on_the_wall() {
    let clock = Clock::new();
    let rules =
        json!({"commands": {"camera": "allow"}, "quiet": {"from": "22:00", "to": "07:00", "commands": ["camera"]}});
    let mut environment = clock.environment().to_vec();
    environment.push(("TZ", "UTC".to_owned()));
    let noon = until_hour(12);
    clock.set_off_by(noon);
    let home = Home::with(Pipe::Quic, rules, &environment).await;
    home.list().await.expect("noon");
    for hours in [11, 14] {
        clock.set_off_by(noon + hours * 3600);
        let error = home.list().await.expect_err("night");
        assert!(
            error.starts_with("QUIET_HOURS: camera.list rests on this device from 22:00 to 07:00"),
            "{error}"
        );
        assert!(
            error.contains("works again at") && error.contains("07:00 +00:00"),
            "{error}"
        );
        home.call("system.which", json!({"bins": ["sh"]}), 15_000)
            .await
            .expect("not for this one");
    }
    clock.set_off_by(noon + 20 * 3600);
    home.list().await.expect("morning");
}

async fn the_device_writes_down_what_came_to_it_and_nothing_of_what_was_said(pipe: Pipe) {
    let rules = json!({"commands": {"camera.list": "allow", "camera.snap": "ask", "device": "deny"}});
    let home = Home::new(pipe, rules).await;
    home.list().await.expect("allowed");
    let script = json!({"command": ["sh", "-c", "echo a-secret-word"]});
    home.call("system.run", script, 15_000).await.expect("allowed");
    for word in ["yes", "no"] {
        let (mut operator, call) = home.begin("camera.snap", json!({"deviceId": "test"})).await;
        let id = home.question().await;
        home.say(&["answer", &id, word]).await;
        let _ = operator.answer(&call).await;
    }
    let (mut operator, call) = home.begin("camera.snap", json!({"deviceId": "slow"})).await;
    let id = home.question().await;
    home.say(&["answer", &id, "yes"]).await;
    home.no_question().await;
    home.say(&["deny", "camera"]).await;
    words(operator.answer(&call).await).expect_err("stopped");

    let rows = until("every call to be written down", async || {
        let rows = home.log().await;
        (rows.len() == 5).then_some(rows)
    })
    .await;
    let told = |row: &Value| {
        ["command", "decision", "because", "end"].map(|field| row[field].as_str().expect("text").to_owned())
    };
    let seen: Vec<_> = rows.iter().map(told).collect();
    let yes = "camera.snap: ask; yes by atoll-node answer";
    for (row, expected) in seen.iter().zip([
        ["camera.list", "allowed", "camera.list: allow", "ok"],
        ["system.run", "allowed", "default: allow", "ok"],
        ["camera.snap", "allowed", yes, "ok"],
        [
            "camera.snap",
            "denied",
            "camera.snap: ask; no by atoll-node answer",
            "denied",
        ],
        ["camera.snap", "allowed", yes, "stopped"],
    ]) {
        assert_eq!(row, &expected.map(str::to_owned), "{seen:?}");
    }
    let gateway = rows[0]["gateway"].as_str().expect("an id");
    assert!(
        rows.iter()
            .all(|row| row["gateway"] == gateway && row["call"].is_string() && row["durationMs"].is_u64())
    );
    let text = std::fs::read_to_string(home.node.state().join("calls.jsonl")).expect("there");
    assert!(!gateway.is_empty() && !text.contains("a-secret-word"), "{text}");

    let table = home.say(&["log", "--limit", "2"]).await;
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(
        lines.iter().all(|line| line.chars().count() <= 80) && lines[2].contains("stopped"),
        "{table}"
    );
}
