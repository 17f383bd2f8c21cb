//! Answers that may be too large for memory: JSON with lists in it, which are written while they are sent.

use std::collections::VecDeque;

use bytes::Bytes;
use http::{HeaderValue, Response, header::CONTENT_TYPE};
use serde::Serialize;

use super::{
    Body, Error,
    body::{Failed, Writing},
    endpoint::Boxed,
};
use crate::{
    base::limits,
    service::{
        App,
        read::listing::Listing,
        sync::{
            initial::{self, Room},
            rooms::Rooms,
            sliding::answer as sliding,
        },
    },
    store::StoreError,
};

/// JSON, part by part.
#[derive(Default)]
pub(super) struct Written(VecDeque<Part>);

enum Part {
    Text(Vec<u8>),
    List(Listing),
    /// The end of an answer of `/sync`.
    Rooms(Box<Rooms>),
    /// Rooms as they stand.
    Initial(initial::Rooms),
}

impl Written {
    /// Goes on with this text.
    pub(super) fn text(mut self, text: &str) -> Self {
        self.0.push_back(Part::Text(text.as_bytes().to_vec()));
        self
    }

    /// Goes on with what is written already.
    pub(super) fn json(mut self, json: Vec<u8>) -> Self {
        self.0.push_back(Part::Text(json));
        self
    }

    /// Goes on with this value.
    pub(super) fn value(mut self, value: &impl Serialize) -> Result<Self, Error> {
        self.0.push_back(Part::Text(serde_json::to_vec(value).map_err(Error::internal)?));
        Ok(self)
    }

    /// Goes on with the items of a list, without the brackets.
    pub(super) fn list(mut self, list: Listing) -> Self {
        self.0.push_back(Part::List(list));
        self
    }

    /// Goes on with an answer of sliding sync.
    pub(super) fn sliding(mut self, answer: sliding::Answer) -> Self {
        self.0.extend(answer.0.into_iter().map(|part| match part {
            sliding::Part::Json(json) => Part::Text(json),
            sliding::Part::List(list) => Part::List(list),
        }));
        self
    }

    /// Goes on with the rest of an answer of `/sync`, if there is more.
    pub(super) fn rooms(mut self, rooms: Option<Box<Rooms>>) -> Self {
        self.0.extend(rooms.map(Part::Rooms));
        self
    }

    /// Goes on with a room as it stands.
    pub(super) fn room(mut self, room: Room) -> Self {
        self.0.extend(parts(room));
        self
    }

    /// Goes on with many of them, without the brackets.
    pub(super) fn initial(mut self, rooms: initial::Rooms) -> Self {
        self.0.push_back(Part::Initial(rooms));
        self
    }

    /// Goes on with a field of an object that isn't the first, an array; with nothing if it has no items.
    pub(super) fn field(self, name: &str, list: Listing) -> Self {
        if list.is_empty() { self } else { self.text(&format!(",\"{name}\":[")).list(list).text("]") }
    }

    /// Answers with all of it. What is written already goes out in one piece; else the answer goes out as it is written,
    /// and an error by then can only cut the connection: status and head are sent.
    ///
    /// # Errors
    /// None, as long as nothing is sent.
    pub(super) async fn answer(mut self, app: App) -> Result<Response<Body>, Error> {
        let is_whole = self.0.iter().all(|part| match part {
            Part::Text(_) => true,
            Part::List(list) => list.is_whole(),
            Part::Rooms(_) | Part::Initial(_) => false,
        });
        let body = if is_whole {
            let mut json = Vec::new();
            while !self.0.is_empty() {
                self.write(&app, &mut json).await?;
            }
            Body::Whole(json.into())
        } else {
            Body::Written(Box::new(Rest { app, written: self }))
        };
        let mut response = Response::new(body);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }

    /// Writes the next part, or as much of it as is a page.
    async fn write(&mut self, app: &App, json: &mut Vec<u8>) -> Result<(), StoreError> {
        let rest = match self.0.pop_front() {
            None => None,
            Some(Part::Text(mut text)) => {
                json.append(&mut text);
                None
            }
            Some(Part::List(mut list)) => list.next(app).await?.map(|mut page| {
                json.append(&mut page);
                Part::List(list)
            }),
            Some(Part::Rooms(rooms)) => {
                let (mut page, rest) = rooms.next(app).await?;
                json.append(&mut page);
                rest.map(Part::Rooms)
            }
            Some(Part::Initial(mut rooms)) => {
                if let Some(room) = rooms.next(app).await? {
                    self.0.push_front(Part::Initial(rooms));
                    for part in parts(room).into_iter().rev() {
                        self.0.push_front(part);
                    }
                }
                None
            }
        };
        if let Some(rest) = rest {
            self.0.push_front(rest);
        }
        Ok(())
    }
}

/// What a room is written of.
fn parts(Room { head, lists }: Room) -> Vec<Part> {
    let text = |text: &str| Part::Text(text.as_bytes().to_vec());
    match lists {
        None => vec![Part::Text(head)],
        Some((messages, state)) => vec![
            Part::Text(head),
            Part::List(messages),
            text(Room::BETWEEN),
            Part::List(state),
            text(Room::END),
        ],
    }
}

/// What is still to be written of an answer.
struct Rest {
    app: App,
    written: Written,
}

impl Writing for Rest {
    fn held(&self) -> usize {
        let held = |part: &Part| match part {
            Part::Text(text) => text.len(),
            Part::Rooms(rooms) => rooms.held(),
            Part::Initial(rooms) => rooms.held(),
            Part::List(_) => 0,
        };
        self.written.0.iter().map(held).sum()
    }

    fn next(&mut self) -> Boxed<'_, Result<Option<Bytes>, Failed>> {
        Box::pin(async {
            let mut json = Vec::new();
            while !self.written.0.is_empty() && json.len() < limits::ANSWER_PIECE_BYTES {
                self.written.write(&self.app, &mut json).await.map_err(|error| {
                    tracing::error!(%error, "the rest of an answer can't be read");
                    Failed
                })?;
            }
            Ok((!json.is_empty()).then(|| json.into()))
        })
    }
}
