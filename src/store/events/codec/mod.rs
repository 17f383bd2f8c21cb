//! How the event store's values lie in bytes.
//!
//! Every value is an envelope: a version byte, the payload, and a CRC-32 of both, since LMDB's pages carry no
//! checksum. Numbers in a payload are fixed big-endian words where a reader wants one field, variable-length ones
//! (seven bits a byte, the lowest first) where bytes count. Reading never panics and never trusts a length.

pub(in crate::store) mod event;
mod json;

/// Bytes that no version of this store wrote: bit-rot, or a defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Damaged;

/// Wraps what `write` appends: version byte, payload, CRC-32.
pub(in crate::store) fn seal(version: u8, write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer(vec![version]);
    write(&mut writer);
    let Writer(mut bytes) = writer;
    let sum = crc32fast::hash(&bytes);
    bytes.extend(sum.to_be_bytes());
    bytes
}

/// Unwraps a value: its version and a reader of its payload.
pub(in crate::store) fn open(value: &[u8]) -> Result<(u8, Reader<'_>), Damaged> {
    let (sealed, sum) = value.split_last_chunk::<4>().ok_or(Damaged)?;
    if crc32fast::hash(sealed) != u32::from_be_bytes(*sum) {
        return Err(Damaged);
    }
    let (version, payload) = sealed.split_first().ok_or(Damaged)?;
    Ok((*version, Reader(payload)))
}

/// Unwraps a value that has had one version so far, and reads the whole payload with `read`.
pub(in crate::store) fn open_v1<'a, T>(
    value: &'a [u8],
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, Damaged>,
) -> Result<T, Damaged> {
    let (version, mut reader) = open(value)?;
    if version != 1 {
        return Err(Damaged);
    }
    let read = read(&mut reader)?;
    reader.end()?;
    Ok(read)
}

/// Appends to a payload.
pub(in crate::store) struct Writer(Vec<u8>);

impl Writer {
    pub(in crate::store) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(in crate::store) fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub(in crate::store) fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    /// A text, its length before it.
    pub(in crate::store) fn text(&mut self, text: &str) {
        self.varint(text.len() as u64);
        self.bytes(text.as_bytes());
    }
}

/// Takes a payload from its front.
#[derive(Clone)]
pub(in crate::store) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(in crate::store) fn take(&mut self, length: usize) -> Result<&'a [u8], Damaged> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(in crate::store) fn array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Damaged)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(in crate::store) fn byte(&mut self) -> Result<u8, Damaged> {
        self.array().map(|[byte]| byte)
    }

    pub(in crate::store) fn word(&mut self) -> Result<u32, Damaged> {
        self.array().map(u32::from_be_bytes)
    }

    pub(in crate::store) fn long(&mut self) -> Result<u64, Damaged> {
        self.array().map(u64::from_be_bytes)
    }

    pub(in crate::store) fn varint(&mut self) -> Result<u64, Damaged> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(Damaged);
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Damaged)
    }

    /// A number of things that take at least a byte each: never more than there are bytes.
    pub(in crate::store) fn count(&mut self) -> Result<usize, Damaged> {
        let count = usize::try_from(self.varint()?).map_err(|_| Damaged)?;
        if count > self.0.len() { Err(Damaged) } else { Ok(count) }
    }

    pub(in crate::store) fn text(&mut self) -> Result<&'a str, Damaged> {
        let length = self.count()?;
        str::from_utf8(self.take(length)?).map_err(|_| Damaged)
    }

    pub(in crate::store) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub(in crate::store) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(in crate::store) fn end(&self) -> Result<(), Damaged> {
        if self.0.is_empty() { Ok(()) } else { Err(Damaged) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_was_written_is_read(a: u64, b: u8, c: String, d: Vec<u8>) {
            let value = seal(1, |writer| {
                writer.varint(a);
                writer.byte(b);
                writer.text(&c);
                writer.bytes(&d);
            });
            let read = open_v1(&value, |reader| {
                Ok((reader.varint()?, reader.byte()?, reader.text()?.to_owned(), reader.rest().to_vec()))
            });
            prop_assert_eq!(read, Ok((a, b, c, d)));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            prop_assert_eq!(open(&bytes).err(), Some(Damaged));
            let mut reader = Reader(&bytes);
            while reader.varint().is_ok() && reader.text().is_ok() {}
        }
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let value = seal(1, |writer| writer.text("power_levels"));
        for bit in 0..value.len() * 8 {
            let mut flipped = value.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn another_version_and_a_longer_payload_are_damage() {
        assert_eq!(open_v1(&seal(2, |_| ()), |_| Ok(())), Err(Damaged));
        assert_eq!(open_v1(&seal(1, |writer| writer.byte(0)), |_| Ok(())), Err(Damaged));
    }

    #[test]
    fn a_varint_beyond_64_bits_is_damage() {
        assert_eq!(Reader(&[0xff; 10]).varint(), Err(Damaged));
        assert_eq!(Reader(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]).varint(), Ok(u64::MAX));
    }
}
