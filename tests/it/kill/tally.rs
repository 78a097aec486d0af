//! What became of every job: the one answer, its claim, how often its command ran.

use std::fmt;

use atoll_tests::fake::telegram::Sent;
use atoll_tests::scene::{OWNER, Scene};

/// How a doubt about a message that may not have arrived begins.
const DOUBT: &str = "may not have arrived. It began: ";

/// What the jobs of one or more scenes came to.
#[derive(Debug, Default)]
pub(super) struct Tally {
    ran: usize,
    not_run: usize,
    uncertain: usize,
    /// The answer is there, and a doubt about it too.
    doubted: usize,
    /// Only the doubt is there.
    only_doubt: usize,
    broken: Vec<String>,
}

/// What an answer says of its command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    Ran,
    NotRun,
    Uncertain,
}

/// Whether a job has an answer, or a message that admits not to know whether it arrived.
pub(super) fn has_ended(scene: &Scene, name: &str) -> bool {
    let sent = scene.telegram.sent(OWNER);
    sent.iter().any(|sent| is_answer(sent, name) || is_doubt(sent, name))
}

fn is_answer(sent: &Sent, name: &str) -> bool {
    sent.text.starts_with(&format!("finished {name}: "))
}

fn is_doubt(sent: &Sent, name: &str) -> bool {
    sent.text.contains(&format!("{DOUBT}finished {name}: "))
}

fn claim(answer: &str) -> Option<Claim> {
    match answer {
        text if text.contains("uncertain") => Some(Claim::Uncertain),
        text if text.contains(": not run: ") => Some(Claim::NotRun),
        text if text.ends_with(": it ran") => Some(Claim::Ran),
        _ => None,
    }
}

impl Tally {
    /// What the jobs of one scene came to.
    pub(super) fn of(scene: &Scene, names: &[String]) -> Self {
        let mut tally = Self::default();
        let sent = scene.telegram.sent(OWNER);
        for name in names {
            tally.job(scene, name, &sent);
        }
        let of_a_job = |sent: &Sent| names.iter().any(|name| is_of(scene, sent, name));
        for stray in sent.iter().filter(|sent| !of_a_job(sent)) {
            tally.broken.push(format!("a message of no job: {}", stray.text));
        }
        for refused in scene.model.refused() {
            tally.broken.push(format!("the model refused a question: {refused}"));
        }
        tally
    }

    fn job(&mut self, scene: &Scene, name: &str, sent: &[Sent]) {
        let answers: Vec<_> = sent.iter().filter(|sent| is_answer(sent, name)).collect();
        let doubts = sent.iter().filter(|sent| is_doubt(sent, name)).count();
        let runs = scene.runs(name);
        let mut breaks = |what: String| self.broken.push(format!("{name}: {what}"));
        if answers.len() > 1 || doubts > 1 || answers.len() + doubts == 0 {
            breaks(format!("{} answers and {doubts} doubts", answers.len()));
        }
        if runs > 1 {
            breaks(format!("its command ran {runs} times"));
        }
        let Some(answer) = answers.first() else {
            self.only_doubt += 1;
            return;
        };
        let claimed = claim(&answer.text);
        match (claimed, runs) {
            (Some(Claim::Uncertain), _) | (Some(Claim::NotRun), 0) | (Some(Claim::Ran), 1) => {}
            (_, runs) => breaks(format!(
                "its command ran {runs} times, and the answer is: {}",
                answer.text
            )),
        }
        match claimed {
            Some(Claim::Ran) => self.ran += 1,
            Some(Claim::NotRun) => self.not_run += 1,
            Some(Claim::Uncertain) | None => self.uncertain += 1,
        }
        self.doubted += doubts;
    }

    /// Adds those of another.
    pub(super) fn add(&mut self, other: &Self) {
        self.ran += other.ran;
        self.not_run += other.not_run;
        self.uncertain += other.uncertain;
        self.doubted += other.doubted;
        self.only_doubt += other.only_doubt;
        self.broken.extend(other.broken.iter().cloned());
    }

    /// How many there were.
    pub(super) fn jobs(&self) -> usize {
        self.ran + self.not_run + self.uncertain + self.only_doubt
    }

    /// How many are not known to have gone well.
    pub(super) fn doubts(&self) -> usize {
        self.not_run + self.uncertain + self.doubted + self.only_doubt
    }

    /// Fails when anything did not hold.
    pub(super) fn check(&self) {
        assert!(self.broken.is_empty(), "{self}\n{}", self.broken.join("\n"));
    }
}

fn is_of(scene: &Scene, sent: &Sent, name: &str) -> bool {
    is_answer(sent, name) || is_doubt(sent, name) || sent.text.contains(&scene.mark(name).display().to_string())
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ran, {} not run, {} uncertain whether they ran; {} answers doubted though they arrived, {} known by their doubt only",
            self.ran, self.not_run, self.uncertain, self.doubted, self.only_doubt
        )
    }
}
