//! A live stream, into whatever can show it: this terminal, ffplay, or standard output as MJPEG.

use std::io::{self, IsTerminal, Write};
use std::process::{Child, Command, Stdio};

use atoll_capabilities::capture::Splitter;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::inline::Screen;
use crate::cli::client::Client;
use crate::cli::output::{self, text};
use crate::cli::{CliError, Reach, web};

/// What is told to ffplay.
const PLAYER: &str = "-hide_banner -loglevel error -fflags nobuffer -flags low_delay -f mjpeg -i -";

/// Where pictures go.
pub(in crate::cli) enum Sink {
    /// JPEG after JPEG.
    Output,
    Terminal(Screen),
    Player(Child),
}

impl Sink {
    /// What can show a stream here, found out before it begins.
    pub(in crate::cli) fn of(reach: &Reach) -> Result<Self, CliError> {
        if reach.json || !io::stdout().is_terminal() {
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
                 next: install ffmpeg, or write the stream elsewhere: atoll nodes … watch … > film.mjpeg"
                    .to_owned(),
            )
        })
    }

    /// Shows what a result names until it is over, or nobody looks any more; for programs, says where it is.
    pub(in crate::cli) async fn watch(
        mut self,
        reach: &Reach,
        client: &mut Client,
        payload: &Value,
    ) -> Result<(), CliError> {
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
            if let Some(broken) = web::broken(&frame) {
                return Err(broken);
            }
            // Whoever is behind wants the newest.
            let Some(newest) = splitter.push(&frame.into_data().unwrap_or_default()).pop() else {
                continue;
            };
            if !self.show(&newest)? {
                return Ok(());
            }
        }
        self.end();
        Ok(())
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
