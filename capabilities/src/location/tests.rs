//! Who is asked, what is remembered, and what is said when nobody knows.

use atoll_protocol::id::CallId;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::installed::tests::scripts;

struct Place {
    _folders: [tempfile::TempDir; 2],
    location: Location,
}

fn place(section: Value, programs: &[(&str, &str)]) -> Place {
    let state = tempfile::tempdir().expect("a folder");
    let (folder, installed) = scripts(programs, &[]);
    let place = Place {
        location: Location {
            state_dir: state.path().to_owned(),
            installed,
            last: Mutex::default(),
        },
        _folders: [state, folder],
    };
    place.write(section);
    place
}

impl Place {
    fn write(&self, section: Value) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.location.state_dir.join("node.json");
        std::fs::write(&path, json!({"location": section}).to_string()).expect("room");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("ours");
    }

    async fn get(&self, params: Value) -> Result<Value, CallError> {
        let call = Call {
            id: CallId::new("call").expect("fits"),
            command: LOCATION.to_owned(),
            params: Some(params.into()),
            deadline: Duration::from_secs(30),
            plan: None,
            cancel: CancellationToken::new(),
            progress: mpsc::channel(1).0,
            blobs: None,
            silent: None,
        };
        let got = self.location.invoke(call).await?;
        Ok(got.expect("a place").tree())
    }
}

#[tokio::test]
async fn what_the_owner_names_is_asked_and_nobody_else() {
    let system = (
        "termux-location",
        r#"echo '{"latitude": 1, "longitude": 2, "accuracy": 3}'"#,
    );
    let there = place(
        json!({"fixed": {"lat": 52.52, "lon": 13.4, "accuracyMeters": 20}}),
        &[system],
    );
    let got = there.get(json!({"maxAgeMs": 15_000})).await.expect("a place");
    assert_eq!((&got["lat"], &got["isPrecise"]), (&json!(52.52), &json!(true)));
    there.write(json!({"command": ["teller", "--fast"]}));
    let error = there
        .get(json!({"maxAgeMs": 15_000}))
        .await
        .expect_err("no such program");
    assert_eq!(error.code, "LOCATION_UNAVAILABLE");
    assert!(
        error
            .message
            .contains("location.command (teller): teller does not start"),
        "{error}"
    );
    there.write(json!({}));
    assert_eq!(there.get(json!({})).await.expect("a place")["lat"], 1.0);
}

#[tokio::test]
async fn what_was_found_before_is_given_again_as_long_as_it_is_fresh_and_exact_enough() {
    let teller =
        r#"n=$(cat "$0.n" 2>/dev/null || echo 0); n=$((n + 1)); echo $n >"$0.n"; echo "{\"lat\": $n, \"lon\": 0}""#;
    let there = place(json!({"command": ["teller"]}), &[("teller", teller)]);
    for (params, expected) in [
        (json!({"maxAgeMs": 60_000}), 1.0),
        (json!({"maxAgeMs": 60_000}), 1.0),
        (json!({"maxAgeMs": 60_000, "desiredAccuracy": "coarse"}), 1.0),
        (json!({"maxAgeMs": 60_000, "desiredAccuracy": "precise"}), 2.0),
        (json!({"maxAgeMs": 60_000}), 2.0),
        (json!({}), 3.0),
    ] {
        assert_eq!(
            there.get(params.clone()).await.expect("a place")["lat"],
            expected,
            "{params}"
        );
    }
}

#[tokio::test]
async fn geoclue_is_asked_for_as_much_as_is_wanted_and_not_waited_for_once_it_has_answered() {
    let where_am_i = r#"
        [ "$LC_ALL" = C ] && [ "$1 $3" = "-a -t" ] && [ "$4" -gt 1 ] || { echo "wrong: $*" >&2; exit 2; }
        printf 'Client object: /x\n\nNew location:\nLatitude:    %s.5°\nLongitude:   2.5°\nAccuracy:    10.0 meters\n' "$2"
        printf 'Timestamp:   now (1767443696 seconds since the Epoch)\n'
        exec sleep 1000"#;
    let there = place(json!({}), &[("where-am-i", where_am_i)]);
    for (accuracy, lat) in [("coarse", 4.5), ("balanced", 6.5), ("precise", 8.5)] {
        let got = there.get(json!({"desiredAccuracy": accuracy})).await.expect("a place");
        assert_eq!(
            (&got["lat"], &got["timestamp"]),
            (&json!(lat), &json!("2026-01-03T12:34:56.000Z"))
        );
    }
}

#[tokio::test]
async fn the_next_is_asked_when_one_does_not_know_and_all_say_why() {
    let termux = ("termux-location", r#"echo '{"API_ERROR": "off"}'"#);
    let there = place(json!({}), &[termux, ("where-am-i", "echo no service >&2; exit 1")]);
    let error = there.get(json!({})).await.expect_err("nobody knows");
    assert!(
        error.message.contains("\"off\\\"") && error.message.contains("no service"),
        "{error}"
    );
}

#[tokio::test]
async fn whoever_takes_too_long_is_ended() {
    let there = place(json!({"command": ["sleeper"]}), &[("sleeper", "exec sleep 1000")]);
    let error = there.get(json!({"timeoutMs": 300})).await.expect_err("late");
    assert_eq!(error.code, "LOCATION_TIMEOUT");
    assert!(error.message.contains("timeoutMs"), "{error}");
}

#[test]
fn what_is_missing_or_wrong_is_said_before_anybody_calls() {
    for (section, word) in [
        (json!({}), "geoclue-2-demo"),
        (json!({"fixed": {"lat": 95, "lon": 0}}), "no place"),
        (json!({"fixd": {}}), "fixd"),
    ] {
        let description = place(section, &[]).location.describe();
        assert!(description.commands.is_empty());
        assert!(description.missing[0].1.contains(word), "{:?}", description.missing);
    }
}

#[tokio::test]
async fn parameters_that_mean_nothing_are_refused() {
    let there = place(json!({"fixed": {"lat": 1, "lon": 1}}), &[]);
    for params in [
        json!({"desiredAccuracy": "exact"}),
        json!({"timeoutMs": -1}),
        json!({"maxAgeMs": "old"}),
    ] {
        assert_eq!(
            there.get(params.clone()).await.expect_err("wrong").code,
            "INVALID_REQUEST",
            "{params}"
        );
    }
}
