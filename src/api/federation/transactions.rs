//! What servers send unasked. <https://spec.matrix.org/v1.19/server-server-api/#transactions>

use std::sync::Arc;

use ruma::api::federation::transactions::send_transaction_message;

use crate::{
    api::{Error, peer::Peer},
    base::limits,
    service::{
        App,
        federation::transactions::{self, Transaction, TransactionError},
    },
};

/// `PUT /_matrix/federation/v1/send/{txnId}`
pub(crate) async fn send(
    app: App,
    peer: Peer,
    request: send_transaction_message::v1::Request,
) -> Result<send_transaction_message::v1::Response, Error> {
    let edus = request.edus.into_iter().map(ruma::serde::Raw::into_json).collect();
    let transaction = Transaction { id: request.transaction_id, pdus: request.pdus, edus };
    // It waits for other servers, rooms and its own turn, none of which is this client's.
    let outcomes = peer.turn().pause(transactions::receive(&app, peer.server(), transaction)).await?;
    Ok(send_transaction_message::v1::Response::new(Arc::unwrap_or_clone(outcomes)))
}

impl From<TransactionError> for Error {
    fn from(error: TransactionError) -> Self {
        match error {
            TransactionError::TooMany => {
                Self::invalid_param("A transaction has at most 50 PDUs and 100 EDUs")
            }
            TransactionError::Busy => Self::limit_exceeded(limits::BUSY_TIME),
            TransactionError::Entering => {
                Self::unavailable("A room of the transaction is being entered", limits::BUSY_TIME)
            }
            TransactionError::Store(error) => Self::internal(error),
        }
    }
}
