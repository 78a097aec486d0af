//! The turn machine: [`Event`] in, [`Effect`]s out. Owns the rules of a turn (one result for every tool call, retries and
//! fallbacks, the loop guard, what the person is told at the end); does no I/O, reads no clock and draws no random number.
//!
//! Effects are carried out in order, and an [`Effect::Append`] is on disk before the next one starts. A turn that a crash cut
//! short is continued by [`Event::Resume`] with what it had appended.

mod ending;
mod guard;
mod ids;
mod resume;
pub mod view;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use atoll_protocol::id::RunId;

pub use ending::{Outcome, TurnEnd};

use crate::message::{Assistant, Message, Part, StopReason, ToolCall, ToolResult, Usage, User};
use crate::model::error::{ModelError, Retry};
use crate::port::{Progress, ToolReply};
use ending::Why;
use guard::{Guard, Repeat};

/// What the machine must know before it starts.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The turn.
    pub run: RunId,
    /// One person is waiting for an answer, so silence is not one.
    pub direct: bool,
    /// The tools that the model is offered.
    pub offered: Vec<String>,
    /// The primary model and its fallbacks, as `provider/model`.
    pub models: Vec<String>,
    /// Its bounds.
    pub limits: TurnLimits,
}

/// The bounds of a turn.
#[derive(Debug, Clone, Copy)]
pub struct TurnLimits {
    /// Messages of the model. More: the turn ends and says so.
    pub rounds: u32,
    /// The same call so often in a row: the model is told.
    pub same_call_told: u32,
    /// The same call so often in a row: the turn ends and says so.
    pub same_call_stop: u32,
}

impl Default for TurnLimits {
    fn default() -> Self {
        Self {
            rounds: 50,
            same_call_told: 3,
            same_call_stop: 5,
        }
    }
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A new turn.
    Start {
        /// The conversation so far.
        history: Vec<Arc<Message>>,
        /// What the person said.
        input: User,
    },
    /// A turn that was cut short.
    Resume {
        /// The conversation before this turn.
        history: Vec<Arc<Message>>,
        /// What this turn had appended.
        tail: Vec<Arc<Message>>,
    },
    /// Something was said meanwhile. It goes in with the event that follows, which must end a step: what the model wanted to do next is
    /// left undone, and it hears this instead.
    Said(Vec<User>),
    /// More text from the model.
    ModelDelta(String),
    /// The model's whole message.
    ModelDone(Assistant),
    /// No message from the model.
    ModelFailed(ModelError),
    /// A tool ended.
    ToolDone {
        /// The call.
        id: String,
        /// What it gave.
        reply: ToolReply,
    },
    /// A person said stop, or the gateway is going down for good.
    Abort,
    /// The turn's time is over.
    Deadline,
    /// The time of [`Effect::SetTimer`] has come.
    TimerFired,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Append to the transcript, before anything that follows.
    Append {
        /// What to append.
        message: Arc<Message>,
        /// Whether it must survive a power cut before what follows, and not only the end of the process.
        synced: bool,
    },
    /// Ask a model.
    CallModel {
        /// Index into [`Setup::models`].
        model: usize,
        /// The conversation, not yet fitted to the model.
        messages: Vec<Arc<Message>>,
    },
    /// Run a tool; the answer is [`Event::ToolDone`].
    RunTool(ToolCall),
    /// Tell the running tool to end soon; its [`Event::ToolDone`] is still awaited.
    CancelTool,
    /// Tell those who watch.
    Watch(Progress),
    /// Wait (and some jitter), then [`Event::TimerFired`].
    SetTimer(Duration),
    /// The end; no event is expected after it.
    Finish(TurnEnd),
}

/// One turn.
#[derive(Debug)]
pub struct Turn {
    setup: Setup,
    state: State,
    /// The conversation, this turn's part included.
    messages: Vec<Arc<Message>>,
    /// Where this turn's part begins.
    own: usize,
    rounds: u32,
    usage: Usage,
    model: usize,
    failures: Vec<(usize, ModelError)>,
    guard: Guard,
    /// Said meanwhile, and not part of the conversation yet.
    said: Vec<User>,
}

#[derive(Debug)]
enum State {
    Fresh,
    Calling {
        attempt: u32,
        text: String,
    },
    Waiting {
        attempt: u32,
    },
    Tools {
        running: ToolCall,
        repeat: Repeat,
        queue: VecDeque<ToolCall>,
    },
    Ending {
        why: Why,
        running: ToolCall,
        queue: VecDeque<ToolCall>,
    },
    Done,
}

impl Turn {
    /// A machine that waits for [`Event::Start`] or [`Event::Resume`].
    pub fn new(setup: Setup) -> Self {
        let guard = Guard::new(setup.limits.same_call_told, setup.limits.same_call_stop);
        Self {
            setup,
            state: State::Fresh,
            messages: Vec::new(),
            own: 0,
            rounds: 0,
            usage: Usage::default(),
            model: 0,
            failures: Vec::new(),
            guard,
            said: Vec::new(),
        }
    }

    /// Takes one event. An event that does not fit the state (late, twice) changes nothing.
    pub fn handle(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Start { history, input } => self.start(history, input, &mut effects),
            Event::Resume { history, tail } => self.resume(history, tail, &mut effects),
            Event::Said(said) => self.said.extend(said),
            Event::ModelDelta(delta) => self.model_delta(delta, &mut effects),
            Event::ModelDone(message) => self.model_done(message, &mut effects),
            Event::ModelFailed(error) => self.model_failed(error, &mut effects),
            Event::ToolDone { id, reply } => self.tool_done(&id, reply, &mut effects),
            Event::Abort => self.stop(Why::Aborted, &mut effects),
            Event::Deadline => self.stop(Why::Deadline, &mut effects),
            Event::TimerFired => self.timer_fired(&mut effects),
        }
        effects
    }

    fn start(&mut self, history: Vec<Arc<Message>>, input: User, effects: &mut Vec<Effect>) {
        if !matches!(self.state, State::Fresh) {
            return;
        }
        self.own = history.len();
        self.messages = history;
        effects.push(Effect::Watch(Progress::Started));
        self.append(Message::User(input), effects);
        self.call_model(0, effects);
    }

    fn append(&mut self, message: Message, effects: &mut Vec<Effect>) {
        // After a power cut, lost calls would be asked for again under new ids: a command could run twice. What else is lost does no
        // harm: a result is given again by the tool's own key, an answer is asked for again.
        let synced = matches!(&message, Message::Assistant(said) if said.calls().next().is_some());
        let message = Arc::new(message);
        self.messages.push(Arc::clone(&message));
        effects.push(Effect::Append { message, synced });
    }

    fn call_model(&mut self, attempt: u32, effects: &mut Vec<Effect>) {
        if self.setup.models.is_empty() {
            return self.fail(ending::NO_MODEL.to_owned(), effects);
        }
        if self.rounds >= self.setup.limits.rounds {
            let message = ending::too_many_rounds(self.setup.limits.rounds);
            return self.fail(message, effects);
        }
        self.state = State::Calling {
            attempt,
            text: String::new(),
        };
        effects.push(Effect::CallModel {
            model: self.model,
            messages: self.messages.clone(),
        });
    }

    fn model_delta(&mut self, delta: String, effects: &mut Vec<Effect>) {
        if let State::Calling { text, .. } = &mut self.state {
            text.push_str(&delta);
            effects.push(Effect::Watch(Progress::Text {
                delta,
                text: text.clone(),
            }));
        }
    }

    fn model_done(&mut self, mut message: Assistant, effects: &mut Vec<Effect>) {
        if !matches!(self.state, State::Calling { .. }) {
            return;
        }
        self.usage.add(message.usage);
        let calls = message.calls().count();
        if calls == 0 && message.text().trim().is_empty() && ending::last_failure(self.own()).is_none() {
            return self.model_failed(ModelError::Empty, effects);
        }
        self.rounds += 1;
        ids::make_unique(&mut message, &self.messages);
        let queue: VecDeque<_> = message.calls().cloned().collect();
        message.stop = match message.stop {
            StopReason::Length => StopReason::Length,
            StopReason::Stop | StopReason::ToolUse | StopReason::Error | StopReason::Aborted if calls > 0 => {
                StopReason::ToolUse
            }
            StopReason::Stop | StopReason::ToolUse | StopReason::Error | StopReason::Aborted => StopReason::Stop,
        };
        self.append(Message::Assistant(message), effects);
        if queue.is_empty() {
            self.finish(effects);
        } else {
            self.next_tool(queue, Offer::Checked, effects);
        }
    }

    fn model_failed(&mut self, error: ModelError, effects: &mut Vec<Effect>) {
        let State::Calling { attempt, .. } = self.state else {
            return;
        };
        let retry = error.retry(attempt);
        self.failures.retain(|(model, _)| *model != self.model);
        self.failures.push((self.model, error));
        match retry {
            Retry::After(wait) => {
                self.state = State::Waiting { attempt: attempt + 1 };
                effects.push(Effect::SetTimer(wait));
            }
            Retry::NextModel if self.model + 1 < self.setup.models.len() => {
                self.model += 1;
                self.call_model(0, effects);
            }
            Retry::NextModel | Retry::GiveUp => {
                let message = ending::models_failed(&self.setup.models, &self.failures);
                self.fail(message, effects);
            }
        }
    }

    fn timer_fired(&mut self, effects: &mut Vec<Effect>) {
        if let State::Waiting { attempt } = self.state {
            self.call_model(attempt, effects);
        }
    }

    /// Starts the first call of the queue that can run, answers those before it, and goes back to the model when none is left.
    fn next_tool(&mut self, mut queue: VecDeque<ToolCall>, offer: Offer, effects: &mut Vec<Effect>) {
        // What was taken before a crash may have run, so its result comes first.
        if offer == Offer::Checked && !self.said.is_empty() {
            self.answer_all(std::mem::take(&mut queue), ending::INTERRUPTED, effects);
        }
        while let Some(call) = queue.pop_front() {
            let repeat = self.guard.note(&call);
            if repeat == Repeat::Stop {
                let message = ending::repeated_call(&call.name);
                queue.push_front(call);
                self.answer_all(queue, "Not run: the same call was repeated too often.", effects);
                return self.fail(message, effects);
            }
            if let Some(refusal) = self.refusal(&call, offer) {
                self.answer(&call, ToolReply::error(refusal), repeat, effects);
                continue;
            }
            effects.push(Effect::Watch(Progress::ToolStarted {
                id: call.id.clone(),
                name: call.name.clone(),
                args: call.args.clone(),
            }));
            effects.push(Effect::RunTool(call.clone()));
            self.state = State::Tools {
                running: call,
                repeat,
                queue,
            };
            return;
        }
        for said in std::mem::take(&mut self.said) {
            self.append(Message::User(said), effects);
        }
        self.call_model(0, effects);
    }

    fn refusal(&self, call: &ToolCall, offer: Offer) -> Option<String> {
        if ids::is_malformed(&call.args) {
            return Some("The arguments were not a JSON object. Nothing was run; send the call again.".to_owned());
        }
        let offered = offer == Offer::Taken || self.setup.offered.contains(&call.name);
        (!offered).then(|| ending::no_such_tool(&call.name, &self.setup.offered))
    }

    fn tool_done(&mut self, id: &str, reply: ToolReply, effects: &mut Vec<Effect>) {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Tools { running, repeat, queue } if running.id == id => {
                self.tool_ended(&running, reply, repeat, effects);
                self.next_tool(queue, Offer::Checked, effects);
            }
            State::Ending { why, running, queue } if running.id == id => {
                self.tool_ended(&running, reply, Repeat::Fresh, effects);
                self.answer_all(queue, why.skipped(), effects);
                self.close(why, String::new(), effects);
            }
            other @ (State::Fresh
            | State::Calling { .. }
            | State::Waiting { .. }
            | State::Tools { .. }
            | State::Ending { .. }
            | State::Done) => self.state = other,
        }
    }

    fn tool_ended(&mut self, call: &ToolCall, reply: ToolReply, repeat: Repeat, effects: &mut Vec<Effect>) {
        let is_error = reply.is_error;
        self.answer(call, reply, repeat, effects);
        effects.push(Effect::Watch(Progress::ToolEnded {
            id: call.id.clone(),
            name: call.name.clone(),
            is_error,
        }));
    }

    fn answer(&mut self, call: &ToolCall, reply: ToolReply, repeat: Repeat, effects: &mut Vec<Effect>) {
        let mut text = reply.text;
        if repeat == Repeat::Tell {
            text.push_str("\n\n[This was the same call as the ones before. Do something else, or say what you found.]");
        }
        let media = reply.media.into_iter().map(Part::Media);
        let result = ToolResult {
            call: call.id.clone(),
            tool: call.name.clone(),
            content: std::iter::once(Part::Text(text)).chain(media).collect(),
            is_error: reply.is_error,
            uncertain: reply.uncertain,
        };
        self.append(Message::ToolResult(result), effects);
    }

    fn answer_all(&mut self, calls: VecDeque<ToolCall>, text: &str, effects: &mut Vec<Effect>) {
        for call in calls {
            self.answer(&call, ToolReply::error(text), Repeat::Fresh, effects);
        }
    }

    fn stop(&mut self, why: Why, effects: &mut Vec<Effect>) {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Calling { text, .. } => self.close(why, text, effects),
            State::Fresh | State::Waiting { .. } => self.close(why, String::new(), effects),
            State::Tools { running, queue, .. } => {
                effects.push(Effect::CancelTool);
                self.state = State::Ending { why, running, queue };
            }
            State::Ending { why, running, queue } => self.state = State::Ending { why, running, queue },
            State::Done => {}
        }
    }

    fn fail(&mut self, message: String, effects: &mut Vec<Effect>) {
        self.close(Why::Failed(message), String::new(), effects);
    }

    /// Ends the turn without an answer of the model; `said` is what it had said of its last message.
    fn close(&mut self, why: Why, said: String, effects: &mut Vec<Effect>) {
        let end = Assistant {
            content: if said.is_empty() {
                Vec::new()
            } else {
                vec![Part::Text(said)]
            },
            stop: why.stop_reason(),
            error: Some(why.message()),
            ..Assistant::default()
        };
        self.append(Message::Assistant(end), effects);
        self.finish(effects);
    }

    /// Ends the turn as its own messages say, so that a resumed turn ends with the same words.
    fn finish(&mut self, effects: &mut Vec<Effect>) {
        self.state = State::Done;
        effects.push(Effect::Finish(TurnEnd {
            outcome: ending::outcome(self.own(), self.setup.direct),
            media: ending::media(self.own()),
            usage: self.usage,
            rounds: self.rounds,
            model: self.setup.models.get(self.model).cloned(),
        }));
    }

    /// The whole conversation, this turn's part included.
    pub fn messages(&self) -> &[Arc<Message>] {
        &self.messages
    }

    fn own(&self) -> &[Arc<Message>] {
        &self.messages[self.own.min(self.messages.len())..]
    }
}

/// Whether a call must be to a tool that is offered now, or was taken before a crash and may have run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Offer {
    Checked,
    Taken,
}

#[cfg(test)]
mod tests;
