//! What the documents promise: their commands exist, their links lead somewhere.

use std::path::Path;
use std::process::{Command, Output};

use atoll_gateway::config::{check_file, sample};
use atoll_tests::program::built;
use atoll_tests::tree::{files, root};

/// Programs that are not ours.
const OTHERS: [&str; 2] = ["ssh", "git"];

/// The lines of the fenced blocks in that language.
pub(crate) fn fenced<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let mut lines = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match line.trim_start().strip_prefix("```") {
            Some(opened) => inside = !inside && opened == language,
            None if inside && !line.trim().is_empty() => lines.push(line),
            None => {}
        }
    }
    lines
}

fn run(program: &Path, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(arguments)
        .output()
        .expect("a program that was built")
}

/// What is wrong with a command of ours: its subcommands or its flags are not in the program's help.
fn unknown_to(program: &str, words: &[&str]) -> Option<String> {
    let program = built(program);
    let is_plain = |word: &&&str| word.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-');
    let subcommands: Vec<&str> = words
        .iter()
        .take_while(|word| is_plain(word) && !word.starts_with('-'))
        .copied()
        .collect();
    let help = run(&program, &[&subcommands[..], &["--help"]].concat());
    let text = String::from_utf8_lossy(&help.stdout);
    if !help.status.success() {
        return Some(format!(
            "{}: {}",
            subcommands.join(" "),
            String::from_utf8_lossy(&help.stderr)
        ));
    }
    let missing = words
        .iter()
        .find(|word| word.starts_with("--") && !text.contains(*word));
    missing.map(|flag| format!("{} has no {flag}", subcommands.join(" ")))
}

fn wrong_with(line: &str) -> Option<String> {
    let words: Vec<&str> = line
        .split_whitespace()
        .take_while(|word| !["&", "|", "#"].contains(word))
        .collect();
    let (program, rest) = words.split_first()?;
    match *program {
        "atoll" | "atoll-node" => unknown_to(program, rest),
        script if script.starts_with("scripts/") => {
            (!root().join(script).is_file()).then(|| "no such script".to_owned())
        }
        other => (!OTHERS.contains(&other)).then(|| format!("nobody knows {other}")),
    }
}

#[test]
fn every_command_in_the_readme_exists() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("a README");
    let commands = fenced(&readme, "sh");
    assert!(commands.len() > 5, "the README shows how to use it");
    let wrong = commands
        .iter()
        .filter_map(|line| Some(format!("`{line}`: {}", wrong_with(line)?)));
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        wrong_with("atoll surely-no-such-command").is_some(),
        "this test can fail"
    );
}

/// What the gateway says of a configuration: everything that is wrong or strange, line by line.
fn complaints_about(text: &str) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("atoll.json");
    std::fs::write(&path, text).expect("a writable folder");
    let environment = |name: &str| (name == "TELEGRAM_BOT_TOKEN").then(|| "99:TEST-token".to_owned());
    match check_file(&path, &environment) {
        Ok(loaded) => loaded.warnings.iter().map(ToString::to_string).collect(),
        Err(invalid) => vec![invalid.to_string()],
    }
}

#[test]
fn the_sample_configuration_and_that_of_the_readme_are_right() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("a README");
    let shown = fenced(&readme, "json5").join("\n");
    assert!(shown.contains("telegram"), "the README shows a configuration");
    for text in [sample(), shown] {
        assert_eq!(complaints_about(&text), Vec::<String>::new(), "{text}");
    }
    assert_ne!(
        complaints_about("{ gatewy: {} }"),
        Vec::<String>::new(),
        "this test can fail"
    );
}

#[test]
fn every_link_between_documents_leads_to_a_file() {
    let link = regex_lite::Regex::new(r"\]\(([^)#:]+)(#[^)]*)?\)").expect("a pattern");
    let code = regex_lite::Regex::new(r"`([\w./-]+/[\w.-]+\.(?:rs|toml|md))`").expect("a pattern");
    let mut broken = Vec::new();
    for file in files().iter().filter(|file| file.extension() == "md") {
        let folder = root()
            .join(&file.path)
            .parent()
            .expect("a file lies in a folder")
            .to_path_buf();
        let linked = link.captures_iter(&file.text).map(|found| folder.join(&found[1]));
        let named = code.captures_iter(&file.text).map(|found| root().join(&found[1]));
        let missing = linked.chain(named).filter(|path| !path.exists());
        broken.extend(missing.map(|path| format!("{}: {}", file.path, path.display())));
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
