//! Where a node is: what its owner wrote, a program of the owner's, programs that hang.

use atoll_tests::mesh::Pipe;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Home, owners};

atoll_tests::over_every_pipe! {
    the_owner_says_where_it_is_and_how_exactly_it_is_told,
}

const COMMANDS: [&str; 1] = ["location.get"];

async fn the_owner_says_where_it_is_and_how_exactly_it_is_told(pipe: Pipe) {
    let fixed = json!({"location": {"fixed": {"lat": 52.520_008, "lon": 13.404_954, "accuracyMeters": 20, "altitudeMeters": 34}}});
    let home = Home::new(pipe, &COMMANDS, fixed, &[]).await;
    let precise = home
        .invoke("location.get", json!({"desiredAccuracy": "precise"}))
        .await
        .expect("a place");
    assert_eq!(
        (&precise["lat"], &precise["lon"]),
        (&json!(52.520_008), &json!(13.404_954))
    );
    assert_eq!(
        (&precise["isPrecise"], &precise["source"]),
        (&json!(true), &json!("unknown"))
    );
    let coarse = home
        .invoke("location.get", json!({"desiredAccuracy": "coarse"}))
        .await
        .expect("a place");
    let left = json!({
        "lat": 52.52, "lon": 13.4, "accuracyMeters": 1000.0, "timestamp": coarse["timestamp"], "isPrecise": false, "source": "unknown",
    });
    assert_eq!(coarse, left);
    let told = home
        .mesh
        .cli_json(&["nodes", "location", "--node", "home", "--accuracy", "coarse", "--json"])
        .await;
    assert_eq!(told["lat"], 52.52);
    let printed = home.cli(&["location", "--node", "home"]).await.expect("a place");
    assert!(
        printed.starts_with("52.52001, 13.40495 (within 20 m, unknown, 20"),
        "{printed}"
    );

    // A program of the owner's takes its place at once, and tells when it found out.
    let script = r#"echo "{\"lat\": 1.5, \"lon\": -2.5, \"accuracyMeters\": 8, \"source\": \"gps\", \"timestamp\": \"2026-01-03T12:34:56Z\"}""#;
    home.node.rules(&owners(
        &COMMANDS,
        json!({"location": {"command": ["sh", "-c", script]}}),
    ));
    let found = home
        .invoke("location.get", json!({"maxAgeMs": 60_000}))
        .await
        .expect("a place");
    let expected = json!({
        "lat": 1.5, "lon": -2.5, "accuracyMeters": 8.0, "timestamp": "2026-01-03T12:34:56.000Z", "isPrecise": true, "source": "gps",
    });
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_program_that_hangs_or_fails_is_one_clear_error() {
    let hangs = json!({"location": {"command": ["sh", "-c", "sleep 1000 & sleep 1000"]}});
    let home = Home::new(Pipe::Quic, &COMMANDS, hangs, &[]).await;
    let began = Instant::now();
    let error = home
        .invoke("location.get", json!({"timeoutMs": 500}))
        .await
        .expect_err("it hangs");
    assert!(
        error.starts_with("LOCATION_TIMEOUT: location.command (sh) did not find out in time"),
        "{error}"
    );
    assert!(began.elapsed() < Duration::from_secs(10));
    home.node.rules(&owners(
        &COMMANDS,
        json!({"location": {"command": ["sh", "-c", "echo no sky >&2; exit 4"]}}),
    ));
    let error = home.invoke("location.get", json!({})).await.expect_err("it fails");
    assert!(
        error.starts_with("LOCATION_UNAVAILABLE: ") && error.contains("it says: no sky"),
        "{error}"
    );
    home.node.rules(&json!({}));
    let error = home.invoke("location.get", json!({})).await.expect_err("denied");
    assert!(
        error.starts_with("LOCATION_DISABLED: location.get is denied"),
        "{error}"
    );
}
