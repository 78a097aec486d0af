//! `atoll nodes camera …`: pictures, clips and the live view of a node's cameras, saved here or shown in the terminal.

mod watch;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::client::Client;
use super::nodes::find;
use super::output::{self, list, text};
use super::pictures::inline::Screen;
use super::pictures::{Place, described, extension, save, set, summary, time};
use super::{CliError, Reach};
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
                what: text(&payload, "deviceId"),
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
            what: text(&payload, "deviceId"),
            extension: extension(&payload, "mp4"),
        };
        let path = save(reach, client, &payload, &place).await?;
        if reach.json {
            return output::json(&described(&payload, &path));
        }
        output::line(format!("{} ({})", path.display(), summary(&payload, !self.no_audio)))
    }
}
