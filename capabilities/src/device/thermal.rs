//! Temperatures: read from the folders of Linux.

use std::path::Path;

use serde::Serialize;

/// What one sensor says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Temperature {
    name: String,
    celsius: f64,
}

/// The zones in `/sys/class/thermal`, by name; those that say nothing believable are left out.
pub(super) fn in_folders(thermal: &Path) -> Vec<Temperature> {
    let entries = std::fs::read_dir(thermal).into_iter().flatten().flatten();
    let zones = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("thermal_zone"));
    let mut found: Vec<Temperature> = zones
        .filter_map(|zone| {
            let file = |name: &str| std::fs::read_to_string(zone.path().join(name)).ok();
            of_zone(&file("type")?, &file("temp")?)
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// `temp` is in thousandths of a degree.
fn of_zone(name: &str, temp: &str) -> Option<Temperature> {
    let celsius = temp.trim().parse::<f64>().ok()? / 1000.0;
    let name = name.trim().to_owned();
    (-50.0..=150.0)
        .contains(&celsius)
        .then_some(Temperature { name, celsius })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_read_and_those_that_say_nothing_believable_are_left_out() {
        let folder = tempfile::tempdir().expect("a folder");
        for (zone, name, temp) in [
            ("thermal_zone0", "x86_pkg_temp", "47500"),
            ("thermal_zone1", "acpitz", "-274000"),
            ("thermal_zone2", "broken", "hot"),
            ("cooling_device0", "Processor", "0"),
        ] {
            let place = folder.path().join(zone);
            std::fs::create_dir(&place).expect("room");
            std::fs::write(place.join("type"), format!("{name}\n")).expect("room");
            std::fs::write(place.join("temp"), format!("{temp}\n")).expect("room");
        }
        let expected = Temperature {
            name: "x86_pkg_temp".to_owned(),
            celsius: 47.5,
        };
        assert_eq!(in_folders(folder.path()), [expected]);
        assert!(in_folders(Path::new("/nowhere")).is_empty());
    }
}
