//! `atoll nodes audio …`: a device's microphone, loudspeaker and voice.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::find;
use crate::cli::client::Client;
use crate::cli::pictures::{Place, described, extension, save, set, time};
use crate::cli::{CliError, Reach, output, web};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Audio {
    /// Record a device's microphone and save it here
    Record(Record),
    /// Play a sound from here on a device
    Play(Play),
    /// Let a device say something
    Speak(Speak),
}

#[derive(Debug, Args)]
#[command(after_help = "Example: atoll nodes audio record --node laptop --duration 10s --out room.m4a")]
pub(in crate::cli) struct Record {
    /// The node: name, id, address, or e.g. any,cmd=audio.record
    #[arg(long)]
    node: String,
    /// How long, e.g. 3000, 10s or 1m; a minute at most
    #[arg(long, default_value = "3000", value_name = "TIME", value_parser = time)]
    duration: u64,
    /// m4a, ogg, mp3 or wav [default: m4a, or what the device records]
    #[arg(long)]
    format: Option<String>,
    /// File or folder here [default: named after node and time]
    #[arg(long, short)]
    out: Option<PathBuf>,
    /// How long the node may take, milliseconds
    #[arg(long, default_value_t = 90_000, value_name = "MS")]
    invoke_timeout: u64,
}

#[derive(Debug, Args)]
#[command(after_help = "Example: atoll nodes audio play --node kitchen bell.mp3")]
pub(in crate::cli) struct Play {
    /// The node: name, id, address, or e.g. any,cmd=audio.play
    #[arg(long)]
    node: String,
    /// The file here: WAV, MP3, Ogg, FLAC, M4A, AAC or WebM, two minutes at most
    file: PathBuf,
    /// How long the node may take, milliseconds
    #[arg(long, default_value_t = 150_000, value_name = "MS")]
    invoke_timeout: u64,
}

#[derive(Debug, Args)]
#[command(after_help = "Example: atoll nodes audio speak --node kitchen --language en 'Dinner is ready'")]
pub(in crate::cli) struct Speak {
    /// The node: name, id, address, or e.g. any,cmd=audio.speak
    #[arg(long)]
    node: String,
    /// What to say
    text: String,
    /// In which language, e.g. en or de
    #[arg(long)]
    language: Option<String>,
    /// With which of the device's voices
    #[arg(long)]
    voice: Option<String>,
    /// How long the node may take, milliseconds
    #[arg(long, default_value_t = 150_000, value_name = "MS")]
    invoke_timeout: u64,
}

impl Audio {
    pub(super) async fn run(self, reach: &Reach, client: &mut Client) -> Result<(), CliError> {
        match self {
            Self::Record(record) => record.run(reach, client).await,
            Self::Play(play) => play.run(reach, client).await,
            Self::Speak(speak) => speak.run(reach, client).await,
        }
    }
}

impl Record {
    async fn run(self, reach: &Reach, client: &mut Client) -> Result<(), CliError> {
        let node = find(client, &self.node).await?;
        let mut params = json!({"durationMs": self.duration});
        set(&mut params, "format", self.format);
        let payload = client
            .invoke(&node, "audio.record", params, self.invoke_timeout)
            .await?;
        let place = Place {
            out: self.out.as_deref(),
            node: &self.node,
            what: "sound",
            extension: extension(&payload, "m4a"),
        };
        let path = save(reach, client, &payload, &place).await?;
        if reach.json {
            return output::json(&described(&payload, &path));
        }
        let seconds = payload["durationMs"].as_f64().unwrap_or_default() / 1000.0;
        output::line(format!("{} ({seconds:.1} s)", path.display()))
    }
}

impl Play {
    async fn run(self, reach: &Reach, client: &mut Client) -> Result<(), CliError> {
        let node = find(client, &self.node).await?;
        let id = web::upload(reach, client, &self.file, |_| {}).await?;
        let params = json!({"blob": {"id": id}});
        let payload = client.invoke(&node, "audio.play", params, self.invoke_timeout).await?;
        if reach.json {
            return output::json(&payload);
        }
        output::line("played")
    }
}

impl Speak {
    async fn run(self, reach: &Reach, client: &mut Client) -> Result<(), CliError> {
        let node = find(client, &self.node).await?;
        let mut params = json!({"text": self.text});
        set(&mut params, "language", self.language);
        set(&mut params, "voice", self.voice);
        let payload = client.invoke(&node, "audio.speak", params, self.invoke_timeout).await?;
        if reach.json {
            return output::json(&payload);
        }
        output::line("said")
    }
}
