//! `atoll config …`: the file, read and changed where it lies; a running gateway takes the change up by itself.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Value, json};

use super::output;
use super::{CliError, Reach};
use crate::config::{self, Change, ChangeError, EditError, Invalid, Problem, check_file, edit_file, parse_path};

#[derive(Debug, Subcommand)]
#[command(after_help = "The file belongs to this machine's gateway: --url has no meaning here.")]
pub(super) enum Config {
    /// Print one value, or everything that is written; secrets are not shown
    #[command(after_help = "Example: atoll config get channels.telegram.dmPolicy")]
    Get {
        /// The key, e.g. `gateway.port` or `agents.list[0].model`
        path: Option<String>,
    },
    /// Change one value, keeping comments; the old file is kept beside it
    #[command(after_help = "Examples: atoll config set channels.telegram.dmPolicy allowlist
          atoll config set channels.telegram.allowFrom '[\"123\"]'
          atoll config set channels.telegram.botToken '${TELEGRAM_TOKEN}'
A secret typed here can be seen by others on this machine: write ${NAME} and set the variable.")]
    Set {
        /// The key, e.g. gateway.port
        path: String,
        /// The value: JSON5, or plain text
        value: String,
    },
    /// Remove one value, so that its default counts
    #[command(after_help = "Example: atoll config unset gateway.port")]
    Unset {
        /// The key
        path: String,
    },
    /// Check the file; every fault is named
    Validate,
    /// Print every key with its type, default and meaning
    #[command(after_help = "Example: atoll config schema --sample > ~/.atoll/atoll.json")]
    Schema {
        /// A commented file with all defaults, in place of a JSON Schema
        #[arg(long)]
        sample: bool,
    },
    /// Print the path of the file
    File,
}

impl Config {
    pub(super) async fn run(self, reach: &Reach) -> Result<(), CliError> {
        if let Self::Schema { sample } = self {
            return schema(reach, sample);
        }
        if reach.url.is_some() {
            let message =
                "`atoll config` works on this machine's file; elsewhere: `atoll gateway call config.get --url …`";
            return Err(CliError::Usage(message.to_owned()));
        }
        let file = reach.state()?.config();
        match self {
            Self::Get { path } => output::json(&get(&file, path.as_deref())?),
            Self::Set { path, value } => {
                edit(&file, &Change::Set(key(&path)?, read_value(value)))?;
                done(reach, &path, "set")
            }
            Self::Unset { path } => {
                edit(&file, &Change::Unset(key(&path)?))?;
                done(reach, &path, "unset")
            }
            Self::Validate => validate(reach, &file),
            Self::Schema { sample } => schema(reach, sample),
            Self::File if reach.json => output::json(&json!({"path": file})),
            Self::File => output::line(file.display().to_string()),
        }
    }
}

fn schema(reach: &Reach, sample: bool) -> Result<(), CliError> {
    match (sample, reach.json) {
        (false, _) => output::json(&config::schema()),
        (true, true) => output::json(&json!({"sample": config::sample()})),
        (true, false) => output::line(config::sample().trim_end()),
    }
}

fn done(reach: &Reach, path: &str, what: &str) -> Result<(), CliError> {
    if reach.json {
        output::json(&json!({"ok": true, "path": path}))
    } else {
        output::line(format!("{path} {what}"))
    }
}

fn key(path: &str) -> Result<Vec<String>, CliError> {
    parse_path(path).map_err(|error: EditError| CliError::Usage(error.to_string()))
}

/// JSON5 where it is that, else plain text.
fn read_value(text: String) -> Value {
    json5::from_str(&text).unwrap_or(Value::String(text))
}

fn get(file: &Path, path: Option<&str>) -> Result<Value, CliError> {
    let loaded = check_file(file, &config::process_env).map_err(broken)?;
    let Some(path) = path else { return Ok(loaded.redacted()) };
    loaded.redacted_at(&key(path)?).ok_or_else(|| CliError::Failed {
        message: format!(
            "{path} is not set in {}; `atoll config schema` shows its default",
            file.display()
        ),
        code: 1,
    })
}

fn edit(file: &Path, change: &Change) -> Result<(), CliError> {
    let edited = edit_file(file, change, None, &config::process_env).map_err(|error| match error {
        ChangeError::Invalid(invalid) => refused(&invalid),
        ChangeError::Edit(_) | ChangeError::Placeholder(_) => CliError::Usage(error.to_string()),
        ChangeError::Stale { .. } | ChangeError::Io(_) | ChangeError::Closed => CliError::local(error),
    })?;
    edited
        .warnings
        .iter()
        .for_each(|warning| output::aside(format_args!("warning: {warning}\n")));
    Ok(())
}

fn refused(invalid: &Invalid) -> CliError {
    let faults: Vec<_> = invalid.errors.iter().map(|error| format!("\n  {error}")).collect();
    CliError::Failed {
        message: format!("not written, as the file would be broken:{}", faults.concat()),
        code: 1,
    }
}

fn broken(invalid: Invalid) -> CliError {
    CliError::Failed {
        message: format!("{invalid}\nnext: correct the file, then `atoll config validate`"),
        code: 1,
    }
}

/// What is wrong and what is odd with a file.
struct Report {
    path: PathBuf,
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Report {
    fn of(file: &Path) -> Self {
        let (errors, warnings) = match check_file(file, &config::process_env) {
            Ok(loaded) => (Vec::new(), loaded.warnings),
            Err(invalid) => (invalid.errors, invalid.warnings),
        };
        Self {
            path: file.to_owned(),
            errors,
            warnings,
        }
    }

    fn json(&self) -> Value {
        let rows = |problems: &[Problem]| -> Vec<Value> {
            problems
                .iter()
                .map(|problem| json!({"path": problem.key, "message": problem.message}))
                .collect()
        };
        json!({
            "valid": self.errors.is_empty(), "path": self.path,
            "issues": rows(&self.errors), "warnings": rows(&self.warnings),
        })
    }

    fn lines(&self) -> Vec<String> {
        let warnings = self.warnings.iter().map(|warning| format!("warning: {warning}"));
        let errors = self.errors.iter().map(|error| format!("error: {error}"));
        let valid = self
            .errors
            .is_empty()
            .then(|| format!("{} is valid", self.path.display()));
        warnings.chain(errors).chain(valid).collect()
    }
}

fn validate(reach: &Reach, file: &Path) -> Result<(), CliError> {
    let report = Report::of(file);
    if reach.json {
        output::json(&report.json())?;
    } else {
        report.lines().iter().try_for_each(output::line)?;
    }
    let faults = report.errors.len();
    if faults == 0 {
        return Ok(());
    }
    Err(CliError::Failed {
        message: format!("{} has {faults} error(s)", file.display()),
        code: 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("atoll.json");
        std::fs::write(&path, text).expect("writes");
        (folder, path)
    }

    #[test]
    fn a_value_is_json5_or_plain_text() {
        for (text, expected) in [
            ("5", json!(5)),
            ("true", json!(true)),
            ("['a',]", json!(["a"])),
            ("allowlist", json!("allowlist")),
            ("\"5\"", json!("5")),
            ("${TOKEN}", json!("${TOKEN}")),
        ] {
            assert_eq!(read_value(text.to_owned()), expected, "{text}");
        }
    }

    #[test]
    fn a_value_is_set_read_and_unset_and_comments_stay() {
        let (_folder, path) = file("{\n  // mine\n  gateway: {port: 5},\n}\n");
        edit(&path, &Change::Set(key("gateway.port").expect("a key"), json!(6))).expect("sets");
        assert_eq!(get(&path, Some("gateway.port")).expect("is set"), 6);
        edit(&path, &Change::Unset(key("gateway.port").expect("a key"))).expect("unsets");
        let error = get(&path, Some("gateway.port")).expect_err("not set");
        assert!(error.to_string().contains("gateway.port is not set"), "{error}");
        assert!(std::fs::read_to_string(&path).expect("reads").contains("// mine"));
    }

    #[test]
    fn a_wrong_value_is_refused_by_its_key_and_nothing_is_written() {
        let (_folder, path) = file("{}");
        let error = edit(&path, &Change::Set(key("gateway.port").expect("a key"), json!("x"))).expect_err("refused");
        assert!(error.to_string().contains("gateway.port:"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).expect("reads"), "{}");
        assert!(matches!(key("gateway..port"), Err(CliError::Usage(_))));
    }

    #[test]
    fn no_secret_is_printed() {
        let (_folder, path) = file("{gateway: {auth: {token: 'hush'}}}");
        for shown in [
            get(&path, None),
            get(&path, Some("gateway.auth")),
            get(&path, Some("gateway.auth.token")),
        ] {
            let shown = shown.expect("is set").to_string();
            assert!(!shown.contains("hush") && shown.contains(config::REDACTED), "{shown}");
        }
    }

    #[test]
    fn a_report_names_every_fault_by_its_key() {
        let (_folder, path) = file("{gateway: {port: 'x', bind: 'y', prot: 1}}");
        let report = Report::of(&path);
        let keys: Vec<_> = report.errors.iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(keys, ["gateway.port", "gateway.bind"]);
        assert_eq!(report.json()["valid"], false);
        assert!(
            report
                .lines()
                .iter()
                .any(|line| line.starts_with("warning: gateway.prot:")),
            "{:?}",
            report.lines()
        );
        let (_folder, path) = file("{}");
        assert_eq!(Report::of(&path).lines().len(), 1);
    }
}
