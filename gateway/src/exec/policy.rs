//! May this command run now, must somebody be asked, or never? Combines the gateway's policy with the node's verdict: the stricter one
//! wins. Pure.

use std::fmt;

/// `tools.exec.mode`: what the gateway's owner wants for commands that an agent asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Mode {
    /// No command at all.
    Deny,
    /// Only what the executing host's own allowlist names; nobody is asked.
    Allowlist,
    /// What the allowlist names runs, for the rest a person is asked.
    #[default]
    Ask,
    /// A person is asked each time.
    Always,
    /// The gateway never asks by itself; the executing host still may.
    Full,
}

/// `tools.exec.askFallback`: what runs when nobody answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fallback {
    /// Nothing.
    Deny,
    /// What the executing host's own allowlist names.
    Allowlist,
    /// Whatever that host runs without a person's yes.
    Full,
}

/// Whether a command that had to be asked about, and got no answer, is sent all the same. Never with a plan, which stands for a yes: a
/// host that wants one decides by its own document, and refuses unless its owner says otherwise there.
pub(crate) fn runs_unanswered(fallback: Fallback, host: &HostVerdict) -> bool {
    match (fallback, host) {
        (Fallback::Deny, _) | (_, HostVerdict::Deny(_)) => false,
        (Fallback::Allowlist, host) => *host == HostVerdict::Allowlisted,
        (Fallback::Full, HostVerdict::Allowlisted | HostVerdict::Unrestricted | HostVerdict::Ask) => true,
    }
}

/// What the executing host says of this very command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HostVerdict {
    /// An entry of its allowlist names it.
    Allowlisted,
    /// It has no policy of its own and runs anything.
    Unrestricted,
    /// It wants a person's approval.
    Ask,
    /// It will not run it.
    Deny(String),
}

/// Who stands behind the command besides the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backing {
    /// Nobody: an agent asked.
    None,
    /// An approver typed exactly this command.
    Typed,
}

/// What happens now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Run it. `plan`: the host wants to see a signed approval.
    Run {
        /// Sign a plan for it.
        plan: bool,
    },
    /// Ask a person.
    Ask,
    /// Do not run it, for this reason.
    Refuse(Refusal),
}

/// Why a command does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// `tools.exec.mode` is `deny`.
    ModeDeny,
    /// `tools.exec.mode` is `allowlist` and the host's list does not name it.
    NotAllowlisted,
    /// The host said so.
    Host(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ModeDeny => f.write_str("commands are switched off: tools.exec.mode is \"deny\""),
            Self::NotAllowlisted => f.write_str(
                "the command is not on the allowlist of that machine, and tools.exec.mode \"allowlist\" asks nobody; add it there, or set the mode to \"ask\"",
            ),
            Self::Host(reason) => f.write_str(reason),
        }
    }
}

/// What a conversation does that has read what is not its owner's: what would run unasked is asked about, unless a person typed it.
pub(crate) fn after_reading(decision: Decision, has_read: bool, backing: Backing) -> Decision {
    match decision {
        Decision::Run { .. } if has_read && backing == Backing::None => Decision::Ask,
        other @ (Decision::Run { .. } | Decision::Ask | Decision::Refuse(_)) => other,
    }
}

/// The one place where a command is let through.
pub(crate) fn decide(mode: Mode, host: &HostVerdict, backing: Backing) -> Decision {
    if let HostVerdict::Deny(reason) = host {
        return Decision::Refuse(Refusal::Host(reason.clone()));
    }
    if mode == Mode::Deny && backing != Backing::Typed {
        return Decision::Refuse(Refusal::ModeDeny);
    }
    let host_asks = *host == HostVerdict::Ask;
    if backing != Backing::None {
        return Decision::Run { plan: host_asks };
    }
    match (mode, host) {
        (Mode::Allowlist | Mode::Ask | Mode::Full, HostVerdict::Allowlisted)
        | (Mode::Full, HostVerdict::Unrestricted) => Decision::Run { plan: false },
        (Mode::Ask, HostVerdict::Unrestricted)
        | (Mode::Ask | Mode::Full, HostVerdict::Ask)
        | (Mode::Always, HostVerdict::Allowlisted | HostVerdict::Unrestricted | HostVerdict::Ask) => Decision::Ask,
        (Mode::Allowlist, HostVerdict::Unrestricted | HostVerdict::Ask) => Decision::Refuse(Refusal::NotAllowlisted),
        (Mode::Deny, _) => Decision::Refuse(Refusal::ModeDeny),
        (_, HostVerdict::Deny(reason)) => Decision::Refuse(Refusal::Host(reason.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODES: [Mode; 5] = [Mode::Deny, Mode::Allowlist, Mode::Ask, Mode::Always, Mode::Full];

    #[test]
    fn a_host_that_says_no_is_never_overruled() {
        let no = HostVerdict::Deny("no".to_owned());
        for mode in MODES {
            for backing in [Backing::None, Backing::Typed] {
                assert_eq!(
                    decide(mode, &no, backing),
                    Decision::Refuse(Refusal::Host("no".to_owned()))
                );
            }
        }
    }

    #[test]
    fn a_host_that_asks_gets_a_plan_or_a_person() {
        for mode in [Mode::Ask, Mode::Full] {
            assert_eq!(decide(mode, &HostVerdict::Ask, Backing::None), Decision::Ask);
            assert_eq!(
                decide(mode, &HostVerdict::Ask, Backing::Typed),
                Decision::Run { plan: true }
            );
        }
    }

    #[test]
    fn an_agent_alone_runs_only_what_is_listed_unless_the_owner_opened_everything() {
        let table = [
            (Mode::Allowlist, HostVerdict::Allowlisted, Decision::Run { plan: false }),
            (
                Mode::Allowlist,
                HostVerdict::Unrestricted,
                Decision::Refuse(Refusal::NotAllowlisted),
            ),
            (
                Mode::Allowlist,
                HostVerdict::Ask,
                Decision::Refuse(Refusal::NotAllowlisted),
            ),
            (Mode::Ask, HostVerdict::Allowlisted, Decision::Run { plan: false }),
            (Mode::Ask, HostVerdict::Unrestricted, Decision::Ask),
            (Mode::Always, HostVerdict::Allowlisted, Decision::Ask),
            (Mode::Always, HostVerdict::Unrestricted, Decision::Ask),
            (Mode::Full, HostVerdict::Unrestricted, Decision::Run { plan: false }),
            (
                Mode::Deny,
                HostVerdict::Allowlisted,
                Decision::Refuse(Refusal::ModeDeny),
            ),
        ];
        for (mode, host, expected) in table {
            assert_eq!(decide(mode, &host, Backing::None), expected, "{mode:?} {host:?}");
        }
    }

    #[test]
    fn what_an_approver_types_runs_even_where_agents_may_run_nothing() {
        assert_eq!(
            decide(Mode::Deny, &HostVerdict::Ask, Backing::None),
            Decision::Refuse(Refusal::ModeDeny)
        );
        assert_eq!(
            decide(Mode::Deny, &HostVerdict::Ask, Backing::Typed),
            Decision::Run { plan: true }
        );
    }

    #[test]
    fn what_was_read_turns_a_run_into_a_question_and_nothing_else() {
        let run = Decision::Run { plan: false };
        let no = Decision::Refuse(Refusal::ModeDeny);
        for (decision, has_read, backing, expected) in [
            (run.clone(), false, Backing::None, run.clone()),
            (run.clone(), true, Backing::None, Decision::Ask),
            (Decision::Run { plan: true }, true, Backing::None, Decision::Ask),
            (run.clone(), true, Backing::Typed, run.clone()),
            (Decision::Ask, true, Backing::None, Decision::Ask),
            (no.clone(), true, Backing::None, no.clone()),
        ] {
            assert_eq!(
                after_reading(decision.clone(), has_read, backing),
                expected,
                "{decision:?}"
            );
        }
    }

    #[test]
    fn what_nobody_answers_runs_only_as_far_as_both_owners_say() {
        let no = HostVerdict::Deny("no".to_owned());
        let hosts = [
            HostVerdict::Allowlisted,
            HostVerdict::Unrestricted,
            HostVerdict::Ask,
            no,
        ];
        let table = [
            (Fallback::Deny, [false, false, false, false]),
            (Fallback::Allowlist, [true, false, false, false]),
            (Fallback::Full, [true, true, true, false]),
        ];
        for (fallback, expected) in table {
            assert_eq!(
                hosts.each_ref().map(|host| runs_unanswered(fallback, host)),
                expected,
                "{fallback:?}"
            );
        }
    }
}
