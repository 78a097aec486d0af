//! What may take the place of a link: QUIC again (`roam`), or a fresh one when the owner's rules have changed what this node offers
//! (`redeclare`).

use std::future::{Future, pending};
use std::pin::Pin;

use atoll_pairing::dial::Dial;
use atoll_protocol::capability::Surface;
use tokio::sync::watch;

use crate::desk::Desk;
use crate::redeclare::redeclare;
use crate::roam::{Better, Roam};

type Finding = Pin<Box<dyn Future<Output = Better> + Send>>;

/// How a link that is served may be followed by another.
pub(crate) struct Next {
    /// Looks for a better pipe.
    pub(crate) roam: Option<Roam>,
    /// How to dial anew.
    pub(crate) dial: Dial,
    /// What was declared on this link.
    pub(crate) declared: Surface,
    /// Told of changes of the owner's rules.
    pub(crate) rules: watch::Receiver<u64>,
}

/// What a search comes to.
pub(super) enum Found {
    /// The rules have changed: [`Search::look_again`].
    Rules,
    /// The link's successor.
    Better(Box<Better>),
}

/// Goes on beside the calls.
pub(super) struct Search {
    dial: Dial,
    declared: Surface,
    rules: watch::Receiver<u64>,
    is_quiet: watch::Receiver<bool>,
    roaming: Finding,
    telling: Option<(Surface, Finding)>,
}

impl Search {
    pub(super) fn new(next: Next, is_quiet: watch::Receiver<bool>, desk: &Desk) -> Self {
        let roaming: Finding = match next.roam {
            Some(roam) => Box::pin(roam.run(is_quiet.clone())),
            None => Box::pin(pending()),
        };
        let mut search = Self {
            dial: next.dial,
            declared: next.declared,
            rules: next.rules,
            is_quiet,
            roaming,
            telling: None,
        };
        // What has changed while this link was dialled.
        search.tell(desk.surface());
        search
    }

    /// Loses nothing when dropped.
    pub(super) async fn next(&mut self) -> Found {
        let telling = async {
            match &mut self.telling {
                Some((_, telling)) => telling.await,
                None => pending().await,
            }
        };
        let better = tokio::select! {
            better = &mut self.roaming => better,
            better = telling => better,
            changed = self.rules.changed() => match changed {
                Ok(()) => return Found::Rules,
                Err(_) => pending().await,
            },
        };
        Found::Better(Box::new(better))
    }

    /// After [`Found::Rules`].
    pub(super) fn look_again(&mut self, desk: &mut Desk) {
        desk.refresh();
        self.tell(desk.surface());
    }

    fn tell(&mut self, surface: &Surface) {
        let is_told = *surface == self.declared;
        let is_being_told = self.telling.as_ref().is_some_and(|(told, _)| told == surface);
        if is_told {
            self.telling = None;
        } else if !is_being_told {
            let telling = redeclare(self.dial.clone(), surface.clone(), self.is_quiet.clone());
            self.telling = Some((surface.clone(), Box::pin(telling)));
        }
    }
}
