//! The operator's command line: what can be typed, and where each command goes. Everything but `gateway run`, `up`, `config` and
//! `completion` is one or two method calls to a running gateway. Never touches the gateway's files behind its back.

use clap::{Parser, Subcommand};

mod agent;
mod approvals;
mod audit;
mod camera;
mod channels;
mod client;
mod config;
mod conversation;
mod devices;
mod error;
mod gateway;
mod invite;
mod logs;
mod nodes;
mod output;
mod phone;
mod pictures;
mod prompt;
mod reach;
mod screen;
mod sessions;
mod transfer;
mod up;
mod web;

pub use error::CliError;
use reach::Reach;

/// A thin gateway for a ring of your own devices.
#[derive(Debug, Parser)]
#[command(name = "atoll", version, arg_required_else_help = true)]
#[command(after_help = "Examples:
  atoll up            start gateway and a local node, and talk to them
  atoll nodes list    what is in the ring

Exit codes: 0 done, 1 failed, 2 wrong words, 3 no gateway, 4 the gateway said no;
a command that ran elsewhere and failed gives its own.")]
pub struct Cli {
    #[command(flatten)]
    reach: Reach,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start gateway and a local node, pair them, and talk
    Up(up::Up),
    /// Run the gateway, or ask it how it is
    #[command(subcommand)]
    Gateway(gateway::Gateway),
    /// Who may connect: approve, reject, remove, rename
    #[command(subcommand)]
    Devices(devices::Devices),
    /// A link and its picture that let one device in (the same as `devices invite`)
    Qr(invite::Invite),
    /// What is in the ring, and calls to it
    #[command(subcommand)]
    Nodes(nodes::Nodes),
    /// Commands that wait for your yes or no
    #[command(subcommand)]
    Approvals(approvals::Approvals),
    /// People who asked to write to the bot
    #[command(subcommand)]
    Pairing(channels::Pairing),
    /// Send one message to an agent and print its answer
    Agent(agent::Agent),
    /// Conversations
    #[command(subcommand)]
    Sessions(sessions::Sessions),
    /// Chat channels
    #[command(subcommand)]
    Channels(channels::Channels),
    /// Read and change the configuration
    #[command(subcommand)]
    Config(config::Config),
    /// Who did what, and what was refused
    Audit(audit::Audit),
    /// The gateway's log
    Logs(logs::Logs),
    /// Print a completion script for your shell
    #[command(after_help = "Example: atoll completion bash > ~/.local/share/bash-completion/completions/atoll")]
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

impl Cli {
    /// Does what was typed.
    ///
    /// # Errors
    /// A sentence with the next step, and the exit code that goes with it.
    pub async fn run(self) -> Result<(), CliError> {
        let reach = self.reach;
        match self.command {
            Command::Up(up) => up.run(&reach).await,
            Command::Gateway(command) => command.run(&reach).await,
            Command::Devices(command) => command.run(&reach).await,
            Command::Qr(invite) => invite.run(&reach, &mut client::Client::connect(&reach).await?).await,
            Command::Nodes(command) => command.run(&reach).await,
            Command::Approvals(command) => command.run(&reach).await,
            Command::Pairing(command) => command.run(&reach).await,
            Command::Agent(command) => command.run(&reach).await,
            Command::Sessions(command) => command.run(&reach).await,
            Command::Channels(command) => command.run(&reach).await,
            Command::Config(command) => command.run(&reach).await,
            Command::Audit(command) => command.run(&reach).await,
            Command::Logs(command) => command.run(&reach).await,
            Command::Completion { shell } => output::completion::<Self>(shell),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn each(command: &clap::Command, path: &str, visit: &mut impl FnMut(&str, &clap::Command)) {
        let path = format!("{path} {}", command.get_name());
        visit(path.trim(), command);
        command.get_subcommands().for_each(|inner| each(inner, &path, visit));
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_help_fits_a_hundred_columns() {
        let mut command = Cli::command();
        command.build();
        let mut seen = 0;
        each(&command, "", &mut |path, command| {
            for help in [command.clone().render_help(), command.clone().render_long_help()] {
                for line in help.to_string().lines() {
                    assert!(line.chars().count() <= 100, "{path}: {line}");
                }
            }
            seen += 1;
        });
        assert!(seen > 30, "{seen} commands");
    }

    #[test]
    fn every_command_takes_json_and_says_what_it_is_for() {
        let mut command = Cli::command();
        command.build();
        each(&command, "", &mut |path, command| {
            let is_generated = path.contains("help");
            assert!(command.get_about().is_some(), "{path} says nothing of itself");
            let takes_json = command.get_arguments().any(|argument| argument.get_id() == "json");
            assert!(takes_json || is_generated, "{path}");
        });
    }
}
