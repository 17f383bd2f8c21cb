//! Answers to servers with lists of events in them, which may be too large for memory and are written while they are sent.

use std::collections::VecDeque;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use ruma::api::error::{ErrorKind, IncompatibleRoomVersionErrorData};

use super::{
    Body, Error,
    body::{Failed, Writing},
    endpoint::Boxed,
};
use crate::{
    base::limits,
    service::{
        App,
        federation::{access::PeerError, handshake::HandshakeError, inviting::InviteError, pdus::Pdus},
    },
    store::StoreError,
};

/// An object of JSON, part by part.
pub(super) struct Answer(VecDeque<Part>, &'static str);

enum Part {
    Text(String),
    List(Box<Pdus>),
}

impl Answer {
    /// An object with these arrays as its fields.
    pub(super) fn of(lists: impl IntoIterator<Item = (&'static str, Pdus)>) -> Self {
        let (mut parts, mut before) = (VecDeque::new(), "{");
        for (name, list) in lists {
            parts.push_back(Part::Text(format!("{before}\"{name}\":[")));
            parts.push_back(Part::List(Box::new(list)));
            before = "],";
        }
        parts.push_back(Part::Text("]".to_owned()));
        Self(parts, "}")
    }

    /// A further field, whose value is this text of JSON.
    pub(super) fn with(mut self, name: &str, json: &str) -> Self {
        self.0.push_back(Part::Text(format!(",\"{name}\":{json}")));
        self
    }

    /// The same as the second of a pair behind the status, as the first versions of some endpoints have it.
    pub(super) fn behind_status(mut self) -> Self {
        self.0.push_front(Part::Text("[200,".to_owned()));
        self.1 = "}]";
        self
    }

    /// Sends it: what is small in one piece. Of the rest an error can only cut the connection, as status and head are sent.
    pub(super) async fn send(mut self, app: App) -> Result<Response<Body>, Error> {
        self.0.push_back(Part::Text(self.1.to_owned()));
        let mut begun = Vec::new();
        while begun.len() < limits::ANSWER_PIECE_BYTES
            && let Some(piece) = self.next(&app).await?
        {
            begun.extend_from_slice(&piece);
        }
        let body = match self.0.is_empty() {
            true => Body::Whole(begun.into()),
            false => Body::Written(Box::new(Rest { app, begun, answer: self })),
        };
        let mut response = Response::new(body);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }

    async fn next(&mut self, app: &App) -> Result<Option<Vec<u8>>, StoreError> {
        while let Some(part) = self.0.front_mut() {
            let piece = match part {
                Part::Text(text) => Some(std::mem::take(text).into_bytes()).filter(|text| !text.is_empty()),
                Part::List(list) => list.next(app).await?,
            };
            match piece {
                Some(piece) => return Ok(Some(piece)),
                None => _ = self.0.pop_front(),
            }
        }
        Ok(None)
    }
}

/// What is still to be sent of an answer.
struct Rest {
    app: App,
    begun: Vec<u8>,
    answer: Answer,
}

impl Writing for Rest {
    fn held(&self) -> usize {
        let held = |part: &Part| match part {
            Part::Text(text) => text.len(),
            Part::List(list) => list.held(),
        };
        self.begun.len() + self.answer.0.iter().map(held).sum::<usize>()
    }

    fn next(&mut self) -> Boxed<'_, Result<Option<Bytes>, Failed>> {
        Box::pin(async {
            if !self.begun.is_empty() {
                return Ok(Some(std::mem::take(&mut self.begun).into()));
            }
            let piece = self.answer.next(&self.app).await.map_err(|error| {
                tracing::error!(%error, "the rest of an answer can't be read");
                Failed
            })?;
            Ok(piece.map(Bytes::from))
        })
    }
}

impl From<PeerError> for Error {
    fn from(error: PeerError) -> Self {
        match error {
            PeerError::UnknownRoom => Self::not_found("This server is in no such room"),
            PeerError::Stranger => Self::forbidden("Your server is not in this room"),
            PeerError::Barred => Self::forbidden("The room keeps your server out"),
            PeerError::UnknownEvent => Self::not_found("There is no such event, or its state is not known"),
            PeerError::Busy => Self::limit_exceeded(limits::BUSY_TIME),
            PeerError::TooLarge => Self::too_large("The room's history of permissions is too large"),
            PeerError::Store(error) => error.into(),
        }
    }
}

impl From<InviteError> for Error {
    fn from(error: InviteError) -> Self {
        match error {
            InviteError::Peer(error) => error.into(),
            InviteError::Version(version) => Self::bad_request(
                ErrorKind::IncompatibleRoomVersion(IncompatibleRoomVersionErrorData::new(version)),
                "This server does not support the version of this room",
            ),
            InviteError::Invalid(what) => Self::invalid_param(what),
            InviteError::NoCreate => {
                Self::missing_param("`invite_room_state` must hold the room's create event")
            }
            InviteError::Nobody => Self::forbidden("There is no such user here"),
            InviteError::Blocked(blocked) => blocked.into(),
            InviteError::TooMany => Self::forbidden("The user has as many invitations as one may have"),
        }
    }
}

impl From<HandshakeError> for Error {
    fn from(error: HandshakeError) -> Self {
        match error {
            HandshakeError::Peer(error) => error.into(),
            HandshakeError::Foreign => Self::forbidden("Only its own server speaks for a user"),
            HandshakeError::Version(version) => Self::bad_request(
                ErrorKind::IncompatibleRoomVersion(IncompatibleRoomVersionErrorData::new(version)),
                "Your server does not support the version of this room",
            ),
            HandshakeError::Unknown => Self::bad_request(
                ErrorKind::UnableToAuthorizeJoin,
                "This server can't tell whether you meet a condition of the room",
            ),
            HandshakeError::Unvouched => {
                Self::bad_request(ErrorKind::UnableToGrantJoin, "Nobody on this server can vouch for you")
            }
            HandshakeError::Denied(reason) => Self::forbidden(reason),
            HandshakeError::Invalid(what) => Self::invalid_param(what),
            HandshakeError::Dropped(error) => Self::invalid_param(error.to_string()),
            HandshakeError::Internal(reason) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, ErrorKind::Unknown, "The room can't be told")
                    .caused_by(reason)
            }
        }
    }
}
