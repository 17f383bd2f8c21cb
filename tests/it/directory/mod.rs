//! What can be found by those who don't know it, over HTTP: rooms, people, rooms that people share.

mod mutual;
mod rooms;
mod users;

use serde_json::Value;

/// The values of a field of each of a list's entries.
fn all<'a>(list: &'a Value, field: &str) -> Vec<&'a str> {
    list.as_array().unwrap().iter().map(|entry| entry[field].as_str().unwrap_or_default()).collect()
}
