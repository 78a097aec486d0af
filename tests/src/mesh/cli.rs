//! `atoll` as the owner of a mesh runs it, on the gateway's machine and without any token.

use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::process::{Child, Command};

use super::Mesh;
use crate::program::{built, printed};
use crate::wait::{PATIENCE, within_time};

impl Mesh {
    /// Runs `atoll` as the owner does on the gateway's machine.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn cli(&self, arguments: &[&str]) -> Output {
        self.cli_within(PATIENCE, arguments).await
    }

    /// [`Mesh::cli`], with another patience.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn cli_within(&self, patience: Duration, arguments: &[&str]) -> Output {
        let mut command = self.command();
        command
            .env_remove("ATOLL_GATEWAY_TOKEN")
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        within_time(&format!("atoll {}", arguments.join(" ")), patience, command.output())
            .await
            .expect("a program that was built")
    }

    /// [`Mesh::cli`], begun, with pipes in the place of a terminal.
    ///
    /// # Panics
    /// When there is no such program.
    pub fn cli_begun(&self, arguments: &[&str]) -> Child {
        let mut command = self.command();
        command.env_remove("ATOLL_GATEWAY_TOKEN").args(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.kill_on_drop(true).spawn().expect("a program that was built")
    }

    /// [`Mesh::cli`], begun on a terminal of its own: what is written to it is typed, what is read from it is seen.
    ///
    /// # Panics
    /// When there is no `script`, which gives programs a terminal.
    pub fn cli_on_terminal(&self, arguments: &[&str]) -> Child {
        self.on_terminal(&format!("exec '{}' {}", built("atoll").display(), arguments.join(" ")))
    }

    /// A line for a shell, on a terminal of its own and in the owner's environment.
    ///
    /// # Panics
    /// When there is no `script`, which gives programs a terminal.
    pub fn on_terminal(&self, typed: &str) -> Child {
        let mut command = self.environment_of(Command::new("script"));
        command
            .env_remove("ATOLL_GATEWAY_TOKEN")
            .args(["-qefc", typed, "/dev/null"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        command.spawn().expect("script")
    }

    /// [`Mesh::cli`] with a command that succeeds and prints JSON.
    ///
    /// # Panics
    /// When it fails or prints anything else.
    pub async fn cli_json(&self, arguments: &[&str]) -> Value {
        let shown = format!("atoll {}", arguments.join(" "));
        let text = printed(&shown, &self.cli(arguments).await);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{shown}: {error} in {text}"))
    }
}
