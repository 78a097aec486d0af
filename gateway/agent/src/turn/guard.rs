//! Notices a model that makes the same call again and again.

use crate::message::ToolCall;

/// What to do about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Nothing.
    Fresh,
    /// Run it, and tell the model.
    Tell,
    /// Do not run it.
    Stop,
}

/// Counts identical calls in a row.
#[derive(Debug)]
pub(super) struct Guard {
    tell: u32,
    stop: u32,
    last: Option<(String, String)>,
    count: u32,
}

impl Guard {
    pub(super) fn new(tell: u32, stop: u32) -> Self {
        Self {
            tell,
            stop,
            last: None,
            count: 0,
        }
    }

    pub(super) fn note(&mut self, call: &ToolCall) -> Repeat {
        let same = matches!(&self.last, Some((name, args)) if *name == call.name && args == call.args.as_str());
        if same {
            self.count = self.count.saturating_add(1);
        } else {
            self.last = Some((call.name.clone(), call.args.as_str().to_owned()));
            self.count = 1;
        }
        if self.count >= self.stop {
            Repeat::Stop
        } else if self.count >= self.tell {
            Repeat::Tell
        } else {
            Repeat::Fresh
        }
    }
}
