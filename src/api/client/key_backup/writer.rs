//! Writes the keys of a backup as JSON, page by page.

use bytes::Bytes;

use crate::store::BackedUpKey;

/// The JSON of a backup, as far as it is written.
pub(super) struct Writer {
    /// Whether the keys stand under their rooms.
    rooms: bool,
    /// The room that the last key was of.
    room: Option<String>,
    json: Vec<u8>,
}

impl Writer {
    /// All keys of a backup: `{"rooms":{…:{"sessions":{…:…}}}}`.
    pub(super) fn of_rooms() -> Self {
        Self { rooms: true, room: None, json: br#"{"rooms":{"#.to_vec() }
    }

    /// The keys of one room: `{"sessions":{…:…}}`.
    pub(super) fn of_sessions() -> Self {
        Self { rooms: false, room: None, json: br#"{"sessions":{"#.to_vec() }
    }

    /// Writes more keys, which go on in the order of rooms.
    pub(super) fn page(&mut self, keys: Vec<BackedUpKey>) -> Bytes {
        for BackedUpKey { room_id, session_id, data } in keys {
            if self.room.as_ref() == Some(&room_id) {
                self.json.push(b',');
            } else if self.rooms {
                let end: &[u8] = if self.room.is_some() { b"}}," } else { b"" };
                self.json.extend_from_slice(end);
                self.name(&room_id);
                self.json.extend_from_slice(br#"{"sessions":{"#);
            }
            self.name(&session_id);
            self.json.extend_from_slice(data.as_bytes());
            self.room = Some(room_id);
        }
        self.take()
    }

    /// Writes what comes after the last key.
    pub(super) fn end(&mut self) -> Bytes {
        let open = if self.rooms && self.room.is_some() { 4 } else { 2 };
        self.json.extend(std::iter::repeat_n(b'}', open));
        self.take()
    }

    fn name(&mut self, name: &str) {
        serde_json::to_writer(&mut self.json, name).expect("a text is written into memory");
        self.json.push(b':');
    }

    fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.json).into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn key(room_id: &str, session_id: &str, number: u64) -> BackedUpKey {
        BackedUpKey { room_id: room_id.into(), session_id: session_id.into(), data: number.to_string() }
    }

    /// What a writer makes of pages.
    fn written(mut writer: Writer, pages: &[Vec<BackedUpKey>]) -> Value {
        let mut json = Vec::new();
        for page in pages {
            json.extend_from_slice(&writer.page(page.clone()));
        }
        json.extend_from_slice(&writer.end());
        serde_json::from_slice(&json).unwrap()
    }

    #[test]
    fn keys_stand_under_their_rooms_wherever_a_page_ends() {
        let keys = [key("!a", "1", 1), key("!a", "\"2", 2), key("!b", "1", 3), key("!c", "1", 4)];
        let all = json!({"rooms": {
            "!a": {"sessions": {"1": 1, "\"2": 2}},
            "!b": {"sessions": {"1": 3}},
            "!c": {"sessions": {"1": 4}},
        }});
        for at in 0..=keys.len() {
            let (first, second) = keys.split_at(at);
            assert_eq!(written(Writer::of_rooms(), &[first.to_vec(), second.to_vec()]), all);
        }
        let room = json!({"sessions": {"1": 1, "\"2": 2}});
        for at in 0..=2 {
            let (first, second) = keys[..2].split_at(at);
            assert_eq!(written(Writer::of_sessions(), &[first.to_vec(), second.to_vec()]), room);
        }
        assert_eq!(written(Writer::of_rooms(), &[]), json!({"rooms": {}}));
        assert_eq!(written(Writer::of_sessions(), &[]), json!({"sessions": {}}));
    }
}
