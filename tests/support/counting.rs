//! An allocator that counts, for whoever includes this: only threads that say so, and only while the count is on.
#![allow(unsafe_code, reason = "an allocator that counts has to implement `GlobalAlloc`")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The system's allocator, with counts of what marked threads ask of it.
struct Counting;

pub(crate) static COUNTING: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static REALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static DEALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Whether this thread's calls count. Needs neither an allocation nor a destructor.
    pub(crate) static MARKED: Cell<bool> = const { Cell::new(false) };
}

fn count(counter: &AtomicU64) {
    if COUNTING.load(Ordering::Relaxed) && MARKED.get() {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

pub(crate) fn counted() -> [u64; 3] {
    [&ALLOCATIONS, &REALLOCATIONS, &DEALLOCATIONS].map(|counter| counter.swap(0, Ordering::Relaxed))
}

// SAFETY: every call goes to `System` with the caller's own arguments, and so keeps its contract; the counting
// neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(&ALLOCATIONS);
        // SAFETY: the caller's contract, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(&ALLOCATIONS);
        // SAFETY: the caller's contract, passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(&REALLOCATIONS);
        // SAFETY: the caller's contract, passed on.
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(&DEALLOCATIONS);
        // SAFETY: the caller's contract, passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;
