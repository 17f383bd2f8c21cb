//! Pictures: their reduction to thumbnails. Pure but for the reader.
//!
//! What a picture claims is not believed to be affordable: its cost is reckoned from its [head](Head), and nothing is
//! decoded that would take more than [`limits::THUMBNAIL_BYTES`].

use std::io::{self, BufRead, Cursor, Read, Seek};

use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, codecs::jpeg::JpegEncoder,
    metadata::Orientation,
};

use super::head::Head;
use crate::base::limits;

/// A picture of which only the head was read.
pub(super) struct Picture<R> {
    /// In bytes.
    pub(super) file_size: u64,
    format: ImageFormat,
    head: Head,
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
        let head = Head::read(&mut reader, format, file_size).ok_or(PictureError::Unreadable)?;
        Ok(Self { file_size, format, head, reader })
    }

    pub(super) fn is_animated(&self) -> bool {
        self.head.is_animated
    }

    /// Width and height in pixels, not yet turned upright.
    pub(super) fn dimensions(&self) -> (u32, u32) {
        (self.head.width, self.head.height)
    }

    /// Whether it has no pixel that a thumbnail for this frame would not have.
    pub(super) fn fits(&self, frame: Frame) -> bool {
        let (width, height) = (self.head.width, self.head.height);
        // A picture on its side fits where it fits upright only if it does both ways.
        let within = |width, height| width <= frame.width && height <= frame.height;
        within(width, height) && within(height, width)
            || self.format != ImageFormat::Jpeg && within(width, height)
    }

    /// The content type of the format, whatever the uploader says of it.
    pub(super) fn content_type(&self) -> &'static str {
        self.format.to_mime_type()
    }

    /// Decodes the picture, its first frame if it is animated, and encodes the thumbnail. It is never larger than the
    /// picture.
    pub(super) fn thumbnail(mut self, frame: Frame) -> Result<(Vec<u8>, Encoding), PictureError> {
        let (picture, orientation) = self.decoded()?;
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

    /// All pixels, and how they are to be turned.
    fn decoded(&mut self) -> Result<(DynamicImage, Orientation), PictureError> {
        let Head { width, height, cost, may_turn, .. } = self.head;
        let is_affordable =
            |cost| if cost > limits::THUMBNAIL_BYTES { Err(PictureError::TooLarge) } else { Ok(()) };
        is_affordable(cost)?;
        let codes = self.head.codes(&mut self.reader).ok_or(PictureError::Unreadable)?;
        is_affordable(cost + codes)?;
        self.reader.rewind()?;
        let mut reader = ImageReader::with_format(&mut self.reader, self.format);
        reader.limits(decoder_limits(self.format));
        let mut decoder = reader.into_decoder()?;
        // What was reckoned is another picture than the decoder sees.
        if decoder.dimensions() != (width, height) || decoder.total_bytes() > cost {
            return Err(PictureError::Unreadable);
        }
        let orientation = if may_turn { decoder.orientation().ok() } else { None };
        Ok((DynamicImage::from_decoder(decoder)?, orientation.unwrap_or(Orientation::NoTransforms)))
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

/// What a decoder may take that minds such limits. That of PNG minds them for all but the pixels.
fn decoder_limits(format: ImageFormat) -> Limits {
    let mut bounds = Limits::no_limits();
    bounds.max_alloc = Some(match format {
        ImageFormat::Png => limits::PNG_METADATA_BYTES,
        _ => limits::THUMBNAIL_BYTES,
    });
    bounds
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
