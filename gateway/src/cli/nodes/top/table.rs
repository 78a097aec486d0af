//! The lines of `atoll nodes top`: 80 columns, whatever the figures are. Pure.

use serde_json::Value;

use crate::cli::output::{ago, cut, text};

/// Each column's head and width; what is left of its column is a figure.
const COLUMNS: [(&str, usize); 8] = [
    ("NODE", 17),
    ("PIPE", 4),
    ("LOAD", 8),
    ("MEMORY", 11),
    ("DISK", 11),
    ("BATT", 5),
    ("CALLS", 5),
    ("SEEN", 5),
];

/// Columns of words, from the left; the rest are figures.
const WORDS: usize = 2;

pub(super) fn head() -> String {
    line(COLUMNS.map(|(head, _)| head.to_owned()))
}

pub(super) fn row(node: &Value, pipe: &str, battery: &Value, now: u64) -> String {
    let is_here = node["connected"] == true;
    let stats = &node["hostStats"];
    let of = |total: &str, free: &str| {
        let (total, free) = (stats[total].as_u64()?, stats[free].as_u64()?);
        Some(used(total.saturating_sub(free), total))
    };
    let dash = |figure: Option<String>| figure.filter(|_| is_here).unwrap_or_else(|| "-".to_owned());
    let seen = match node["lastSeenAtMs"].as_u64() {
        _ if is_here => "now".to_owned(),
        Some(moment) if now.saturating_sub(moment) < 60_000 => "<1m".to_owned(),
        moment => ago(moment, now),
    };
    line([
        name(node),
        if is_here { pipe.to_owned() } else { "away".to_owned() },
        dash(load(stats)),
        dash(of("memoryTotalBytes", "memoryFreeBytes")),
        dash(of("diskTotalBytes", "diskAvailableBytes")),
        dash(charge(battery)),
        dash(Some(node["openCalls"].as_u64().unwrap_or_default().to_string())),
        seen,
    ])
}

fn name(node: &Value) -> String {
    match text(node, "displayName") {
        "" => text(node, "nodeId").chars().take(10).collect(),
        name => name.to_owned(),
    }
}

/// Of the last minute, and of how many processors.
fn load(stats: &Value) -> Option<String> {
    let load = stats["loadAverage"][0].as_f64()?;
    Some(format!("{load:.1}/{}", stats["cpuCount"].as_u64()?))
}

/// Both in the unit of the whole, e.g. `3.1/15.6G`.
fn used(used: u64, total: u64) -> String {
    const UNITS: [&str; 5] = ["K", "M", "G", "T", "P"];
    let mut unit = 0;
    let mut scale = 1024.0;
    while total as f64 / scale >= 1000.0 && unit + 1 < UNITS.len() {
        unit += 1;
        scale *= 1024.0;
    }
    let (used, total) = (used as f64 / scale, total as f64 / scale);
    let digits = if total < 100.0 { 1 } else { 0 };
    format!("{used:.digits$}/{total:.digits$}{}", UNITS[unit])
}

/// With a plus while it fills.
fn charge(battery: &Value) -> Option<String> {
    let level = battery["level"].as_f64()?;
    let plus = if text(battery, "state") == "charging" { "+" } else { "" };
    Some(format!("{:.0}%{plus}", (level * 100.0).clamp(0.0, 100.0)))
}

fn line(cells: [String; 8]) -> String {
    let cells = cells
        .iter()
        .zip(COLUMNS)
        .enumerate()
        .map(|(index, (cell, (_, width)))| {
            let cell = cut(cell, width);
            if index < WORDS {
                format!("{cell:<width$}")
            } else {
                format!("{cell:>width$}")
            }
        });
    cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const GIB: u64 = 1024 * 1024 * 1024;

    #[test]
    fn a_row_keeps_its_columns_and_fits_the_terminal() {
        let node = json!({
            "displayName": "laptop", "connected": true, "openCalls": 2, "hostStats": {
                "cpuCount": 8, "loadAverage": [0.42, 0.5, 0.6], "memoryTotalBytes": 16 * GIB, "memoryFreeBytes": 12 * GIB,
                "diskTotalBytes": 500 * GIB, "diskAvailableBytes": 380 * GIB,
            },
        });
        let battery = json!({"level": 0.83, "state": "charging"});
        assert_eq!(
            row(&node, "quic", &battery, 0),
            "laptop             quic     0.4/8    4.0/16.0G     120/500G   83%+      2    now"
        );
        let away = json!({"displayName": "an old phone with a long name", "connected": false, "lastSeenAtMs": 0, "hostStats": node["hostStats"]});
        assert_eq!(
            row(&away, "quic", &battery, 180_000),
            "an old phone wit…  away         -            -            -      -      -     3m"
        );
        assert_eq!(
            head(),
            "NODE               PIPE      LOAD       MEMORY         DISK   BATT  CALLS   SEEN"
        );
        let wild = json!({
            "displayName": "x".repeat(99), "connected": true, "openCalls": u64::MAX, "hostStats": {
                "cpuCount": 4096, "loadAverage": [1e300, 0, 0], "memoryTotalBytes": u64::MAX, "memoryFreeBytes": 0,
                "diskTotalBytes": 0, "diskAvailableBytes": u64::MAX,
            },
        });
        for line in [
            row(&node, "quic", &battery, 0),
            row(&away, "", &battery, 0),
            head(),
            row(&wild, "memory", &json!({"level": 7}), 0),
        ] {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }

    #[test]
    fn sizes_are_in_the_unit_of_the_whole() {
        for (part, total, expected) in [
            (0, 0, "0.0/0.0K"),
            (512 * 1024, 1024 * 1024, "0.5/1.0M"),
            (GIB / 2, 2 * GIB, "0.5/2.0G"),
            (999 * GIB, 999 * GIB, "999/999G"),
            (512 * GIB, 1024 * GIB, "0.5/1.0T"),
        ] {
            assert_eq!(used(part, total), expected);
        }
    }
}
