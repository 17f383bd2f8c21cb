//! What the head of a picture says of it, and what decoding the picture costs: reckoned by walking over the file, before
//! a decoder sees it.
//!
//! Decoders believe what a file claims: the size of a frame, of a chunk that isn't there, the number of its codes. So
//! whatever makes them take memory is looked at here first, and a file that is contradictory is no picture. Every walk
//! has an end, takes next to no memory, and what it doesn't understand it refuses.

mod gif;
mod jpeg;
mod png;
mod vp8l;
mod webp;

use std::io::{BufRead, Seek, SeekFrom};

use image::ImageFormat;

/// What a picture says of itself, once that is consistent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) is_animated: bool,
    /// Memory that decoding takes, in bytes, besides what [`Head::codes`] take.
    pub(super) cost: u64,
    /// Whether the file may say that the picture is to be turned, in so few bytes that this can be read.
    pub(super) may_turn: bool,
    /// Where what is coded losslessly lies in a WebP.
    codes: Vec<vp8l::Stream>,
}

impl Head {
    /// Reads the head of a file of so many bytes; none if it is no picture, or of another format.
    pub(super) fn read<R: BufRead + Seek>(
        reader: &mut R,
        format: ImageFormat,
        file_size: u64,
    ) -> Option<Self> {
        reader.rewind().ok()?;
        match format {
            ImageFormat::Jpeg => jpeg::head(reader, file_size),
            ImageFormat::Png => png::head(reader),
            ImageFormat::Gif => gif::head(reader),
            ImageFormat::WebP => webp::head(reader, file_size),
            _ => None,
        }
    }

    /// What else decoding takes, in bytes, where that takes some work to reckon; none if this is no picture.
    pub(super) fn codes<R: BufRead + Seek>(&self, reader: &mut R) -> Option<u64> {
        let costs = self.codes.iter().map(|stream| stream.cost(reader));
        costs.sum()
    }
}

fn pixels(width: u32, height: u32) -> u64 {
    u64::from(width) * u64::from(height)
}

fn bytes<const N: usize>(reader: &mut impl BufRead) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

fn byte(reader: &mut impl BufRead) -> Option<u8> {
    bytes(reader).map(|[byte]| byte)
}

fn skip(reader: &mut impl Seek, length: impl Into<i64>) -> Option<()> {
    reader.seek_relative(length.into()).ok()
}

fn go_to(reader: &mut impl Seek, position: u64) -> Option<()> {
    reader.seek(SeekFrom::Start(position)).ok().map(drop)
}

/// Segments, chunks or blocks that are walked over. No picture has so many before its first pixels; an animation may
/// have a frame in each.
const STEPS: usize = 1 << 16;
