//! A gateway that nobody named: what is insisted on before it is paired, and where it has gone when it is not reached any more.

use atoll_pairing::dial::{DialError, Target};
use atoll_pairing::discovery::{Kind, browse};
use atoll_pairing::identity::device_id_of;
use secrecy::SecretString;

use super::{Daemon, Notice, RunError};
use crate::beacon::Beacon;
use crate::find::{LOOK, candidates};
use crate::state::Known;

impl<N: FnMut(Notice) + Send> Daemon<N> {
    /// The key that the gateway must prove: the one from the pairing, else the one that was announced.
    pub(super) fn pin(&self, known: &Known) -> Option<[u8; 32]> {
        known.pin().or(self.announced())
    }

    /// The shared token, but not for somebody who has only announced himself.
    pub(super) fn token(&self, known: &Known) -> Option<SecretString> {
        let is_stranger = self.announced().is_some() && !known.was_admitted();
        self.config.token.clone().filter(|_| !is_stranger)
    }

    fn announced(&self) -> Option<[u8; 32]> {
        self.config.found.as_ref()?.announced
    }

    /// Announces this device while no gateway has let it in, unless a person said where to go.
    pub(super) fn begin_beacon(&mut self) {
        let is_paired = self.gateways.known(&self.place).was_admitted();
        let found = self.config.found.as_ref().filter(|_| !is_paired);
        self.beacon = found.map(|found| Beacon::start(found.air.clone(), &self.identity, &self.config.name));
    }

    /// The end of a device that was led to somebody else by what was announced.
    pub(super) fn other_key(&self, error: &DialError, known: &Known) -> Option<RunError> {
        let announced = self.announced().filter(|_| !known.was_admitted())?;
        error.is_wrong_gateway().then(|| RunError::OtherKey {
            target: self.config.gateway.clone(),
            key: device_id_of(&announced).short(),
        })
    }

    /// Looks whether a gateway that is not reached announces itself elsewhere; goes there next time. Calls go on meanwhile.
    pub(super) async fn seek(&mut self, error: &DialError) {
        let is_silent = matches!(
            error,
            DialError::Unreachable { .. } | DialError::Timeout { .. } | DialError::Neither { .. }
        );
        let is_away = is_silent && !error.is_wrong_gateway();
        let key = self.gateways.known(&self.place).pin();
        let (Some(key), true, Some(found)) = (key, is_away, &self.config.found) else {
            return;
        };
        let stop = self.stop.clone();
        let looking = browse(found.air.clone(), &[Kind::Gateway], LOOK);
        tokio::pin!(looking);
        let found = loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                found = &mut looking => break found,
                () = self.desk.rest() => {}
            }
        };
        let Ok(found) = found else { return };
        let elsewhere = |target: &Target| *target != self.config.gateway;
        let found = candidates(&found, &self.gateways).into_iter();
        if let Some(moved) = found
            .map(|one| (one.key, one.target))
            .find(|(at, target)| *at == key && elsewhere(target))
        {
            tracing::info!(target = %moved.1, "the gateway announces itself at another address");
            self.face.gateway = moved.1.to_string();
            self.config.gateway = moved.1;
        }
    }
}
