//! Markdown and its HTML, and that no Markdown gives HTML that Telegram refuses.

use proptest::prelude::*;

use super::*;
use crate::split::utf16_len;

#[test]
fn markdown_becomes_the_html_that_telegram_reads() {
    let check = |markdown: &str, expected: &str| assert_eq!(to_html(markdown), expected, "{markdown}");
    check("plain & <b>", "plain &amp; &lt;b&gt;");
    check("a **bold** b", "a <b>bold</b> b");
    check("__bold__ and _it_", "<b>bold</b> and <i>it</i>");
    check("**a *b* c**", "<b>a <i>b</i> c</b>");
    check("*a **b** c*", "<i>a <b>b</b> c</i>");
    check("~~gone~~", "<s>gone</s>");
    check("`a<b` ``x`y``", "<code>a&lt;b</code> <code>x`y</code>");
    check(
        "[t](https://x.y/?a=1&b=\"2\")",
        "<a href=\"https://x.y/?a=1&amp;b=&quot;2&quot;\">t</a>",
    );
    check("# Title *x*", "<b>Title <i>x</i></b>");
    check("- one\n  * two\n1. three", "• one\n  • two\n1. three");
    check("> a\n> b\nc", "<blockquote>a\nb</blockquote>\nc");
    check(
        "```rust\nlet x = 1 < 2;\n```\nend",
        "<pre><code class=\"language-rust\">let x = 1 &lt; 2;</code></pre>\nend",
    );
    check("```\nx\n\ny\n```", "<pre>x\n\ny</pre>");
    check("\\*no\\*", "*no*");
}

#[test]
fn what_is_no_markdown_stays_text() {
    let check = |markdown: &str| assert_eq!(to_html(markdown), markdown, "{markdown}");
    check("snake_case_name and 2 * 3 * 4");
    check("**open and *open");
    check("a * b");
    check("it is in my__dir__x");
    check("[x](javascript:alert) [y] (z)");
    check("#hashtag");
    check("`open");
}

#[test]
fn an_open_fence_still_ends() {
    assert_eq!(to_html("```sh\nls"), "<pre><code class=\"language-sh\">ls</code></pre>");
}

/// What Telegram would show, and proof that every tag is known and closed in order.
fn visible(html: &str) -> Result<String, String> {
    let (mut shown, mut stack, mut rest) = (String::new(), Vec::new(), html);
    while let Some(c) = rest.chars().next() {
        if c == '<' {
            let end = rest.find('>').ok_or("a tag without end")?;
            let tag = &rest[1..end];
            rest = &rest[end + 1..];
            if let Some(name) = tag.strip_prefix('/') {
                let open: Option<&str> = stack.pop();
                if open != Some(name) {
                    return Err(format!("</{name}> closes {open:?}"));
                }
            } else {
                let name = tag.split(' ').next().unwrap_or_default();
                if !["b", "i", "s", "code", "pre", "a", "blockquote"].contains(&name) || stack.contains(&name) {
                    return Err(format!("<{name}> in {stack:?}"));
                }
                stack.push(name);
            }
        } else if c == '&' {
            let end = rest.find(';').ok_or("an entity without end")?;
            shown.push('x');
            rest = &rest[end + 1..];
        } else {
            shown.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    if stack.is_empty() {
        Ok(shown)
    } else {
        Err(format!("open: {stack:?}"))
    }
}

proptest! {
    #[test]
    fn any_text_gives_balanced_html_that_is_no_longer_to_the_eye(
        text in r"(\*{1,3}|_{1,2}|~~|`{1,4}|\[|\]\(https://x\)|[<>&\x22 \n\\#-]|[a-z]{1,3}|> |😀){0,40}"
    ) {
        let html = to_html(&text);
        let shown = visible(&html).map_err(|error| TestCaseError::fail(format!("{error}: {html}")))?;
        prop_assert!(utf16_len(&shown) <= utf16_len(&text), "{html}");
    }
}
