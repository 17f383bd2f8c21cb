//! GIF. <https://www.w3.org/Graphics/GIF/spec-gif89a.txt>

use std::io::{BufRead, Seek};

use super::{Head, STEPS, byte, bytes, go_to, pixels, skip};

/// Walks over the blocks up to the first frame.
pub(super) fn head<R: BufRead + Seek>(reader: &mut R) -> Option<Head> {
    go_to(reader, 6)?;
    let (width, height) = (word(reader)?, word(reader)?);
    let [flags, _, _] = bytes(reader)?;
    if flags & 0x80 != 0 {
        skip(reader, 3_i32 << ((flags & 7) + 1))?;
    }
    let mut extensions = 0;
    let mut steps = 0..STEPS;
    loop {
        steps.next()?;
        match byte(reader)? {
            EXTENSION => {
                byte(reader)?;
                loop {
                    steps.next()?;
                    let length = byte(reader)?;
                    if length == 0 {
                        break;
                    }
                    extensions += u64::from(length) + 1;
                    skip(reader, length)?;
                }
            }
            IMAGE => {
                let [left, top, frame_width, frame_height] =
                    [word(reader)?, word(reader)?, word(reader)?, word(reader)?];
                // A frame that is not as wide as the picture, or too high for it, is decoded beside it.
                let is_within = left == 0 && frame_width == width && top + frame_height <= height;
                let beside = if is_within { 0 } else { pixels(frame_width, frame_height) };
                let cost = (pixels(width, height) + beside) * 4 + extensions;
                return Some(Head {
                    width,
                    height,
                    is_animated: true,
                    cost,
                    may_turn: false,
                    codes: Vec::new(),
                });
            }
            _ => return None,
        }
    }
}

fn word(reader: &mut impl BufRead) -> Option<u32> {
    bytes(reader).map(u16::from_le_bytes).map(u32::from)
}

const EXTENSION: u8 = 0x21;
const IMAGE: u8 = 0x2c;

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn cost(canvas: [u16; 2], frame: [u16; 4], extension: u8) -> u64 {
        let words = |words: &[u16]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
        let palette = [0x80, 0, 0, 1, 2, 3, 4, 5, 6];
        let extension = [&[0x21, 0xff, extension][..], &vec![7; usize::from(extension)], &[0, 0x2c]].concat();
        let file = [b"GIF89a", &*words(&canvas), &palette, &extension, &words(&frame)].concat();
        let head = head(&mut Cursor::new(&file)).unwrap();
        assert_eq!((head.width, head.height), (canvas[0].into(), canvas[1].into()));
        head.cost
    }

    #[test]
    fn a_frame_beside_the_picture_costs_as_much_as_it_claims() {
        assert_eq!(cost([10, 10], [0, 0, 10, 10], 3), 404);
        assert_eq!(cost([10, 10], [0, 2, 10, 8], 3), 404);
        assert_eq!(cost([10, 10], [0, 0, 9, 10], 3), 404 + 360);
        assert_eq!(cost([10, 10], [0, 3, 10, 8], 3), 404 + 320);
        assert_eq!(cost([1, 1], [0, 0, 65_535, 65_535], 255), 4 + 256 + 65_535 * 65_535 * 4);
    }
}
