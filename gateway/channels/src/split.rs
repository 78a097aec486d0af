//! Cuts a long Markdown text into parts that a platform takes one by one: at a paragraph, else a line, a sentence, a
//! space, and in the middle of a word only when there is nothing else. A code fence that must be cut is closed and
//! opened again. Never changes anything but blanks at a cut and those fence lines. Lengths are UTF-16 code units, which
//! is how Telegram (and Discord, and JavaScript) count.

/// The smallest limit that is honoured: below it there would be no room for a fence and a word.
pub const MIN_LIMIT: usize = 64;

/// How much of a fence's info string is repeated when the fence is opened again.
const INFO_CHARS: usize = 16;
/// A marker longer than this is taken for text, so that closing and reopening always fits [`MIN_LIMIT`].
const LONGEST_MARKER: usize = 8;

/// Parts of at most `limit` UTF-16 units each (at least [`MIN_LIMIT`]), none blank, in order.
pub fn split(text: &str, limit: usize) -> Vec<String> {
    let limit = limit.max(MIN_LIMIT);
    let mut parts = Vec::new();
    let mut rest = text;
    let mut open: Option<Fence> = None;
    while !rest.trim().is_empty() {
        let head = open.as_ref().map(Fence::opening).unwrap_or_default();
        if utf16_len(&head) + utf16_len(rest) <= limit {
            push(&mut parts, format!("{head}{rest}"));
            break;
        }
        let tail_room = 1 + LONGEST_MARKER;
        let window = prefix_within(rest, limit - utf16_len(&head) - tail_room);
        let cut = best_cut(window, open.as_ref());
        let (piece, later) = rest.split_at(cut);
        let at_line_end = piece.ends_with('\n');
        open = fence_after(piece, open);
        let tail = open.as_ref().map(Fence::closing).unwrap_or_default();
        push(&mut parts, format!("{head}{}{tail}", piece.trim_end()));
        rest = without_blank_at_cut(later, open.is_some() || at_line_end);
    }
    parts
}

/// UTF-16 code units of a text.
pub fn utf16_len(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// The longest prefix of at most so many UTF-16 units.
pub fn prefix_within(text: &str, units: usize) -> &str {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        used += c.len_utf16();
        if used > units {
            return &text[..at];
        }
    }
    text
}

fn push(parts: &mut Vec<String>, part: String) {
    if !part.trim().is_empty() {
        parts.push(part);
    }
}

/// Blanks at the cut are what the cut stands for; code, and the indentation of a line, are kept.
fn without_blank_at_cut(later: &str, keep_indent: bool) -> &str {
    match (later.trim_start_matches([' ', '\t']).strip_prefix('\n'), keep_indent) {
        (Some(next_line), _) => next_line,
        (None, true) => later,
        (None, false) => later.trim_start_matches(' '),
    }
}

/// An open code fence: its marker and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fence {
    marker: String,
    pub(crate) info: String,
}

impl Fence {
    /// The fence that this line opens, if it opens one.
    pub(crate) fn opened_by(line: &str) -> Option<Self> {
        let body = line.trim_start_matches(' ');
        let first = body.chars().next().filter(|c| matches!(c, '`' | '~'))?;
        let info = body.trim_start_matches(first);
        let length = body.len() - info.len();
        let plausible = line.len() - body.len() <= 3 && (3..=LONGEST_MARKER).contains(&length);
        (plausible && !info.contains('`')).then(|| Self {
            marker: body[..length].to_owned(),
            info: info.trim().to_owned(),
        })
    }

    /// Whether this line closes the fence.
    pub(crate) fn closed_by(&self, line: &str) -> bool {
        let body = line.trim();
        body.len() >= self.marker.len() && body.chars().all(|c| self.marker.starts_with(c))
    }

    fn opening(&self) -> String {
        let info: String = self.info.chars().take(INFO_CHARS).collect();
        format!("{}{info}\n", self.marker)
    }

    fn closing(&self) -> String {
        format!("\n{}", self.marker)
    }
}

fn fence_after(piece: &str, mut open: Option<Fence>) -> Option<Fence> {
    for line in piece.lines() {
        open = next_fence(open, line);
    }
    open
}

fn next_fence(open: Option<Fence>, line: &str) -> Option<Fence> {
    match open {
        Some(fence) if fence.closed_by(line) => None,
        Some(fence) => Some(fence),
        None => Fence::opened_by(line),
    }
}

/// Where to cut a window that is too small for the rest: a byte offset above 0.
fn best_cut(window: &str, open: Option<&Fence>) -> usize {
    let least = window.len() / 2;
    let lines = LineEnds::of(window, open);
    let first = window.chars().next().map_or(window.len(), char::len_utf8);
    lines
        .paragraph
        .filter(|at| *at >= least)
        .or(lines.outside.filter(|at| *at >= least))
        .or(lines.any.filter(|at| *at >= least))
        .or_else(|| sentence_end(window).filter(|at| *at >= least))
        .or_else(|| last_blank(window))
        .or(lines.any)
        .unwrap_or(window.len())
        .max(first)
}

/// The last line ends in a window, by how good a cut they are. A fence is never left with its opening line alone.
#[derive(Default)]
struct LineEnds {
    paragraph: Option<usize>,
    outside: Option<usize>,
    any: Option<usize>,
}

impl LineEnds {
    fn of(window: &str, open: Option<&Fence>) -> Self {
        let mut ends = Self::default();
        let mut fence = open.cloned();
        let mut at = 0;
        let mut after_blank = false;
        for line in window.split_inclusive('\n') {
            let opens = fence.is_none() && Fence::opened_by(line.trim_end()).is_some();
            if opens && at > 0 {
                ends.paragraph = Some(at);
            }
            fence = next_fence(fence, line.trim_end_matches('\n'));
            if !line.ends_with('\n') {
                break;
            }
            at += line.len();
            if !opens {
                ends.any = Some(at);
                if fence.is_none() {
                    ends.outside = Some(at);
                    after_blank = line.trim().is_empty();
                }
            }
            if fence.is_none() && after_blank {
                ends.paragraph = Some(at);
            }
        }
        ends
    }
}

fn sentence_end(window: &str) -> Option<usize> {
    let marks = ['.', '!', '?', '。', '！', '？'];
    let mut after_mark = false;
    let mut found = None;
    for (at, c) in window.char_indices() {
        if after_mark && c.is_whitespace() {
            found = Some(at + c.len_utf8());
        }
        after_mark = marks.contains(&c);
    }
    found
}

fn last_blank(window: &str) -> Option<usize> {
    window
        .char_indices()
        .rev()
        .find(|(at, c)| *at > 0 && c.is_whitespace())
        .map(|(at, c)| at + c.len_utf8())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ink(text: &str) -> String {
        text.chars().filter(|c| !c.is_whitespace()).collect()
    }

    fn lines_without_fences(parts: &[String]) -> String {
        let all: Vec<&str> = parts.iter().flat_map(|part| part.lines()).collect();
        all.into_iter().filter(|line| !line.starts_with("```")).collect()
    }

    #[test]
    fn a_short_text_stays_whole() {
        assert_eq!(split("hello\n\nworld", 100), ["hello\n\nworld"]);
        assert!(split("  \n ", 100).is_empty());
    }

    #[test]
    fn the_best_place_near_the_end_is_cut() {
        let a = "a".repeat(60);
        let b = "b".repeat(60);
        let check = |text: String, expected: [&str; 2]| assert_eq!(split(&text, 100), expected, "{text}");
        check(format!("{a}\n\n{b}"), [&a, &b]);
        check(format!("{a}\n{b}"), [&a, &b]);
        check(format!("{a}. {b}"), [&format!("{a}."), &b]);
        check(format!("{a} {b}"), [&a, &b]);
        check(format!("{a}\n    {b}"), [&a, &format!("    {b}")]);
    }

    #[test]
    fn a_paragraph_is_preferred_to_a_later_line() {
        let text = format!("{}\n\n{}\n{}", "a".repeat(60), "b".repeat(10), "c".repeat(60));
        assert_eq!(split(&text, 100)[0], "a".repeat(60));
    }

    #[test]
    fn a_fence_is_closed_and_opened_again() {
        let code: String = (0..20).map(|n| format!("let line_{n} = {n};\n")).collect();
        let parts = split(&format!("See:\n```rust\n{code}```\nDone."), 120);
        assert!(parts.len() > 2);
        for part in &parts {
            assert!(utf16_len(part) <= 120);
            assert_eq!(
                part.lines().filter(|line| line.starts_with("```")).count() % 2,
                0,
                "{part}"
            );
        }
        assert!(parts[1].starts_with("```rust\n"));
        assert_eq!(ink(&lines_without_fences(&parts)), ink(&format!("See:{code}Done.")));
    }

    #[test]
    fn emoji_count_twice() {
        let parts = split(&"😀".repeat(100), 128);
        assert!(parts.len() == 2 && parts.iter().all(|part| utf16_len(part) <= 128));
        assert_eq!(parts.concat(), "😀".repeat(100));
    }

    proptest! {
        #[test]
        fn parts_fit_and_lose_nothing_but_blanks(text in "([a-zé😀.! \n]{0,40}){0,20}", limit in 64usize..200) {
            let parts = split(&text, limit);
            for part in &parts {
                prop_assert!(utf16_len(part) <= limit && !part.trim().is_empty());
            }
            prop_assert_eq!(ink(&parts.concat()), ink(&text));
        }

        #[test]
        fn parts_of_fenced_text_fit_and_are_balanced(
            lines in prop::collection::vec("(```|```RS|~~~~|[a-z ]{0,50}|`x`|[a-z]{90,150})", 0..40),
            limit in 64usize..200,
        ) {
            let text = lines.join("\n");
            let parts = split(&text, limit);
            let last = parts.len().saturating_sub(1);
            for (n, part) in parts.iter().enumerate() {
                prop_assert!(utf16_len(part) <= limit, "{part:?}");
                prop_assert!(n == last || fence_after(part, None).is_none(), "{part:?}");
            }
            let letters = |text: &str| -> String { text.chars().filter(|c| c.is_ascii_lowercase()).collect() };
            prop_assert_eq!(letters(&parts.concat()), letters(&text));
        }
    }
}
