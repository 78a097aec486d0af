//! Markdown as the HTML that Telegram reads. Whatever the input, the result is balanced and uses only tags that
//! Telegram knows: it is written from a tree, and what is no proper Markdown stays text. The text that a reader sees is
//! never longer than the Markdown, so that a part within the limit stays within it.

use std::iter::Peekable;
use std::str::Lines;

use crate::split::Fence;

/// Markdown → Telegram HTML: bold, italic, strikethrough, code, fenced code with its language, links, headings (bold),
/// quotes, lists (as text).
pub fn to_html(markdown: &str) -> String {
    let mut out = String::with_capacity(markdown.len() + markdown.len() / 4);
    let mut lines = markdown.lines().peekable();
    let mut first = true;
    while let Some(line) = lines.next() {
        if !first {
            out.push('\n');
        }
        first = false;
        if let Some(fence) = Fence::opened_by(line) {
            code_block(&mut out, &fence, &mut lines);
        } else if let Some(quoted) = quote_of(line) {
            quote(&mut out, quoted, &mut lines);
        } else {
            text_line(&mut out, line);
        }
    }
    out
}

fn code_block(out: &mut String, fence: &Fence, lines: &mut Peekable<Lines<'_>>) {
    let body: Vec<&str> = lines.by_ref().take_while(|line| !fence.closed_by(line)).collect();
    let body = body.join("\n");
    let language = fence.info.split_whitespace().next().unwrap_or_default();
    if language.is_empty() {
        out.push_str("<pre>");
        escape(out, &body);
        out.push_str("</pre>");
    } else {
        out.push_str("<pre><code class=\"language-");
        escape(out, language);
        out.push_str("\">");
        escape(out, &body);
        out.push_str("</code></pre>");
    }
}

fn quote_of(line: &str) -> Option<&str> {
    let body = line.strip_prefix('>')?;
    Some(body.strip_prefix(' ').unwrap_or(body))
}

fn quote(out: &mut String, first: &str, lines: &mut Peekable<Lines<'_>>) {
    out.push_str("<blockquote>");
    inline(out, first, Style::default());
    while let Some(more) = lines.peek().and_then(|line| quote_of(line)) {
        out.push('\n');
        inline(out, more, Style::default());
        lines.next();
    }
    out.push_str("</blockquote>");
}

fn text_line(out: &mut String, line: &str) {
    if let Some(title) = heading(line) {
        wrapped(out, "b", |out| {
            let style = Style {
                bold: true,
                ..Style::default()
            };
            inline(out, title, style);
        });
        return;
    }
    let body = line.trim_start();
    let indent = &line[..line.len() - body.len()];
    out.push_str(indent);
    match body.strip_prefix("- ").or_else(|| body.strip_prefix("* ")) {
        Some(item) => {
            out.push_str("• ");
            inline(out, item, Style::default());
        }
        None => inline(out, body, Style::default()),
    }
}

fn heading(line: &str) -> Option<&str> {
    let title = line.trim_start_matches('#');
    let level = line.len() - title.len();
    let title = title.strip_prefix(' ').filter(|_| (1..=6).contains(&level))?.trim();
    (!title.is_empty()).then_some(title)
}

/// What is already on around a piece of text; nothing is switched on twice.
#[derive(Clone, Copy, Default)]
struct Style {
    bold: bool,
    italic: bool,
    strike: bool,
    link: bool,
}

/// One emphasis: its marker, its tag, and whether it may start or end inside a word.
struct Emphasis {
    marker: &'static str,
    tag: &'static str,
    in_word: bool,
    switch: fn(&mut Style) -> &mut bool,
}

/// Longer markers first.
const EMPHASES: [Emphasis; 5] = [
    Emphasis {
        marker: "**",
        tag: "b",
        in_word: true,
        switch: |style| &mut style.bold,
    },
    Emphasis {
        marker: "__",
        tag: "b",
        in_word: false,
        switch: |style| &mut style.bold,
    },
    Emphasis {
        marker: "~~",
        tag: "s",
        in_word: true,
        switch: |style| &mut style.strike,
    },
    Emphasis {
        marker: "*",
        tag: "i",
        in_word: true,
        switch: |style| &mut style.italic,
    },
    Emphasis {
        marker: "_",
        tag: "i",
        in_word: false,
        switch: |style| &mut style.italic,
    },
];

/// Text of one line. Each nesting switches a style on that was off, so the depth is bounded by their number.
fn inline(out: &mut String, text: &str, style: Style) {
    let mut rest = text;
    let mut before = None;
    while let Some(c) = rest.chars().next() {
        let used = escaped(out, rest)
            .or_else(|| code(out, rest))
            .or_else(|| emphasis(out, rest, before, style))
            .or_else(|| link(out, rest, style))
            .unwrap_or_else(|| {
                escape(out, &rest[..c.len_utf8()]);
                c.len_utf8()
            });
        before = rest[..used].chars().next_back();
        rest = &rest[used..];
    }
}

/// `\*` and the like.
fn escaped(out: &mut String, rest: &str) -> Option<usize> {
    let next = rest.strip_prefix('\\')?.chars().next()?;
    "\\`*_~[]()#>-.!|{}+".contains(next).then(|| {
        escape(out, &rest[1..1 + next.len_utf8()]);
        1 + next.len_utf8()
    })
}

fn code(out: &mut String, rest: &str) -> Option<usize> {
    let ticks = rest.len() - rest.trim_start_matches('`').len();
    if ticks == 0 {
        return None;
    }
    let marker = &rest[..ticks];
    let length = rest[ticks..].find(marker).filter(|length| *length > 0);
    let Some(length) = length else {
        out.push_str(marker);
        return Some(ticks);
    };
    let body = &rest[ticks..ticks + length];
    wrapped(out, "code", |out| escape(out, body));
    Some(ticks + length + ticks)
}

fn emphasis(out: &mut String, rest: &str, before: Option<char>, style: Style) -> Option<usize> {
    let kind = EMPHASES.iter().find(|kind| rest.starts_with(kind.marker))?;
    let mut inner_style = style;
    let switch = (kind.switch)(&mut inner_style);
    if *switch || (!kind.in_word && before.is_some_and(char::is_alphanumeric)) {
        return None;
    }
    *switch = true;
    let width = kind.marker.len();
    let length = closing(&rest[width..], kind)?;
    let body = &rest[width..width + length];
    wrapped(out, kind.tag, |out| inline(out, body, inner_style));
    Some(width + length + width)
}

/// Where the emphasis that starts before `text` ends: not around blanks, not within code.
fn closing(text: &str, kind: &Emphasis) -> Option<usize> {
    let first = text.chars().next().filter(|c| !c.is_whitespace())?;
    let mut at = first.len_utf8();
    if first == '`' {
        at = code_end(text, 0);
    }
    while at < text.len() {
        let here = &text[at..];
        let c = here.chars().next()?;
        if c == '`' {
            at = code_end(text, at);
        } else if here.starts_with(kind.marker) && closes(text, at, kind) {
            return Some(at);
        } else if here.starts_with(kind.marker) {
            at += kind.marker.len();
        } else {
            at += c.len_utf8();
        }
    }
    None
}

fn closes(text: &str, at: usize, kind: &Emphasis) -> bool {
    let after = text[at + kind.marker.len()..].chars().next();
    let before = text[..at].chars().next_back();
    let marker = kind.marker.chars().next();
    // `**` inside `*…*` opens or closes another emphasis.
    let doubled = kind.marker.len() == 1 && (after == marker || before == marker);
    let ends_word = kind.in_word || !after.is_some_and(char::is_alphanumeric);
    !doubled && ends_word && before.is_some_and(|c| !c.is_whitespace() && c != '\\')
}

/// The end of a code span that starts at `at`, or the end of its ticks when it is none.
fn code_end(text: &str, at: usize) -> usize {
    let here = &text[at..];
    let ticks = here.len() - here.trim_start_matches('`').len();
    let length = here[ticks..].find(&here[..ticks]).filter(|length| *length > 0);
    at + length.map_or(ticks, |length| ticks + length + ticks)
}

fn link(out: &mut String, rest: &str, style: Style) -> Option<usize> {
    if style.link || !rest.starts_with('[') {
        return None;
    }
    let label_end = rest.find("](")?;
    let label = &rest[1..label_end];
    let after = &rest[label_end + 2..];
    let address = &after[..after.find(')')?];
    let known = ["https://", "http://", "tg://", "mailto:"];
    let plausible = known.iter().any(|scheme| address.starts_with(scheme)) && !address.contains(char::is_whitespace);
    if !plausible || label.trim().is_empty() || label.contains('[') {
        return None;
    }
    out.push_str("<a href=\"");
    escape(out, address);
    out.push_str("\">");
    inline(out, label, Style { link: true, ..style });
    out.push_str("</a>");
    Some(label_end + 2 + address.len() + 1)
}

fn wrapped(out: &mut String, tag: &str, body: impl FnOnce(&mut String)) {
    for part in ["<", tag, ">"] {
        out.push_str(part);
    }
    body(out);
    for part in ["</", tag, ">"] {
        out.push_str(part);
    }
}

fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests;
