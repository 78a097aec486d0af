//! The battery: read from the folders of Linux, from what Termux:API prints and from what macOS prints. Knows no process.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

/// What a battery does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Charging,
    Unplugged,
    Full,
    Unknown,
}

/// How full it is, and what it does.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Battery {
    /// 0 to 1.
    level: f64,
    state: State,
    celsius: Option<f64>,
}

impl Battery {
    pub(super) fn json(&self) -> Value {
        let state = match self.state {
            State::Charging => "charging",
            State::Unplugged => "unplugged",
            State::Full => "full",
            State::Unknown => "unknown",
        };
        let mut shown = json!({"level": self.level, "state": state});
        if let Some(celsius) = self.celsius {
            shown["temperatureCelsius"] = json!(celsius);
        }
        shown
    }
}

/// In `/sys/class/power_supply`: the first battery of the device itself, not one of a mouse.
pub(super) fn in_folders(power_supply: &Path) -> Option<Battery> {
    let mut folders: Vec<_> = std::fs::read_dir(power_supply)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    folders.sort();
    folders.iter().find_map(|folder| {
        let file = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
        if file("type")?.trim() != "Battery" || file("scope").is_some_and(|scope| scope.trim() == "Device") {
            return None;
        }
        of_linux(
            &file("capacity")?,
            &file("status").unwrap_or_default(),
            file("temp").as_deref(),
        )
    })
}

/// `capacity` in percent, `status` in the kernel's words, `temp` in tenths of a degree.
fn of_linux(capacity: &str, status: &str, temp: Option<&str>) -> Option<Battery> {
    let percent: f64 = capacity.trim().parse().ok()?;
    let state = match status.trim() {
        "Charging" => State::Charging,
        "Full" => State::Full,
        // Plugged in, and kept from charging further.
        "Not charging" => State::Full,
        "Discharging" => State::Unplugged,
        _ => State::Unknown,
    };
    let celsius = temp
        .and_then(|tenths| tenths.trim().parse::<f64>().ok())
        .map(|tenths| tenths / 10.0);
    Some(Battery {
        level: level(percent),
        state,
        celsius,
    })
}

/// What `termux-battery-status` prints.
pub(super) fn of_termux(output: &[u8]) -> Option<Battery> {
    #[derive(Deserialize)]
    struct Said {
        percentage: f64,
        #[serde(default)]
        status: String,
        temperature: Option<f64>,
    }
    let said: Said = serde_json::from_slice(output).ok()?;
    let state = match said.status.as_str() {
        "CHARGING" => State::Charging,
        "FULL" => State::Full,
        "DISCHARGING" | "NOT_CHARGING" => State::Unplugged,
        _ => State::Unknown,
    };
    Some(Battery {
        level: level(said.percentage),
        state,
        celsius: said.temperature,
    })
}

/// What `pmset -g batt` prints: ` -InternalBattery-0 (id=1)  95%; charging; 0:30 remaining present: true`.
pub(super) fn of_pmset(output: &[u8]) -> Option<Battery> {
    let text = String::from_utf8_lossy(output);
    let line = text.lines().find(|line| line.contains("InternalBattery"))?;
    let (before, after) = line.split_once('%')?;
    let percent: f64 = before.rsplit(char::is_whitespace).next()?.parse().ok()?;
    let state = match after.trim_start_matches(';').split(';').next()?.trim() {
        "charging" | "finishing charge" => State::Charging,
        "charged" => State::Full,
        "discharging" => State::Unplugged,
        _ => State::Unknown,
    };
    Some(Battery {
        level: level(percent),
        state,
        celsius: None,
    })
}

fn level(percent: f64) -> f64 {
    percent.clamp(0.0, 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_battery_of_the_device_is_found_among_those_of_its_mouse_and_its_plug() {
        let folder = tempfile::tempdir().expect("a folder");
        let supply = |name: &str, files: &[(&str, &str)]| {
            let place = folder.path().join(name);
            std::fs::create_dir(&place).expect("room");
            for (file, text) in files {
                std::fs::write(place.join(file), format!("{text}\n")).expect("room");
            }
        };
        assert_eq!(in_folders(folder.path()), None);
        assert_eq!(in_folders(Path::new("/nowhere")), None);
        supply("AC", &[("type", "Mains"), ("online", "1")]);
        let mouse = [
            ("type", "Battery"),
            ("scope", "Device"),
            ("capacity", "5"),
            ("status", "Discharging"),
        ];
        supply("BAT-mouse", &mouse);
        assert_eq!(in_folders(folder.path()), None);
        supply(
            "BAT0",
            &[
                ("type", "Battery"),
                ("capacity", "83"),
                ("status", "Charging"),
                ("temp", "315"),
            ],
        );
        let found = in_folders(folder.path()).expect("a battery").json();
        assert_eq!(
            found,
            json!({"level": 0.83, "state": "charging", "temperatureCelsius": 31.5})
        );
    }

    #[test]
    fn each_system_has_its_words() {
        for (battery, level, state) in [
            (of_linux("100", "Full", None), 1.0, "full"),
            (of_linux("80", "Not charging", None), 0.8, "full"),
            (of_linux("7\n", "Discharging\n", None), 0.07, "unplugged"),
            (of_linux("130", "?", Some("x")), 1.0, "unknown"),
            (
                of_termux(br#"{"health": "GOOD", "percentage": 42, "plugged": "UNPLUGGED", "status": "DISCHARGING"}"#),
                0.42,
                "unplugged",
            ),
            (of_termux(br#"{"percentage": 99, "status": "FULL"}"#), 0.99, "full"),
            (
                of_pmset(b"Now drawing from 'AC Power'\n -InternalBattery-0 (id=4653155)\t95%; charging; 0:30 remaining present: true\n"),
                0.95,
                "charging",
            ),
            (
                of_pmset(b"Now drawing from 'Battery Power'\n -InternalBattery-0 (id=1)\t8%; discharging; (no estimate)\n"),
                0.08,
                "unplugged",
            ),
        ] {
            assert_eq!(battery.expect("a battery").json(), json!({"level": level, "state": state}));
        }
        assert_eq!(of_linux("much", "Full", None), None);
        assert_eq!(of_termux(br#"{"API_ERROR": "x"}"#), None);
        assert_eq!(of_pmset(b"Now drawing from 'AC Power'\n"), None);
    }
}
