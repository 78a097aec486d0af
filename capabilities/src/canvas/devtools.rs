//! DevTools over a pair of pipes: JSON, a NUL byte behind each message. What comes from there may be the word of a hostile page: it is
//! bounded, and read no further than is needed.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

/// The largest message, bytes; a picture is one. What is larger is read and dropped, and the question under way gets no answer.
const MESSAGE: usize = 32 * 1024 * 1024;

/// Messages that nobody has taken. More: the browser waits.
const QUEUE: usize = 64;

/// Pages whose loading is remembered until somebody asks. More: the oldest are forgotten.
const LOADED: usize = 16;

/// What is repeated of an error, characters.
const WORDS: usize = 2_000;

/// The browser is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// It has hung up.
    Ended,
    /// It gave no answer.
    Late,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ended => "the browser has ended",
            Self::Late => "the browser did not answer in time, so it was ended",
        })
    }
}

/// What came of a question.
#[derive(Debug)]
pub(super) enum Failed {
    /// The browser is of no use any more.
    Broken(Broken),
    /// It says no.
    Refused(String),
    /// It said more than is taken.
    TooLarge,
}

/// What a browser says.
#[derive(Debug)]
enum Heard {
    Answer(u64, Result<Box<RawValue>, String>),
    /// The page of this loader has been loaded.
    Loaded(String),
    TooLarge,
    /// The page is gone.
    Closed,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    id: Option<u64>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<Refusal>,
    method: Option<String>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    session_id: Option<String>,
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Happened {
    name: String,
    loader_id: String,
    r#type: String,
}

/// The way to a browser. Dropped, it hangs up.
#[derive(Debug)]
pub(super) struct DevTools {
    say: mpsc::Sender<String>,
    heard: mpsc::Receiver<Heard>,
    last: u64,
    /// The page that is spoken to.
    session: Option<String>,
    loaded: Vec<String>,
    is_closed: bool,
    _pipes: [AbortOnDropHandle<()>; 2],
}

impl DevTools {
    pub(super) fn over(
        from: impl AsyncRead + Unpin + Send + 'static,
        to: impl AsyncWrite + Unpin + Send + 'static,
    ) -> Self {
        let (say, said) = mpsc::channel(QUEUE);
        let (hear, heard) = mpsc::channel(QUEUE);
        let pipes = [
            tokio::spawn(write(to, said)),
            tokio::spawn(listen(from, hear, say.clone())),
        ];
        Self {
            say,
            heard,
            last: 0,
            session: None,
            loaded: Vec::new(),
            is_closed: false,
            _pipes: pipes.map(AbortOnDropHandle::new),
        }
    }

    /// Speaks to this page from now on.
    pub(super) fn attend(&mut self, session: String) {
        self.session = Some(session);
    }

    /// Whether the page is still there, as far as the browser has said.
    pub(super) fn is_open(&mut self) -> bool {
        loop {
            match self.heard.try_recv() {
                Ok(heard) => drop(self.take(heard)),
                Err(mpsc::error::TryRecvError::Empty) => return !self.is_closed,
                Err(mpsc::error::TryRecvError::Disconnected) => return false,
            }
        }
    }

    /// Asks something; the answer as a type. Loses only that when it is dropped.
    pub(super) async fn ask<T: DeserializeOwned>(
        &mut self,
        method: &str,
        params: Value,
        until: Instant,
    ) -> Result<T, Failed> {
        self.last += 1;
        let id = self.last;
        let mut message = json!({"id": id, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let late = |_| Failed::Broken(Broken::Late);
        let sent = timeout_at(until, self.say.send(message.to_string()))
            .await
            .map_err(late)?;
        sent.map_err(|_| Failed::Broken(Broken::Ended))?;
        loop {
            let heard = timeout_at(until, self.heard.recv()).await.map_err(late)?;
            let heard = heard.ok_or(Failed::Broken(Broken::Ended))?;
            match self.take(heard) {
                Some(Heard::Answer(to, answer)) if to == id => {
                    let answer = answer.map_err(Failed::Refused)?;
                    return serde_json::from_str(answer.get())
                        .map_err(|error| Failed::Refused(format!("{method} was answered strangely: {error}")));
                }
                Some(Heard::TooLarge) => return Err(Failed::TooLarge),
                _ if self.is_closed => return Err(Failed::Broken(Broken::Ended)),
                _ => {}
            }
        }
    }

    /// Waits until the page of this loader has been loaded; false when it has not by then.
    pub(super) async fn loaded(&mut self, loader: &str, until: Instant) -> Result<bool, Failed> {
        while !self.loaded.iter().any(|loaded| loaded == loader) {
            let Ok(heard) = timeout_at(until, self.heard.recv()).await else {
                return Ok(false);
            };
            drop(self.take(heard.ok_or(Failed::Broken(Broken::Ended))?));
            if self.is_closed {
                return Err(Failed::Broken(Broken::Ended));
            }
        }
        Ok(true)
    }

    /// Notes what happened; gives what may be an answer.
    fn take(&mut self, heard: Heard) -> Option<Heard> {
        match heard {
            Heard::Loaded(loader) => {
                if self.loaded.len() == LOADED {
                    self.loaded.remove(0);
                }
                self.loaded.push(loader);
                None
            }
            Heard::Closed => {
                self.is_closed = true;
                None
            }
            answer @ (Heard::Answer(..) | Heard::TooLarge) => Some(answer),
        }
    }
}

async fn write(mut to: impl AsyncWrite + Unpin, mut said: mpsc::Receiver<String>) {
    while let Some(text) = said.recv().await {
        let mut bytes = text.into_bytes();
        bytes.push(0);
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Takes messages out of what comes. Ends with the browser, or with whoever listens.
async fn listen(mut from: impl AsyncRead + Unpin, hear: mpsc::Sender<Heard>, say: mpsc::Sender<String>) {
    let mut buffer = vec![0; 64 * 1024];
    let (mut message, mut is_too_large) = (Vec::new(), false);
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        for part in buffer[..count].split_inclusive(|byte| *byte == 0) {
            let is_whole = part.ends_with(&[0]);
            let part = if is_whole { &part[..part.len() - 1] } else { part };
            is_too_large |= message.len() + part.len() > MESSAGE;
            if is_too_large {
                message = Vec::new();
            } else {
                message.extend_from_slice(part);
            }
            if !is_whole {
                continue;
            }
            let heard = if is_too_large {
                Some(Heard::TooLarge)
            } else {
                understood(&message, &say)
            };
            (message, is_too_large) = (Vec::new(), false);
            if let Some(heard) = heard
                && hear.send(heard).await.is_err()
            {
                return;
            }
        }
    }
}

/// What a message says that matters here. Boxes that a page puts up would hold everything up, so they are closed at once.
fn understood(message: &[u8], say: &mpsc::Sender<String>) -> Option<Heard> {
    let message: Message<'_> = serde_json::from_slice(message).ok()?;
    if let Some(id) = message.id {
        let answer = match (message.error, message.result) {
            (Some(refusal), _) => Err(cut(&refusal.message)),
            (None, Some(result)) => Ok(result.to_owned()),
            (None, None) => Err("it was answered without a result".to_owned()),
        };
        return Some(Heard::Answer(id, answer));
    }
    let happened = || -> Happened {
        let params = message.params.map(RawValue::get).unwrap_or("{}");
        serde_json::from_str(params).unwrap_or_default()
    };
    match message.method.as_deref()? {
        "Page.lifecycleEvent" => {
            let happened = happened();
            (happened.name == "load").then_some(Heard::Loaded(happened.loader_id))
        }
        "Page.javascriptDialogOpening" => {
            let accept = happened().r#type == "beforeunload";
            // Nobody waits for an answer to number 0.
            let close = json!({
                "id": 0, "sessionId": message.session_id, "method": "Page.handleJavaScriptDialog", "params": {"accept": accept},
            });
            let _ = say.try_send(close.to_string());
            None
        }
        "Inspector.detached" | "Inspector.targetCrashed" | "Target.detachedFromTarget" => Some(Heard::Closed),
        _ => None,
    }
}

pub(super) fn cut(words: &str) -> String {
    words.chars().take(WORDS).collect()
}

/// A little before the end, so that there is time to say how it went.
pub(super) fn before(until: Instant, time: Duration) -> Instant {
    let now = Instant::now();
    now + until.saturating_duration_since(now).saturating_sub(time)
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    const SOON: Duration = Duration::from_secs(30);

    fn browser() -> (DevTools, DuplexStream) {
        let (ours, theirs) = duplex(64 * 1024);
        let (from, to) = tokio::io::split(ours);
        (DevTools::over(from, to), theirs)
    }

    async fn answers(theirs: &mut DuplexStream, messages: &[&[u8]]) {
        for message in messages {
            theirs.write_all(message).await.expect("open");
            theirs.write_all(&[0]).await.expect("open");
        }
    }

    #[tokio::test]
    async fn an_answer_is_found_among_what_else_is_said() {
        let (mut tools, mut theirs) = browser();
        let until = Instant::now() + SOON;
        let event = br#"{"method":"Page.lifecycleEvent","params":{"name":"load","loaderId":"L1"}}"#;
        answers(
            &mut theirs,
            &[
                br#"{"id":9,"result":{"a":0}}"#,
                event,
                b"no json",
                br#"{"id":1,"result":{"a":7}}"#,
            ],
        )
        .await;
        let answer: Value = tools.ask("X.y", json!({}), until).await.expect("an answer");
        assert_eq!(answer["a"], 7);
        assert!(tools.loaded("L1", until).await.expect("open"));
        let never = Instant::now() + Duration::from_millis(20);
        assert!(!tools.loaded("L2", never).await.expect("open"));
        answers(&mut theirs, &[br#"{"id":2,"error":{"message":"no"}}"#]).await;
        let refused = tools.ask::<Value>("X.y", json!({}), until).await;
        assert!(matches!(refused, Err(Failed::Refused(why)) if why == "no"));
    }

    #[tokio::test]
    async fn a_giant_costs_one_question_and_no_memory() {
        let (mut tools, mut theirs) = browser();
        let until = Instant::now() + SOON;
        let giant = async {
            let part = vec![b'x'; 1024 * 1024];
            for _ in 0..=MESSAGE / part.len() {
                theirs.write_all(&part).await.expect("open");
            }
            answers(&mut theirs, &[b"", br#"{"id":2,"result":{}}"#]).await;
        };
        let (asked, ()) = tokio::join!(tools.ask::<Value>("X.y", json!({}), until), giant);
        assert!(matches!(asked, Err(Failed::TooLarge)), "{asked:?}");
        tools.ask::<Value>("X.y", json!({}), until).await.expect("the next one");
    }

    #[tokio::test]
    async fn a_browser_that_is_gone_or_silent_is_told_apart() {
        let (mut tools, mut theirs) = browser();
        let soon = Instant::now() + Duration::from_millis(20);
        let late = tools.ask::<Value>("X.y", json!({}), soon).await;
        assert!(matches!(late, Err(Failed::Broken(Broken::Late))), "{late:?}");
        assert!(tools.is_open());
        answers(
            &mut theirs,
            &[br#"{"method":"Inspector.detached","params":{"reason":"x"}}"#],
        )
        .await;
        let ended = tools.ask::<Value>("X.y", json!({}), Instant::now() + SOON).await;
        assert!(matches!(ended, Err(Failed::Broken(Broken::Ended))), "{ended:?}");
        assert!(!tools.is_open());
        let (mut tools, theirs) = browser();
        drop(theirs);
        let ended = tools.ask::<Value>("X.y", json!({}), Instant::now() + SOON).await;
        assert!(matches!(ended, Err(Failed::Broken(Broken::Ended))), "{ended:?}");
    }

    #[tokio::test]
    async fn a_box_that_a_page_puts_up_is_closed() {
        let (_tools, mut theirs) = browser();
        answers(
            &mut theirs,
            &[br#"{"method":"Page.javascriptDialogOpening","params":{"type":"alert"},"sessionId":"S"}"#],
        )
        .await;
        let mut said = vec![0; 4096];
        let count = theirs.read(&mut said).await.expect("open");
        let said: Value = serde_json::from_slice(&said[..count - 1]).expect("JSON");
        assert_eq!(said["method"], "Page.handleJavaScriptDialog");
        assert_eq!(
            (&said["sessionId"], &said["params"]["accept"]),
            (&json!("S"), &json!(false))
        );
    }
}
