//! The tools that this node publishes: told anew on every link, and whenever they have changed. Owns none of them.

use std::sync::Arc;
use std::time::Duration;

use atoll_capabilities::mcp::{Mcp, Published};
use atoll_pairing::link::Received;
use atoll_protocol::frame::{Frame, Request};
use atoll_protocol::id::RequestId;
use atoll_protocol::json::Json;
use atoll_protocol::plugin_tool::PluginTool;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::guard::Owner;
use crate::rules::document::mcp_tool;

/// A gateway that does not take it is told again after this, at first and at most: OpenClaw's takes nothing while an approval is written
/// down.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What there is to publish, and what became of the last time.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    published: watch::Receiver<Published>,
    /// Who denies some of them; none: nobody.
    owner: Option<Arc<Owner>>,
    /// Told of changes of the owner's rules.
    rules: watch::Receiver<u64>,
    /// What the gateway of this link was told last.
    told: Vec<PluginTool>,
    /// What was said and is not answered.
    said: Option<RequestId>,
    /// When it is said again.
    again: Option<Instant>,
    pause: Duration,
}

impl Tools {
    /// Those of the servers that the owner does not deny.
    pub(crate) fn of(mcp: &Mcp, owner: &Arc<Owner>) -> Self {
        Self::new(mcp.published(), owner.rules.changes(), Some(Arc::clone(owner)))
    }

    fn new(published: watch::Receiver<Published>, rules: watch::Receiver<u64>, owner: Option<Arc<Owner>>) -> Self {
        Self {
            published,
            owner,
            rules,
            told: Vec::new(),
            said: None,
            again: None,
            pause: AGAIN.0,
        }
    }

    /// For a link on which nothing has been said yet.
    pub(crate) fn anew(&self) -> Self {
        let mut tools = Self::new(self.published.clone(), self.rules.clone(), self.owner.clone());
        tools.published.mark_changed();
        tools
    }

    /// Waits for something new, and for room to say it. Loses nothing when dropped.
    pub(crate) async fn next<'a>(&mut self, outbox: &'a mpsc::Sender<Frame>) -> (mpsc::Permit<'a, Frame>, Frame) {
        loop {
            let is_due = tokio::select! {
                changed = self.published.changed() => changed.map(|()| false),
                changed = self.rules.changed() => changed.map(|()| false),
                () = due(self.again) => Ok(true),
            };
            let Ok(is_due) = is_due else {
                return std::future::pending().await; // there will be nothing new
            };
            let allowed = self.allowed();
            if !is_due && allowed == self.told {
                continue;
            }
            // Seen only once there is room for it.
            self.published.mark_changed();
            let Ok(room) = outbox.reserve().await else {
                return std::future::pending().await; // the writer has ended, which is a turn of its own
            };
            self.told = self.allowed();
            let id = RequestId::from(uuid::Uuid::new_v4());
            let frame = update(id.clone(), &self.told);
            self.again = None;
            self.said = Some(id);
            return (room, frame);
        }
    }

    /// What is published now, without what the owner's rules deny.
    fn allowed(&mut self) -> Vec<PluginTool> {
        let look = self.owner.as_ref().map(|owner| owner.rules.look());
        let published = self.published.borrow_and_update();
        let is_allowed = |tool: &&PluginTool| match (&look, &tool.mcp) {
            (Some(look), Some(mcp)) => look.is_open(&mcp_tool(mcp.server.as_str(), mcp.tool.as_str())),
            _ => true,
        };
        published.iter().filter(is_allowed).cloned().collect()
    }

    /// Whatever the gateway says: an answer to it may be among that.
    pub(crate) fn heard(&mut self, received: &Received) {
        let Received::Frame(Frame::Response(response)) = received else {
            return;
        };
        if self.said.as_ref() != Some(&response.id) {
            return;
        }
        self.said = None;
        match &response.result {
            Ok(_) => self.pause = AGAIN.0,
            Err(error) => {
                tracing::info!(%error, pause = ?self.pause, "the gateway did not take the list of tools; it is told again");
                self.again = Some(Instant::now() + self.pause);
                self.pause = (self.pause * 2).min(AGAIN.1);
            }
        }
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn update(id: RequestId, tools: &[PluginTool]) -> Frame {
    Frame::Request(Request {
        id,
        method: "node.pluginTools.update".to_owned(),
        params: Some(Json::from(json!({ "tools": tools }))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_protocol::error::WireError;
    use atoll_protocol::frame::Response;
    use futures_util::FutureExt;

    fn published(names: &[&str]) -> Published {
        let tool = |name: &&str| -> PluginTool {
            Json::from(json!({"pluginId": "p", "name": name, "description": "d"}))
                .read()
                .expect("a tool")
        };
        names.iter().map(tool).collect()
    }

    fn said(frame: &Frame) -> String {
        let Frame::Request(request) = frame else {
            panic!("{frame:?}");
        };
        request.params.as_ref().expect("some").as_str().to_owned()
    }

    #[tokio::test]
    async fn each_link_is_told_and_a_change_waits_for_room() {
        let source = watch::Sender::new(published(&[]));
        let rules = watch::Sender::new(0);
        let tools = Tools::new(source.subscribe(), rules.subscribe(), None);
        let (outbox, mut queue) = mpsc::channel(1);
        let mut first = tools.anew();
        assert!(first.next(&outbox).now_or_never().is_none(), "nothing to say");
        source.send_replace(published(&["a"]));
        let (room, frame) = first.next(&outbox).now_or_never().expect("news");
        assert!(said(&frame).contains("\"a\""));
        room.send(frame);
        source.send_replace(published(&["b"]));
        assert!(first.next(&outbox).now_or_never().is_none(), "no room");
        queue.recv().await.expect("the first");
        let (_room, frame) = first.next(&outbox).now_or_never().expect("not lost");
        assert!(said(&frame).contains("\"b\""));
        drop(_room);
        rules.send_replace(1);
        assert!(first.next(&outbox).now_or_never().is_none(), "nothing else for it");
        let mut second = tools.anew();
        let (_room, frame) = second.next(&outbox).now_or_never().expect("told anew");
        assert!(said(&frame).contains("\"b\""));
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_that_does_not_take_it_is_told_again() {
        let source = watch::Sender::new(published(&["a"]));
        let rules = watch::Sender::new(0);
        let mut tools = Tools::new(source.subscribe(), rules.subscribe(), None).anew();
        let (outbox, _queue) = mpsc::channel(1);
        let mut began = Instant::now();
        for pause in [0, 1, 2, 4] {
            let (room, frame) = tools.next(&outbox).await;
            drop(room);
            assert_eq!(began.elapsed().as_secs(), pause);
            let Frame::Request(request) = frame else {
                panic!("{frame:?}");
            };
            let refused = Err(WireError::unavailable("not now"));
            let answer = |id, result| Received::Frame(Frame::Response(Response { id, result }));
            tools.heard(&answer(RequestId::from(uuid::Uuid::new_v4()), refused.clone()));
            assert!(
                tools.next(&outbox).now_or_never().is_none(),
                "an answer to something else"
            );
            tools.heard(&answer(request.id, refused));
            began = Instant::now();
        }
    }
}
