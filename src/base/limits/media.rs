//! The bounds of the content repository.

use std::time::Duration;

/// Reads and writes of media files that are under way at once.
pub const MEDIA_THREADS: usize = 3;
/// Uploads under way in all, and of one user; others wait.
pub const UPLOADS: usize = 32;
pub const UPLOADS_PER_USER: usize = 4;
/// Downloads under way in all, and of one user; others wait.
pub const DOWNLOADS: usize = 256;
pub const DOWNLOADS_PER_USER: usize = 32;
/// An upload is written to disk in pieces of this size, in bytes; it holds two.
pub const UPLOAD_CHUNK_BYTES: usize = 128 << 10;
/// A download is read from disk in pieces of this size, in bytes; it holds two, and the connection as many.
pub const DOWNLOAD_CHUNK_BYTES: usize = 64 << 10;
/// A download whose client takes not even one more piece in so long ends.
pub const DOWNLOAD_PIECE_TIME: Duration = Duration::from_secs(60);
/// An upload must be this fast on average, in bytes a second, besides [`BODY_TIME`](super::BODY_TIME) once.
pub const UPLOAD_BYTES_PER_SECOND: u64 = 4 << 10;
/// The name of something in the content repository, without its server, in bytes.
pub const MEDIA_ID_BYTES: usize = 255;
/// A content type, in bytes.
pub const CONTENT_TYPE_BYTES: usize = 255;
/// The name of an uploaded file, in bytes.
pub const FILE_NAME_BYTES: usize = 1_024;
/// Media that one user may have uploaded, whatever their size.
pub const MEDIA_PER_USER: u64 = 100_000;
/// Media that one user may have announced and not yet uploaded.
pub const PENDING_UPLOADS: u64 = 24;
/// How long they wait for their upload.
/// <https://spec.matrix.org/v1.19/client-server-api/#post_matrixmediav1create>
pub const PENDING_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// A download waits so long for its upload at most, whatever the client asks for.
pub const UPLOAD_WAIT: Duration = Duration::from_secs(60);
/// Thumbnails that are made at once, and for one user; others wait.
pub const THUMBNAILS: usize = 1;
pub const THUMBNAILS_PER_USER: usize = 1;
/// Thumbnails of one picture that are kept; the oldest gives way.
pub const THUMBNAILS_KEPT: usize = 24;
/// Memory that making one takes, in bytes. A picture that would need more gets none.
pub const THUMBNAIL_BYTES: u64 = 80 << 20;
/// What a PNG may say beside its pixels, and one line of these, in bytes. It is part of the memory above.
pub const PNG_METADATA_BYTES: u64 = 4 << 20;
/// An animated picture of so many bytes at most is its own animated thumbnail.
pub const ANIMATION_BYTES: u64 = 2 << 20;
/// Media of other servers that are fetched at once, and those of one server; others wait.
pub const REMOTE_MEDIA: usize = 16;
pub const REMOTE_MEDIA_PER_SERVER: usize = 4;
/// Those of which is known that they are fetched, or that they couldn't be.
pub const REMOTE_MEDIA_FETCHES: usize = 256;
/// How long one may take.
pub const REMOTE_MEDIA_TIME: Duration = Duration::from_secs(15 * 60);
/// How long nobody tries again what couldn't be fetched.
pub const REMOTE_MEDIA_PAUSE: Duration = Duration::from_secs(60);
/// Media that are deleted, or files that are looked at, in one step.
pub const MEDIA_STEP: usize = 256;
