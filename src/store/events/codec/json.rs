//! Event JSON in few bytes: zstd with a dictionary that ships in the binary.
//!
//! `dictionary.bin` is 16 KB that `zstd --train` made of 12,000 invented events in the federation's format: messages
//! (plain, formatted, edits, replies, threads, media), encrypted messages, reactions, redactions, and the state
//! events of rooms, spaces, bridges and calls, of room versions 9 to 12, with made-up hashes, signatures and
//! references. Others of that kind shrink to a little more than half; what remains is hashes and signatures.
//! A stored event needs the dictionary that it was written with: another one gets another [`Method`].

use std::{cell::RefCell, sync::LazyLock};

use zstd::{
    bulk::{Compressor, Decompressor},
    dict::{DecoderDictionary, EncoderDictionary},
    zstd_safe::CParameter,
};

use super::{Damaged, Reader, Writer};
use crate::base::limits;

/// How a text lies in its value. The discriminants are on disk.
#[derive(Clone, Copy)]
enum Method {
    Plain = 0,
    Dictionary1 = 1,
}

/// Appends a text: method, length, bytes up to the end of the payload.
pub(super) fn write(text: &str, writer: &mut Writer) {
    let packed = pack(text.as_bytes()).filter(|packed| packed.len() < text.len());
    writer.byte(packed.as_ref().map_or(Method::Plain, |_| Method::Dictionary1) as u8);
    writer.varint(text.len() as u64);
    writer.bytes(packed.as_deref().unwrap_or(text.as_bytes()));
}

/// Reads the text that fills the rest of a payload.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<String, Damaged> {
    let method = reader.byte()?;
    let length = usize::try_from(reader.varint()?).map_err(|_| Damaged)?;
    if length > limits::EVENT_BYTES {
        return Err(Damaged);
    }
    let bytes = match method {
        method if method == Method::Plain as u8 => reader.rest().to_vec(),
        method if method == Method::Dictionary1 as u8 => unpack(reader.rest(), length)?,
        _ => return Err(Damaged),
    };
    if bytes.len() != length {
        return Err(Damaged);
    }
    String::from_utf8(bytes).map_err(|_| Damaged)
}

/// None if zstd fails, which it does for want of memory only: the text is then stored plain.
fn pack(bytes: &[u8]) -> Option<Vec<u8>> {
    static DICTIONARY: LazyLock<EncoderDictionary<'static>> =
        LazyLock::new(|| EncoderDictionary::copy(DICTIONARY_1, LEVEL));
    thread_local! {
        static CONTEXT: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    }
    CONTEXT.with_borrow_mut(|context| {
        if context.is_none() {
            let mut fresh = Compressor::with_prepared_dictionary(&DICTIONARY).ok()?;
            // The method byte and the length before the frame say the same.
            fresh.set_parameter(CParameter::DictIdFlag(false)).ok()?;
            fresh.set_parameter(CParameter::ContentSizeFlag(false)).ok()?;
            *context = Some(fresh);
        }
        context.as_mut()?.compress(bytes).ok()
    })
}

fn unpack(bytes: &[u8], length: usize) -> Result<Vec<u8>, Damaged> {
    static DICTIONARY: LazyLock<DecoderDictionary<'static>> =
        LazyLock::new(|| DecoderDictionary::copy(DICTIONARY_1));
    thread_local! {
        static CONTEXT: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
    }
    CONTEXT.with_borrow_mut(|context| {
        if context.is_none() {
            *context = Some(Decompressor::with_prepared_dictionary(&DICTIONARY).map_err(|_| Damaged)?);
        }
        context.as_mut().ok_or(Damaged)?.decompress(bytes, length).map_err(|_| Damaged)
    })
}

const DICTIONARY_1: &[u8] = include_bytes!("../dictionary.bin");
/// Higher levels take three times as long for 3% less.
const LEVEL: i32 = 3;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::seal, *};

    fn written(text: &str) -> Vec<u8> {
        let sealed = seal(1, |writer| write(text, writer));
        sealed[1..sealed.len() - 4].to_vec()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_comes_back(text: String) {
            prop_assert_eq!(read(&mut Reader(&written(&text))), Ok(text));
        }

        #[test]
        fn damage_never_panics_nor_grows(text in "[a-z]{0,300}", at: prop::sample::Index, byte: u8) {
            let mut bytes = written(&text);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(read) = read(&mut Reader(&bytes)) {
                prop_assert!(read.len() <= limits::EVENT_BYTES);
            }
        }
    }

    #[test]
    fn the_longest_event_comes_back_and_a_longer_one_is_damage() {
        let longest = "x".repeat(limits::EVENT_BYTES);
        assert_eq!(read(&mut Reader(&written(&longest))), Ok(longest.clone()));
        assert_eq!(read(&mut Reader(&written(&(longest + "x")))), Err(Damaged));
    }

    #[test]
    fn a_frame_that_holds_more_than_it_says_is_damage() {
        let mut bytes = vec![Method::Dictionary1 as u8, 10];
        bytes.extend(pack(&[b'x'; 60_000]).unwrap());
        assert_eq!(read(&mut Reader(&bytes)), Err(Damaged));
    }

    #[test]
    fn an_event_shrinks_to_little_more_than_its_hashes() {
        let event = include_str!("../../../../tests/data/message.json").trim_end();
        let bytes = written(event).len();
        assert!(bytes * 100 < event.len() * 62, "{bytes} of {} bytes", event.len());
    }
}
