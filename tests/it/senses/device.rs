//! What a node says of itself: each field of its answers, beside what the system says.

use atoll_tests::mesh::Pipe;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use super::Home;

atoll_tests::over_every_pipe! {
    a_node_says_what_it_is_and_how_it_does,
}

/// Prints what Termux:API prints of a battery.
const BATTERY: &str = "#!/bin/sh\necho '{\"percentage\": 87, \"plugged\": \"UNPLUGGED\", \"status\": \"DISCHARGING\", \"temperature\": 25.5}'\n";

/// The shape of an answer: names and the kinds of their values.
fn shape(answer: &Value) -> Value {
    match answer {
        Value::Null => json!("null"),
        Value::Bool(_) => json!("flag"),
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("text"),
        Value::Array(entries) => entries.iter().map(shape).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), shape(value)))
            .collect(),
    }
}

/// Bytes of memory, as the kernel says.
fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").expect("a kernel");
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.expect("memory").trim().trim_end_matches(" kB");
    kib.parse::<u64>().expect("a number") * 1024
}

fn uptime() -> u64 {
    let text = std::fs::read_to_string("/proc/uptime").expect("a kernel");
    text.split('.').next().expect("seconds").parse().expect("a number")
}

/// What of the answer is the same in both, and is the system's.
fn check_figures(answer: &Value, since: u64) {
    assert_eq!(answer["memory"]["totalBytes"], json!(memory()));
    let up = answer["uptimeSeconds"].as_u64().expect("seconds");
    assert!((since..=uptime()).contains(&up), "{up}");
    for of in ["memory", "storage"] {
        let [total, free, used] = ["totalBytes", "freeBytes", "usedBytes"].map(|field| answer[of][field].as_u64());
        assert!(
            total > Some(0) && free.zip(used).map(|(free, used)| free + used) == total,
            "{answer}"
        );
    }
    let level = answer["battery"]["level"].as_f64().expect("a battery");
    assert!((0.0..=1.0).contains(&level), "{answer}");
    if !has_battery(Path::new("/sys/class/power_supply")) {
        let battery = json!({"level": 0.87, "state": "unplugged", "temperatureCelsius": 25.5});
        assert_eq!(answer["battery"], battery);
    }
}

/// Whether the machine of the test has one of its own.
fn has_battery(supplies: &Path) -> bool {
    let entries = std::fs::read_dir(supplies).into_iter().flatten().flatten();
    entries
        .map(|entry| std::fs::read_to_string(entry.path().join("type")).unwrap_or_default())
        .any(|kind| kind.trim() == "Battery")
}

async fn a_node_says_what_it_is_and_how_it_does(pipe: Pipe) {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("termux-battery-status");
    std::fs::write(&program, BATTERY).expect("room");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("ours");
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").expect("a path"));
    let home = Home::new(pipe, &[], json!({}), &[("PATH", &path)]).await;

    let info = home.invoke("device.info", json!({})).await.expect("facts");
    let text = |field: &str| info[field].as_str().unwrap_or_default().to_owned();
    let fields = [
        "deviceName",
        "systemName",
        "arch",
        "modelIdentifier",
        "hostname",
        "locale",
    ]
    .map(text);
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a kernel");
    let arch = std::env::consts::ARCH;
    assert_eq!(fields, ["home", "linux", arch, arch, hostname.trim(), "C.UTF-8"]);
    let texts = ["appBuild", "appVersion", "systemVersion"].map(text);
    assert!(texts.iter().all(|text| !text.is_empty()), "{info}");
    let cpus = std::thread::available_parallelism().expect("processors").get();
    assert_eq!(info["cpuCount"], json!(cpus));
    assert_eq!(info.as_object().map(serde_json::Map::len), Some(10), "{info}");

    let since = uptime();
    let status = home.invoke("device.status", json!({})).await.expect("figures");
    check_figures(&status, since);
    let mut health = home.invoke("device.health", json!({})).await.expect("figures");
    check_figures(&health, since);
    // As many as this machine has.
    let temperature = json!({"name": "text", "celsius": "number"});
    let temperatures = health.as_object_mut().and_then(|fields| fields.remove("temperatures"));
    let temperatures = shape(&temperatures.expect("a list"));
    assert!(
        temperatures
            .as_array()
            .expect("a list")
            .iter()
            .all(|one| *one == temperature)
    );
    for answer in [status, health] {
        let mut shape = shape(&answer);
        let interface = json!({"name": "text", "type": "text", "isUp": "flag"});
        let mut ways = shape["network"]["interfaces"].take();
        assert!(
            ways.as_array_mut().expect("a list").iter().all(|one| *one == interface),
            "{answer}"
        );
        shape["battery"]
            .as_object_mut()
            .expect("a battery")
            .remove("temperatureCelsius");
        let room = json!({"totalBytes": "number", "freeBytes": "number", "usedBytes": "number"});
        let expected = json!({
            "storage": room, "memory": room, "loadAverage": ["number", "number", "number"], "cpuCount": "number",
            "uptimeSeconds": "number", "network": {"online": "flag", "type": "text", "interfaces": null},
            "battery": {"level": "number", "state": "text"},
        });
        assert_eq!(shape, expected, "{answer}");
    }
}
