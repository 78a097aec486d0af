//! Decides whether a command may run, from the owner's document and the facts about the command. Pure: it opens no file and asks nobody.
//!
//! Only an argument vector can be on the allowlist, and only when its program does not itself run something that its arguments name: a
//! shell, a wrapper, an applet or inline code always asks (see [`launcher`]).

pub mod document;
pub mod launcher;
pub mod narrowing;

use sha2::{Digest, Sha256};

use atoll_protocol::hex;
use document::{Ask, Document, Policy, Rule, Security};
use launcher::Demand;

/// What an `argPattern` begins with when it is a digest of folder and arguments and not a regular expression.
pub const EXACT_PREFIX: &str = "sha256:cwd-argv:v1:";

/// A program as it was found on this device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// What the caller wrote.
    pub asked: String,
    /// Absolute, in a real folder; the last part may be a symbolic link (its name decides what a multi-call program does).
    pub found: String,
    /// Absolute, every link followed: the file whose content runs.
    pub real: String,
    /// The bare name under which `PATH` finds this very file.
    pub path_name: Option<String>,
}

/// A command that somebody wants to run.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The program.
    pub program: &'a Program,
    /// What follows the program.
    pub args: &'a [String],
    /// The folder it runs in.
    pub cwd: &'a str,
    /// The owner's home folder, for patterns that begin with `~/`.
    pub home: Option<&'a str>,
}

/// What the owner's document says about a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may run.
    Allow,
    /// A person must say yes first; why.
    Ask(String),
    /// It may not run, whatever a person says; why.
    Deny(String),
}

impl Verdict {
    /// `allow`, `ask` or `deny`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Ask(_) => "ask",
            Self::Deny(_) => "deny",
        }
    }

    /// Why it is not simply allowed.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Allow => None,
            Self::Ask(reason) | Self::Deny(reason) => Some(reason),
        }
    }
}

/// What the document says about a command of an agent.
pub fn evaluate(document: &Document, agent: &str, request: &Request<'_>) -> Verdict {
    let policy = document.policy(agent);
    match on_allowlist(&policy, request) {
        Ok(()) => verdict(&policy, true, String::new()),
        Err(miss) => verdict(&policy, false, miss),
    }
}

/// Whether a command that had to ask, and got no answer, may run all the same.
pub fn runs_unanswered(document: &Document, agent: &str, request: &Request<'_>) -> bool {
    let policy = document.policy(agent);
    policy.runs_unanswered(on_allowlist(&policy, request).is_ok())
}

fn verdict(policy: &Policy, listed: bool, miss: String) -> Verdict {
    match (policy.security, policy.ask, listed) {
        (Security::Deny, _, _) => Verdict::Deny("this device runs no commands (security is deny)".to_owned()),
        (_, Ask::Always, _) => Verdict::Ask("this device always asks (ask is always)".to_owned()),
        (Security::Full, Ask::Off | Ask::OnMiss, _) | (Security::Allowlist, Ask::Off | Ask::OnMiss, true) => {
            Verdict::Allow
        }
        (Security::Allowlist, Ask::OnMiss, false) => Verdict::Ask(miss),
        (Security::Allowlist, Ask::Off, false) => Verdict::Deny(format!("{miss}, and asking is off")),
    }
}

/// Whether a rule of the policy covers the command; when none does, why not.
fn on_allowlist(policy: &Policy, request: &Request<'_>) -> Result<(), String> {
    let demand = launcher::demand(request.program, request.args);
    if let Demand::Never(why) = demand {
        return Err(why.to_owned());
    }
    let covered = policy.rules.iter().any(|rule| {
        let arguments_bound = demand == Demand::Nothing || rule.arg_pattern.is_some();
        arguments_bound && covers_program(rule, request) && covers_arguments(rule, request)
    });
    if covered {
        Ok(())
    } else {
        Err(format!(
            "{} with these arguments is not on the allowlist",
            request.program.found
        ))
    }
}

fn covers_program(rule: &Rule, request: &Request<'_>) -> bool {
    let program = request.program;
    let pattern = match (rule.pattern.strip_prefix("~/"), request.home) {
        (Some(rest), Some(home)) => format!("{home}/{rest}"),
        _ => rule.pattern.clone(),
    };
    if !pattern.contains('/') {
        return program
            .path_name
            .as_deref()
            .is_some_and(|name| name == pattern || glob_matches(&pattern, name));
    }
    // A link is trusted only where the owner wrote its very path; a glob looks at the file behind it.
    pattern == program.found || pattern == program.real || glob_matches(&pattern, &program.real)
}

fn glob_matches(pattern: &str, text: &str) -> bool {
    let options = glob::MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: false,
    };
    glob::Pattern::new(pattern).is_ok_and(|pattern| pattern.matches_with(text, options))
}

fn covers_arguments(rule: &Rule, request: &Request<'_>) -> bool {
    let Some(pattern) = &rule.arg_pattern else {
        return true;
    };
    if pattern.starts_with(EXACT_PREFIX) {
        return *pattern == exact_arguments(request);
    }
    // Joined by spaces, `a b` and `a`, `b` would look alike: such arguments can only be bound exactly.
    let ambiguous = |arg: &String| arg.is_empty() || arg.chars().any(|c| c.is_whitespace() || c.is_control());
    if request.args.iter().any(ambiguous) {
        return false;
    }
    argument_regex(pattern).is_ok_and(|regex| regex.is_match(&request.args.join(" ")))
}

/// The pattern over all the arguments: a part that happens to match is not enough.
pub(crate) fn argument_regex(pattern: &str) -> Result<regex_lite::Regex, regex_lite::Error> {
    // Compiled alone first, so that an unbalanced `)` cannot close our own group.
    regex_lite::Regex::new(pattern)?;
    regex_lite::Regex::new(&format!("^(?:{pattern})$"))
}

/// The `argPattern` that covers exactly this command in exactly this folder.
pub fn exact_arguments(request: &Request<'_>) -> String {
    let mut digest = Sha256::new();
    let parts = [request.cwd, &request.program.real].into_iter();
    for part in parts.chain(request.args.iter().map(String::as_str)) {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    format!("{EXACT_PREFIX}{}", hex::encode(&digest.finalize()))
}

#[cfg(test)]
mod tests;
