//! Words of a command line, as a POSIX shell (XCU 2.2) would cut and unquote them, and nothing else of a shell: no
//! expansion, no operators, no comments. And the way back, for people to read.

/// A line that ends in the middle of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    /// `'…` or `"…`.
    #[error("A quote is not closed.")]
    OpenQuote,
    /// `\` at the very end.
    #[error("Nothing follows the last backslash.")]
    TrailingBackslash,
}

/// All words.
///
/// # Errors
/// A line that ends in the middle of a word.
pub fn split_words(line: &str) -> Result<Vec<String>, WordError> {
    let mut words = Vec::new();
    let mut rest = line;
    while let (Some(word), after) = first_word(rest)? {
        words.push(word);
        rest = after;
    }
    Ok(words)
}

/// The first word, and what follows it.
///
/// # Errors
/// A line that ends in the middle of that word.
pub fn first_word(line: &str) -> Result<(Option<String>, &str), WordError> {
    let line = line.trim_start();
    let mut word: Option<String> = None;
    let mut chars = line.char_indices();
    while let Some((at, c)) = chars.next() {
        if c.is_whitespace() {
            return Ok((word, &line[at..]));
        }
        let word = word.get_or_insert_default();
        match c {
            '\'' => single_quoted(&mut chars, word)?,
            '"' => double_quoted(&mut chars, word)?,
            '\\' => match chars.next().ok_or(WordError::TrailingBackslash)? {
                // A line that goes on.
                (_, '\n') => {}
                (_, escaped) => word.push(escaped),
            },
            other => word.push(other),
        }
    }
    Ok((word, ""))
}

fn single_quoted(chars: &mut std::str::CharIndices<'_>, word: &mut String) -> Result<(), WordError> {
    for (_, c) in chars {
        if c == '\'' {
            return Ok(());
        }
        word.push(c);
    }
    Err(WordError::OpenQuote)
}

fn double_quoted(chars: &mut std::str::CharIndices<'_>, word: &mut String) -> Result<(), WordError> {
    while let Some((_, c)) = chars.next() {
        match c {
            '"' => return Ok(()),
            '\\' => match chars.next().ok_or(WordError::OpenQuote)? {
                (_, '\n') => {}
                (_, escaped @ ('"' | '\\' | '$' | '`')) => word.push(escaped),
                (_, other) => word.extend(['\\', other]),
            },
            other => word.push(other),
        }
    }
    Err(WordError::OpenQuote)
}

/// A line that [`split_words`] reads as these words, quoted only where needed.
pub fn join_words(words: &[String]) -> String {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_cut_as_a_shell_cuts_them() {
        let check = |line: &str, expected: &[&str]| {
            assert_eq!(
                split_words(line).as_deref(),
                Ok(&expected.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>()[..]),
                "{line}"
            )
        };
        check("", &[]);
        check("  a\tb\nc ", &["a", "b", "c"]);
        check("a'b c'd", &["ab cd"]);
        check(r#""a\"b" "\$x" "\n" "`""#, &["a\"b", "$x", "\\n", "`"]);
        check(r"'a\b' a\ b \' \\", &["a\\b", "a b", "'", "\\"]);
        check("'' \"\"", &["", ""]);
        check("a\\\nb", &["ab"]);
        check("*.rs $HOME ~ | ; # x", &["*.rs", "$HOME", "~", "|", ";", "#", "x"]);
    }

    #[test]
    fn a_line_that_ends_inside_a_word_is_refused() {
        assert_eq!(split_words("a 'b"), Err(WordError::OpenQuote));
        assert_eq!(split_words("a \"b\\"), Err(WordError::OpenQuote));
        assert_eq!(split_words("a b\\"), Err(WordError::TrailingBackslash));
    }

    proptest! {
        #[test]
        fn joined_words_are_read_back(words in prop::collection::vec(any::<String>(), 0..6)) {
            prop_assert_eq!(split_words(&join_words(&words)), Ok(words));
        }
    }
}
