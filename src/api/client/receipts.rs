//! Telling what one has read. <https://spec.matrix.org/v1.19/client-server-api/#receipts>

use ruma::{
    OwnedEventId,
    api::client::{read_marker::set_read_marker, receipt::create_receipt},
    events::receipt::ReceiptThread,
};

use crate::{
    api::{Error, User, caller::EvenSuspended, custom::Unparsed},
    service::{
        App,
        receipts::{self, Mark, MarkError},
    },
};

/// `POST /_matrix/client/v3/rooms/{roomId}/receipt/{receiptType}/{eventId}`
pub(crate) async fn receipt(
    app: App,
    user: User,
    request: Unparsed<create_receipt::v3::Request>,
) -> Result<create_receipt::v3::Response, Error> {
    use create_receipt::v3::ReceiptType;
    // ruma calls this malformed.
    if request.body.get("thread_id").is_some_and(|thread| !thread.is_string()) {
        return Err(no_thread());
    }
    let request = request.parse()?;
    let event_id = request.event_id;
    let mark = match (request.receipt_type, thread(&request.thread)?) {
        (ReceiptType::Read, thread) => Mark::Receipt { private: false, thread, event_id },
        (ReceiptType::ReadPrivate, thread) => Mark::Receipt { private: true, thread, event_id },
        (ReceiptType::FullyRead, None) => Mark::Fully(event_id),
        (ReceiptType::FullyRead, Some(_)) => {
            return Err(Error::invalid_param("m.fully_read is of no thread"));
        }
        _ => return Err(Error::invalid_param("There is no such type of receipt")),
    };
    receipts::mark(&app, user.onlooker(&app), request.room_id, vec![mark]).await?;
    Ok(create_receipt::v3::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/read_markers`
pub(crate) async fn markers(
    app: App,
    EvenSuspended(user): EvenSuspended,
    request: set_read_marker::v3::Request,
) -> Result<set_read_marker::v3::Response, Error> {
    // What others see is an act, which a suspended user may not do.
    if user.suspended && request.read_receipt.is_some() {
        return Err(Error::user_suspended());
    }
    let receipt = |private| move |event_id: OwnedEventId| Mark::Receipt { private, thread: None, event_id };
    let marks = [
        request.fully_read.map(Mark::Fully),
        request.read_receipt.map(receipt(false)),
        request.private_read_receipt.map(receipt(true)),
    ];
    receipts::mark(&app, user.onlooker(&app), request.room_id, marks.into_iter().flatten().collect()).await?;
    Ok(set_read_marker::v3::Response::new())
}

fn thread(thread: &ReceiptThread) -> Result<Option<String>, Error> {
    match thread {
        ReceiptThread::Unthreaded => Ok(None),
        ReceiptThread::Main => Ok(Some("main".to_owned())),
        ReceiptThread::Thread(root) => Ok(Some(root.to_string())),
        _ => Err(no_thread()),
    }
}

fn no_thread() -> Error {
    Error::invalid_param("A thread is `main` or an event's id")
}

impl From<MarkError> for Error {
    fn from(error: MarkError) -> Self {
        match error {
            MarkError::NotJoined => Self::forbidden("You are not in this room"),
            MarkError::NoSuchEvent => Self::not_found("The room has no such event"),
            MarkError::OtherThread => Self::invalid_param("The event is not in this thread"),
            MarkError::Store(error) => error.into(),
        }
    }
}
