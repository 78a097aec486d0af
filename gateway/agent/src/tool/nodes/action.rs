//! The actions of the tool `nodes` that are a command of a node in plain parameters: OpenClaw's names, and `screen_snapshot` of their kind.
//! Pure.

use std::time::Duration;

use atoll_protocol::json::Json;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::port::NodeCommand;

/// Actions that need a node, beside `describe` and `invoke`.
pub(super) const ACTIONS: [&str; 7] = [
    "camera_list",
    "camera_snap",
    "camera_clip",
    "screen_snapshot",
    "screen_record",
    "location_get",
    "notify",
];

/// The time of a picture or a place.
const SHORT: Duration = Duration::from_secs(30);
/// What a device needs beside the time that it films.
const AROUND: Duration = Duration::from_secs(60);
/// The longest clip that is asked for.
const LONGEST: u64 = 5 * 60 * 1000;
/// A clip whose length nobody says.
const USUAL: u64 = 5_000;

/// Parameters of the actions; each takes those that mean something to it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Plain {
    facing: Option<String>,
    device_id: Option<String>,
    max_width: Option<u32>,
    quality: Option<f64>,
    delay_ms: Option<u64>,
    duration: Option<Value>,
    duration_ms: Option<u64>,
    include_audio: Option<bool>,
    screen_index: Option<u32>,
    fps: Option<u32>,
    desired_accuracy: Option<String>,
    max_age_ms: Option<u64>,
    title: Option<String>,
    body: Option<String>,
    priority: Option<String>,
}

/// The properties of [`Plain`], as a model is told of them.
pub(super) fn properties() -> Value {
    json!({
        "facing": {"type": "string", "enum": ["front", "back"], "description": "camera_snap, camera_clip: the camera that looks there."},
        "deviceId": {"type": "string", "description": "camera_snap, camera_clip: a camera by its id, see camera_list."},
        "maxWidth": {"type": "integer", "description": "Of a picture, pixels."},
        "delayMs": {"type": "integer", "description": "camera_snap: wait so long once the camera is on."},
        "duration": {"type": "string", "description": "camera_clip, screen_record: how long, e.g. 10s; 5s if left out."},
        "includeAudio": {"type": "boolean", "description": "camera_clip, screen_record: with sound."},
        "screenIndex": {"type": "integer", "description": "screen_snapshot, screen_record: which screen, from 0."},
        "fps": {"type": "integer", "description": "screen_record: pictures a second."},
        "desiredAccuracy": {"type": "string", "enum": ["coarse", "balanced", "precise"], "description": "For location_get."},
        "title": {"type": "string", "description": "For notify."},
        "body": {"type": "string", "description": "For notify."},
        "priority": {"type": "string", "enum": ["passive", "active", "timeSensitive"], "description": "For notify."},
    })
}

/// The command of an action; none when there is no such action.
pub(super) fn command(action: &str, plain: &Plain) -> Option<Result<NodeCommand, String>> {
    Some(match action {
        "camera_list" => Ok(of("camera.list", Map::new(), SHORT)),
        "camera_snap" => Ok(snap(plain)),
        "camera_clip" => clip(plain),
        "screen_snapshot" => Ok(snapshot(plain)),
        "screen_record" => record(plain),
        "location_get" => Ok(location(plain)),
        "notify" => notify(plain),
        _ => return None,
    })
}

fn of(name: &str, params: Map<String, Value>, timeout: Duration) -> NodeCommand {
    NodeCommand {
        name: name.to_owned(),
        params: Some(Json::from(Value::Object(params))),
        timeout: Some(timeout),
    }
}

fn put(params: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        params.insert(name.to_owned(), value.into());
    }
}

/// Some models send an empty text for what they leave out.
fn said(text: Option<&String>) -> Option<String> {
    text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn which_camera(plain: &Plain) -> Map<String, Value> {
    let mut params = Map::new();
    put(&mut params, "facing", said(plain.facing.as_ref()));
    put(&mut params, "deviceId", said(plain.device_id.as_ref()));
    params
}

fn snap(plain: &Plain) -> NodeCommand {
    let mut params = which_camera(plain);
    put(&mut params, "maxWidth", plain.max_width.or(Some(1600)));
    put(&mut params, "quality", plain.quality);
    put(&mut params, "delayMs", plain.delay_ms);
    put(&mut params, "format", Some("jpg"));
    of(
        "camera.snap",
        params,
        SHORT + Duration::from_millis(plain.delay_ms.unwrap_or_default().min(30_000)),
    )
}

fn clip(plain: &Plain) -> Result<NodeCommand, String> {
    let duration = duration(plain)?;
    let mut params = which_camera(plain);
    put(&mut params, "durationMs", Some(duration));
    put(&mut params, "includeAudio", plain.include_audio.or(Some(false)));
    put(&mut params, "format", Some("mp4"));
    Ok(of("camera.clip", params, AROUND + Duration::from_millis(duration)))
}

fn snapshot(plain: &Plain) -> NodeCommand {
    let mut params = Map::new();
    put(&mut params, "screenIndex", plain.screen_index);
    put(&mut params, "maxWidth", plain.max_width);
    put(&mut params, "format", Some("jpeg"));
    of("screen.snapshot", params, SHORT)
}

fn record(plain: &Plain) -> Result<NodeCommand, String> {
    let duration = duration(plain)?;
    let mut params = Map::new();
    put(&mut params, "durationMs", Some(duration));
    put(&mut params, "screenIndex", plain.screen_index.or(Some(0)));
    put(&mut params, "fps", plain.fps.or(Some(10)));
    put(&mut params, "includeAudio", plain.include_audio.or(Some(false)));
    put(&mut params, "format", Some("mp4"));
    Ok(of("screen.record", params, AROUND + Duration::from_millis(duration)))
}

fn location(plain: &Plain) -> NodeCommand {
    let mut params = Map::new();
    put(&mut params, "desiredAccuracy", said(plain.desired_accuracy.as_ref()));
    put(&mut params, "maxAgeMs", plain.max_age_ms);
    of("location.get", params, SHORT)
}

fn notify(plain: &Plain) -> Result<NodeCommand, String> {
    let (title, body) = (said(plain.title.as_ref()), said(plain.body.as_ref()));
    if title.is_none() && body.is_none() {
        return Err("notify needs a title or a body.".to_owned());
    }
    let mut params = Map::new();
    put(&mut params, "title", Some(title.unwrap_or_default()));
    put(&mut params, "body", Some(body.unwrap_or_default()));
    put(&mut params, "priority", said(plain.priority.as_ref()));
    Ok(of("system.notify", params, SHORT))
}

/// Milliseconds.
fn duration(plain: &Plain) -> Result<u64, String> {
    let given = match (&plain.duration, plain.duration_ms) {
        (Some(Value::String(text)), _) if !text.trim().is_empty() => Some(in_ms(text.trim())?),
        (Some(Value::Number(ms)), _) => Some(ms.as_u64().ok_or("duration must be like 10s or 1m.")?),
        (_, ms) => ms,
    };
    match given {
        None => Ok(USUAL),
        Some(0) => Err("duration must be more than nothing.".to_owned()),
        Some(ms) if ms > LONGEST => Err(format!("duration is {ms} ms; at most {LONGEST}.")),
        Some(ms) => Ok(ms),
    }
}

fn in_ms(text: &str) -> Result<u64, String> {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000)];
    let read = units
        .iter()
        .find_map(|(unit, ms)| text.strip_suffix(unit)?.trim().parse::<u64>().ok()?.checked_mul(*ms));
    read.or_else(|| text.parse().ok())
        .ok_or_else(|| format!("duration {text:?} is not like 10s, 1m or 5000."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(action: &str, plain: Value) -> Result<(String, Value, u64), String> {
        let plain: Plain = serde_json::from_value(plain).expect("parameters");
        let made = command(action, &plain).expect("an action")?;
        let params = made.params.expect("parameters").tree();
        Ok((made.name, params, made.timeout.expect("a time").as_secs()))
    }

    #[test]
    fn every_action_is_a_command_in_the_words_of_openclaw() {
        let check = |action: &str, plain: Value, name: &str, params: Value, seconds: u64| {
            assert_eq!(made(action, plain), Ok((name.to_owned(), params, seconds)), "{action}");
        };
        check("camera_list", json!({"facing": "back"}), "camera.list", json!({}), 30);
        check(
            "camera_snap",
            json!({"facing": "back", "deviceId": " ", "delayMs": 2000}),
            "camera.snap",
            json!({"facing": "back", "maxWidth": 1600, "delayMs": 2000, "format": "jpg"}),
            32,
        );
        check(
            "camera_clip",
            json!({"deviceId": "test", "duration": "10s", "includeAudio": true}),
            "camera.clip",
            json!({"deviceId": "test", "durationMs": 10_000, "includeAudio": true, "format": "mp4"}),
            70,
        );
        check(
            "screen_snapshot",
            json!({}),
            "screen.snapshot",
            json!({"format": "jpeg"}),
            30,
        );
        check(
            "screen_record",
            json!({"durationMs": 1500}),
            "screen.record",
            json!({"durationMs": 1500, "screenIndex": 0, "fps": 10, "includeAudio": false, "format": "mp4"}),
            61,
        );
        check(
            "location_get",
            json!({"desiredAccuracy": "precise"}),
            "location.get",
            json!({"desiredAccuracy": "precise"}),
            30,
        );
        check(
            "notify",
            json!({"body": "Tea"}),
            "system.notify",
            json!({"title": "", "body": "Tea"}),
            30,
        );
        assert!(command("camera_eat", &Plain::default()).is_none());
        assert!(
            ACTIONS
                .iter()
                .all(|action| command(action, &Plain::default()).is_some())
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused_before_any_device_is_asked() {
        for (action, plain) in [
            ("notify", json!({"title": " "})),
            ("camera_clip", json!({"duration": "soon"})),
            ("camera_clip", json!({"duration": "0s"})),
            ("screen_record", json!({"duration": "6m"})),
            ("screen_record", json!({"duration": "18446744073709551615m"})),
        ] {
            assert!(made(action, plain.clone()).is_err(), "{action} {plain}");
        }
        let length = |duration: Value| {
            made("camera_clip", json!({"duration": duration})).map(|made| made.1["durationMs"].clone())
        };
        assert_eq!(length(json!("1m")), Ok(json!(60_000)));
        assert_eq!(length(json!("250ms")), Ok(json!(250)));
        assert_eq!(length(json!(3000)), Ok(json!(3000)));
        assert_eq!(length(Value::Null), Ok(json!(USUAL)));
    }
}
