//! WebP. <https://www.rfc-editor.org/rfc/rfc9649>

use std::{
    io::{BufRead, Seek},
    ops::Range,
};

use super::{Head, STEPS, byte, bytes, go_to, pixels, vp8l};

/// Walks over all chunks.
pub(super) fn head<R: BufRead + Seek>(reader: &mut R, file_size: u64) -> Option<Head> {
    go_to(reader, 12)?;
    let first = Chunk::read(reader, 12..file_size)?;
    let mut picture = Picture::default();
    if &first.name != b"VP8X" {
        (picture.width, picture.height) = first.size(reader)?;
        picture.coded(reader, &[first], None)?;
        return Some(picture.head(false, false));
    }
    let [flags, _, _, _, w1, w2, w3, h1, h2, h3] = bytes(reader)?;
    let is_animated = flags & 0b10 != 0;
    picture.width = u32::from_le_bytes([w1, w2, w3, 0]) + 1;
    picture.height = u32::from_le_bytes([h1, h2, h3, 0]) + 1;
    let (mut coded, mut frame, mut exif) = (Vec::new(), None, None);
    let mut at = first.after;
    for step in 0.. {
        if step == STEPS {
            return None;
        }
        // What is no whole chunk is the end.
        let Some(chunk) = Chunk::read_at(reader, at, file_size) else { break };
        at = chunk.after;
        match &chunk.name {
            b"ALPH" | VP8 | VP8L if coded.iter().all(|other: &Chunk| other.name != chunk.name) => {
                coded.push(chunk)
            }
            b"ANMF" if frame.is_none() => frame = Some(chunk),
            b"EXIF" if exif.is_none() => exif = Some(chunk),
            _ => {}
        }
    }
    if is_animated {
        picture.frame(reader, frame?, file_size)?;
    } else if frame.is_some() {
        return None;
    } else {
        picture.coded(reader, &coded, None)?;
    }
    let may_turn = exif.is_some_and(|exif| exif.is_whole(file_size) && exif.length() <= EXIF_BYTES);
    Some(picture.head(is_animated, may_turn))
}

#[derive(Default)]
struct Picture {
    width: u32,
    height: u32,
    /// What the coded pixels take in the file, in bytes.
    coded: u64,
    codes: Vec<vp8l::Stream>,
}

impl Picture {
    /// The first frame of an animation, which lies within the picture.
    fn frame<R: BufRead + Seek>(&mut self, reader: &mut R, chunk: Chunk, file_size: u64) -> Option<()> {
        go_to(reader, chunk.body.start)?;
        let mut number =
            || bytes(reader).map(|[low, middle, high]| u32::from_le_bytes([low, middle, high, 0]));
        let [left, top, width, height] = [number()? * 2, number()? * 2, number()? + 1, number()? + 1];
        if left + width > self.width || top + height > self.height {
            return None;
        }
        let first = Chunk::read_at(reader, chunk.body.start + 16, file_size)?;
        let mut coded = vec![first];
        if &coded[0].name == b"ALPH" {
            coded.extend(Chunk::read_at(reader, coded[0].after, file_size));
        }
        self.coded(reader, &coded, Some((width, height)))
    }

    /// What makes the pixels: one chunk, and perhaps another with the transparency. Each must say that it is as large as
    /// it should be.
    fn coded<R: BufRead + Seek>(
        &mut self,
        reader: &mut R,
        chunks: &[Chunk],
        size: Option<(u32, u32)>,
    ) -> Option<()> {
        let (width, height) = size.unwrap_or((self.width, self.height));
        let (alpha, pixels): (Vec<_>, Vec<_>) = chunks.iter().partition(|chunk| &chunk.name == b"ALPH");
        let [pixels] = pixels[..] else { return None };
        if pixels.size(reader)? != (width, height) {
            return None;
        }
        for chunk in alpha.into_iter().chain([pixels]) {
            self.coded += chunk.length();
            let has_header = &chunk.name == VP8L;
            let mut bytes = chunk.body.clone();
            if &chunk.name == b"ALPH" {
                go_to(reader, bytes.start)?;
                let is_lossless = byte(reader)? & 0b11 == 1;
                bytes.start += 1;
                if !is_lossless {
                    continue;
                }
            }
            if &chunk.name != VP8 {
                self.codes.push(vp8l::Stream { bytes, width, height, has_header });
            }
        }
        Some(())
    }

    fn head(self, is_animated: bool, may_turn: bool) -> Head {
        let Self { width, height, coded, codes } = self;
        // The picture, its transparency, and what is decoded before that is either; of an animation a canvas, too.
        let pixel = if is_animated { 15 } else { 11 };
        let cost = pixels(width, height).saturating_mul(pixel).saturating_add(coded * 3);
        Head { width, height, is_animated, cost, may_turn, codes }
    }
}

struct Chunk {
    name: [u8; 4],
    body: Range<u64>,
    /// Where the next one begins.
    after: u64,
}

impl Chunk {
    fn read_at<R: BufRead + Seek>(reader: &mut R, at: u64, file_size: u64) -> Option<Self> {
        let ahead = i64::try_from(at).ok()? - i64::try_from(reader.stream_position().ok()?).ok()?;
        reader.seek_relative(ahead).ok()?;
        Self::read(reader, at..file_size)
    }

    /// The head of the chunk at which the reader stands.
    fn read(reader: &mut impl BufRead, rest: Range<u64>) -> Option<Self> {
        let (name, length) = (bytes(reader)?, u32::from_le_bytes(bytes(reader)?));
        let (start, length) = (rest.start + 8, u64::from(length));
        Some(Self { name, body: start..start + length, after: start + length + length % 2 })
    }

    fn length(&self) -> u64 {
        self.body.end - self.body.start
    }

    fn is_whole(&self, file_size: u64) -> bool {
        self.body.end <= file_size
    }

    /// How large what is coded here is said to be, in pixels.
    fn size<R: BufRead + Seek>(&self, reader: &mut R) -> Option<(u32, u32)> {
        go_to(reader, self.body.start)?;
        match &self.name {
            VP8 => {
                let [_, _, _, _, _, _, w1, w2, h1, h2] = bytes(reader)?;
                let length = |bytes| u32::from(u16::from_le_bytes(bytes) & 0x3fff);
                Some((length([w1, w2]), length([h1, h2])))
            }
            VP8L => {
                let [_, a, b, c, d] = bytes(reader)?;
                let header = u32::from_le_bytes([a, b, c, d]);
                Some(((header & 0x3fff) + 1, (header >> 14 & 0x3fff) + 1))
            }
            _ => None,
        }
    }
}

const VP8: &[u8; 4] = b"VP8 ";
const VP8L: &[u8; 4] = b"VP8L";
/// What a picture says of how it was made, if it is read at all.
const EXIF_BYTES: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::{super::vp8l::tests::Writer, *};

    fn chunk(name: &[u8; 4], claimed: usize, body: &[u8]) -> Vec<u8> {
        [name, &(claimed as u32).to_le_bytes()[..], body, &[0][..body.len() % 2]].concat()
    }

    fn file(chunks: &[Vec<u8>]) -> Vec<u8> {
        let chunks = chunks.concat();
        [b"RIFF", &(chunks.len() as u32 + 4).to_le_bytes()[..], b"WEBP", &chunks].concat()
    }

    fn extended(flags: u8, width: u32, height: u32) -> Vec<u8> {
        let [width, height] = [width, height].map(|length| (length - 1).to_le_bytes());
        chunk(b"VP8X", 10, &[&[flags, 0, 0, 0], &width[..3], &height[..3]].concat())
    }

    /// The head of lossy pixels, and little more.
    fn lossy(width: u16, height: u16) -> Vec<u8> {
        [&[0x10, 2, 0, 0x9d, 1, 0x2a][..], &width.to_le_bytes(), &height.to_le_bytes(), &[0; 30]].concat()
    }

    fn of(chunks: &[Vec<u8>]) -> Option<Head> {
        let file = file(chunks);
        head(&mut Cursor::new(&file), file.len() as u64)
    }

    fn lossless() -> Vec<u8> {
        let bytes = Writer::greedy(2);
        chunk(VP8L, bytes.len(), &bytes)
    }

    #[test]
    fn pixels_that_are_more_than_the_picture_are_none() {
        let lossy = |width, height| chunk(VP8, 40, &lossy(width, height));
        let head = of(&[lossy(640, 480)]).unwrap();
        assert_eq!((head.width, head.height, head.cost), (640, 480, 640 * 480 * 11 + 120));
        assert!(of(&[extended(0, 640, 480), lossy(640, 480)]).is_some());
        assert_eq!(of(&[extended(0, 1, 1), lossy(16_383, 16_383)]), None);
        assert_eq!(of(&[extended(0, 1, 1), lossy(1, 1), lossless()]), None);

        let frame = |left: u8, width: u8, pixels: Vec<u8>| {
            let place = [left, 0, 0, 0, 0, 0, width - 1, 0, 0, 9, 0, 0, 0, 0, 0, 0];
            let body = [&place[..], &pixels].concat();
            chunk(b"ANMF", body.len(), &body)
        };
        let animated = |frame| of(&[extended(2, 20, 10), frame]);
        let head = animated(frame(5, 10, lossy(10, 10))).unwrap();
        assert!(head.is_animated && head.cost == 200 * 15 + 120);
        assert_eq!(animated(frame(5, 11, lossy(11, 10))), None);
        assert_eq!(animated(frame(5, 10, lossy(16_383, 16_383))), None);
        let veiled = |pixels| [chunk(b"ALPH", 2, &[1, 0]), pixels].concat();
        assert_eq!(animated(frame(0, 10, veiled(lossy(10, 10)))).unwrap().codes.len(), 1);
        assert_eq!(animated(frame(0, 10, veiled(lossy(11, 10)))), None);
        assert_eq!(of(&[extended(0, 10, 10), lossy(10, 10), frame(0, 10, lossy(10, 10))]), None);
    }

    #[test]
    fn codes_are_found_wherever_they_are() {
        let mut reader = Cursor::new(file(&[extended(0x10, 1, 1), lossless()]));
        let size = reader.get_ref().len() as u64;
        let head = head(&mut reader, size).unwrap();
        assert_eq!(head.codes(&mut reader), Some(2 * (3 * 280 + 5 * (96 + 4_096))));
        assert_eq!(of(&[lossless()]).unwrap().codes.len(), 1);
    }

    /// A decoder would make room for what a few bytes claim.
    #[test]
    fn what_the_file_does_not_hold_is_not_read() {
        let exif = |claimed| of(&[extended(8, 1, 1), lossless(), chunk(b"EXIF", claimed, b"II*\0")]).unwrap();
        assert!(exif(4).may_turn);
        assert!(!exif(0xffff_fff0).may_turn);
    }
}
