//! What becomes of messages whose conversation is busy (`messages.queue`): which of them go together, and in which words. Pure; the
//! rows are the journal's, the order of turns the lane's.

use atoll_channels::port::PeerKind;
use atoll_protocol::id::RunId;

use crate::turns::{Said, Source};

/// Characters that are kept of a message that was dropped.
const KEPT: usize = 160;

/// One message that waits for its turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// Its turn.
    pub(crate) run: RunId,
    /// Where it came from.
    pub(crate) source: Source,
    /// What it says.
    pub(crate) said: Said,
    /// When it was queued, Unix milliseconds.
    pub(crate) created_at: i64,
}

/// Whether two messages may become one turn: the same person, in the same place. Nobody's words get into somebody else's turn.
pub(crate) fn go_together(one: &Source, other: &Source) -> bool {
    let (
        Source::Chat { place, sender, .. },
        Source::Chat {
            place: other_place,
            sender: other_sender,
            ..
        },
    ) = (one, other)
    else {
        return false;
    };
    let is_same_person = sender.is_some() && sender == other_sender;
    place == other_place && (place.kind == PeerKind::Direct || is_same_person)
}

/// Those that go with a message, in their order. One that begins a conversation anew ends the row: what comes after it is for that.
pub(crate) fn company<'a>(of: &Source, waiting: &'a [Waiting]) -> Vec<&'a Waiting> {
    let goes_on = waiting.iter().take_while(|other| other.said.anew.is_none());
    goes_on.filter(|other| go_together(of, &other.source)).collect()
}

/// The text of one turn for several messages, oldest first.
pub(crate) fn joined<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    texts.into_iter().collect::<Vec<_>>().join("\n\n")
}

/// A message that came when too many waited, after the oldest was dropped for it.
pub(crate) fn with_summary(dropped: &str, text: &str) -> String {
    let dropped = beginning(dropped);
    format!("[An earlier message was dropped because too many waited. It began: {dropped}]\n\n{text}")
}

/// The beginning of a text in one line.
pub(crate) fn beginning(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let kept: String = line.chars().take(KEPT).collect();
    let more = if kept.len() < line.len() { "…" } else { "" };
    kept + more
}

#[cfg(test)]
mod tests {
    use atoll_channels::port::{AccountRef, Place};

    use super::*;

    fn chat(kind: PeerKind, sender: Option<&str>) -> Source {
        Source::Chat {
            place: Place {
                account: AccountRef {
                    channel: "telegram".to_owned(),
                    account: "default".to_owned(),
                },
                kind,
                chat: "1".to_owned(),
                thread: None,
            },
            message: None,
            sender: sender.map(str::to_owned),
        }
    }

    fn waiting(run: &str, source: Source, anew: bool) -> Waiting {
        Waiting {
            run: RunId::new(run).expect("an id"),
            source,
            said: Said {
                anew: anew.then(|| "new".to_owned()),
                ..Said::of(run)
            },
            created_at: 0,
        }
    }

    #[test]
    fn only_words_of_one_person_in_one_place_go_together() {
        let (ann, bob) = (chat(PeerKind::Group, Some("1")), chat(PeerKind::Group, Some("2")));
        let unknown = chat(PeerKind::Group, None);
        assert!(go_together(&ann, &ann.clone()));
        assert!(!go_together(&ann, &bob) && !go_together(&unknown, &unknown.clone()));
        let direct = chat(PeerKind::Direct, None);
        assert!(go_together(&direct, &chat(PeerKind::Direct, Some("1"))));
        assert!(!go_together(&direct, &ann));
        assert!(!go_together(&Source::Operator, &Source::Operator));
    }

    #[test]
    fn nothing_goes_past_the_beginning_of_another_conversation() {
        let ann = chat(PeerKind::Group, Some("1"));
        let bob = chat(PeerKind::Group, Some("2"));
        let row = [
            waiting("a", ann.clone(), false),
            waiting("b", bob, false),
            waiting("c", ann.clone(), false),
            waiting("d", ann.clone(), true),
            waiting("e", ann.clone(), false),
        ];
        let names: Vec<_> = company(&ann, &row).iter().map(|waiting| waiting.run.as_str()).collect();
        assert_eq!(names, ["a", "c"]);
    }

    #[test]
    fn a_summary_is_one_short_line() {
        let text = with_summary(&format!("one\ntwo {}", "x".repeat(500)), "three");
        let (first, rest) = text.split_once("\n\n").expect("two parts");
        assert!(
            first.contains("one two x") && first.ends_with("…]") && first.chars().count() < 260,
            "{first}"
        );
        assert_eq!(rest, "three");
    }
}
