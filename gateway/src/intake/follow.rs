//! What follows from a message once its transaction holds: its turn gets into its lane, its command is done, its click counts.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use atoll_agent::turn::Outcome;
use atoll_channels::port::{Outbound, PeerKind, Place};
use atoll_pairing::approval::{ApprovalError, Decision};
use atoll_protocol::id::{ApprovalId, RunId};
use futures_util::FutureExt;

use super::take::{self, Click, Step, Typed};
use crate::approvals::Refused;
use crate::aside::do_or_set_aside;
use crate::clock;
use crate::command::card;
use crate::config::{QueueDrop, QueueMode};
use crate::deliver::Accounts;
use crate::direct::{self, Reply, Unanswered};
use crate::house::House;
use crate::journal::Durability;
use crate::journal::inbox::{self, InboxState};
use crate::journal::outbox::{self, NewOutbound};
use crate::journal::runs;
use crate::lane::{self, Job};
use crate::queue;
use crate::turns::{Said, Source};

/// Does it. Only a program on a device is not waited for; everything else keeps the order in which it was said.
pub(super) async fn follow(house: &Arc<House>, step: Step) {
    match step {
        Step::Run(job, source) => submit(house, job, &source).await,
        Step::Anew(job) => {
            direct::stop_session(house, &job.session).await;
            put(house, job, &Source::Operator).await;
        }
        Step::Click(click) => answer_click(house, *click).await,
        Step::Command(typed) if direct::is_long(&typed.parsed) => {
            let (house, stop) = (house.clone(), house.turns.stop.clone());
            // Interrupted, it stays received: the next start takes it again, and asks its node how it went.
            house.clone().tasks.spawn(async move {
                stop.run_until_cancelled(execute(&house, *typed)).await;
            });
        }
        Step::Command(typed) => execute(house, *typed).await,
    }
}

/// Puts a queued turn of a chat into its lane, as `messages.queue` says.
pub(super) async fn submit(house: &House, job: Job, source: &Source) {
    let config = house.config();
    let queue = &config.messages.queue;
    let Some(place) = source.place() else {
        return put(house, job, source).await;
    };
    if queue.mode_of(&place.account.channel) == QueueMode::Interrupt {
        for run in house.lanes.interrupt(job).await.waiting {
            let message = "Stopped before it began: a newer message came.".to_owned();
            let outcome = Outcome::Aborted { message };
            house.turns.end_unstarted(&run, outcome, Vec::new()).await;
        }
        return;
    }
    for _ in 0..lane::WAITING {
        let Err(full) = house.lanes.submit(job.clone(), queue.cap).await else {
            return;
        };
        if queue.drop == QueueDrop::New {
            return refuse(house, &job.run, source, full.to_string()).await;
        }
        if let Some(oldest) = house.lanes.drop_oldest(job.session.clone()).await {
            let_go(house, &oldest, &job.run, queue.drop).await;
        }
    }
    put(house, job, source).await;
}

/// Puts a queued turn into its lane; one that finds no room there ends, and its sender is told.
pub(super) async fn put(house: &House, job: Job, source: &Source) {
    let run = job.run.clone();
    if let Err(full) = house.lanes.submit(job, lane::WAITING).await {
        refuse(house, &run, source, full.to_string()).await;
    }
}

/// Ends a turn that never began, and says why where its message came from.
async fn refuse(house: &House, run: &RunId, source: &Source, text: String) {
    let answer = match source {
        Source::Chat { place, message, .. } => {
            let key = |part| format!("run:{run}:{part}");
            parts(&house.accounts, place, message.as_deref(), &text, key).await
        }
        Source::Operator => Vec::new(),
    };
    let outcome = Outcome::Failed { message: text };
    house.turns.end_unstarted(run, outcome, answer).await;
}

/// Ends the turn that waited for longest, for another one. The same person's is summarised in that one where it may be; of any other
/// its sender is told.
async fn let_go(house: &House, oldest: &RunId, newest: &RunId, rule: QueueDrop) {
    if rule == QueueDrop::Summarize && house.turns.summarise(oldest, newest).await {
        return;
    }
    let wanted = oldest.clone();
    let row = house
        .journal
        .read(move |db| runs::find(db, &wanted))
        .await
        .ok()
        .flatten();
    let source = row.as_ref().and_then(|row| row.new.origin.read().ok());
    let said = row
        .and_then(|row| row.new.input.read::<Said>().ok())
        .unwrap_or(Said::of(""));
    let text = format!(
        "⚠️ Too many messages wait here; this one is not answered: {}",
        queue::beginning(&said.text)
    );
    refuse(house, oldest, &source.unwrap_or(Source::Operator), text).await;
}

async fn execute(house: &House, typed: Typed) {
    let Typed {
        row,
        asker,
        parsed,
        place,
        message,
    } = typed;
    let done = AssertUnwindSafe(direct::execute(house, &asker, parsed))
        .catch_unwind()
        .await;
    // Taken up again it would only panic again, and so would everything behind it wait.
    let reply = done.unwrap_or_else(|_| {
        tracing::error!(row, "a typed command panicked");
        "⚠️ That broke inside the gateway; `atoll logs` has the place."
            .to_owned()
            .into()
    });
    let answer = if reply.media.is_empty() {
        parts(&house.accounts, &place, Some(&message), &reply.text, |part| {
            take::key(row, part)
        })
        .await
    } else {
        pictures(row, &place, &reply)
    };
    settle(house, row, InboxState::Done, None, answer).await;
}

async fn answer_click(house: &House, click: Click) {
    let Click {
        row,
        principal,
        data,
        click,
        message,
        place,
    } = click;
    let (id, answered) = match card::read_button(&data) {
        Some((id, decision)) => {
            let answered = direct::resolve(house, &principal, id.clone(), decision).await;
            (id, answered.map(|()| decision))
        }
        None => {
            let answer = take::click_answer(row, &place, &click, "This button is not known any more.");
            return settle(
                house,
                row,
                InboxState::Ignored,
                Some("an unknown button".to_owned()),
                vec![answer],
            )
            .await;
        }
    };
    let mut answers = Vec::new();
    if is_over(&answered) {
        answers.extend(end_card(house, row, &id, &place, message).await);
    }
    let (state, reason, text) = match answered {
        Ok(decision) => (InboxState::Done, None, direct::answered(decision).to_owned()),
        // The question is asked again at the next start, and so is this click.
        Err(Unanswered::Refused(Refused::GoingDown)) => return,
        Err(error) => (
            InboxState::Ignored,
            Some(error.to_string()),
            sentence(&error.to_string()),
        ),
    };
    answers.insert(0, take::click_answer(row, &place, &click, &text));
    settle(house, row, state, reason, answers).await;
}

/// Whether the question behind a button has an end by now.
fn is_over(answered: &Result<Decision, Unanswered>) -> bool {
    match answered {
        Ok(_) => true,
        Err(Unanswered::Refused(Refused::Rules(error))) => {
            matches!(error, ApprovalError::AlreadyResolved | ApprovalError::Unknown)
        }
        Err(_) => false,
    }
}

/// Takes the buttons from a message whose question is over; gives what is to be sent for one that nobody remembers.
async fn end_card(house: &House, row: i64, id: &ApprovalId, place: &Place, message: String) -> Option<NewOutbound> {
    let wanted = id.clone();
    let known = house.approvals.read(move |all| all.find(&wanted).cloned()).await.ok()?;
    let Some(approval) = known else {
        let text = "⌛ This question is over.".to_owned();
        return Some(NewOutbound {
            place: place.clone(),
            outbound: Outbound::Edit { message, text },
            run: None,
            part: 1,
            key: take::key(row, 1),
        });
    };
    if !approval.is_pending() {
        house.cards.end_there(&approval, place, &message).await;
    }
    None
}

/// Ends a row together with its answer.
async fn settle(house: &House, row: i64, state: InboxState, reason: Option<String>, answer: Vec<NewOutbound>) {
    let settle = move |db: &rusqlite::Connection| {
        if inbox::settle(db, row, state, reason.as_deref(), clock::now())? {
            outbox::enqueue(db, &answer, clock::now())?;
        }
        Ok(())
    };
    let (journal, outbox, stop) = (house.journal.clone(), house.outbox.clone(), house.turns.stop.clone());
    let settled = async move {
        let what = "what was done about a message";
        match journal.insist(Durability::Durable, what, &stop, settle).await {
            Ok(()) => outbox.wake(),
            Err(error) => tracing::error!(row, %error, "not stored: {what}; the next start does it again"),
        }
    };
    do_or_set_aside(&house.tasks, settled).await;
}

/// Pictures as a channel sends them, the first with its words.
fn pictures(row: i64, place: &Place, reply: &Reply) -> Vec<NewOutbound> {
    let picture = |(index, media)| NewOutbound {
        place: place.clone(),
        outbound: crate::pictures::outbound(media, if index == 0 { reply.text.clone() } else { String::new() }),
        run: None,
        part: u32::try_from(index).unwrap_or(u32::MAX),
        key: take::key(row, index),
    };
    reply.media.iter().enumerate().map(picture).collect()
}

/// A text as its channel sends it, part by part.
pub(crate) async fn parts(
    accounts: &Accounts,
    place: &Place,
    message: Option<&str>,
    text: &str,
    key: impl Fn(usize) -> String,
) -> Vec<NewOutbound> {
    let texts = match accounts.find(&place.account).await {
        Some(channel) => channel.split(text),
        None => vec![text.to_owned()],
    };
    let is_group = place.kind != PeerKind::Direct;
    let part = |(index, text): (usize, String)| NewOutbound {
        place: place.clone(),
        outbound: Outbound::Text {
            text,
            reply_to: message.filter(|_| is_group && index == 0).map(str::to_owned),
        },
        run: None,
        part: u32::try_from(index).unwrap_or(u32::MAX),
        key: key(index),
    };
    texts.into_iter().enumerate().map(part).collect()
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(char::to_uppercase).into_iter().flatten();
    format!("{}.", first.chain(chars).collect::<String>())
}
