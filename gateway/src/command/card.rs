//! The question that a person answers in a chat: its text, its buttons, and what a button says when it comes back.
//! Pure. What is asked about is shown in full or cannot be allowed here: a person never says yes to what is not shown,
//! and nothing in a command can look like a part of the card.

use atoll_channels::port::{Button, Outbound};
use atoll_protocol::id::ApprovalId;

use atoll_pairing::approval::Decision;

/// Longer commands are cut in the middle and can only be denied, UTF-16 units (Telegram's limit is 4,096 in all).
const SHOWN: usize = 3000;
/// What one line of facts may hold, characters.
const FACT: usize = 200;
/// What a button may carry, bytes.
const BUTTON_DATA: usize = 64;

/// What is asked.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// Its id.
    pub approval: &'a ApprovalId,
    /// The device's name.
    pub node: &'a str,
    /// What would run, see [`super::words::join_words`].
    pub command: &'a str,
    /// Where.
    pub cwd: &'a str,
    /// Who asks: an agent and its session, or an operator.
    pub asked_by: &'a str,
    /// Why it is asked though it would run unasked otherwise.
    pub why: Option<&'a str>,
    /// Whether it can be allowed for ever; shell text cannot.
    pub may_always: bool,
    /// When it expires, in words, e.g. `in 30 minutes`.
    pub expires: &'a str,
}

/// How a question ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// Somebody answered.
    Answered(Decision, &'a str),
    /// Nobody answered in time.
    Expired,
    /// It is no longer of interest.
    Cancelled,
    /// There was nobody to ask.
    Nobody,
}

/// The card.
pub fn card(question: &Question<'_>) -> Outbound {
    let shown = shown(question.command);
    let id = fact(question.approval.as_str());
    let how = if shown.complete {
        format!("`/approve {id} allow-once|allow-always|deny`")
    } else {
        format!(
            "This is too long to show. Read it with `atoll approvals list --json`, then `atoll approvals approve {id}`."
        )
    };
    Outbound::Card {
        text: format!(
            "**Run this on {}?**\n{}\nExpires {}. {how}",
            fact(question.node),
            body(question, &shown),
            question.expires
        ),
        buttons: buttons(question, shown.complete),
    }
}

/// The card's text once the question is settled; editing it in removes the buttons.
pub fn settled(question: &Question<'_>, outcome: Outcome<'_>) -> String {
    let line = match outcome {
        Outcome::Answered(Decision::AllowOnce, by) => format!("✅ Allowed once by {}", fact(by)),
        Outcome::Answered(Decision::AllowAlways, by) => format!("✅ Always allowed by {}", fact(by)),
        Outcome::Answered(Decision::Deny, by) => format!("⛔ Denied by {}", fact(by)),
        Outcome::Expired => "⌛ Nobody answered in time; it was not run.".to_owned(),
        Outcome::Cancelled => "⛔ Withdrawn; it was not run.".to_owned(),
        Outcome::Nobody => "⛔ Nobody may answer; it was not run.".to_owned(),
    };
    format!(
        "{line}\nOn {}:\n{}",
        fact(question.node),
        body(question, &shown(question.command))
    )
}

/// What a button carries: `ap:<approval id>:<o|a|d>`. None when the id is too long for a button.
pub fn button_data(approval: &ApprovalId, decision: Decision) -> Option<String> {
    let letter = match decision {
        Decision::AllowOnce => 'o',
        Decision::AllowAlways => 'a',
        Decision::Deny => 'd',
    };
    let data = format!("ap:{}:{letter}", approval.as_str());
    (data.len() <= BUTTON_DATA).then_some(data)
}

/// Reads [`button_data`]; none when it is something else.
pub fn read_button(data: &str) -> Option<(ApprovalId, Decision)> {
    let (id, letter) = data.strip_prefix("ap:")?.rsplit_once(':')?;
    let decision = match letter {
        "o" => Decision::AllowOnce,
        "a" => Decision::AllowAlways,
        "d" => Decision::Deny,
        _ => return None,
    };
    Some((ApprovalId::new(id).ok()?, decision))
}

fn buttons(question: &Question<'_>, complete: bool) -> Vec<Vec<Button>> {
    let button = |label: &str, decision| {
        let data = button_data(question.approval, decision)?;
        let label = label.to_owned();
        Some(Button { label, data })
    };
    let once = complete.then(|| button("Allow once", Decision::AllowOnce)).flatten();
    let always = (complete && question.may_always)
        .then(|| button("Always allow", Decision::AllowAlways))
        .flatten();
    let rows = [
        once.into_iter().chain(always).collect::<Vec<_>>(),
        button("Deny", Decision::Deny).into_iter().collect(),
    ];
    rows.into_iter().filter(|row| !row.is_empty()).collect()
}

fn body(question: &Question<'_>, shown: &Shown) -> String {
    let marker = fence_for(&shown.text);
    let place = if question.cwd.is_empty() {
        format!("Asked by {}.", fact(question.asked_by))
    } else {
        format!("In {}, asked by {}.", code(question.cwd), fact(question.asked_by))
    };
    let why = question
        .why
        .map(|why| format!("\n⚠️ {}", fact(why)))
        .unwrap_or_default();
    format!("{marker}\n{}\n{marker}\n{place}{why}", shown.text)
}

/// A command made visible.
struct Shown {
    text: String,
    complete: bool,
}

fn shown(command: &str) -> Shown {
    let visible: String = command.chars().map(visible).collect();
    let units = visible.encode_utf16().count();
    if units <= SHOWN && has_fence(&visible) {
        return Shown {
            text: visible,
            complete: true,
        };
    }
    // One line, in which no fence can end.
    let line = visible.replace('\n', "\\n");
    let count = line.chars().count();
    let keep = SHOWN / 5;
    let head: String = line.chars().take(keep).collect();
    let tail: String = line.chars().skip(keep.max(count.saturating_sub(keep))).collect();
    let hidden = count.saturating_sub(2 * keep);
    Shown {
        text: format!("> {head}\n… {hidden} characters not shown …\n> {tail}"),
        complete: false,
    }
}

/// Characters that hide or reorder others are shown as what they are.
fn visible(c: char) -> String {
    let invisible = matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    match c {
        '\n' | '\t' => c.to_string(),
        c if c.is_control() || invisible => c.escape_unicode().to_string(),
        c => c.to_string(),
    }
}

/// A fence that no line of the text closes.
fn fence_for(text: &str) -> String {
    fences()
        .find(|fence| !closes(text, fence))
        .unwrap_or_else(|| "```".to_owned())
}

fn has_fence(text: &str) -> bool {
    fences().any(|fence| !closes(text, &fence))
}

fn fences() -> impl Iterator<Item = String> {
    (3..=8).flat_map(|length| ["`", "~"].map(|symbol| symbol.repeat(length)))
}

fn closes(text: &str, fence: &str) -> bool {
    text.lines().any(|line| {
        let line = line.trim();
        line.len() >= fence.len() && line.chars().all(|c| fence.starts_with(c))
    })
}

/// Somebody else's words in one line, as code, so that they are nothing but text.
fn code(text: &str) -> String {
    let line = fact(text).replace('`', "'");
    if line.is_empty() {
        "?".to_owned()
    } else {
        format!("`{line}`")
    }
}

/// Somebody else's words in one line, short, with nothing in them that would format.
fn fact(text: &str) -> String {
    text.chars()
        .take(FACT)
        .map(|c| if c.is_whitespace() { " ".to_owned() } else { visible(c) })
        .map(|part| if part == "`" { "'".to_owned() } else { part })
        .collect::<String>()
        .replace(['*', '[', ']', '~'], " ")
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ApprovalId {
        ApprovalId::new(text).expect("an id")
    }

    fn question<'a>(approval: &'a ApprovalId, command: &'a str) -> Question<'a> {
        Question {
            approval,
            node: "laptop",
            command,
            cwd: "/home/ann",
            asked_by: "agent main",
            why: None,
            may_always: true,
            expires: "in 30 minutes",
        }
    }

    fn parts(outbound: Outbound) -> (String, Vec<String>) {
        let Outbound::Card { text, buttons } = outbound else {
            panic!("no card: {outbound:?}");
        };
        (text, buttons.into_iter().flatten().map(|button| button.data).collect())
    }

    #[test]
    fn a_card_says_what_where_who_and_how_to_answer() {
        let id = id("7f3c");
        let (text, buttons) = parts(card(&question(&id, "uname -a")));
        for part in [
            "laptop",
            "```\nuname -a\n```",
            "/home/ann",
            "agent main",
            "in 30 minutes",
            "/approve 7f3c",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(buttons, ["ap:7f3c:o", "ap:7f3c:a", "ap:7f3c:d"]);
        let warned = Question {
            why: Some("It has read a picture."),
            cwd: "",
            ..question(&id, "camera.snap {}")
        };
        let text = parts(card(&warned)).0;
        assert!(
            text.contains("⚠️ It has read a picture.") && !text.contains("In `"),
            "{text}"
        );
        let shell = Question {
            may_always: false,
            ..question(&id, "ls | wc")
        };
        assert_eq!(parts(card(&shell)).1, ["ap:7f3c:o", "ap:7f3c:d"]);
    }

    #[test]
    fn a_button_comes_back_as_it_went_and_fits() {
        let uuid = id("3f2b8c1e-8a5d-4a51-9d1c-0c7be1c0a111");
        for decision in [Decision::AllowOnce, Decision::AllowAlways, Decision::Deny] {
            let data = button_data(&uuid, decision).expect("fits");
            assert!(data.len() <= 64);
            assert_eq!(read_button(&data), Some((uuid.clone(), decision)));
        }
        assert_eq!(button_data(&id(&"x".repeat(60)), Decision::Deny), None);
        for other in ["", "ap:", "ap:7f3c", "ap:7f3c:x", "ap::o", "xx:7f3c:o", "ap:7f3c:o:"] {
            assert_eq!(read_button(other), None, "{other}");
        }
    }

    #[test]
    fn nothing_in_a_command_looks_like_the_card() {
        let id = id("7f3c");
        let text = parts(card(&question(&id, "echo\n```\n**Safe**\n~~~"))).0;
        assert!(text.contains("````\necho\n```\n**Safe**\n~~~\n````"), "{text}");
        let text = parts(card(&question(&id, "ls \u{202e}fr mr\u{200b}\u{1b}[2K"))).0;
        assert!(text.contains(r"ls \u{202e}fr mr\u{200b}\u{1b}[2K"), "{text}");
        let named = Question {
            node: "x`\n**Approved**",
            ..question(&id, "ls")
        };
        assert!(!parts(card(&named)).0.contains("**Approved**"));
    }

    #[test]
    fn what_cannot_be_shown_in_full_cannot_be_allowed_here() {
        let id = id("7f3c");
        let every_fence: String = (3..9)
            .map(|n| format!("{}\n{}\n", "`".repeat(n), "~".repeat(n)))
            .collect();
        for command in [
            "a".repeat(SHOWN + 1),
            "😀".repeat(SHOWN),
            every_fence,
            "\u{200b}".repeat(SHOWN),
        ] {
            let (text, buttons) = parts(card(&question(&id, &command)));
            assert_eq!(buttons, ["ap:7f3c:d"]);
            assert!(
                text.encode_utf16().count() < 4000 && text.contains("not shown"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_settled_card_says_how_it_ended() {
        let id = id("7f3c");
        let check = |outcome, expected: &str| {
            let text = settled(&question(&id, "ls"), outcome);
            assert!(text.starts_with(expected) && text.contains("laptop"), "{text}");
        };
        check(Outcome::Answered(Decision::AllowOnce, "Ann"), "✅ Allowed once by Ann");
        check(
            Outcome::Answered(Decision::AllowAlways, "Ann"),
            "✅ Always allowed by Ann",
        );
        check(Outcome::Answered(Decision::Deny, "Ann"), "⛔ Denied by Ann");
        check(Outcome::Expired, "⌛");
        check(Outcome::Cancelled, "⛔ Withdrawn");
    }
}
