//! Which node may fetch which blob of the store: those that a running call named to it, and no others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use atoll_pairing::blob;
use atoll_pairing::link::stream::{Incoming, StreamTx};
use atoll_protocol::blob::{BlobHandle, BlobKind};
use atoll_protocol::error::WireError;
use atoll_protocol::frame::StreamHead;
use atoll_protocol::id::{BlobId, DeviceId};
use tokio::task::JoinSet;

use super::Reading;

type Open = HashMap<(DeviceId, BlobId), Arc<Reading>>;

/// What is offered now. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Offers(Arc<Mutex<Open>>);

/// One blob for one node, as long as this lives.
#[derive(Debug)]
pub(crate) struct Offer {
    offers: Offers,
    key: (DeviceId, BlobId),
    /// What the node is told.
    pub(crate) handle: BlobHandle,
}

impl Offers {
    /// Opens a blob to a node.
    pub(crate) fn offer(&self, node: DeviceId, reading: Reading) -> Offer {
        let id: BlobId = uuid::Uuid::new_v4().into();
        let handle = BlobHandle {
            id: id.clone(),
            name: reading.facts.name.clone(),
            size: reading.facts.size,
            mime: reading.facts.mime.clone(),
            kind: BlobKind::File,
        };
        let key = (node, id);
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(key.clone(), Arc::new(reading));
        Offer {
            offers: self.clone(),
            key,
            handle,
        }
    }

    /// Answers what a node asks for on one link, until that is over.
    pub(crate) async fn serve(self, node: DeviceId, mut incoming: Incoming) {
        let mut sending = JoinSet::new();
        while let Some((head, tx)) = incoming.accept().await {
            sending.spawn(self.answer(node, head, tx));
            while sending.try_join_next().is_some() {}
        }
    }

    fn answer(&self, node: DeviceId, head: StreamHead, tx: StreamTx) -> impl Future<Output = ()> + Send + use<> {
        let StreamHead::Fetch { blob, offset } = head;
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let reading = open.get(&(node, blob)).cloned();
        drop(open);
        async move {
            match reading {
                Some(reading) => blob::send(tx, reading.file.clone(), reading.facts.size, offset).await,
                None => {
                    tx.fail(WireError::invalid("no running call offers that blob to this node"))
                        .await
                }
            }
        }
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        let mut open = self.offers.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(&self.key);
    }
}
