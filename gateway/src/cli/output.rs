//! What a command prints: JSON as the gateway gave it, or a table that fits a terminal.

use std::io::{self, IsTerminal, Write};

use clap::CommandFactory;
use clap_complete::Shell;
use serde_json::Value;

use super::CliError;

/// Tables are made for this many columns.
const WIDTH: usize = 80;

/// Writes one line. A reader that went away (`| head`) ends the output without an error.
pub(super) fn line(text: impl AsRef<str>) -> Result<(), CliError> {
    match writeln!(io::stdout().lock(), "{}", visible(text.as_ref())) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// Says something beside the output; whoever closed standard error does not hear it, and the work goes on.
pub(super) fn aside(text: impl std::fmt::Display) {
    let _ = write!(io::stderr().lock(), "{text}");
}

/// Text of others, made safe for a terminal: what would move the cursor, hide letters or turn their order is shown as `�`.
pub(super) fn visible(text: &str) -> String {
    let is_safe = |c: char| matches!(c, '\n' | '\t') || !(c.is_control() || is_unseen(c));
    text.chars()
        .map(|c| if is_safe(c) { c } else { char::REPLACEMENT_CHARACTER })
        .collect()
}

/// Marks that change the direction of what follows, or take no room.
fn is_unseen(c: char) -> bool {
    matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Writes JSON, indented on a terminal.
pub(super) fn json(value: &Value) -> Result<(), CliError> {
    let text = if io::stdout().is_terminal() {
        serde_json::to_string_pretty(value)
    } else {
        serde_json::to_string(value)
    };
    line(text.map_err(CliError::local)?)
}

/// Writes the completion script of a command line.
pub(super) fn completion<C: CommandFactory>(shell: Shell) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut C::command(), "atoll", &mut script);
    match io::stdout().lock().write_all(&script) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// Rows under a head, columns as wide as their widest cell; the last one is cut where the terminal ends.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> Result<(), CliError> {
    render(head, rows).iter().try_for_each(line)
}

fn render(head: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let head = head.iter().map(|name| (*name).to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head)
        .chain(rows.iter().map(|row| row.iter().map(|cell| one_line(cell)).collect()))
        .collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let widest = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| widest(column).unwrap_or_default()).collect();
    rows.iter().map(|row| render_row(row, &widths)).collect()
}

fn render_row(row: &[String], widths: &[usize]) -> String {
    let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}  "));
    let text: String = cells.collect();
    cut(text.trim_end(), WIDTH)
}

fn one_line(cell: &str) -> String {
    cell.replace(['\n', '\t'], " ")
}

/// On one line, and not wider than that.
pub(super) fn cut(cell: &str, width: usize) -> String {
    let cell = one_line(cell);
    if cell.chars().count() <= width {
        return cell;
    }
    cell.chars().take(width - 1).chain(['…']).collect()
}

/// Reads what was typed as `--params`.
pub(super) fn params(text: &str) -> Result<Value, CliError> {
    serde_json::from_str(text).map_err(|error| CliError::Usage(format!("--params is not JSON: {error}")))
}

/// A text field of a JSON object, or nothing.
pub(super) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// The elements of a JSON array field, or none.
pub(super) fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value
        .get(field)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// The first ten characters of an id.
pub(super) fn short(id: &str) -> String {
    id.chars().take(10).collect()
}

/// How long ago a moment was (Unix milliseconds), e.g. `5m`; a dash for none.
pub(super) fn ago(moment: Option<u64>, now: u64) -> String {
    let Some(moment) = moment else { return "-".to_owned() };
    let seconds = now.saturating_sub(moment) / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lines_its_columns_up_and_ends_at_the_width() {
        let rows = [
            vec!["a".to_owned(), "x".repeat(100)],
            vec!["long name".to_owned(), "y".to_owned()],
        ];
        let lines = render(&["NAME", "VALUE"], &rows);
        assert_eq!(lines[0], "NAME       VALUE");
        assert_eq!(lines[1].chars().count(), WIDTH);
        assert_eq!(lines[2], "long name  y");
    }

    #[test]
    fn a_cell_stays_in_its_line() {
        let lines = render(&["NAME"], &[vec!["two\nlines".to_owned()]]);
        assert_eq!(lines, ["NAME", "two lines"]);
    }

    #[test]
    fn what_others_wrote_cannot_steer_the_terminal() {
        for (text, expected) in [
            ("plain ü 日本\n\tx", "plain ü 日本\n\tx"),
            ("\u{1b}[2Jgone", "�[2Jgone"),
            ("a\rb\u{8}\u{9b}", "a�b��"),
            ("a\u{202e}b\u{200b}", "a�b�"),
        ] {
            assert_eq!(visible(text), expected);
        }
    }

    #[test]
    fn ages_are_short() {
        for (moment, expected) in [
            (Some(1_000), "9s"),
            (None, "-"),
            (Some(10_000), "0s"),
            (Some(20_000), "0s"),
        ] {
            assert_eq!(ago(moment, 10_000), expected);
        }
        assert_eq!(ago(Some(0), 90_000_000), "1d");
    }
}
