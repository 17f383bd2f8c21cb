//! Thumbnails: made when somebody asks for the first one of a size, and kept.
//! <https://spec.matrix.org/v1.19/client-server-api/#thumbnails>

use std::{
    fs::{self, DirBuilder, File},
    io::{self, BufReader},
    os::unix::fs::DirBuilderExt,
    path::Path,
    sync::Arc,
    time::Duration,
};

use super::{
    MediaId,
    download::{self, Download, DownloadError, Opened, Reader},
    files::{Folders, absent_or},
    picture::{Encoding, Frame, Picture, PictureError},
};
use crate::{
    base::{blocking, limits},
    service::App,
    store::{ContentHash, StoreError, StoredContent},
};

/// What a client wants.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub width: u64,
    pub height: u64,
    /// Whether the picture is cut to these proportions, or else keeps its own within them.
    pub crop: bool,
    pub animated: bool,
}

/// Why there is no thumbnail.
#[derive(Debug, thiserror::Error)]
pub enum ThumbnailError {
    #[error("this is no picture of a known format")]
    NotAPicture,
    #[error("the picture is too large")]
    TooLarge,
    #[error(transparent)]
    Download(#[from] DownloadError),
}

/// Opens a thumbnail that is at least as large as wanted, or the picture itself if that is no larger.
pub async fn open(
    app: &App,
    reader: &Reader,
    id: MediaId,
    wanted: Wanted,
    patience: Duration,
) -> Result<Download, ThumbnailError> {
    let content = download::find(app, reader, id, patience).await?;
    let folders = app.repository.files.folders().await?;
    let task = Arc::new(Task { folders, wanted, hash: content.hash });
    let open = async || {
        let found = task.found(app, reader).await?;
        Ok::<_, ThumbnailError>(found.opened(&task, &content).download(app, reader).await?)
    };
    let opened = match open().await {
        // It gave way to others just now.
        Err(error) if error.is_of_missing_file() => open().await,
        opened => opened,
    };
    match opened {
        Err(ThumbnailError::Download(DownloadError::Store(error))) => {
            Err(download::excused(app, content.hash, error).await.into())
        }
        opened => opened,
    }
}

/// One thumbnail of one picture.
struct Task {
    folders: Arc<Folders>,
    wanted: Wanted,
    hash: ContentHash,
}

/// What there is to answer with.
enum Found {
    /// The picture itself, of this content type.
    Original(&'static str),
    Kept(Frame, Encoding),
    Nothing,
}

impl Task {
    /// Finds what there is to answer with, or makes it.
    async fn found(self: &Arc<Self>, app: &App, reader: &Reader) -> Result<Found, ThumbnailError> {
        let look = || {
            let task = self.clone();
            app.repository.files.run(move || Ok(task.look()))
        };
        let found = look().await??;
        if !matches!(found, Found::Nothing) {
            return Ok(found);
        }
        let place = app.repository.thumbnails.take(reader).await;
        // Somebody who waited for the same may have made it.
        let found = look().await??;
        if !matches!(found, Found::Nothing) {
            return Ok(found);
        }
        let task = self.clone();
        // The place goes along: nothing stops this when the client is gone.
        let making = blocking::run(move || {
            let _place = place;
            task.make()
        });
        making.await.map_err(|error| StoreError::Io(io::Error::other(error)))?
    }

    /// Looks at the head of the picture, and whether the thumbnail is there.
    fn look(&self) -> Result<Found, ThumbnailError> {
        let picture = self.picture()?;
        let animated = picture.is_animated();
        if animated && self.wanted.animated && picture.file_size <= limits::ANIMATION_BYTES {
            return Ok(Found::Original(picture.content_type()));
        }
        let frame = self.wanted.frame();
        if !animated && frame.is_none_or(|frame| picture.fits(frame)) {
            return Ok(Found::Original(picture.content_type()));
        }
        let frame = frame.unwrap_or(LARGEST);
        let folder = self.folders.thumbnails(self.hash);
        let kept = Encoding::ALL.into_iter().find(|&encoding| folder.join(name(frame, encoding)).exists());
        Ok(kept.map_or(Found::Nothing, |encoding| Found::Kept(frame, encoding)))
    }

    /// Makes the thumbnail and keeps it.
    fn make(&self) -> Result<Found, ThumbnailError> {
        let frame = self.wanted.frame().unwrap_or(LARGEST);
        let (bytes, encoding) = self.picture()?.thumbnail(frame)?;
        let keep = || {
            let folder = self.folders.thumbnails(self.hash);
            DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
            let mut file = self.folders.begin()?;
            file.write(&bytes)?;
            file.sync()?;
            file.keep(&folder, &name(frame, encoding))?;
            make_room(&folder, &name(frame, encoding))
        };
        keep().map_err(StoreError::from)?;
        Ok(Found::Kept(frame, encoding))
    }

    fn picture(&self) -> Result<Picture<BufReader<File>>, ThumbnailError> {
        let path = self.folders.content(self.hash);
        let open = || Ok::<_, io::Error>((fs::metadata(&path)?.len(), BufReader::new(File::open(&path)?)));
        let (size, file) = open().map_err(StoreError::from)?;
        Ok(Picture::read(file, size)?)
    }
}

/// Removes the oldest thumbnails of a picture if there are too many beside this one.
fn make_room(folder: &Path, new: &str) -> io::Result<()> {
    let mut kept = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name() != new {
            kept.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    kept.sort_unstable();
    let surplus = (kept.len() + 1).saturating_sub(limits::THUMBNAILS_KEPT);
    kept.into_iter().take(surplus).try_for_each(|(_, path)| absent_or(fs::remove_file(path)))
}

impl Found {
    fn opened(self, task: &Task, content: &StoredContent) -> Opened {
        match self {
            Self::Kept(frame, encoding) => Opened {
                path: task.folders.thumbnails(task.hash).join(name(frame, encoding)),
                size: None,
                content_type: Some(encoding.content_type().to_owned()),
                file_name: Some(format!("thumbnail.{}", encoding.extension())),
                tag: format!("{}-{}", task.hash, name(frame, encoding)),
            },
            Self::Original(content_type) => Opened {
                path: task.folders.content(task.hash),
                size: Some(content.size),
                content_type: Some(content_type.to_owned()),
                file_name: content.file_name.clone(),
                tag: task.hash.to_string(),
            },
            Self::Nothing => unreachable!("what is not there was made"),
        }
    }
}

impl Wanted {
    /// The next larger frame of those that thumbnails are made for: few, so that a picture has few. None is larger than
    /// all of them.
    fn frame(self) -> Option<Frame> {
        if self.crop { self.crop_frame() } else { self.scale_frame() }
    }

    fn scale_frame(self) -> Option<Frame> {
        let large =
            |frame: &Frame| self.width <= u64::from(frame.width) && self.height <= u64::from(frame.height);
        SCALE.into_iter().map(|(width, height)| Frame { width, height, crop: false }).find(large)
    }

    /// The longer side is rounded up to one of a few, the other follows, in steps.
    fn crop_frame(self) -> Option<Frame> {
        let (long, short) = (self.width.max(self.height), self.width.min(self.height));
        let side = CROP.into_iter().find(|&side| long <= u64::from(side))?;
        let other = (u64::from(side) * short).div_ceil(long.max(1)) as u32;
        let other = other.next_multiple_of(CROP_STEP).clamp(CROP_STEP, side);
        let (width, height) = if self.width >= self.height { (side, other) } else { (other, side) };
        Some(Frame { width, height, crop: true })
    }
}

fn name(frame: Frame, encoding: Encoding) -> String {
    let Frame { width, height, crop } = frame;
    let method = if crop { "crop" } else { "scale" };
    format!("{width}x{height}-{method}.{}", encoding.extension())
}

/// What the specification recommends, and the double of it for screens with small pixels.
const SCALE: [(u32, u32); 4] = [(320, 240), (640, 480), (800, 600), (1_600, 1_200)];
const LARGEST: Frame = Frame { width: 1_600, height: 1_200, crop: false };
const CROP: [u32; 5] = [32, 96, 320, 640, 800];
const CROP_STEP: u32 = 32;

impl ThumbnailError {
    fn is_of_missing_file(&self) -> bool {
        matches!(self, Self::Download(DownloadError::Store(error)) if download::is_missing(error))
    }
}

impl From<PictureError> for ThumbnailError {
    fn from(error: PictureError) -> Self {
        match error {
            PictureError::Unreadable => Self::NotAPicture,
            PictureError::TooLarge => Self::TooLarge,
        }
    }
}

impl From<StoreError> for ThumbnailError {
    fn from(error: StoreError) -> Self {
        Self::Download(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(width: u64, height: u64, crop: bool) -> Option<(u32, u32)> {
        let wanted = Wanted { width, height, crop, animated: false };
        wanted.frame().map(|frame| (frame.width, frame.height))
    }

    #[test]
    fn sizes_are_rounded_up_and_never_down() {
        assert_eq!(frame(32, 32, true), Some((32, 32)));
        assert_eq!(frame(33, 1, true), Some((96, 32)));
        assert_eq!(frame(64, 64, true), Some((96, 96)));
        assert_eq!(frame(200, 400, true), Some((320, 640)));
        assert_eq!(frame(0, 0, true), Some((32, 32)));
        assert_eq!(frame(801, 1, true), None);
        assert_eq!(frame(1, 1, false), Some((320, 240)));
        assert_eq!(frame(320, 241, false), Some((640, 480)));
        assert_eq!(frame(800, 600, false), Some((800, 600)));
        assert_eq!(frame(u64::MAX, 1, false), None);
        for (width, height) in [(1, 800), (800, 1), (799, 77), (123, 456)] {
            let (kept_width, kept_height) = frame(width, height, true).unwrap();
            assert!(u64::from(kept_width) >= width && u64::from(kept_height) >= height);
        }
    }
}
