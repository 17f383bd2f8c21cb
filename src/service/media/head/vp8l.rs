//! What is coded losslessly in a WebP, as far as it takes to know what its prefix codes cost: a few bits make a table of
//! 4 KB, and the largest of the numbers in one small image says how many of these there are.
//! <https://www.rfc-editor.org/rfc/rfc9649#name-lossless-bitstream-format>

use std::{
    io::{BufRead, Read, Seek},
    iter,
    ops::Range,
};

use super::go_to;
use crate::base::limits;

/// Where a stream lies in its file, and what it codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stream {
    pub(super) bytes: Range<u64>,
    pub(super) width: u32,
    pub(super) height: u32,
    /// Whether it begins with its size, as a picture does and its transparency does not.
    pub(super) has_header: bool,
}

impl Stream {
    /// The memory that all prefix codes of the stream take, in bytes, or more than a thumbnail may; none if the stream
    /// is damaged.
    pub(super) fn cost<R: BufRead + Seek>(&self, reader: &mut R) -> Option<u64> {
        go_to(reader, self.bytes.start)?;
        let mut bits = Bits::new(reader.take(self.bytes.end - self.bytes.start));
        if self.has_header {
            let (signature, width, height) = (bits.take(8)?, bits.take(14)? + 1, bits.take(14)? + 1);
            let (_, version) = (bits.take(1)?, bits.take(3)?);
            if (signature, version) != (0x2f, 0) || (width, height) != (self.width, self.height) {
                return None;
            }
        }
        let mut width = self.width;
        let mut seen = [false; 4];
        while bits.flag()? {
            let transform = bits.take(2)?;
            if std::mem::replace(&mut seen[transform as usize], true) {
                return None;
            }
            match transform {
                PREDICTOR | COLOUR => {
                    let size = bits.take(3)? + 2;
                    bits.image(blocks(width, size), blocks(self.height, size))?;
                }
                SUBTRACT_GREEN => {}
                _ => {
                    let colours = bits.take(8)? + 1;
                    bits.image(colours, 1)?;
                    width = blocks(width, [3, 2, 1, 0][[2, 4, 16].partition_point(|&most| most < colours)]);
                }
            }
        }
        let cache = bits.cache()?;
        let groups = if bits.flag()? {
            let size = bits.take(3)? + 2;
            bits.image(blocks(width, size), blocks(self.height, size))? + 1
        } else {
            1
        };
        let mut cost = 0;
        for _ in 0..groups {
            cost += GROUP_BYTES + bits.group(cache)?.iter().map(Code::bytes).sum::<u64>();
            if cost > limits::THUMBNAIL_BYTES {
                break;
            }
        }
        Some(cost)
    }
}

/// Blocks of 2^`bits` in so many pixels.
fn blocks(length: u32, bits: u32) -> u32 {
    length.div_ceil(1 << bits)
}

/// A reader of bits, the least significant first.
struct Bits<R> {
    bytes: R,
    held: u64,
    count: u32,
}

/// The codes of green or lengths, red, blue, alpha, distances.
type Group = [Code; 5];

impl<R: BufRead> Bits<R> {
    fn new(bytes: R) -> Self {
        Self { bytes, held: 0, count: 0 }
    }

    /// The next bits, at most 32.
    fn take(&mut self, count: u32) -> Option<u32> {
        while self.count < count {
            self.held |= u64::from(super::byte(&mut self.bytes)?) << self.count;
            self.count += 8;
        }
        let bits = self.held & ((1 << count) - 1);
        self.held >>= count;
        self.count -= count;
        Some(bits as u32)
    }

    fn flag(&mut self) -> Option<bool> {
        Some(self.take(1)? == 1)
    }

    /// How many colours are remembered.
    fn cache(&mut self) -> Option<u32> {
        if !self.flag()? {
            return Some(0);
        }
        let bits = self.take(4)?;
        (1..=11).contains(&bits).then(|| 1 << bits)
    }

    fn group(&mut self, cache: u32) -> Option<Group> {
        let mut code = |symbols| Code::read(self, symbols);
        Some([code(GREENS + LENGTHS + cache)?, code(256)?, code(256)?, code(256)?, code(DISTANCES)?])
    }

    /// Reads over an image that helps to code another one; gives the largest number that its red and green make. What is
    /// copied or remembered came before, so it is no larger.
    fn image(&mut self, width: u32, height: u32) -> Option<u32> {
        let cache = self.cache()?;
        let [greens, reds, blues, alphas, distances] = self.group(cache)?;
        let (mut left, mut largest) = (width * height, 0);
        while left > 0 {
            let green = greens.next(self)?;
            if green < GREENS {
                largest = largest.max(reds.next(self)? << 8 | green);
                blues.next(self)?;
                alphas.next(self)?;
                left -= 1;
                if [&greens, &reds, &blues, &alphas].into_iter().all(|code| code.lengths.is_empty()) {
                    // All others are the same.
                    break;
                }
            } else if green < GREENS + LENGTHS {
                let length = self.number(green - GREENS)?;
                let distance = distances.next(self)?;
                self.number(distance)?;
                left = left.checked_sub(length)?;
            } else {
                left -= 1;
            }
        }
        Some(largest)
    }

    /// A length or a distance, which is a prefix and further bits.
    fn number(&mut self, prefix: u32) -> Option<u32> {
        if prefix < 4 {
            return Some(prefix + 1);
        }
        let bits = (prefix - 2) >> 1;
        Some(((2 + (prefix & 1)) << bits) + self.take(bits)? + 1)
    }
}

/// A prefix code. Without lengths it has one symbol, and no bits for it.
struct Code {
    /// How many symbols have a code of each length, up to the longest.
    lengths: Vec<u32>,
    /// In the order of their codes.
    symbols: Vec<u16>,
}

impl Code {
    fn read<R: BufRead>(bits: &mut Bits<R>, symbols: u32) -> Option<Self> {
        if bits.flag()? {
            let two = bits.flag()?;
            let width = if bits.flag()? { 8 } else { 1 };
            let mut chosen = vec![bits.take(width)? as u16];
            if two {
                chosen.push(bits.take(8)? as u16);
            }
            let valid = chosen.iter().all(|&symbol| u32::from(symbol) < symbols);
            return valid
                .then(|| Self { lengths: if two { vec![0, 2] } else { Vec::new() }, symbols: chosen });
        }
        let mut of_lengths = [0; 19];
        for &at in &LENGTH_ORDER[..4 + bits.take(4)? as usize] {
            of_lengths[at] = bits.take(3)? as u8;
        }
        let of_lengths = Self::of(&of_lengths)?;
        let mut left = symbols;
        if bits.flag()? {
            let width = 2 + 2 * bits.take(3)?;
            left = bits.take(width)? + 2;
            if left > symbols {
                return None;
            }
        }
        let (mut lengths, mut last) = (Vec::with_capacity(symbols as usize), 8);
        while lengths.len() < symbols as usize && left > 0 {
            left -= 1;
            let (length, times) = match of_lengths.next(bits)? {
                length @ 0..16 => {
                    last = if length == 0 { last } else { length };
                    (length, 1)
                }
                16 => (last, 3 + bits.take(2)?),
                17 => (0, 3 + bits.take(3)?),
                _ => (0, 11 + bits.take(7)?),
            };
            lengths.extend(iter::repeat_n(length as u8, times as usize));
        }
        (lengths.len() <= symbols as usize).then(|| Self::of(&lengths))?
    }

    /// The code whose symbols have these lengths; none where those make no code.
    fn of(lengths: &[u8]) -> Option<Self> {
        let used = lengths.iter().enumerate().filter(|&(_, &length)| length > 0);
        let mut symbols: Vec<(u8, u16)> = used.map(|(symbol, &length)| (length, symbol as u16)).collect();
        symbols.sort_unstable();
        let longest = symbols.last()?.0;
        if symbols.len() == 1 {
            return Some(Self { lengths: Vec::new(), symbols: vec![symbols[0].1] });
        }
        let mut counts = vec![0; usize::from(longest) + 1];
        symbols.iter().for_each(|&(length, _)| counts[usize::from(length)] += 1);
        let taken: u64 = symbols.iter().map(|&(length, _)| 1 << (longest - length)).sum();
        let symbols = symbols.into_iter().map(|(_, symbol)| symbol).collect();
        (taken == 1 << longest).then_some(Self { lengths: counts, symbols })
    }

    fn next<R: BufRead>(&self, bits: &mut Bits<R>) -> Option<u32> {
        let (mut code, mut first, mut before) = (0, 0, 0);
        for &count in self.lengths.iter().skip(1) {
            code = code << 1 | bits.take(1)?;
            first <<= 1;
            if code < first + count {
                before += code - first;
                break;
            }
            first += count;
            before += count;
        }
        self.symbols.get(before as usize).map(|&symbol| symbol.into())
    }

    /// The memory that the decoder gives to the code: a table, and a tree for what is longer than that goes.
    fn bytes(&self) -> u64 {
        let Some(longest) = self.lengths.len().checked_sub(1) else { return 0 };
        let beyond: u32 = self.lengths.iter().skip(TABLE_BITS + 1).sum();
        CODE_BYTES + (4 << longest.min(TABLE_BITS)) + u64::from(beyond) * 32
    }
}

const PREDICTOR: u32 = 0;
const COLOUR: u32 = 1;
const SUBTRACT_GREEN: u32 = 2;

const GREENS: u32 = 256;
const LENGTHS: u32 = 24;
const DISTANCES: u32 = 40;
/// In what order the lengths of the codes of lengths stand.
const LENGTH_ORDER: [usize; 19] = [17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// What the decoder takes for any group, in a list that grows, and for any code of more than one symbol.
const GROUP_BYTES: u64 = 3 * 280;
const CODE_BYTES: u64 = 96;
/// Codes of so many bits are in its tables.
const TABLE_BITS: usize = 10;

#[cfg(test)]
pub(super) mod tests {
    use std::io::Cursor;

    use super::*;

    /// Writes bits, the least significant first.
    #[derive(Default)]
    pub(in crate::service::media::head) struct Writer {
        bytes: Vec<u8>,
        count: usize,
    }

    impl Writer {
        fn put(&mut self, value: u32, count: usize) {
            for bit in 0..count {
                if self.count.is_multiple_of(8) {
                    self.bytes.push(0);
                }
                *self.bytes.last_mut().unwrap() |= ((value >> bit & 1) as u8) << (self.count % 8);
                self.count += 1;
            }
        }

        /// A code of one symbol.
        fn single(&mut self, symbol: u32) {
            self.put(0b101, 3);
            self.put(symbol, 8);
        }

        /// A code of eleven symbols, the longest of which has ten bits.
        fn long(&mut self) {
            self.put(0, 1);
            // The lengths 1 to 6 have codes of three bits, those from 7 to 10 of four.
            let of_length = |length| [0, 3, 3, 3, 3, 3, 3, 4, 4, 4, 4].get(length).copied().unwrap_or(0);
            self.put(10, 4);
            LENGTH_ORDER[..14].iter().for_each(|&length| self.put(of_length(length), 3));
            // There are eleven.
            self.put(1 | 1 << 1 | 9 << 4, 8);
            for length in (1_u32..=10).chain([10]) {
                let (code, bits) = if length < 7 { (length - 1, 3) } else { (length + 5, 4) };
                (0..bits).rev().for_each(|bit| self.put(code >> bit, 1));
            }
        }

        fn header(width: u32, height: u32) -> Self {
            let mut writer = Self::default();
            writer.put(0x2f, 8);
            writer.put(width - 1, 14);
            writer.put(height - 1, 14);
            writer.put(0, 4);
            writer
        }

        /// A picture of one pixel with so many groups of long codes.
        pub(in crate::service::media::head) fn greedy(groups: u32) -> Vec<u8> {
            let mut writer = Self::header(1, 1);
            // No transform and no cache, but several groups: a number for each block of 4 x 4 pixels.
            writer.put(0b100, 3);
            writer.put(0, 4);
            for symbol in [(groups - 1) & 255, (groups - 1) >> 8, 0, 0, 0] {
                writer.single(symbol);
            }
            for _ in 0..groups * 5 {
                writer.long();
            }
            (0..8).for_each(|_| writer.put(0, 8));
            writer.bytes
        }
    }

    fn cost(bytes: &[u8], width: u32) -> Option<u64> {
        let stream = Stream { bytes: 0..bytes.len() as u64, width, height: 1, has_header: true };
        stream.cost(&mut Cursor::new(bytes))
    }

    #[test]
    fn every_group_is_reckoned() {
        for groups in [1, 10, 300] {
            let expected = u64::from(groups) * (GROUP_BYTES + 5 * (CODE_BYTES + 4_096));
            assert_eq!(cost(&Writer::greedy(groups), 1), Some(expected));
        }
        let bomb = Writer::greedy(65_536);
        assert!(cost(&bomb, 1).unwrap() > limits::THUMBNAIL_BYTES);
        assert!(bomb.len() < 6 << 20);
    }

    #[test]
    fn what_a_code_is_made_of_is_its_cost() {
        let mut writer = Writer::default();
        writer.long();
        let code = Code::read(&mut Bits::new(&writer.bytes[..]), 280).unwrap();
        assert_eq!(code.symbols, (0..11).collect::<Vec<_>>());
        assert_eq!(code.bytes(), CODE_BYTES + 4_096);
        // The fourth symbol is 1110, the last 1111111111.
        for (text, symbol) in [(0b0111, 3), (0x3ff, 10), (0x1ff, 9), (0, 0)] {
            let bytes = u32::to_le_bytes(text);
            assert_eq!(code.next(&mut Bits::new(&bytes[..])), Some(symbol));
        }
        let lengths: Vec<u8> = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 12].into();
        assert_eq!(Code::of(&lengths).unwrap().bytes(), CODE_BYTES + 4_096 + 3 * 32);
        assert_eq!(Code::of(&[0, 7, 0]).unwrap().bytes(), 0);
        for none in [&[][..], &[0, 0], &[1, 1, 1], &[2, 2]] {
            assert!(Code::of(none).is_none(), "{none:?}");
        }
    }

    #[test]
    fn what_breaks_off_or_is_of_another_size_is_no_picture() {
        let whole = Writer::greedy(3);
        assert_eq!(cost(&whole, 2), None);
        for length in [0, 5, 20, 100] {
            assert_eq!(cost(&whole[..length], 1), None, "{length} bytes");
        }
    }
}
