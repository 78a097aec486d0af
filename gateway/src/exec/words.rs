//! From the text of a command to the vector that is run. Only text that every shell would read as the same plain words becomes a vector
//! of its own; anything else is one argument of a shell, which no allowlist ever matches. Pure.

/// The vector for `command` on a system of this `platform`.
pub(crate) fn argv(command: &str, platform: &str) -> Vec<String> {
    if platform.eq_ignore_ascii_case("windows") {
        return ["cmd.exe", "/d", "/s", "/c", command].map(str::to_owned).to_vec();
    }
    plain_words(command).unwrap_or_else(|| ["/bin/sh", "-c", command].map(str::to_owned).to_vec())
}

/// The words, where nothing in the text could mean anything but itself.
fn plain_words(command: &str) -> Option<Vec<String>> {
    let plain = |c: char| c.is_ascii_alphanumeric() || " _-./:@%+,=".contains(c);
    let words: Vec<String> = command.split_ascii_whitespace().map(str::to_owned).collect();
    let first = words.first()?;
    // A leading `NAME=value` is an assignment, not a program.
    (command.chars().all(plain) && !first.contains('=') && !is_shell_word(first)).then_some(words)
}

/// Words that only a shell understands.
fn is_shell_word(word: &str) -> bool {
    const WORDS: [&str; 24] = [
        ".", "alias", "bg", "break", "case", "cd", "command", "continue", "eval", "exec", "exit", "export", "fg",
        "for", "if", "jobs", "read", "set", "source", "time", "trap", "type", "umask", "while",
    ];
    WORDS.contains(&word)
}

/// The text of a vector: its words with spaces between them, those with a space or a quote in them quoted.
pub(crate) fn text_of(argv: &[String]) -> String {
    let word = |word: &String| {
        if word.is_empty() || word.contains(|c: char| c.is_whitespace() || c == '"') {
            format!("\"{}\"", word.replace('"', "\\\""))
        } else {
            word.clone()
        }
    };
    argv.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// Whether somebody who reads this text knows what the vector does: it is the vector's own, or the script that it hands a shell.
pub(crate) fn is_text_of(argv: &[String], text: &str) -> bool {
    text.trim() == text_of(argv) || script_of(argv) == Some(text.trim())
}

/// The script of `sh -c …` and its kin.
fn script_of(argv: &[String]) -> Option<&str> {
    let [.., flag, script] = argv else { return None };
    let is_shell = std::path::Path::new(argv.first()?)
        .file_name()
        .and_then(std::ffi::OsStr::to_str)
        .is_some_and(|name| name.ends_with("sh"));
    (is_shell && flag.starts_with('-') && flag.ends_with('c')).then(|| script.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_words_are_their_own_vector() {
        assert_eq!(argv("uname -a", "linux"), ["uname", "-a"]);
        assert_eq!(argv("  ls   /tmp ", "linux"), ["ls", "/tmp"]);
    }

    #[test]
    fn anything_a_shell_would_read_differently_goes_to_a_shell_whole() {
        for text in [
            "a; b",
            "a && b",
            "a | b",
            "echo $HOME",
            "echo `id`",
            "ls *.rs",
            "echo 'x y'",
            "a > b",
            "A=1 b",
            "cd /tmp",
            "echo ~",
            "a\nb",
            "echo \\x",
            "a & ",
            "{a,b}",
            "echo é",
            "# x",
            "!!",
        ] {
            assert_eq!(argv(text, "linux"), ["/bin/sh", "-c", text], "{text}");
        }
        assert_eq!(argv("", "linux"), ["/bin/sh", "-c", ""]);
    }

    #[test]
    fn windows_has_a_shell_of_its_own() {
        assert_eq!(argv("dir", "windows"), ["cmd.exe", "/d", "/s", "/c", "dir"]);
    }
}
