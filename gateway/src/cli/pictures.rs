//! Pictures, clips, recordings and streams of nodes on their way to the operator: saved here, or shown in the terminal.

pub(super) mod inline;
pub(super) mod live;

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::client::Client;
use super::output::text;
use super::{CliError, Reach, web};

/// Where a file shall be.
pub(super) struct Place<'a> {
    /// File or folder; none: the current one.
    pub(super) out: Option<&'a Path>,
    /// As it was typed.
    pub(super) node: &'a str,
    /// What it shows, e.g. the id of a camera.
    pub(super) what: &'a str,
    /// Of the file.
    pub(super) extension: &'static str,
}

impl Place<'_> {
    /// Not there yet, unless it was named.
    fn path(&self, time: &str) -> PathBuf {
        let plain = |text: &str| -> String {
            let word = |c: char| if c.is_alphanumeric() || c == '_' { c } else { '-' };
            text.chars().map(word).collect::<String>().trim_matches('-').to_owned()
        };
        let folder = match self.out {
            Some(out) if !out.is_dir() => return out.to_owned(),
            Some(folder) => folder,
            None => Path::new(""),
        };
        let parts = [plain(self.node), plain(self.what), time.to_owned()];
        let name = parts
            .iter()
            .filter(|part| !part.is_empty())
            .cloned()
            .collect::<Vec<_>>()
            .join("-");
        let numbered = (2..).map(|number| format!("{name}-{number}.{}", self.extension));
        std::iter::once(format!("{name}.{}", self.extension))
            .chain(numbered)
            .map(|name| folder.join(name))
            .find(|path| !path.exists())
            .unwrap_or_default()
    }
}

/// Brings the bytes of a result into a file; gives its path.
pub(super) async fn save(
    reach: &Reach,
    client: &mut Client,
    payload: &Value,
    place: &Place<'_>,
) -> Result<PathBuf, CliError> {
    let time = jiff::Zoned::now().strftime("%Y%m%d-%H%M%S").to_string();
    let path = place.path(&time);
    if let Some(blob) = payload.get("blob") {
        let (id, size) = (text(blob, "id"), blob["size"].as_u64().unwrap_or_default());
        let draft = path.with_extension(format!("{}.part", std::process::id()));
        let fetched = web::download(reach, client, (id, size), &draft, |_| {}).await;
        let kept = fetched.and_then(|()| Ok(std::fs::rename(&draft, &path)?));
        if kept.is_err() {
            let _ = std::fs::remove_file(&draft);
        }
        return kept.map(|()| path);
    }
    // A node of OpenClaw's.
    if payload.get("url").is_some() {
        return Err(CliError::Failed {
            message: format!("the node sent no bytes but an address: {}", text(payload, "url")),
            code: 1,
        });
    }
    let bytes = STANDARD.decode(text(payload, "base64"));
    let bytes = bytes
        .ok()
        .filter(|bytes| !bytes.is_empty())
        .ok_or_else(|| CliError::Failed {
            message: "the node sent nothing to save; `atoll nodes invoke` shows what it sends".to_owned(),
            code: 1,
        })?;
    std::fs::write(&path, bytes)?;
    Ok(path)
}

/// What a result is, by its own word, among what is known.
pub(super) fn extension(payload: &Value, usual: &'static str) -> &'static str {
    match text(payload, "format") {
        "jpg" | "jpeg" => "jpg",
        "png" => "png",
        "mp4" => "mp4",
        "webm" => "webm",
        "m4a" => "m4a",
        "ogg" => "ogg",
        "mp3" => "mp3",
        "wav" => "wav",
        _ => usual,
    }
}

/// A result for programs: without the bytes, with their place.
pub(super) fn described(payload: &Value, path: &Path) -> Value {
    let mut shown = payload.clone();
    if let Some(fields) = shown.as_object_mut() {
        fields.shift_remove("blob");
        fields.shift_remove("base64");
        fields.insert("path".to_owned(), json!(path));
    }
    shown
}

/// How long a clip is, and whether it has the sound that was wanted.
pub(super) fn summary(clip: &Value, wants_sound: bool) -> String {
    let seconds = clip["durationMs"].as_f64().unwrap_or_default() / 1000.0;
    let sound = match (wants_sound, clip["hasAudio"] == true) {
        (_, true) => "with sound".to_owned(),
        (false, false) => "without sound".to_owned(),
        (true, false) => format!("without sound: {}", text(clip, "audioMissing")),
    };
    format!("{seconds:.1} s, {sound}")
}

pub(super) fn set(params: &mut Value, name: &str, value: Option<impl serde::Serialize>) {
    if let Some(value) = value {
        params[name] = json!(value);
    }
}

/// Milliseconds of `3000`, `10s` or `1m`.
pub(super) fn time(text: &str) -> Result<u64, String> {
    let (number, factor) = match text.trim_end_matches("ms") {
        plain if plain.len() < text.len() => (plain, 1),
        _ => match text.strip_suffix('s') {
            Some(seconds) => (seconds, 1_000),
            None => text.strip_suffix('m').map_or((text, 1), |minutes| (minutes, 60_000)),
        },
    };
    let number: u64 = number
        .parse()
        .map_err(|_| format!("\"{text}\" is no time; write e.g. 3000, 10s or 1m"))?;
    Ok(number.saturating_mul(factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_milliseconds_unless_it_says_otherwise() {
        for (text, expected) in [("3000", 3_000), ("500ms", 500), ("10s", 10_000), ("1m", 60_000)] {
            assert_eq!(time(text), Ok(expected), "{text}");
        }
        for wrong in ["", "s", "1h", "-1", "1.5s"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_say_what_it_is_and_never_leave_the_folder_or_replace_anything() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = |node, what| Place {
            out: Some(folder.path()),
            node,
            what,
            extension: "jpg",
        };
        let first = place("phone", "/dev/video0").path("20260102-030405");
        assert_eq!(first, folder.path().join("phone-dev-video0-20260102-030405.jpg"));
        std::fs::write(&first, "").expect("room");
        let second = place("phone", "/dev/video0").path("20260102-030405");
        assert_eq!(second, folder.path().join("phone-dev-video0-20260102-030405-2.jpg"));
        let odd = place("any,cap=camera", "../../x").path("t");
        assert_eq!(odd, folder.path().join("any-cap-camera-x-t.jpg"));
        let named = Place {
            out: Some(Path::new("a/b.jpg")),
            node: "n",
            what: "c",
            extension: "jpg",
        };
        assert_eq!(named.path("t"), Path::new("a/b.jpg"));
    }

    #[test]
    fn a_result_for_programs_has_a_path_and_no_bytes() {
        let shown = described(
            &json!({"format": "jpg", "base64": "AAAA", "blob": {"id": "x"}}),
            Path::new("a.jpg"),
        );
        assert_eq!(shown, json!({"format": "jpg", "path": "a.jpg"}));
    }
}
