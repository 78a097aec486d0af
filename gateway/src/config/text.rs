//! Where each member and value of a JSON5 text lies, so that one can be changed and every other byte stays. Owns the grammar's
//! outline only: what a scalar means is `json5`'s business.

use std::ops::Range;

/// Objects and arrays inside one another at most. More: an error, long before any stack ends.
pub(super) const DEPTH: usize = 64;

/// One value and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tree {
    /// From its first to behind its last character.
    pub span: Range<usize>,
    /// What it is.
    pub shape: Shape,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// Members in the order of the text; a name may occur twice, then the last one counts.
    Object(Vec<Member>),
    /// Items.
    Array(Vec<Item>),
    /// A string, number or word.
    Scalar,
}

/// One member of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// Its name, decoded.
    pub name: String,
    /// Where its name begins.
    pub start: usize,
    /// Its value.
    pub value: Tree,
    /// Where the comma behind it is.
    pub comma: Option<usize>,
}

/// One item of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// Its value.
    pub value: Tree,
    /// Where the comma behind it is.
    pub comma: Option<usize>,
}

/// The text is no JSON5.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {reason}")]
pub struct SyntaxError {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub reason: String,
}

impl SyntaxError {
    /// Names the place of a byte.
    pub(super) fn at(text: &str, offset: usize, reason: impl Into<String>) -> Self {
        let before = &text[..text.floor_char_boundary(offset)];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            reason: reason.into(),
        }
    }
}

/// Finds every value of a text; none when it holds only blanks and comments.
pub(super) fn scan(text: &str) -> Result<Option<Tree>, SyntaxError> {
    let mut scanner = Scanner { text, at: 0 };
    scanner.skip_trivia()?;
    if scanner.at == text.len() {
        return Ok(None);
    }
    let tree = scanner.value(0)?;
    scanner.skip_trivia()?;
    if scanner.at < text.len() {
        return Err(scanner.error("something follows the value"));
    }
    Ok(Some(tree))
}

/// Where blanks and comments that begin at a byte end, on the same line; and whether a line comment was among them.
pub(super) fn trivia_on_line(text: &str, from: usize) -> (usize, bool) {
    let mut scanner = Scanner { text, at: from };
    loop {
        let rest = scanner.rest();
        let Some(next) = rest.chars().next() else { break };
        if rest.starts_with("//") {
            scanner.at += rest.find(is_line_end).unwrap_or(rest.len());
            return (scanner.at, true);
        } else if rest.starts_with("/*") {
            let Some(end) = rest.find("*/") else { break };
            if rest[..end].contains(is_line_end) {
                break;
            }
            scanner.at += end + 2;
        } else if is_blank(next) && !is_line_end(next) {
            scanner.at += next.len_utf8();
        } else {
            break;
        }
    }
    (scanner.at, false)
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl Scanner<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn error(&self, reason: impl Into<String>) -> SyntaxError {
        SyntaxError::at(self.text, self.at, reason)
    }

    fn skip_trivia(&mut self) -> Result<(), SyntaxError> {
        while let Some(next) = self.peek() {
            if self.rest().starts_with("//") {
                self.at += self.rest().find(is_line_end).unwrap_or(self.rest().len());
            } else if self.rest().starts_with("/*") {
                let end = self.rest()[2..].find("*/");
                self.at += end.ok_or_else(|| self.error("this comment does not end"))? + 4;
            } else if is_blank(next) {
                self.at += next.len_utf8();
            } else {
                break;
            }
        }
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<Tree, SyntaxError> {
        let start = self.at;
        let shape = match self.peek() {
            None => return Err(self.error("a value is missing")),
            Some('{' | '[') if depth >= DEPTH => return Err(self.error(format!("nested deeper than {DEPTH}"))),
            Some('{') => Shape::Object(self.members(depth)?),
            Some('[') => Shape::Array(self.items(depth)?),
            Some(quote @ ('"' | '\'')) => {
                self.quoted(quote)?;
                Shape::Scalar
            }
            Some(_) => {
                self.word()?;
                Shape::Scalar
            }
        };
        Ok(Tree {
            span: start..self.at,
            shape,
        })
    }

    fn members(&mut self, depth: usize) -> Result<Vec<Member>, SyntaxError> {
        let mut members = Vec::new();
        self.at += 1;
        loop {
            self.skip_trivia()?;
            if self.take('}') {
                return Ok(members);
            }
            let start = self.at;
            let name = self.name()?;
            self.skip_trivia()?;
            if !self.take(':') {
                return Err(self.error("a colon is missing here"));
            }
            self.skip_trivia()?;
            let value = self.value(depth + 1)?;
            let comma = self.comma('}')?;
            members.push(Member {
                name,
                start,
                value,
                comma,
            });
        }
    }

    fn items(&mut self, depth: usize) -> Result<Vec<Item>, SyntaxError> {
        let mut items = Vec::new();
        self.at += 1;
        loop {
            self.skip_trivia()?;
            if self.take(']') {
                return Ok(items);
            }
            let value = self.value(depth + 1)?;
            let comma = self.comma(']')?;
            items.push(Item { value, comma });
        }
    }

    /// The comma behind a value; none right before the end.
    fn comma(&mut self, end: char) -> Result<Option<usize>, SyntaxError> {
        self.skip_trivia()?;
        let at = self.at;
        if self.take(',') {
            Ok(Some(at))
        } else if self.peek() == Some(end) {
            Ok(None)
        } else {
            Err(self.error(format!("a comma or {end:?} is missing here")))
        }
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    fn name(&mut self) -> Result<String, SyntaxError> {
        let start = self.at;
        if let Some(quote @ ('"' | '\'')) = self.peek() {
            self.quoted(quote)?;
            let raw = &self.text[start..self.at];
            return json5::from_str(raw).map_err(|_| SyntaxError::at(self.text, start, "not a well-formed name"));
        }
        self.word()?;
        // An escape in a bare name is legal and nobody writes it; it is compared as it stands.
        Ok(self.text[start..self.at].to_owned())
    }

    fn quoted(&mut self, quote: char) -> Result<(), SyntaxError> {
        let start = self.at;
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((at, next)) = chars.next() {
            if next == quote {
                self.at += at + quote.len_utf8();
                return Ok(());
            }
            if next == '\\' {
                chars.next();
            } else if matches!(next, '\n' | '\r') {
                break;
            }
        }
        Err(SyntaxError::at(self.text, start, "this text does not end"))
    }

    fn word(&mut self) -> Result<(), SyntaxError> {
        let end = self.rest().find(|next| is_blank(next) || ",:{}[]\"'/".contains(next));
        let length = end.unwrap_or(self.rest().len());
        if length == 0 {
            let found = self.peek().map(String::from).unwrap_or_default();
            return Err(self.error(format!("{found:?} is not expected here")));
        }
        self.at += length;
        Ok(())
    }
}

fn is_line_end(character: char) -> bool {
    matches!(character, '\n' | '\r' | '\u{2028}' | '\u{2029}')
}

fn is_blank(character: char) -> bool {
    // JSON5's white space: that of JSON, vertical tab, form feed, byte order mark, and Unicode's space separators.
    character == '\u{feff}' || character.is_whitespace() && character != '\u{85}'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slices<'a>(text: &'a str, tree: &Tree, found: &mut Vec<&'a str>) {
        found.push(&text[tree.span.clone()]);
        match &tree.shape {
            Shape::Object(members) => members.iter().for_each(|member| slices(text, &member.value, found)),
            Shape::Array(items) => items.iter().for_each(|item| slices(text, &item.value, found)),
            Shape::Scalar => {}
        }
    }

    #[test]
    fn every_value_is_found_where_it_lies() {
        let text = "// head\n{a: 1, 'b c': [ +.5e3, /* , */ 'it\\'s',], \"d\\u0065\": {e: null // }\n}, }  // tail";
        let tree = scan(text).expect("scans").expect("has a value");
        let mut found = Vec::new();
        slices(text, &tree, &mut found);
        assert_eq!(
            found[1..],
            [
                "1",
                "[ +.5e3, /* , */ 'it\\'s',]",
                "+.5e3",
                "'it\\'s'",
                "{e: null // }\n}",
                "null"
            ]
        );
        let Shape::Object(members) = &tree.shape else {
            panic!("no object")
        };
        let names: Vec<_> = members.iter().map(|member| member.name.as_str()).collect();
        assert_eq!(names, ["a", "b c", "de"]);
    }

    #[test]
    fn a_text_of_comments_has_no_value() {
        assert_eq!(scan(" // nothing\n/* here */ "), Ok(None));
    }

    #[test]
    fn what_is_wrong_is_named_by_line_and_column() {
        for (text, place) in [
            ("{a 1}", (1, 4)),
            ("{\n  a: 1\n  b: 2\n}", (3, 3)),
            ("{a: 'x}", (1, 5)),
            ("{a: /* x", (1, 5)),
            ("{a: }", (1, 5)),
            ("{} {}", (1, 4)),
            ("{é: [1,,2]}", (1, 8)),
            ("{a: 1", (1, 6)),
        ] {
            let error = scan(text).expect_err(text);
            assert_eq!((error.line, error.column), place, "{text}: {error}");
        }
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_overflow() {
        let text = "[".repeat(100_000);
        assert!(scan(&text).expect_err("too deep").reason.contains("deeper"));
    }
}
