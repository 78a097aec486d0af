//! The streams of calls and of bytes that this end writes to, by what they are for. Never does I/O.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use atoll_protocol::id::CallId;
use quinn::SendStream;

/// What a stream is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    /// A call.
    Call(CallId),
    /// The bytes that the other end asked for under this number.
    Bytes(u64),
}

/// Dropping a stream that is here ends it after what was written.
#[derive(Debug, Default)]
pub(super) struct Lanes(Mutex<HashMap<Purpose, Slot>>);

#[derive(Debug)]
enum Slot {
    Here(SendStream),
    /// Being written to.
    Taken,
    /// It was begun without a stream, and stays so, that nothing overtakes anything.
    Without,
}

/// What [`Lanes::take`] found.
#[derive(Debug)]
pub(super) enum Taken {
    Stream(SendStream),
    Without,
    Unknown,
}

impl Lanes {
    /// The stream of that purpose from now on.
    pub(super) fn insert(&self, purpose: Purpose, stream: SendStream) {
        self.lock().insert(purpose, Slot::Here(stream));
    }

    /// A stream is about to be written to for the first time; [`Self::give_back`] brings it.
    pub(super) fn reserve(&self, purpose: Purpose) {
        self.lock().insert(purpose, Slot::Taken);
    }

    /// There will be no stream of that purpose.
    pub(super) fn do_without(&self, purpose: Purpose) {
        self.lock().insert(purpose, Slot::Without);
    }

    /// Its stream, for writing.
    pub(super) fn take(&self, purpose: &Purpose) -> Taken {
        let mut lanes = self.lock();
        let Some(slot) = lanes.get_mut(purpose) else {
            return Taken::Unknown;
        };
        match std::mem::replace(slot, Slot::Taken) {
            Slot::Here(stream) => Taken::Stream(stream),
            Slot::Taken => Taken::Without,
            Slot::Without => {
                *slot = Slot::Without;
                Taken::Without
            }
        }
    }

    /// After [`Self::take`] or [`Self::reserve`]. What has ended meanwhile has no stream any more.
    pub(super) fn give_back(&self, purpose: &Purpose, stream: SendStream) {
        if let Some(slot) = self.lock().get_mut(purpose) {
            *slot = Slot::Here(stream);
        }
    }

    /// How many there are, with those that do without a stream.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// No stream is needed any more.
    pub(super) fn remove(&self, purpose: &Purpose) {
        self.lock().remove(purpose);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Purpose, Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
