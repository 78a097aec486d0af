//! The cameras of this device as callers see them, and which of them a call means. Asks nobody.

use atoll_protocol::error::CallError;
use serde_json::{Value, json};

use super::params::Which;
use super::pattern;
use super::settings::{Position, Program, Settings};
use super::system::Found;
use crate::capture::params::invalid;
use crate::capture::program;
use crate::capture::wire::Source;

/// One camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) position: Position,
    pub(super) source: Source,
}

impl Device {
    fn program(program: &Program) -> Self {
        let name = if program.name.is_empty() {
            &program.id
        } else {
            &program.name
        };
        Self {
            id: program.id.clone(),
            name: name.clone(),
            position: program.position,
            source: Source::Program(program::Program {
                what: format!("camera \"{}\"", program.id),
                snap: program.snap.clone(),
                stream: program.stream.clone(),
            }),
        }
    }

    fn pattern() -> Self {
        Self {
            id: pattern::ID.to_owned(),
            name: "Test pattern".to_owned(),
            position: Position::Unknown,
            source: Source::Pattern,
        }
    }

    fn is_pattern(&self) -> bool {
        self.source == Source::Pattern
    }

    /// A row of `camera.list`.
    pub(super) fn json(&self) -> Value {
        let kind = match self.source {
            Source::Pattern => "testPattern",
            Source::Program(_) => "program",
            Source::Camera(_) | Source::Screen(_) => "camera",
        };
        json!({"id": self.id, "name": self.name, "position": self.position.as_str(), "deviceType": kind})
    }

    /// A name for what it gives.
    pub(super) fn file_name(&self, extension: &str) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let id: String = self.id.chars().map(plain).collect();
        format!("camera-{}.{extension}", id.trim_matches('-'))
    }
}

/// All of them: those of the system first, the test pattern last.
pub(super) fn all(settings: &Settings, found: Vec<Found>) -> Vec<Device> {
    let system = found.into_iter().map(|camera| Device {
        position: settings.positions.get(&camera.id).copied().unwrap_or_default(),
        source: Source::Camera(camera.id.clone()),
        id: camera.id,
        name: camera.name,
    });
    let programs = settings.commands.iter().map(Device::program);
    let pattern = settings.test_pattern.then(Device::pattern);
    system.chain(programs).chain(pattern).collect()
}

/// The one of the owner's file that has this id.
pub(super) fn own(settings: &Settings, id: &str) -> Option<Device> {
    all(settings, Vec::new()).into_iter().find(|device| device.id == id)
}

/// The camera that is meant. The test pattern is only ever meant by its id. `missing` says why the system has none.
pub(super) fn choose(
    devices: Vec<Device>,
    which: &Which,
    default: Option<&str>,
    missing: impl Fn() -> Option<String>,
) -> Result<Device, CallError> {
    let ids: Vec<String> = devices.iter().map(|device| format!("\"{}\"", device.id)).collect();
    let known = if ids.is_empty() {
        "none".to_owned()
    } else {
        ids.join(", ")
    };
    let by_id = |id: &str| devices.iter().find(|device| device.id == id).cloned();
    if let Some(id) = &which.id {
        return by_id(id).ok_or_else(|| invalid(format!("there is no camera \"{id}\" here; there are: {known}")));
    }
    let none = |why: String| CallError::new("CAMERA_UNAVAILABLE", why);
    if let Some(facing) = which.facing {
        let mut real = devices.iter().filter(|device| !device.is_pattern());
        let fits = real.clone().find(|device| device.position == facing);
        // A computer's camera looks at whoever uses it, though nobody has said so.
        let likely = || real.find(|device| facing == Position::Front && device.position == Position::Unknown);
        return fits.or_else(likely).cloned().ok_or_else(|| {
            none(format!(
                "no camera here is known to look to the {}; name one of {known} with deviceId, or say where it looks in node.json",
                facing.as_str()
            ))
        });
    }
    if let Some(id) = default {
        let gone = || {
            none(format!(
                "camera.default of node.json is \"{id}\", which is not here; there are: {known}"
            ))
        };
        return by_id(id).ok_or_else(gone);
    }
    let first = devices.iter().find(|device| !device.is_pattern()).cloned();
    first.ok_or_else(|| {
        let why = missing().unwrap_or_else(|| "the system shows no camera".to_owned());
        let pattern = if devices.is_empty() {
            ""
        } else {
            ". The test pattern comes only to those who ask for deviceId \"test\""
        };
        none(format!("no camera: {why}{pattern}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(id: &str) -> Found {
        Found {
            id: id.to_owned(),
            name: format!("Camera {id}"),
        }
    }

    fn settings(text: &str) -> Settings {
        serde_json::from_str(text).expect("fine")
    }

    fn chosen(
        settings: &Settings,
        found: Vec<Found>,
        id: Option<&str>,
        facing: Option<Position>,
    ) -> Result<String, String> {
        let which = Which {
            id: id.map(str::to_owned),
            facing,
        };
        let missing = || Some("nothing is connected".to_owned());
        choose(all(settings, found), &which, settings.default.as_deref(), missing)
            .map(|device| device.id)
            .map_err(|error| error.message)
    }

    #[test]
    fn the_test_pattern_is_never_chosen_for_anybody() {
        let only = settings(r#"{"testPattern": true}"#);
        let error = chosen(&only, vec![], None, None).expect_err("nothing real");
        assert!(
            error.contains("nothing is connected") && error.contains("deviceId \"test\""),
            "{error}"
        );
        chosen(&only, vec![], None, Some(Position::Front)).expect_err("nothing real");
        assert_eq!(chosen(&only, vec![], Some("test"), None), Ok("test".to_owned()));
        assert!(
            chosen(&Settings::default(), vec![], Some("test"), None).is_err(),
            "not turned on"
        );
        let default = settings(r#"{"testPattern": true, "default": "test"}"#);
        assert_eq!(
            chosen(&default, vec![], None, None),
            Ok("test".to_owned()),
            "its owner says so"
        );
    }

    #[test]
    fn a_camera_is_meant_by_id_by_where_it_looks_or_by_being_first() {
        let phone = settings(
            r#"{"commands": [{"id": "b", "position": "back", "snap": ["x"]}, {"id": "f", "position": "front", "snap": ["x"]}],
                "positions": {"1": "back"}}"#,
        );
        let front = Some(Position::Front);
        let back = Some(Position::Back);
        for (found, id, facing, expected) in [
            (vec![], None, None, "b"),
            (vec![], None, front, "f"),
            (vec![], Some("f"), back, "f"),
            (vec![found("0")], None, None, "0"),
            (vec![found("1")], None, back, "1"),
            (vec![found("0")], None, back, "b"),
        ] {
            assert_eq!(
                chosen(&phone, found, id, facing),
                Ok(expected.to_owned()),
                "{id:?} {facing:?}"
            );
        }
        let laptop = Settings::default();
        assert_eq!(chosen(&laptop, vec![found("0")], None, front), Ok("0".to_owned()));
        let error = chosen(&laptop, vec![found("0")], None, back).expect_err("none at the back");
        assert!(error.contains("back") && error.contains("\"0\""), "{error}");
        let error = chosen(&laptop, vec![found("0")], Some("9"), None).expect_err("no such");
        assert!(error.contains("\"9\"") && error.contains("\"0\""), "{error}");
    }

    #[test]
    fn file_names_are_plain() {
        let device = &all(&Settings::default(), vec![found("/dev/video0")])[0];
        assert_eq!(device.file_name("jpg"), "camera-dev-video0.jpg");
        let row =
            json!({"id": "/dev/video0", "name": "Camera /dev/video0", "position": "unknown", "deviceType": "camera"});
        assert_eq!(device.json(), row);
    }
}
