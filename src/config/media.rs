//! `[media]`: what people may upload.

use super::section::section;

section! {
    /// What people may upload. Files lie in the folder `media` of the data folder.
    pub struct Media {
        /// The largest file, in megabytes (1,000,000 bytes).
        max_upload_mb: u64 = 100,
        /// What all files of one user may take, in megabytes. Nothing is deleted where it is exceeded: uploads are refused.
        user_quota_mb: u64 = 5_000,
        /// What is kept of files that were fetched from other servers, and of pictures for previews of web pages, in
        /// megabytes. The oldest give way; they are fetched again when somebody asks for them.
        remote_cache_mb: u64 = 2_000,
        /// Whether files that are uploaded from now on can be downloaded without an account, as clients and bridges from
        /// before Matrix 1.11 (2024) do. What was uploaded while this was set stays so.
        unauthenticated_downloads: bool = false,
    }
}

impl Media {
    /// The largest file, in bytes.
    pub fn upload_limit(&self) -> u64 {
        self.max_upload_mb.saturating_mul(MEGABYTE)
    }

    /// What all files of one user may take, in bytes.
    pub fn quota(&self) -> u64 {
        self.user_quota_mb.saturating_mul(MEGABYTE)
    }

    /// What is kept of other servers' files, in bytes.
    pub fn remote_limit(&self) -> u64 {
        self.remote_cache_mb.saturating_mul(MEGABYTE)
    }
}

const MEGABYTE: u64 = 1_000_000;
