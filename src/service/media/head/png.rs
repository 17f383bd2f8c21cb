//! PNG. <https://www.w3.org/TR/png-3/>

use std::io::{BufRead, Seek};

use super::{Head, STEPS, bytes, go_to, pixels, skip};
use crate::base::limits;

/// Walks over the chunks up to the first pixels.
pub(super) fn head<R: BufRead + Seek>(reader: &mut R) -> Option<Head> {
    go_to(reader, 8)?;
    let (13, IHDR) = chunk(reader)? else { return None };
    let (width, height) = (u32::from_be_bytes(bytes(reader)?), u32::from_be_bytes(bytes(reader)?));
    let [depth, colour, ..] = bytes::<5>(reader)?;
    skip(reader, CHECKSUM)?;
    let (mut is_animated, mut is_transparent) = (false, false);
    for _ in 0..STEPS {
        let (length, name) = chunk(reader)?;
        match &name {
            b"IDAT" => {
                let channels = match colour {
                    0 => 1,
                    2 | 3 => 3,
                    4 => 2,
                    6 => 4,
                    _ => return None,
                } + u64::from(is_transparent && colour < 4);
                let size = channels * if depth == 16 { 2 } else { 1 };
                let cost =
                    pixels(width, height).saturating_mul(size).saturating_add(limits::PNG_METADATA_BYTES);
                return Some(Head { width, height, is_animated, cost, may_turn: true, codes: Vec::new() });
            }
            b"acTL" => is_animated = true,
            b"tRNS" => is_transparent = true,
            _ => {}
        }
        skip(reader, length)?;
        skip(reader, CHECKSUM)?;
    }
    None
}

/// The length of the next chunk, and its name.
fn chunk(reader: &mut impl BufRead) -> Option<(u32, [u8; 4])> {
    Some((u32::from_be_bytes(bytes(reader)?), bytes(reader)?))
}

const IHDR: [u8; 4] = *b"IHDR";
const CHECKSUM: u8 = 4;

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn of(depth: u8, colour: u8, chunks: &[(u32, &[u8; 4])]) -> Option<Head> {
        let mut file = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x03\x20\0\0\x02\x58".to_vec();
        file.extend([depth, colour, 0, 0, 0, 9, 9, 9, 9]);
        for (length, name) in chunks {
            file.extend(length.to_be_bytes());
            file.extend(*name);
            file.extend(vec![7; *length as usize + 4]);
        }
        head(&mut Cursor::new(&file))
    }

    #[test]
    fn the_cost_is_that_of_the_pixels() {
        let size = |depth, colour, chunks: &[_]| {
            let head = of(depth, colour, chunks).unwrap();
            assert_eq!((head.width, head.height), (800, 600));
            (head.cost - limits::PNG_METADATA_BYTES) / 480_000
        };
        let pixels = (5, b"IDAT");
        for (depth, colour, bytes) in [(8, 2, 3), (16, 2, 6), (1, 3, 3), (4, 0, 1), (16, 6, 8), (8, 4, 2)] {
            assert_eq!(size(depth, colour, &[pixels]), bytes);
        }
        for (depth, colour, bytes) in [(8, 2, 4), (8, 3, 4), (8, 0, 2), (8, 6, 4)] {
            assert_eq!(size(depth, colour, &[(0, b"PLTE"), (2, b"tRNS"), pixels]), bytes);
        }
        assert_eq!(of(8, 5, &[pixels]), None);
        assert_eq!(of(8, 2, &[(0, b"IEND")]), None);
    }

    #[test]
    fn only_what_stands_before_the_pixels_makes_it_an_animation() {
        let is_animated = |chunks: &[_]| of(8, 2, chunks).unwrap().is_animated;
        assert!(is_animated(&[(8, b"acTL"), (1, b"IDAT")]));
        assert!(!is_animated(&[(1, b"IDAT"), (8, b"acTL")]));
    }
}
