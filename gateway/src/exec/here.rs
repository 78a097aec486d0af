//! The gateway's own machine as a host of commands: the same capability and the same policy file as on a node.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use atoll_capabilities::system_run::{PlanVerifier, SystemRun};
use atoll_capabilities::{Call, Capability};
use atoll_pairing::approval::plan::{Expectation, verify_plan};
use atoll_pairing::identity::Identity;
use atoll_protocol::calls::Failure;
use atoll_protocol::frame::SignedPlan;
use atoll_protocol::id::CallId;
use atoll_protocol::json::Json;
use atoll_protocol::limits;
use atoll_protocol::plan::Plan;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::journal::calls::{self, CallEnd, CallState, Details, NewCall, ToolKey};
use crate::journal::{Durability, Journal};
use crate::ring::CallRefused;

/// The name of this host where a node's id stands otherwise.
pub(super) const GATEWAY: &str = "gateway";

/// Commands on this machine.
pub(crate) struct Here {
    system_run: SystemRun,
}

/// How a command is written down.
pub(super) struct Recorded {
    pub(super) id: CallId,
    pub(super) key: ToolKey,
    pub(super) caller: String,
}

struct OwnSignature(Arc<Identity>);

impl PlanVerifier for OwnSignature {
    fn verify(&self, signed: &SignedPlan, call: &CallId) -> Result<Plan, String> {
        let expected = Expectation {
            node: self.0.device_id(),
            call,
            now_ms: clock::now_ms(),
        };
        verify_plan(&self.0.public_key(), signed, expected).map_err(|error| error.to_string())
    }

    fn now_ms(&self) -> u64 {
        clock::now_ms()
    }
}

impl Here {
    /// Commands under `exec-approvals.json` in this folder.
    pub(crate) fn new(folder: &Path, identity: Arc<Identity>) -> Self {
        Self {
            system_run: SystemRun::new(folder, Arc::new(OwnSignature(identity))),
        }
    }

    /// One command of the capability.
    pub(super) async fn call(
        &self,
        command: &str,
        params: Option<Json>,
        timeout: Duration,
        plan: Option<(SignedPlan, CallId)>,
        cancel: &CancellationToken,
    ) -> Result<Option<Json>, CallRefused> {
        // Nobody watches; a full queue slows nothing down, since its receiver is gone.
        let (progress, _) = mpsc::channel(1);
        let (plan, id) = match plan {
            Some((plan, id)) => (Some(plan), id),
            None => (None, uuid::Uuid::new_v4().into()),
        };
        let call = Call {
            id,
            command: command.to_owned(),
            params,
            deadline: timeout,
            plan,
            cancel: cancel.child_token(),
            progress,
            blobs: None,
            silent: None,
        };
        self.system_run
            .invoke(call)
            .await
            .map_err(|error| CallRefused::Failed(Failure::Node(error)))
    }

    /// `system.execApprovals.get` or `.set` about the file of this machine.
    pub(crate) async fn policy_file(&self, command: &str, params: Json) -> Result<Option<Json>, CallRefused> {
        let never = CancellationToken::new();
        self.call(command, Some(params), limits::CALL_DEADLINE, None, &never)
            .await
    }

    /// Runs a command, written down before it starts and when it has ended.
    pub(super) async fn run(
        &self,
        journal: &Journal,
        recorded: Recorded,
        params: Option<Json>,
        timeout: Duration,
        plan: Option<SignedPlan>,
        cancel: &CancellationToken,
    ) -> Result<Option<Json>, CallRefused> {
        let new = NewCall {
            call: recorded.id.clone(),
            key: Some(recorded.key),
            node: GATEWAY.to_owned(),
            command: "system.run".to_owned(),
            caller: recorded.caller,
            session: None,
            details: Details {
                deadline_at: Some(clock::after(timeout)),
                ..Details::default()
            },
        };
        let open = move |db: &rusqlite::Connection| {
            calls::open(db, &new, clock::now())?;
            calls::sent_once(db, &new.call, clock::now())
        };
        let journaled = |error: crate::journal::JournalError| CallRefused::Journal(error.to_string());
        journal.write(Durability::Lazy, open).await.map_err(journaled)?;
        let plan = plan.map(|plan| (plan, recorded.id.clone()));
        let end = self.call("system.run", params, timeout, plan, cancel).await;
        let row = end_row(&end);
        let close = move |db: &rusqlite::Connection| calls::close(db, &recorded.id, &row, clock::now()).map(drop);
        journal.write(Durability::Lazy, close).await.map_err(journaled)?;
        end
    }
}

fn end_row(end: &Result<Option<Json>, CallRefused>) -> CallEnd {
    match end {
        Ok(payload) => CallEnd {
            state: CallState::Ok,
            error_code: None,
            result: payload.as_ref().map(|payload| payload.as_str().to_owned()),
        },
        Err(error) => CallEnd {
            state: CallState::Error,
            error_code: None,
            result: Some(error.to_string()),
        },
    }
}
