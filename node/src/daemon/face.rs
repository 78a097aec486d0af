//! What the daemon shows of itself: writes `status.json` as things change.

use atoll_pairing::dial::PipeKind;

use crate::config::Dialect;
use crate::state::{Phase, StateDir, Status, unix_ms};

/// What `atoll-node status` sees of this daemon.
pub(super) struct Face {
    pub(super) state: StateDir,
    pub(super) device: String,
    pub(super) gateway: String,
    pub(super) dialect: Dialect,
}

impl Face {
    pub(super) fn connected(&self, pipe: PipeKind, commands: &[String], calls: usize) {
        self.write(Phase::Connected, |status| {
            status.pipe = Some(pipe);
            status.paired = true;
            status.commands = commands.to_vec();
            status.calls = calls;
        });
    }

    pub(super) fn write(&self, phase: Phase, fill: impl FnOnce(&mut Status)) {
        let mut status = Status {
            pid: std::process::id(),
            device_id: self.device.clone(),
            gateway: self.gateway.clone(),
            dialect: self.dialect.as_str().to_owned(),
            phase,
            pipe: None,
            paired: false,
            request_id: None,
            digits: None,
            commands: Vec::new(),
            calls: 0,
            last_error: None,
            updated_at_ms: unix_ms(),
        };
        fill(&mut status);
        // A full disk must not end a working node.
        if let Err(error) = self.state.write_status(&status) {
            tracing::warn!(%error, "the status was not written");
        }
    }
}
