//! The allocator's settings: memory that one request needed is the kernel's again when it is freed.

/// Gives blocks of [`MAPPED_BYTES`] and more mappings of their own. glibc does so at first, but raises the bound to the
/// largest block that it saw freed, and keeps later ones: a password hashed on each thread would stay as 19 MB each.
#[cfg(target_env = "gnu")]
pub(super) fn configure() {
    #[expect(unsafe_code, reason = "there is one thread yet, and any values are permitted")]
    // A refusal changes nothing.
    let _ = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES) };
}

/// Other allocators need no settings.
#[cfg(not(target_env = "gnu"))]
pub(super) fn configure() {}

#[cfg(target_env = "gnu")]
const MAPPED_BYTES: std::ffi::c_int = 256 << 10;
