//! `atoll nodes screen …`: what a node's screens show, saved here or shown in the terminal.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::Client;
use super::nodes::find;
use super::output::{self, list, text};
use super::pictures::inline;
use super::pictures::live::Sink;
use super::pictures::{Place, described, extension, save, set, summary, time};
use super::{CliError, Reach};

#[derive(Debug, Subcommand)]
pub(super) enum Screen {
    /// The screens of a node
    List(List),
    /// Take a picture of a screen and save it here
    Snap(Snap),
    /// Record a screen for a while and save the clip here
    Record(Record),
    /// Watch a screen live: in this terminal, in ffplay, or as MJPEG on standard output
    Watch(Watch),
}

#[derive(Debug, Args)]
#[command(after_help = "Example: atoll nodes screen list --node laptop")]
pub(super) struct List {
    /// The node: name, beginning of its id, address, or e.g. any,cap=screen
    #[arg(long)]
    node: String,
    /// How long the node may take, milliseconds
    #[arg(long, default_value_t = 20_000, value_name = "MS")]
    invoke_timeout: u64,
}

/// Which screen of which node, and how large.
#[derive(Debug, Clone, Args)]
struct Which {
    /// The node: name, beginning of its id, address, or e.g. any,cap=screen
    #[arg(long)]
    node: String,
    /// The screen by its number, see `atoll nodes screen list`
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    screen: u32,
    /// No wider than this, pixels
    #[arg(long, value_name = "PX")]
    max_width: Option<u32>,
    /// 0 to 1
    #[arg(long)]
    quality: Option<f64>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example: atoll nodes screen snap --node laptop --out desk.jpg")]
pub(super) struct Snap {
    #[command(flatten)]
    which: Which,
    /// jpeg, or png with every pixel as it is
    #[arg(long, default_value = "jpeg")]
    format: String,
    /// File or folder here [default: named after node, screen and time]
    #[arg(long, short)]
    out: Option<PathBuf>,
    /// How long the node may take, milliseconds
    #[arg(long, default_value_t = 20_000, value_name = "MS")]
    invoke_timeout: u64,
}

#[derive(Debug, Args)]
#[command(after_help = "Example: atoll nodes screen record --node laptop --duration 30s")]
pub(super) struct Record {
    #[command(flatten)]
    which: Which,
    /// How long, e.g. 3000, 10s or 1m; a minute at most
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = time)]
    duration: u64,
    /// Pictures a second
    #[arg(long, default_value_t = 10)]
    fps: u32,
    /// Without sound
    #[arg(long)]
    no_audio: bool,
    /// mp4 or webm
    #[arg(long, default_value = "mp4")]
    format: String,
    /// File or folder here [default: named after node, screen and time]
    #[arg(long, short)]
    out: Option<PathBuf>,
    /// How long the node may take, milliseconds
    #[arg(long, default_value_t = 150_000, value_name = "MS")]
    invoke_timeout: u64,
}

#[derive(Debug, Args)]
#[command(after_help = "Example: atoll nodes screen watch --node laptop | ffplay -f mjpeg -")]
pub(super) struct Watch {
    #[command(flatten)]
    which: Which,
    /// Pictures a second [default: 10]
    #[arg(long)]
    fps: Option<u32>,
    /// Stop after this, e.g. 30s or 5m [default: an hour]
    #[arg(long, value_name = "TIME", value_parser = time)]
    duration: Option<u64>,
    /// How long the screen may take to begin, milliseconds
    #[arg(long, default_value_t = 30_000, value_name = "MS")]
    invoke_timeout: u64,
}

impl Screen {
    pub(super) async fn run(self, reach: &Reach, client: &mut Client) -> Result<(), CliError> {
        match self {
            Self::List(list) => list.run(reach, client).await,
            Self::Snap(snap) => snap.run(reach, client).await,
            Self::Record(record) => record.run(reach, client).await,
            Self::Watch(watch) => watch.run(reach, client).await,
        }
    }
}

impl List {
    async fn run(self, reach: &Reach, client: &mut Client) -> Result<(), CliError> {
        let node = find(client, &self.node).await?;
        let reply = client
            .invoke(&node, "screen.list", json!({}), self.invoke_timeout)
            .await?;
        if reach.json {
            return output::json(&reply);
        }
        let rows: Vec<_> = list(&reply, "screens").iter().map(row).collect();
        if rows.is_empty() {
            return output::line("no screen; `atoll-node doctor` on the node says why");
        }
        output::table(&["NUMBER", "NAME", "SIZE", "AT", "PRIMARY"], &rows)
    }
}

fn row(screen: &Value) -> Vec<String> {
    let number = |field: &str| screen.get(field).and_then(Value::as_i64);
    let both = |first, second, between| match (number(first), number(second)) {
        (Some(first), Some(second)) => format!("{first}{between}{second}"),
        _ => "unknown".to_owned(),
    };
    let is_primary = screen["primary"] == true;
    vec![
        number("index").unwrap_or_default().to_string(),
        text(screen, "name").to_owned(),
        both("width", "height", "x"),
        both("x", "y", ","),
        if is_primary { "yes" } else { "" }.to_owned(),
    ]
}

impl Which {
    fn params(&self) -> Value {
        let mut params = json!({"screenIndex": self.screen});
        set(&mut params, "maxWidth", self.max_width);
        set(&mut params, "quality", self.quality);
        params
    }

    /// For a file's name.
    fn name(&self) -> String {
        format!("screen{}", self.screen)
    }
}

impl Snap {
    async fn run(self, reach: &Reach, client: &mut Client) -> Result<(), CliError> {
        let node = find(client, &self.which.node).await?;
        let mut params = self.which.params();
        params["format"] = json!(self.format);
        let payload = client
            .invoke(&node, "screen.snapshot", params, self.invoke_timeout)
            .await?;
        let place = Place {
            out: self.out.as_deref(),
            node: &self.which.node,
            what: &self.which.name(),
            extension: extension(&payload, "jpg"),
        };
        let path = save(reach, client, &payload, &place).await?;
        if reach.json {
            return output::json(&described(&payload, &path));
        }
        let (width, height) = (&payload["width"], &payload["height"]);
        output::line(format!("{} ({width}x{height})", path.display()))?;
        inline::Screen::of_terminal().show(&path)
    }
}

impl Record {
    async fn run(self, reach: &Reach, client: &mut Client) -> Result<(), CliError> {
        let node = find(client, &self.which.node).await?;
        let mut params = self.which.params();
        params["durationMs"] = json!(self.duration);
        params["fps"] = json!(self.fps);
        params["includeAudio"] = json!(!self.no_audio);
        params["format"] = json!(self.format);
        let payload = client
            .invoke(&node, "screen.record", params, self.invoke_timeout)
            .await?;
        let place = Place {
            out: self.out.as_deref(),
            node: &self.which.node,
            what: &self.which.name(),
            extension: extension(&payload, "mp4"),
        };
        let path = save(reach, client, &payload, &place).await?;
        if reach.json {
            return output::json(&described(&payload, &path));
        }
        output::line(format!("{} ({})", path.display(), summary(&payload, !self.no_audio)))
    }
}

impl Watch {
    async fn run(self, reach: &Reach, client: &mut Client) -> Result<(), CliError> {
        // Before anybody looks at a screen.
        let sink = Sink::of(reach)?;
        let node = find(client, &self.which.node).await?;
        let mut params = self.which.params();
        set(&mut params, "fps", self.fps);
        set(&mut params, "durationMs", self.duration);
        let payload = client
            .invoke(&node, "screen.stream", params, self.invoke_timeout)
            .await?;
        sink.watch(reach, client, &payload).await
    }
}
