//! Asks the person at the terminal which gateway is meant.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::find::{Candidate, FindError, Question};
use crate::state::Way;

/// Wrong answers that are asked again.
const TRIES: usize = 3;

/// None when there is no terminal.
pub(super) async fn choose(asked: Question<'_>) -> Result<Option<usize>, FindError> {
    if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        return Ok(None);
    }
    let (head, rows) = match asked {
        Question::Near(found) => ("Several gateways are near:", found.iter().map(near).collect::<Vec<_>>()),
        Question::Known(ways) => ("Several gateways know this device:", ways.iter().map(known).collect()),
    };
    let (question, count) = (question(head, &rows), rows.len());
    // Reading a line cannot be called off, so it must not hold up the one thread that waits for everything else.
    let asked = tokio::task::spawn_blocking(move || ask(&question, count, io::stdin().lock(), io::stdout()));
    asked.await.unwrap_or(None).ok_or(FindError::Unchosen).map(Some)
}

fn near(candidate: &Candidate) -> String {
    let known = if candidate.is_paired { ", paired" } else { "" };
    let (name, target, key) = (&candidate.name, &candidate.target, candidate.id.short());
    format!("{name} at {target}, key {key}{known}")
}

fn known(way: &Way) -> String {
    format!("{} ({})", way.address, way.dialect.as_str())
}

fn question(head: &str, rows: &[String]) -> String {
    let rows = rows
        .iter()
        .enumerate()
        .map(|(at, row)| format!("  {}) {row}\n", at + 1));
    format!("{head}\n{}", rows.collect::<String>())
}

fn ask(question: &str, count: usize, mut input: impl BufRead, mut out: impl Write) -> Option<usize> {
    write!(out, "{question}").ok()?;
    for _ in 0..TRIES {
        write!(out, "Which one (1 to {count})? ").ok()?;
        out.flush().ok()?;
        let mut line = String::new();
        if input.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim().parse::<usize>() {
            Ok(chosen) if (1..=count).contains(&chosen) => return Some(chosen - 1),
            Ok(_) | Err(_) => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_answer_is_asked_again_and_the_end_of_input_is_no_answer() {
        for (typed, expected) in [
            ("2\n", Some(1)),
            ("x\n0\n1\n", Some(0)),
            ("3\n\n-1\n1\n", None),
            ("", None),
        ] {
            let mut out = Vec::new();
            assert_eq!(ask("Which?\n", 2, typed.as_bytes(), &mut out), expected, "{typed:?}");
            assert!(out.starts_with(b"Which?\nWhich one (1 to 2)? "));
        }
    }
}
