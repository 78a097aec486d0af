//! A node made of nothing but frames, for tests that decide themselves when and how a call is answered.

use serde_json::{Value, json};

use crate::wait::until;
use crate::wire::{Device, Refusal, Target, Wire, node};

/// One connection of a node.
#[derive(Debug)]
pub struct FakeNode {
    /// The connection.
    pub wire: Wire,
    /// Its key.
    pub device: Device,
    /// The answer to its connect.
    pub hello: Value,
}

/// A call that arrived.
#[derive(Debug, Clone)]
pub struct Invoke {
    /// The gateway's id of the call.
    pub id: String,
    /// The whole payload of `node.invoke.request`.
    pub payload: Value,
}

impl Invoke {
    /// The parsed parameters, null when there were none.
    ///
    /// # Panics
    /// When `paramsJSON` is neither null nor JSON in a string.
    pub fn params(&self) -> Value {
        match &self.payload["paramsJSON"] {
            Value::Null => Value::Null,
            Value::String(text) => serde_json::from_str(text).expect("JSON in paramsJSON"),
            other => panic!("paramsJSON is a string or null, not {other}"),
        }
    }
}

impl FakeNode {
    /// Connects a device that is approved already.
    ///
    /// # Errors
    /// [`Refusal`], e.g. with the pairing request.
    pub async fn connect(target: &Target, device: Device, name: &str, commands: &[&str]) -> Result<Self, Refusal> {
        let params = node(&target.token, name, commands);
        let (wire, hello) = Wire::connect(target, params, Some(&device)).await?;
        Ok(Self { wire, device, hello })
    }

    /// Connects a new device, has `operator` approve whatever there is to approve, and waits until its surface is in force.
    ///
    /// # Panics
    /// When any of it does not happen.
    pub async fn pair(target: &Target, operator: &mut Wire, name: &str, commands: &[&str]) -> Self {
        let device = Device::default();
        let refused = Self::connect(target, device.clone(), name, commands)
            .await
            .expect_err("a new device waits");
        approve(operator, &refused).await;
        let fake = Self::connect(target, device, name, commands)
            .await
            .expect("an approved device");
        fake.in_force(operator).await;
        fake
    }

    /// The device's id.
    pub fn id(&self) -> String {
        self.device.id()
    }

    /// Waits until the operator sees it connected with an approved surface. Where the surface is approved in a step of
    /// its own, as the real OpenClaw gateway has it, takes that step.
    pub async fn in_force(&self, operator: &mut Wire) {
        let id = self.id();
        until("the surface to be in force", async || {
            let pairing = operator.call("node.pair.list", json!({})).await.ok()?;
            let mine = pairing["pending"]
                .as_array()?
                .iter()
                .find(|pending| pending["nodeId"] == id);
            if let Some(pending) = mine {
                let _ = operator
                    .call("node.pair.approve", json!({"requestId": pending["requestId"]}))
                    .await;
            }
            let row = operator.call("node.describe", json!({"nodeId": id})).await.ok()?;
            (row["connected"] == true && row["approvalState"] == "approved").then_some(())
        })
        .await;
    }

    /// The next call of `command`. Gateways ask for other things on their own.
    pub async fn invoked(&mut self, command: &str) -> Invoke {
        let wanted = |frame: &Value| frame["event"] == "node.invoke.request" && frame["payload"]["command"] == command;
        let payload = self.wire.frame(&format!("a call of {command}"), wanted).await["payload"].take();
        Invoke {
            id: payload["id"].as_str().expect("a call's id").to_owned(),
            payload,
        }
    }

    /// Answers a call with a result.
    ///
    /// # Errors
    /// What the gateway said to it.
    pub async fn succeed(&mut self, invoke: &Invoke, payload: &Value) -> Result<Value, Value> {
        let params = json!({"id": invoke.id, "nodeId": self.id(), "ok": true, "payloadJSON": payload.to_string()});
        self.wire.call("node.invoke.result", params).await
    }

    /// Answers a call with an error.
    ///
    /// # Errors
    /// What the gateway said to it.
    pub async fn fail(&mut self, invoke: &Invoke, code: &str, message: &str) -> Result<Value, Value> {
        let error = json!({"code": code, "message": message});
        let params = json!({"id": invoke.id, "nodeId": self.id(), "ok": false, "error": error});
        self.wire.call("node.invoke.result", params).await
    }
}

/// Approves what a refused connect asked for.
///
/// # Panics
/// When it cannot be approved.
pub async fn approve(operator: &mut Wire, refused: &Refusal) -> Value {
    let approved = operator
        .call("device.pair.approve", json!({"requestId": refused.request_id()}))
        .await;
    approved.unwrap_or_else(|error| panic!("{refused:?} was not approved: {error}"))
}
