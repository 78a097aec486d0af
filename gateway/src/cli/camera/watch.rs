//! `atoll nodes camera watch`: a live stream, into whatever can show it.

use std::io::{self, IsTerminal, Write};
use std::process::{Child, Command, Stdio};

use atoll_capabilities::capture::Splitter;
use clap::Args;
use http_body_util::BodyExt;
use serde_json::json;

use super::inline::Screen;
use super::{Which, set, time};
use crate::cli::client::Client;
use crate::cli::nodes::find;
use crate::cli::output::{self, text};
use crate::cli::{CliError, Reach, web};

/// What is told to ffplay.
const PLAYER: &str = "-hide_banner -loglevel error -fflags nobuffer -flags low_delay -f mjpeg -i -";

#[derive(Debug, Args)]
#[command(after_help = "Example: atoll nodes camera watch --node phone | ffplay -f mjpeg -")]
pub(in crate::cli) struct Watch {
    #[command(flatten)]
    which: Which,
    /// No wider than this, pixels [default: 1280]
    #[arg(long, value_name = "PX")]
    max_width: Option<u32>,
    /// 0 to 1
    #[arg(long)]
    quality: Option<f64>,
    /// Pictures a second [default: 10]
    #[arg(long)]
    fps: Option<u32>,
    /// Stop after this, e.g. 30s or 5m [default: an hour]
    #[arg(long, value_name = "TIME", value_parser = time)]
    duration: Option<u64>,
    /// How long the camera may take to begin, milliseconds
    #[arg(long, default_value_t = 30_000, value_name = "MS")]
    invoke_timeout: u64,
}

/// Where pictures go.
enum Sink {
    /// JPEG after JPEG.
    Output,
    Terminal(Screen),
    Player(Child),
}

impl Watch {
    pub(super) async fn run(self, reach: &Reach, client: &mut Client) -> Result<(), CliError> {
        // Before a camera is turned on.
        let mut sink = if reach.json { Sink::Output } else { Sink::here()? };
        let node = find(client, &self.which.node).await?;
        let mut params = self.which.params(self.which.side()?);
        set(&mut params, "maxWidth", self.max_width);
        set(&mut params, "quality", self.quality);
        set(&mut params, "fps", self.fps);
        set(&mut params, "durationMs", self.duration);
        let payload = client
            .invoke(&node, "camera.stream", params, self.invoke_timeout)
            .await?;
        let id = payload.get("blob").map(|blob| text(blob, "id")).unwrap_or_default();
        if reach.json {
            let mut shown = payload.clone();
            shown["path"] = json!(format!("/media/{id}"));
            return output::json(&shown);
        }
        let mut body = web::watch(reach, client, id).await?;
        let mut splitter = Splitter::default();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| CliError::Unreachable(format!("the stream broke off: {error}")))?;
            // Whoever is behind wants the newest.
            let Some(newest) = splitter.push(&frame.into_data().unwrap_or_default()).pop() else {
                continue;
            };
            if !sink.show(&newest)? {
                return Ok(());
            }
        }
        sink.end();
        Ok(())
    }
}

impl Sink {
    fn here() -> Result<Self, CliError> {
        if !io::stdout().is_terminal() {
            return Ok(Self::Output);
        }
        match Screen::of_terminal() {
            Screen::None => {}
            screen @ (Screen::Kitty | Screen::Iterm) => return Ok(Self::Terminal(screen)),
        }
        let player = Command::new("ffplay")
            .args(PLAYER.split(' '))
            .stdin(Stdio::piped())
            .spawn();
        player.map(Self::Player).map_err(|_| {
            CliError::Usage(
                "this terminal shows no pictures, and there is no ffplay\n\
                 next: install ffmpeg, or write the stream elsewhere: atoll nodes camera watch … > film.mjpeg"
                    .to_owned(),
            )
        })
    }

    /// False: nobody looks any more.
    fn show(&mut self, jpeg: &[u8]) -> Result<bool, CliError> {
        let written = match self {
            Self::Output => put(&mut io::stdout().lock(), &[jpeg]),
            Self::Player(player) => match player.stdin.as_mut() {
                Some(stdin) => put(stdin, &[jpeg]),
                None => return Ok(false),
            },
            Self::Terminal(screen) => match screen.drawn(jpeg) {
                // From the corner on: the next one covers this one.
                Some(drawn) => put(&mut io::stdout().lock(), &[b"\x1b[H", &drawn]),
                None => Ok(()),
            },
        };
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            written => Ok(written.map(|()| true)?),
        }
    }

    fn end(&mut self) {
        if let Self::Player(player) = self {
            drop(player.stdin.take());
            let _ = player.wait();
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Self::Player(player) = self {
            let _ = player.kill();
            let _ = player.wait();
        }
    }
}

fn put(out: &mut impl Write, parts: &[&[u8]]) -> io::Result<()> {
    parts.iter().try_for_each(|part| out.write_all(part))?;
    out.flush()
}
