//! `atoll nodes camera …`: pictures, clips and the live view of a node's cameras, saved here or shown in the terminal.

mod inline;
mod watch;

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::client::Client;
use super::nodes::find;
use super::output::{self, list, text};
use super::{CliError, Reach, web};
use inline::Screen;
use watch::Watch;

#[derive(Debug, Subcommand)]
pub(super) enum Camera {
    /// The cameras of a node
    List(List),
    /// Take a picture and save it here
    Snap(Snap),
    /// Film for a while and save the clip here
    Clip(Clip),
    /// Watch live: in this terminal, in ffplay, or as MJPEG on standard output
    Watch(Watch),
}

#[derive(Debug, Args)]
#[command(after_help = "Example: atoll nodes camera list --node phone")]
pub(super) struct List {
    /// The node: name, beginning of its id, address, or e.g. any,cap=camera
    #[arg(long)]
    node: String,
    /// How long the node may take, milliseconds
    #[arg(long, default_value_t = 20_000, value_name = "MS")]
    invoke_timeout: u64,
}

/// Which camera of which node.
#[derive(Debug, Clone, Args)]
pub(super) struct Which {
    /// The node: name, beginning of its id, address, or e.g. any,cap=camera
    #[arg(long)]
    node: String,
    /// The camera that looks there
    #[arg(long)]
    facing: Option<Facing>,
    /// The camera by its id, see `atoll nodes camera list`
    #[arg(long, value_name = "ID")]
    device_id: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Facing {
    Front,
    Back,
    /// Both, one after the other
    Both,
}

#[derive(Debug, Args)]
#[command(after_help = "Example: atoll nodes camera snap --node phone --facing back --out door.jpg")]
pub(super) struct Snap {
    #[command(flatten)]
    which: Which,
    /// No wider than this, pixels [default: 1600]
    #[arg(long, value_name = "PX")]
    max_width: Option<u32>,
    /// 0 to 1
    #[arg(long)]
    quality: Option<f64>,
    /// Wait so long once the camera is on
    #[arg(long, value_name = "MS")]
    delay_ms: Option<u64>,
    /// File or folder here [default: named after node, camera and time]
    #[arg(long, short)]
    out: Option<PathBuf>,
    /// How long the node may take, milliseconds
    #[arg(long, default_value_t = 20_000, value_name = "MS")]
    invoke_timeout: u64,
}

#[derive(Debug, Args)]
#[command(after_help = "Example: atoll nodes camera clip --node phone --duration 10s --no-audio")]
pub(super) struct Clip {
    #[command(flatten)]
    which: Which,
    /// How long, e.g. 3000, 10s or 1m; a minute at most
    #[arg(long, default_value = "3000", value_name = "TIME", value_parser = time)]
    duration: u64,
    /// Without sound
    #[arg(long)]
    no_audio: bool,
    /// mp4 or webm
    #[arg(long, default_value = "mp4")]
    format: String,
    /// No wider than this, pixels [default: 1280]
    #[arg(long, value_name = "PX")]
    max_width: Option<u32>,
    /// File or folder here [default: named after node, camera and time]
    #[arg(long, short)]
    out: Option<PathBuf>,
    /// How long the node may take, milliseconds
    #[arg(long, default_value_t = 150_000, value_name = "MS")]
    invoke_timeout: u64,
}

impl Camera {
    pub(super) async fn run(self, reach: &Reach, client: &mut Client) -> Result<(), CliError> {
        match self {
            Self::List(list) => list.run(reach, client).await,
            Self::Snap(snap) => snap.run(reach, client).await,
            Self::Clip(clip) => clip.run(reach, client).await,
            Self::Watch(watch) => watch.run(reach, client).await,
        }
    }
}

impl List {
    async fn run(self, reach: &Reach, client: &mut Client) -> Result<(), CliError> {
        let node = find(client, &self.node).await?;
        let reply = client
            .invoke(&node, "camera.list", json!({}), self.invoke_timeout)
            .await?;
        if reach.json {
            return output::json(&reply);
        }
        let rows: Vec<_> = list(&reply, "devices")
            .iter()
            .map(|row| {
                ["id", "name", "position", "deviceType"]
                    .map(|field| text(row, field).to_owned())
                    .into()
            })
            .collect();
        if rows.is_empty() {
            return output::line("no camera; `atoll-node doctor` on the node says why");
        }
        output::table(&["ID", "NAME", "FACING", "TYPE"], &rows)
    }
}

impl Which {
    /// The parameters that say which camera.
    fn params(&self, facing: Option<&str>) -> Value {
        let mut params = json!({});
        set(&mut params, "facing", facing);
        set(&mut params, "deviceId", self.device_id.as_deref());
        params
    }

    /// The sides to be seen, one call each.
    fn sides(&self) -> Vec<Option<&'static str>> {
        match self.facing {
            None => vec![None],
            Some(Facing::Front) => vec![Some("front")],
            Some(Facing::Back) => vec![Some("back")],
            Some(Facing::Both) => vec![Some("front"), Some("back")],
        }
    }

    /// The one side of what moves.
    fn side(&self) -> Result<Option<&'static str>, CliError> {
        match self.sides()[..] {
            [side] => Ok(side),
            _ => Err(CliError::Usage(
                "--facing both is for pictures; take front or back".to_owned(),
            )),
        }
    }
}

impl Snap {
    async fn run(self, reach: &Reach, client: &mut Client) -> Result<(), CliError> {
        let node = find(client, &self.which.node).await?;
        let sides = self.which.sides();
        if sides.len() > 1 && self.out.as_deref().is_some_and(|out| !out.is_dir()) {
            return Err(CliError::Usage("--facing both needs a folder for --out".to_owned()));
        }
        let mut saved = Vec::new();
        for side in sides {
            let mut params = self.which.params(side);
            params["format"] = json!("jpg");
            set(&mut params, "maxWidth", self.max_width);
            set(&mut params, "quality", self.quality);
            set(&mut params, "delayMs", self.delay_ms);
            let payload = client.invoke(&node, "camera.snap", params, self.invoke_timeout).await?;
            let place = Place {
                out: self.out.as_deref(),
                node: &self.which.node,
                extension: extension(&payload, "jpg"),
            };
            let path = save(reach, client, &payload, &place).await?;
            if reach.json {
                saved.push(described(&payload, &path));
            } else {
                output::line(format!(
                    "{} ({}x{})",
                    path.display(),
                    payload["width"],
                    payload["height"]
                ))?;
                Screen::of_terminal().show(&path)?;
            }
        }
        if !reach.json {
            return Ok(());
        }
        match <[Value; 1]>::try_from(saved) {
            Ok([one]) => output::json(&one),
            Err(all) => output::json(&json!(all)),
        }
    }
}

impl Clip {
    async fn run(self, reach: &Reach, client: &mut Client) -> Result<(), CliError> {
        let node = find(client, &self.which.node).await?;
        let mut params = self.which.params(self.which.side()?);
        params["durationMs"] = json!(self.duration);
        params["includeAudio"] = json!(!self.no_audio);
        params["format"] = json!(self.format);
        set(&mut params, "maxWidth", self.max_width);
        let payload = client.invoke(&node, "camera.clip", params, self.invoke_timeout).await?;
        let place = Place {
            out: self.out.as_deref(),
            node: &self.which.node,
            extension: extension(&payload, "mp4"),
        };
        let path = save(reach, client, &payload, &place).await?;
        if reach.json {
            return output::json(&described(&payload, &path));
        }
        let seconds = payload["durationMs"].as_f64().unwrap_or_default() / 1000.0;
        let sound = match (self.no_audio, payload["hasAudio"] == true) {
            (_, true) => "with sound".to_owned(),
            (true, false) => "without sound".to_owned(),
            (false, false) => format!("without sound: {}", text(&payload, "audioMissing")),
        };
        output::line(format!("{} ({seconds:.1} s, {sound})", path.display()))
    }
}

/// Where a file shall be.
struct Place<'a> {
    out: Option<&'a Path>,
    node: &'a str,
    extension: &'static str,
}

impl Place<'_> {
    /// Not there yet, unless it was named.
    fn path(&self, camera: &str, time: &str) -> PathBuf {
        let plain = |text: &str| -> String {
            let word = |c: char| if c.is_alphanumeric() || c == '_' { c } else { '-' };
            text.chars().map(word).collect::<String>().trim_matches('-').to_owned()
        };
        let folder = match self.out {
            Some(out) if !out.is_dir() => return out.to_owned(),
            Some(folder) => folder,
            None => Path::new(""),
        };
        let parts = [plain(self.node), plain(camera), time.to_owned()];
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
async fn save(reach: &Reach, client: &mut Client, payload: &Value, place: &Place<'_>) -> Result<PathBuf, CliError> {
    let time = jiff::Zoned::now().strftime("%Y%m%d-%H%M%S").to_string();
    let path = place.path(text(payload, "deviceId"), &time);
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
            message: format!("the node sent no picture but an address: {}", text(payload, "url")),
            code: 1,
        });
    }
    let bytes = STANDARD.decode(text(payload, "base64"));
    let bytes = bytes
        .ok()
        .filter(|bytes| !bytes.is_empty())
        .ok_or_else(|| CliError::Failed {
            message: "the node sent no picture; `atoll nodes invoke` shows what it sends".to_owned(),
            code: 1,
        })?;
    std::fs::write(&path, bytes)?;
    Ok(path)
}

/// What a result is, by its own word, among what is known.
fn extension(payload: &Value, usual: &'static str) -> &'static str {
    let known = ["jpg", "png", "mp4", "webm"];
    let format = text(payload, "format");
    known.into_iter().find(|known| *known == format).unwrap_or(usual)
}

/// A result for programs: without the bytes, with their place.
fn described(payload: &Value, path: &Path) -> Value {
    let mut shown = payload.clone();
    if let Some(fields) = shown.as_object_mut() {
        fields.shift_remove("blob");
        fields.shift_remove("base64");
        fields.insert("path".to_owned(), json!(path));
    }
    shown
}

fn set(params: &mut Value, name: &str, value: Option<impl serde::Serialize>) {
    if let Some(value) = value {
        params[name] = json!(value);
    }
}

/// Milliseconds of `3000`, `10s` or `1m`.
fn time(text: &str) -> Result<u64, String> {
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
        let place = |node| Place {
            out: Some(folder.path()),
            node,
            extension: "jpg",
        };
        let first = place("phone").path("/dev/video0", "20260102-030405");
        assert_eq!(first, folder.path().join("phone-dev-video0-20260102-030405.jpg"));
        std::fs::write(&first, "").expect("room");
        let second = place("phone").path("/dev/video0", "20260102-030405");
        assert_eq!(second, folder.path().join("phone-dev-video0-20260102-030405-2.jpg"));
        let odd = place("any,cap=camera").path("../../x", "t");
        assert_eq!(odd, folder.path().join("any-cap-camera-x-t.jpg"));
        let named = Place {
            out: Some(Path::new("a/b.jpg")),
            node: "n",
            extension: "jpg",
        };
        assert_eq!(named.path("c", "t"), Path::new("a/b.jpg"));
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
