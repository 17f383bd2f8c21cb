//! Lists of events as servers are told them, written page by page: each of a view of its own, and all of one moment.

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::{
    base::{
        ids::{EventNumber, KeyNumber, RoomNumber, StateRoot},
        limits,
    },
    room::version::Version,
    service::App,
    store::{StoreError, View},
};

/// Items of a JSON array that are still to be written.
#[derive(Debug)]
pub struct Pdus(Option<Rest>);

#[derive(Debug)]
struct Rest {
    room: RoomNumber,
    version: Version,
    source: Source,
    form: Form,
    is_begun: bool,
}

/// What a list is made of.
#[derive(Debug)]
pub(super) enum Source {
    /// Events behind so many.
    Events(Arc<[EventNumber]>, usize),
    /// A state behind a key.
    State { root: StateRoot, after: Option<KeyNumber> },
}

/// How events are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As they are; of redacted ones what is left.
    Whole,
    /// By their ids.
    Id,
}

impl Pdus {
    pub(super) fn new((room, version): (RoomNumber, Version), source: Source, form: Form) -> Self {
        Self(Some(Rest { room, version, source, form, is_begun: false }))
    }

    /// How many bytes it holds to go on by.
    pub fn held(&self) -> usize {
        match &self.0 {
            Some(Rest { source: Source::Events(numbers, _), .. }) => size_of_val(&numbers[..]),
            _ => 0,
        }
    }

    /// The next part of the list; none at its end.
    ///
    /// # Errors
    /// The store failed.
    pub async fn next(&mut self, app: &App) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(mut rest) = self.0.take() else { return Ok(None) };
        let page = move |view: &View<'_>| {
            let mut json = Vec::new();
            let is_whole = rest.page(view, &mut json)?;
            Ok::<_, StoreError>((json, (!is_whole).then_some(rest)))
        };
        let (json, rest) = app.store.read(page).await?;
        self.0 = rest;
        Ok(Some(json))
    }
}

impl Rest {
    /// Writes a page; tells whether nothing is behind it.
    fn page(&mut self, view: &View<'_>, json: &mut Vec<u8>) -> Result<bool, StoreError> {
        let Self { room, version, source, form, is_begun } = self;
        let mut write = |number| {
            let text = match form {
                Form::Whole => view.event(*room, number)?.shown(*version).json().to_owned(),
                Form::Id => quoted(view.event_id(*room, number)?.as_str()),
            };
            if std::mem::replace(is_begun, true) {
                json.push(b',');
            }
            json.extend_from_slice(text.as_bytes());
            Ok::<_, StoreError>(json.len() >= limits::ANSWER_PIECE_BYTES)
        };
        match source {
            Source::Events(numbers, done) => {
                while let Some(number) = numbers.get(*done) {
                    *done += 1;
                    if write(*number)? {
                        return Ok(false);
                    }
                }
            }
            Source::State { root, after } => {
                for entry in view.state_after(*room, *root, *after)? {
                    let (key, number) = entry?;
                    *after = Some(key);
                    if write(number)? {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text has a JSON")
}

/// A text that is an event, as JSON.
pub fn raw(event: String) -> Box<RawValue> {
    RawValue::from_string(event).expect("an event is JSON")
}
