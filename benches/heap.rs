//! An allocator that counts.

#![expect(unsafe_code, reason = "an allocator is one by an unsafe trait")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

pub(crate) struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all is left to the system's allocator; beside it, numbers are added.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST.fetch_max(held, Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

/// What is held, in bytes.
pub(crate) fn held() -> usize {
    HELD.load(Relaxed)
}

/// The most that is held at once from here on, beyond what is held now. One at a time.
pub(crate) struct Peak(usize);

impl Peak {
    pub(crate) fn begin() -> Self {
        let held = held();
        MOST.store(held, Relaxed);
        Self(held)
    }

    /// In bytes.
    pub(crate) fn end(self) -> usize {
        MOST.load(Relaxed).saturating_sub(self.0)
    }
}
