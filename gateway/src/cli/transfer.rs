//! `atoll nodes get` and `atoll nodes put`: files to and from a node, in the folders that its owner opened there.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use atoll_protocol::limits;
use clap::Args;
use serde_json::{Value, json};

use super::client::Client;
use super::nodes::find;
use super::output::{self, text};
use super::{CliError, Reach, web};

/// The bar is drawn again this often at most.
const FRAME: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
#[command(after_help = "Example: atoll nodes get laptop:/srv/share/report.pdf")]
pub(super) struct Get {
    /// The node and the absolute path there
    #[arg(value_name = "NODE:PATH")]
    from: String,
    /// The file or folder here [default: the same name in this folder]
    to: Option<PathBuf>,
    /// Replace a file that is here already
    #[arg(long)]
    force: bool,
    /// How long the whole may take, milliseconds
    #[arg(long, default_value_t = 3_600_000, value_name = "MS")]
    invoke_timeout: u64,
}

#[derive(Debug, Args)]
#[command(after_help = "Example: atoll nodes put report.pdf laptop:/srv/share/")]
pub(super) struct Put {
    /// The file here
    from: PathBuf,
    /// The node and the absolute path there; one that ends in / is a folder
    #[arg(value_name = "NODE:PATH")]
    to: String,
    /// Replace a file that is there already
    #[arg(long)]
    force: bool,
    /// Make folders that are missing there
    #[arg(long)]
    parents: bool,
    /// How long the node may take, milliseconds
    #[arg(long, default_value_t = 3_600_000, value_name = "MS")]
    invoke_timeout: u64,
}

impl Get {
    pub(super) async fn run(self, reach: &Reach, client: &mut Client) -> Result<(), CliError> {
        let (node, path) = place(&self.from)?;
        let target = self.target(path)?;
        let node = find(client, node).await?;
        let params = json!({"path": path, "maxBytes": limits::BLOB});
        let bar = Bar::new(reach, "to the gateway");
        let payload = invoke(client, &node, ("file.fetch", params), self.invoke_timeout, bar).await?;
        let (id, size) = match payload.get("blob") {
            Some(blob) => (text(blob, "id"), blob["size"].as_u64().unwrap_or_default()),
            None => return Err(no_blobs()),
        };
        let draft = beside(&target);
        let mut bar = Bar::new(reach, "to here");
        let fetched = web::download(reach, client, (id, size), &draft, |done| bar.show(done, size)).await;
        bar.end();
        let kept = fetched.and_then(|()| Ok(self.keep(&draft, &target)?));
        if kept.is_err() {
            let _ = std::fs::remove_file(&draft);
        }
        kept?;
        if reach.json {
            return output::json(&json!({"ok": true, "path": target, "size": size, "blake3": id}));
        }
        output::line(format!("{} ({size} bytes)", target.display()))
    }

    fn target(&self, path: &str) -> Result<PathBuf, CliError> {
        let name = path.rsplit(['/', '\\']).next().filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| CliError::Usage(format!("{path} names a folder, not a file")))?;
        let target = match &self.to {
            Some(to) if to.is_dir() => to.join(name),
            Some(to) => to.clone(),
            None => PathBuf::from(name),
        };
        if !self.force && target.exists() {
            return Err(exists(&target));
        }
        Ok(target)
    }

    /// A link does not replace what came there meanwhile, a rename does.
    fn keep(&self, draft: &Path, target: &Path) -> std::io::Result<()> {
        if self.force {
            return std::fs::rename(draft, target);
        }
        std::fs::hard_link(draft, target).or_else(|error| {
            if error.kind() == std::io::ErrorKind::AlreadyExists {
                return Err(error);
            }
            // Not every file system has links.
            std::fs::rename(draft, target)
        })?;
        let _ = std::fs::remove_file(draft);
        Ok(())
    }
}

impl Put {
    pub(super) async fn run(self, reach: &Reach, client: &mut Client) -> Result<(), CliError> {
        let (node, path) = place(&self.to)?;
        let name = self.from.file_name().unwrap_or_default().to_string_lossy();
        let path = if path.ends_with('/') {
            format!("{path}{name}")
        } else {
            path.to_owned()
        };
        let node = find(client, node).await?;
        let size = std::fs::metadata(&self.from)?.len();
        let bar = std::sync::Mutex::new(Bar::new(reach, "to the gateway"));
        let progress = move |done| {
            if let Ok(mut bar) = bar.lock() {
                bar.show(done, size);
                if done == size {
                    bar.end();
                }
            }
        };
        let id = web::upload(reach, client, &self.from, progress).await?;
        let params = json!({
            "path": path, "blob": {"id": id}, "overwrite": self.force, "createParents": self.parents,
        });
        let bar = Bar::new(reach, "to the node");
        let payload = invoke(client, &node, ("file.write", params), self.invoke_timeout, bar).await?;
        if reach.json {
            return output::json(&payload);
        }
        output::line(format!("{} ({size} bytes)", text(&payload, "path")))
    }
}

/// Splits `node:/path`.
fn place(text: &str) -> Result<(&str, &str), CliError> {
    text.split_once(':')
        .filter(|(node, path)| !node.is_empty() && !path.is_empty())
        .ok_or_else(|| CliError::Usage(format!("{text} is not NODE:PATH, e.g. laptop:/srv/share/a.txt")))
}

/// The result of a command that says by itself whether it succeeded.
async fn invoke(
    client: &mut Client,
    node: &str,
    (command, params): (&str, Value),
    timeout: u64,
    mut bar: Bar,
) -> Result<Value, CliError> {
    let hear = |told: &Value| {
        if let Some((done, size)) = received(told) {
            bar.show(done, size);
        }
    };
    let invoked = client.invoke_heard(node, command, params, timeout, hear).await;
    bar.end();
    let payload = invoked?;
    if payload["ok"] == json!(false) {
        let (code, message) = (text(&payload, "code"), text(&payload, "message"));
        let next = if code == "EXISTS_NO_OVERWRITE" {
            "\nnext: replace it with --force"
        } else {
            ""
        };
        return Err(CliError::Failed {
            message: format!("{code}: {message}{next}"),
            code: 1,
        });
    }
    Ok(payload)
}

/// How much of a blob has come from the node or to it, and how large it is.
fn received(told: &Value) -> Option<(u64, u64)> {
    let told: Value = serde_json::from_str(text(told, "text")).ok()?;
    Some((told["blob"]["received"].as_u64()?, told["blob"]["size"].as_u64()?))
}

fn no_blobs() -> CliError {
    CliError::Failed {
        message: "the node sent no blob; `atoll nodes invoke --command file.fetch` shows what it sends".to_owned(),
        code: 1,
    }
}

fn exists(path: &Path) -> CliError {
    CliError::Usage(format!("{} exists\nnext: replace it with --force", path.display()))
}

/// Where a file grows before it takes its place.
fn beside(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.{}.part", std::process::id()))
}

/// How far it is, on a terminal.
struct Bar {
    way: &'static str,
    shown: Option<std::time::Instant>,
    is_on: bool,
}

impl Bar {
    fn new(reach: &Reach, way: &'static str) -> Self {
        Self {
            way,
            shown: None,
            is_on: !reach.json && std::io::stderr().is_terminal(),
        }
    }

    fn show(&mut self, done: u64, size: u64) {
        let is_due = self.shown.is_none_or(|shown| shown.elapsed() >= FRAME) || done == size;
        if self.is_on && is_due {
            self.shown = Some(std::time::Instant::now());
            // What nobody sees need not be drawn.
            let _ = write!(std::io::stderr(), "\r{} {:<14}", drawn(done, size), self.way);
        }
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.is_on) && self.shown.is_some() {
            let _ = writeln!(std::io::stderr());
        }
    }
}

/// 30 steps, per cent and MiB.
fn drawn(done: u64, size: u64) -> String {
    const STEPS: u64 = 30;
    let of = |whole: u64| done.min(size).saturating_mul(whole).checked_div(size).unwrap_or(whole);
    let full = usize::try_from(of(STEPS)).unwrap_or_default();
    let rest = usize::try_from(STEPS).unwrap_or_default() - full;
    let mib = |bytes: u64| bytes / (1024 * 1024);
    format!(
        "[{}{}] {:>3} %  {} of {} MiB",
        "#".repeat(full),
        " ".repeat(rest),
        of(100),
        mib(done),
        mib(size)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_node_and_a_path() {
        assert_eq!(place("laptop:/a:b").expect("both"), ("laptop", "/a:b"));
        for bad in ["laptop", ":/a", "laptop:", ""] {
            assert!(place(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_bar_fits_a_line_at_any_size() {
        assert_eq!(drawn(0, 0), format!("[{}] 100 %  0 of 0 MiB", "#".repeat(30)));
        let half = drawn(1 << 30, 1 << 31);
        assert_eq!(
            half,
            format!("[{}{}]  50 %  1024 of 2048 MiB", "#".repeat(15), " ".repeat(15))
        );
        assert!(half.len() < 80);
    }
}
