//! Pictures: what the head of a file says of one, and its reduction to a thumbnail. Pure but for the reader.
//!
//! What a picture claims is not believed to be affordable: its cost is reckoned from its head, and nothing is decoded
//! that would take more than [`limits::THUMBNAIL_BYTES`].

use std::io::{self, BufRead, Cursor, Read, Seek, SeekFrom};

use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits,
    codecs::{jpeg::JpegEncoder, png::PngDecoder, webp::WebPDecoder},
    metadata::Orientation,
};

use crate::base::limits;

/// A picture of which only the head was read.
pub(super) struct Picture<R> {
    pub(super) is_animated: bool,
    /// In bytes.
    pub(super) file_size: u64,
    format: ImageFormat,
    width: u32,
    height: u32,
    /// Memory that decoding takes, in bytes.
    cost: u64,
    reader: R,
}

/// What a thumbnail should fill, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) width: u32,
    pub(super) height: u32,
    /// Whether what sticks out is cut off, or else the whole picture fits in.
    pub(super) crop: bool,
}

/// What thumbnails are encoded as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Jpeg,
    /// For what is not opaque.
    Png,
}

/// Why there is no thumbnail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PictureError {
    /// It is of another format, or damaged.
    Unreadable,
    /// It would take too much memory.
    TooLarge,
}

impl<R: BufRead + Seek> Picture<R> {
    /// Reads the head of a file of so many bytes.
    pub(super) fn read(mut reader: R, file_size: u64) -> Result<Self, PictureError> {
        let mut start = Vec::new();
        reader.by_ref().take(16).read_to_end(&mut start)?;
        let format = image::guess_format(&start)?;
        reader.rewind()?;
        let (width, height, is_animated, cost) = match format {
            ImageFormat::Jpeg => {
                let Scan { width, height, progressive } =
                    scan_jpeg(&mut reader).ok_or(PictureError::Unreadable)?;
                // The decoder has the whole file in memory, and of a progressive one all coefficients, too.
                let pixel = if progressive { 9 } else { 3 };
                (width, height, false, pixels(width, height) * pixel + file_size)
            }
            ImageFormat::Png => {
                let decoder = PngDecoder::with_limits(&mut reader, decoder_limits())?;
                let ((width, height), animated) = (decoder.dimensions(), decoder.is_apng().unwrap_or(false));
                (width, height, animated, decoder.total_bytes())
            }
            ImageFormat::Gif => {
                let (width, height) = dimensions(&mut reader, format)?;
                (width, height, true, pixels(width, height) * 9)
            }
            ImageFormat::WebP => {
                let decoder = WebPDecoder::new(&mut reader)?;
                let ((width, height), animated) = (decoder.dimensions(), decoder.has_animation());
                (width, height, animated, pixels(width, height) * 12)
            }
            _ => return Err(PictureError::Unreadable),
        };
        Ok(Self { is_animated, file_size, format, width, height, cost, reader })
    }

    /// Whether it has no pixel that a thumbnail for this frame would not have.
    pub(super) fn fits(&self, frame: Frame) -> bool {
        // A picture on its side fits where it fits upright only if it does both ways.
        let within = |width, height| width <= frame.width && height <= frame.height;
        within(self.width, self.height) && within(self.height, self.width)
            || self.format != ImageFormat::Jpeg && within(self.width, self.height)
    }

    /// The content type of the format, whatever the uploader says of it.
    pub(super) fn content_type(&self) -> &'static str {
        self.format.to_mime_type()
    }

    /// Decodes the picture, its first frame if it is animated, and encodes the thumbnail. It is never larger than the
    /// picture.
    pub(super) fn thumbnail(mut self, frame: Frame) -> Result<(Vec<u8>, Encoding), PictureError> {
        if self.cost > limits::THUMBNAIL_BYTES {
            return Err(PictureError::TooLarge);
        }
        self.reader.rewind()?;
        let mut reader = ImageReader::with_format(self.reader, self.format);
        reader.limits(decoder_limits());
        let mut decoder = reader.into_decoder()?;
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let picture = DynamicImage::from_decoder(decoder)?;
        let mut small = reduced(picture, frame, orientation);
        small.apply_orientation(orientation);
        let small = cropped(small, frame);
        let mut bytes = Vec::new();
        let encoding = if small.color().has_alpha() { Encoding::Png } else { Encoding::Jpeg };
        match encoding {
            Encoding::Png => DynamicImage::from(small.into_rgba8())
                .write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png)?,
            Encoding::Jpeg => {
                JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY).encode_image(&small.into_rgb8())?
            }
        }
        Ok((bytes, encoding))
    }
}

/// The picture as small as the frame lets it be, and not larger; not yet turned upright.
fn reduced(picture: DynamicImage, frame: Frame, orientation: Orientation) -> DynamicImage {
    let (width, height) = (f64::from(picture.width()), f64::from(picture.height()));
    let (frame_width, frame_height) = match orientation {
        Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH => (frame.height, frame.width),
        _ => (frame.width, frame.height),
    };
    let (across, down) = (f64::from(frame_width) / width, f64::from(frame_height) / height);
    let factor = if frame.crop { across.max(down) } else { across.min(down) };
    if factor >= 1.0 {
        return picture;
    }
    let side = |length: f64| ((length * factor).round() as u32).max(1);
    picture.thumbnail_exact(side(width), side(height))
}

/// The middle of the picture, if it was to be cropped.
fn cropped(picture: DynamicImage, frame: Frame) -> DynamicImage {
    let (width, height) = (picture.width().min(frame.width), picture.height().min(frame.height));
    if !frame.crop || (width, height) == (picture.width(), picture.height()) {
        return picture;
    }
    picture.crop_imm((picture.width() - width) / 2, (picture.height() - height) / 2, width, height)
}

fn dimensions<R: BufRead + Seek>(reader: &mut R, format: ImageFormat) -> Result<(u32, u32), PictureError> {
    Ok(ImageReader::with_format(reader, format).into_dimensions()?)
}

fn pixels(width: u32, height: u32) -> u64 {
    u64::from(width) * u64::from(height)
}

fn decoder_limits() -> Limits {
    let mut bounds = Limits::no_limits();
    bounds.max_alloc = Some(limits::THUMBNAIL_BYTES);
    bounds
}

/// What the frame header of a JPEG says.
struct Scan {
    width: u32,
    height: u32,
    progressive: bool,
}

/// Walks over the segments of a JPEG to its frame header. <https://www.w3.org/Graphics/JPEG/itu-t81.pdf>, B.1 and B.2
fn scan_jpeg<R: BufRead + Seek>(reader: &mut R) -> Option<Scan> {
    let byte = |reader: &mut R| {
        let mut byte = [0];
        reader.read_exact(&mut byte).ok().map(|()| byte[0])
    };
    let word = |reader: &mut R| {
        let mut bytes = [0; 2];
        reader.read_exact(&mut bytes).ok().map(|()| u16::from_be_bytes(bytes))
    };
    reader.seek(SeekFrom::Start(2)).ok()?;
    loop {
        if byte(reader)? != 0xff {
            return None;
        }
        let mut marker = byte(reader)?;
        while marker == 0xff {
            marker = byte(reader)?;
        }
        let length = word(reader)?.checked_sub(2)?;
        match marker {
            // DHT, JPG and DAC lie among the frame headers.
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                byte(reader)?;
                let (height, width) = (word(reader)?.into(), word(reader)?.into());
                return Some(Scan { width, height, progressive: marker & 3 == 2 });
            }
            _ => reader.seek_relative(length.into()).ok()?,
        }
    }
}

impl From<ImageError> for PictureError {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Limits(_) => Self::TooLarge,
            _ => Self::Unreadable,
        }
    }
}

impl From<io::Error> for PictureError {
    fn from(_: io::Error) -> Self {
        Self::Unreadable
    }
}

impl Encoding {
    pub(super) const ALL: [Self; 2] = [Self::Jpeg, Self::Png];

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
        }
    }

    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Png => "png",
        }
    }
}

const JPEG_QUALITY: u8 = 80;
