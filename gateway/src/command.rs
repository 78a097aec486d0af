//! Commands that a person types in a chat or at the prompt, without any model. Pure: text in, a [`Command`] or a
//! [`Usage`] out. Never decides whether the sender may do it.

pub mod card;
pub mod words;

use atoll_protocol::id::ApprovalId;

use atoll_pairing::approval::Decision;
use words::split_words;

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Says what can be typed: [`HELP`].
    Help,
    /// How gateway, nodes and channels are.
    Status,
    /// Which nodes there are and what they can do.
    Nodes,
    /// Runs a command on a node.
    Run {
        /// The node as it was named: id, start of the id, or name.
        node: String,
        /// What to run.
        what: What,
    },
    /// Takes a picture with a camera of a node.
    Snap {
        /// The node as it was named.
        node: String,
        /// `front`, `back`, or the id of a camera; none: the node's choice.
        camera: Option<String>,
    },
    /// Takes a picture of the screen of a node.
    Screen {
        /// The node as it was named.
        node: String,
    },
    /// Answers a question.
    Approve {
        /// Which one.
        approval: ApprovalId,
        /// The answer.
        decision: Decision,
    },
    /// Starts a new session, keeping the old one's transcript.
    New,
    /// The same, by its other name.
    Reset,
    /// Ends the turn that runs, and those that wait.
    Stop,
    /// Who the sender is here, as configuration would name them.
    Whoami,
}

/// What `/run` runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A program and its arguments, as given after `--`.
    Argv(Vec<String>),
    /// Text for a shell; it is always asked about.
    Shell(String),
}

/// A command that was not understood, with what would be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}\nExample: {example}")]
pub struct Usage {
    /// What is wrong, one sentence.
    pub problem: String,
    /// Something that would be right.
    pub example: &'static str,
}

/// The answer to `/help`, Markdown.
pub const HELP: &str = "\
/status – how things are
/nodes – your devices
/run <node> -- uname -a – run a program on a device
/run <node> ls | wc -l – run shell text on a device (always asks)
/snap <node> [front|back|<camera>] – take a picture
/screen <node> – show a screen
<node> is a name, the beginning of an id, or e.g. any,os=linux
/approve <id> allow-once|allow-always|deny – answer a question
/new – start afresh
/stop – stop what is running
/whoami – your id here
/help – this list";

const NAMES: [&str; 11] = [
    "help", "status", "nodes", "run", "snap", "screen", "approve", "new", "reset", "stop", "whoami",
];
const RUN_EXAMPLE: &str = "/run laptop -- uname -a";
const SNAP_EXAMPLE: &str = "/snap phone back";
const SCREEN_EXAMPLE: &str = "/screen laptop";
const APPROVE_EXAMPLE: &str = "/approve 7f3c allow-once";
/// A word this close to a command was meant to be it.
const TYPO_DISTANCE: usize = 2;
/// Commands shorter than this have too many neighbours for guessing.
const TYPO_LENGTH: usize = 4;

/// Reads a text. None when it is no command, and so is for the agent: no slash, another bot's name, or a word after the
/// slash that resembles no command (a path, say).
pub fn parse(text: &str, bot_username: Option<&str>) -> Option<Result<Command, Usage>> {
    let text = text.trim();
    let body = text.strip_prefix('/')?;
    let (word, rest) = body.split_once(char::is_whitespace).unwrap_or((body, ""));
    let (name, bot) = word
        .split_once('@')
        .map_or((word, None), |(name, bot)| (name, Some(bot)));
    let for_us = bot.is_none_or(|bot| bot_username.is_some_and(|own| own.eq_ignore_ascii_case(bot)));
    if !for_us {
        return None;
    }
    match name.to_ascii_lowercase().as_str() {
        "help" | "start" | "commands" => Some(Ok(Command::Help)),
        "status" => Some(Ok(Command::Status)),
        "nodes" => Some(Ok(Command::Nodes)),
        "run" => Some(run(rest.trim())),
        "snap" => Some(snap(rest)),
        "screen" => Some(screen(rest)),
        "approve" => Some(approve(rest)),
        "new" => Some(Ok(Command::New)),
        "reset" => Some(Ok(Command::Reset)),
        "stop" => Some(Ok(Command::Stop)),
        "whoami" => Some(Ok(Command::Whoami)),
        other => typo(other).map(Err),
    }
}

/// A message that begins a conversation anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anew<'a> {
    /// `reset` for that word, else `new`.
    pub reason: &'static str,
    /// What it says beyond that; may be empty.
    pub rest: &'a str,
}

/// Whether a text begins with one of these words (`session.resetTriggers`), in any case, alone or with more behind it.
pub fn anew<'a>(text: &'a str, triggers: &[String], bot_username: Option<&str>) -> Option<Anew<'a>> {
    let text = text.trim();
    triggers.iter().find_map(|trigger| {
        let trigger = trigger.trim();
        let head = text.get(..trigger.len())?;
        let mut rest = &text[trigger.len()..];
        if trigger.is_empty() || !head.eq_ignore_ascii_case(trigger) {
            return None;
        }
        if let Some(addressed) = rest.strip_prefix('@') {
            let (bot, after) = addressed.split_once(char::is_whitespace).unwrap_or((addressed, ""));
            bot_username.filter(|own| own.eq_ignore_ascii_case(bot))?;
            rest = after;
        } else if rest.starts_with(|next: char| !next.is_whitespace()) {
            return None;
        }
        let reason = if trigger.eq_ignore_ascii_case("/reset") {
            "reset"
        } else {
            "new"
        };
        Some(Anew {
            reason,
            rest: rest.trim(),
        })
    })
}

fn run(rest: &str) -> Result<Command, Usage> {
    let usage = |problem: &str| Usage {
        problem: problem.to_owned(),
        example: RUN_EXAMPLE,
    };
    let (node, rest) = words::first_word(rest).map_err(|error| usage(&error.to_string()))?;
    let node = node.filter(|node| !node.starts_with('-') && !is_dashes(node));
    let node = node.ok_or_else(|| usage("Which node? Its name comes first."))?;
    let rest = rest.trim();
    if rest.is_empty() {
        return Err(usage("Run what? The command comes after the node."));
    }
    let (dashes, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let what = if is_dashes(dashes) {
        What::Argv(split_words(after).map_err(|error| usage(&error.to_string()))?)
    } else {
        What::Shell(rest.to_owned())
    };
    match &what {
        What::Argv(argv) if argv.first().is_none_or(String::is_empty) => {
            Err(usage("Run what? The program comes after the two dashes."))
        }
        What::Argv(_) | What::Shell(_) => Ok(Command::Run { node, what }),
    }
}

fn snap(rest: &str) -> Result<Command, Usage> {
    let (node, camera) = node_and_word(rest, SNAP_EXAMPLE)?;
    Ok(Command::Snap { node, camera })
}

fn screen(rest: &str) -> Result<Command, Usage> {
    match node_and_word(rest, SCREEN_EXAMPLE)? {
        (node, None) => Ok(Command::Screen { node }),
        (_, Some(_)) => Err(Usage {
            problem: "A node, and nothing else.".to_owned(),
            example: SCREEN_EXAMPLE,
        }),
    }
}

/// A node, and perhaps one word more.
fn node_and_word(rest: &str, example: &'static str) -> Result<(String, Option<String>), Usage> {
    let usage = |problem: &str| Usage {
        problem: problem.to_owned(),
        example,
    };
    let words = split_words(rest).map_err(|error| usage(&error.to_string()))?;
    let mut words = words.into_iter();
    let node = words.next().filter(|node| !node.is_empty());
    let node = node.ok_or_else(|| usage("Which node? Its name comes first."))?;
    let word = words.next();
    if words.next().is_some() {
        return Err(usage("That is too much; a name with a space in it needs quotes."));
    }
    Ok((node, word))
}

/// Phones turn two dashes into one long one.
fn is_dashes(word: &str) -> bool {
    matches!(word, "--" | "—" | "–")
}

fn approve(rest: &str) -> Result<Command, Usage> {
    let usage = |problem: String| Usage {
        problem,
        example: APPROVE_EXAMPLE,
    };
    let mut words = rest.split_whitespace();
    let (Some(id), Some(answer), None) = (words.next(), words.next(), words.next()) else {
        return Err(usage("An id and an answer, and nothing else.".to_owned()));
    };
    let approval = ApprovalId::new(id).map_err(|_| usage(format!("{id:?} is no approval id.")))?;
    let decision = match answer.to_ascii_lowercase().as_str() {
        "allow-once" | "once" => Decision::AllowOnce,
        "allow-always" | "always" => Decision::AllowAlways,
        "deny" => Decision::Deny,
        _ => return Err(usage(format!("{answer:?} is none of allow-once, allow-always, deny."))),
    };
    Ok(Command::Approve { approval, decision })
}

fn typo(word: &str) -> Option<Usage> {
    let long_enough = NAMES.iter().filter(|name| name.len() >= TYPO_LENGTH);
    let near = long_enough.map(|name| (strsim::damerau_levenshtein(name, word), name));
    let (_, meant) = near.filter(|(distance, _)| *distance <= TYPO_DISTANCE).min()?;
    Some(Usage {
        problem: format!("There is no /{word}. Did you mean /{meant}?"),
        example: "/help",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(node: &str, what: What) -> Option<Result<Command, Usage>> {
        let node = node.to_owned();
        Some(Ok(Command::Run { node, what }))
    }

    fn argv(words: &[&str]) -> What {
        What::Argv(words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn commands_are_read_with_and_without_the_bots_name() {
        let check =
            |text: &str, expected: Command| assert_eq!(parse(text, Some("atoll_bot")), Some(Ok(expected)), "{text}");
        check("/help", Command::Help);
        check("/start", Command::Help);
        check(" /Status ", Command::Status);
        check("/nodes@Atoll_Bot", Command::Nodes);
        check("/new", Command::New);
        check("/reset", Command::Reset);
        check("/stop it now", Command::Stop);
        check("/whoami@atoll_bot", Command::Whoami);
    }

    #[test]
    fn a_conversation_begins_anew_with_its_words_alone_or_with_more_behind_them() {
        let triggers = ["/new".to_owned(), "/reset".to_owned(), "Once more".to_owned()];
        let check = |text: &str, expected: Option<(&'static str, &str)>| {
            let found = anew(text, &triggers, Some("atoll_bot"));
            assert_eq!(found.map(|anew| (anew.reason, anew.rest)), expected, "{text}");
        };
        check("/new", Some(("new", "")));
        check(" /NEW  what is up?\n", Some(("new", "what is up?")));
        check("/reset@Atoll_Bot hi", Some(("reset", "hi")));
        check("/new@another_bot hi", None);
        check("once more, please", None);
        check("once more please", Some(("new", "please")));
        check("/newer", None);
        check("what is /new?", None);
        check("é", None);
    }

    #[test]
    fn run_takes_words_after_two_dashes_and_else_shell_text() {
        let check = |text: &str, node: &str, what: What| assert_eq!(parse(text, None), ran(node, what), "{text}");
        check("/run laptop -- uname -a", "laptop", argv(&["uname", "-a"]));
        check("/run laptop — uname -a", "laptop", argv(&["uname", "-a"]));
        check("/run\nlaptop\n--\nls", "laptop", argv(&["ls"]));
        check(
            "/run 'my laptop' -- echo 'a b' \"c$d\" e\\ f ''",
            "my laptop",
            argv(&["echo", "a b", "c$d", "e f", ""]),
        );
        check("/run laptop ls | wc -l", "laptop", What::Shell("ls | wc -l".into()));
        check("/run laptop --version", "laptop", What::Shell("--version".into()));
        check("/run laptop -- sh -c 'a -- b'", "laptop", argv(&["sh", "-c", "a -- b"]));
    }

    #[test]
    fn a_picture_takes_a_node_and_perhaps_a_camera() {
        let check = |text: &str, node: &str, camera: Option<&str>| {
            let (node, camera) = (node.to_owned(), camera.map(str::to_owned));
            assert_eq!(parse(text, None), Some(Ok(Command::Snap { node, camera })), "{text}");
        };
        check("/snap phone", "phone", None);
        check("/Snap 'my phone' back", "my phone", Some("back"));
        check(
            "/snap any,cap=camera /dev/video0",
            "any,cap=camera",
            Some("/dev/video0"),
        );
        let node = "laptop".to_owned();
        assert_eq!(parse("/screen laptop", None), Some(Ok(Command::Screen { node })));
    }

    #[test]
    fn approve_takes_an_id_and_an_answer() {
        let check = |text: &str, decision| {
            let approval = ApprovalId::new("7f3c").expect("an id");
            assert_eq!(
                parse(text, None),
                Some(Ok(Command::Approve { approval, decision })),
                "{text}"
            );
        };
        check("/approve 7f3c allow-once", Decision::AllowOnce);
        check("/approve 7f3c ALWAYS", Decision::AllowAlways);
        check("/approve  7f3c  deny", Decision::Deny);
    }

    #[test]
    fn what_is_nearly_right_is_told_what_would_be() {
        let check = |text: &str, problem: &str, example: &str| match parse(text, None) {
            Some(Err(usage)) => {
                assert!(usage.problem.contains(problem), "{text}: {usage}");
                assert_eq!(usage.example, example, "{text}");
            }
            other => panic!("{text}: {other:?}"),
        };
        check("/run", "Which node", RUN_EXAMPLE);
        check("/run -- ls", "Which node", RUN_EXAMPLE);
        check("/run laptop", "Run what", RUN_EXAMPLE);
        check("/run laptop --", "Run what", RUN_EXAMPLE);
        check("/run laptop -- ''", "Run what", RUN_EXAMPLE);
        check("/run laptop -- 'a", "quote", RUN_EXAMPLE);
        check("/snap", "Which node", SNAP_EXAMPLE);
        check("/snap my phone back", "needs quotes", SNAP_EXAMPLE);
        check("/screen", "Which node", SCREEN_EXAMPLE);
        check("/screen laptop front", "nothing else", SCREEN_EXAMPLE);
        check("/approve", "An id and an answer", APPROVE_EXAMPLE);
        check("/approve 7f3c", "An id and an answer", APPROVE_EXAMPLE);
        check("/approve 7f3c maybe", "none of", APPROVE_EXAMPLE);
        check("/aprove 7f3c deny", "Did you mean /approve?", "/help");
        check("/sttaus", "Did you mean /status?", "/help");
    }

    #[test]
    fn everything_else_is_for_the_agent() {
        for text in [
            "hello",
            "run it",
            "/etc/passwd what is that",
            "/x",
            "",
            "/",
            "[forwarded]\n/stop",
            "/stop@other_bot",
        ] {
            assert_eq!(parse(text, Some("atoll_bot")), None, "{text}");
        }
    }

    #[test]
    fn every_example_and_every_line_of_the_help_is_understood() {
        for example in [RUN_EXAMPLE, SNAP_EXAMPLE, SCREEN_EXAMPLE, APPROVE_EXAMPLE, "/help"] {
            assert!(matches!(parse(example, None), Some(Ok(_))), "{example}");
        }
        for name in NAMES {
            assert!(name == "reset" || HELP.contains(&format!("/{name}")), "{name}");
            assert!(parse(&format!("/{name}"), None).is_some(), "{name}");
        }
    }
}
