//! The bounds of previews of web pages.

use std::time::Duration;

use super::{DESCRIPTORS, OUTGOING, OUTGOING_IDLE, PROVIDER_REQUESTS, PUSHES, PUSHES_SLOW, SEARCHES};

/// Pages that are fetched at once, and for one user; others wait.
pub const PREVIEWS: usize = 8;
pub const PREVIEWS_PER_USER: usize = 2;
/// How long a page may take, redirects included, and its picture after it.
pub const PREVIEW_TIME: Duration = Duration::from_secs(15);
/// What is read of a page, in bytes: what stands behind that doesn't count.
pub const PREVIEW_PAGE_BYTES: usize = 512 << 10;
/// Pages that are looked through at once, each on a thread.
pub const PREVIEW_READS: usize = 1;
/// What is kept of an attribute or of the title while a page is looked through, in bytes: a character more than is used.
pub const PREVIEW_VALUE_BYTES: usize = PREVIEW_URL_BYTES + char::MAX_LEN_UTF8;
/// A picture of more bytes is left out.
pub const PREVIEW_IMAGE_BYTES: u64 = 10 << 20;
/// The pictures that are received in so long, for one user and in all, in bytes; pages then have none for a while.
pub const PREVIEW_IMAGES_BYTES_PER_USER: u64 = 64 << 20;
pub const PREVIEW_IMAGES_BYTES: u64 = 256 << 20;
pub const PREVIEW_IMAGES_TIME: Duration = Duration::from_secs(60 * 60);
/// Where a page tells its encoding, in bytes. <https://html.spec.whatwg.org/multipage/semantics.html#charset>
pub const PREVIEW_CHARSET_BYTES: usize = 1_024;
/// The URL that is asked for, and an address that a page names, in bytes.
pub const PREVIEW_URL_BYTES: usize = 2_048;
/// Properties that are told of a page, what each is called and says, and all of them, in bytes.
pub const PREVIEW_PROPERTIES: usize = 32;
pub const PREVIEW_NAME_BYTES: usize = 64;
pub const PREVIEW_TEXT_BYTES: usize = 1_024;
pub const PREVIEW_BYTES: usize = 8 << 10;
/// Previews that are kept in memory; the one that would end first gives way.
pub const PREVIEWS_KEPT: usize = 256;
/// For how long they are kept, and for how long it is known that there is none.
pub const PREVIEW_LIFETIME: Duration = Duration::from_secs(60 * 60);
pub const PREVIEW_PAUSE: Duration = Duration::from_secs(60);
/// Who asks for the page as of a time gets one that was fetched so long before that at most.
pub const PREVIEW_AGE: Duration = Duration::from_secs(10 * 60);

const _: () = {
    assert!(
        PREVIEWS_KEPT * (PREVIEW_URL_BYTES + PREVIEW_BYTES * 2) <= 5 << 20,
        "JSON may escape each byte of a text"
    );
    assert!(
        (PREVIEWS + PREVIEW_READS) * PREVIEW_PAGE_BYTES * 2 <= 9 << 20,
        "what grows may have twice what it needs; who looks through a page may hold as much again of it as one part"
    );
    assert!(PREVIEW_TEXT_BYTES < PREVIEW_VALUE_BYTES);
    assert!(
        PREVIEW_IMAGE_BYTES * 4 <= PREVIEW_IMAGES_BYTES_PER_USER
            && PREVIEW_IMAGES_BYTES_PER_USER * 4 <= PREVIEW_IMAGES_BYTES
    );
    assert!(PREVIEW_NAME_BYTES + PREVIEW_TEXT_BYTES < PREVIEW_BYTES && PREVIEWS_PER_USER * 2 <= PREVIEWS);
    assert!(
        (OUTGOING + PUSHES + PUSHES_SLOW + PROVIDER_REQUESTS + PREVIEWS) * 3
            + PREVIEWS
            + SEARCHES
            + OUTGOING_IDLE
            + 128
            <= DESCRIPTORS,
        "previews have connections beside the others, and a file each"
    );
};
