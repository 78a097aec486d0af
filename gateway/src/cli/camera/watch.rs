//! `atoll nodes camera watch`: a live stream of a camera.

use clap::Args;

use super::Which;
use crate::cli::client::Client;
use crate::cli::nodes::find;
use crate::cli::pictures::live::Sink;
use crate::cli::pictures::{set, time};
use crate::cli::{CliError, Reach};

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

impl Watch {
    pub(super) async fn run(self, reach: &Reach, client: &mut Client) -> Result<(), CliError> {
        // Before a camera is turned on.
        let sink = Sink::of(reach)?;
        let node = find(client, &self.which.node).await?;
        let mut params = self.which.params(self.which.side()?);
        set(&mut params, "maxWidth", self.max_width);
        set(&mut params, "quality", self.quality);
        set(&mut params, "fps", self.fps);
        set(&mut params, "durationMs", self.duration);
        let payload = client
            .invoke(&node, "camera.stream", params, self.invoke_timeout)
            .await?;
        sink.watch(reach, client, &payload).await
    }
}
