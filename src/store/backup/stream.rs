//! A dump as bytes: each item is a byte that says its kind, the length of each of its parts as a 32-bit word, and the parts.
//!
//! What is not ended by a word that it ends was broken off.

use std::io::{self, Read};

use super::{BackupError, Item, Take};

/// Appends an item.
pub fn write(item: &Item<'_>, bytes: &mut Vec<u8>) {
    match item {
        Item::Head(head) => {
            let text = serde_json::to_vec(head).expect("numbers and texts have a JSON text");
            parts(HEAD, &[&text], bytes);
        }
        Item::Table(name) => parts(TABLE, &[name.as_bytes()], bytes),
        Item::Entry { key, value } => parts(ENTRY, &[key, value], bytes),
    }
}

/// Appends that this is the end, and that everything was written; or why not.
pub fn write_end(ended: Result<(), BackupError>, bytes: &mut Vec<u8>) {
    match ended {
        Ok(()) => parts(END, &[], bytes),
        Err(error) => parts(FAILED, &[error.to_string().as_bytes()], bytes),
    }
}

/// Reads a dump to its end.
///
/// # Errors
/// It broke off, or whoever takes the items fails.
pub fn read(mut from: &mut dyn Read, take: &mut Take<'_>) -> Result<(), BackupError> {
    let (mut key, mut value) = (Vec::new(), Vec::new());
    loop {
        let mut kind = [0];
        from.read_exact(&mut kind).map_err(broken_off)?;
        let count = match kind[0] {
            HEAD | TABLE | FAILED => 1,
            ENTRY => 2,
            END => return Ok(()),
            _ => return Err(BackupError::BrokenOff),
        };
        let mut lengths = [0; 2];
        for length in &mut lengths[..count] {
            let mut word = [0; 4];
            from.read_exact(&mut word).map_err(broken_off)?;
            *length = u32::from_be_bytes(word);
        }
        for (part, length) in [&mut key, &mut value].into_iter().zip(lengths) {
            part.clear();
            let read = Read::by_ref(&mut from).take(length.into()).read_to_end(part).map_err(broken_off)?;
            if read != length as usize {
                return Err(BackupError::BrokenOff);
            }
        }
        match kind[0] {
            HEAD => take(Item::Head(serde_json::from_slice(&key).map_err(|_| BackupError::BrokenOff)?))?,
            TABLE => take(Item::Table(str::from_utf8(&key).map_err(|_| BackupError::BrokenOff)?))?,
            FAILED => return Err(BackupError::Told(String::from_utf8_lossy(&key).into_owned())),
            _ => take(Item::Entry { key: &key, value: &value })?,
        }
    }
}

fn parts(kind: u8, parts: &[&[u8]], bytes: &mut Vec<u8>) {
    bytes.push(kind);
    for part in parts {
        bytes.extend((part.len() as u32).to_be_bytes());
    }
    for part in parts {
        bytes.extend_from_slice(part);
    }
}

fn broken_off(_: io::Error) -> BackupError {
    BackupError::BrokenOff
}

const HEAD: u8 = b'H';
const TABLE: u8 = b'T';
const ENTRY: u8 = b'E';
const END: u8 = b'Z';
const FAILED: u8 = b'X';

#[cfg(test)]
mod tests {
    use super::{super::Head, *};

    #[test]
    fn a_stream_is_read_as_it_was_written_or_not_at_all() {
        let head = Head { database: "a".into(), epoch: 1, position: 7, schema: 3, server_name: None };
        let items =
            || [Item::Head(head.clone()), Item::Table("events"), Item::Entry { key: b"k", value: b"" }];
        let mut bytes = Vec::new();
        items().iter().for_each(|item| write(item, &mut bytes));
        let begun = bytes.len();
        write_end(Ok(()), &mut bytes);
        let mut seen = 0;
        let read_all = |mut bytes: &[u8], seen: &mut usize| {
            *seen = 0;
            read(&mut bytes, &mut |item| {
                assert_eq!(item, items()[*seen]);
                *seen += 1;
                Ok(())
            })
        };
        read_all(&bytes, &mut seen).unwrap();
        assert_eq!(seen, 3);
        for length in 0..bytes.len() {
            assert!(matches!(read_all(&bytes[..length], &mut seen), Err(BackupError::BrokenOff)), "{length}");
        }
        bytes.truncate(begun);
        write_end(Err(BackupError::Told("why".into())), &mut bytes);
        let told = read_all(&bytes, &mut seen).unwrap_err().to_string();
        assert!(told.ends_with("why"), "{told}");
    }
}
