//! The memory of a lane: a pool of blocks. `ring` keeps its contract.
//!
//! The pool itself knows nothing of who may touch what. Its contract is the lane's protocol:
//!
//! * A slot is written by the sender alone, while its block is the sender's open block and the slot is not
//!   yet published.
//! * A slot is read, and handed out mutably, by the receiver alone, after it has seen it published
//!   (acquire) and before it has given the block back.
//! * A block is given back by the count of finished messages (release), which the sender reads (acquire) before it
//!   uses the block again.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::collections::TryReserveError;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Messages in a block.
pub(crate) const BLOCK: usize = 256;

/// The slots of a block, aligned to pairs of cache lines, which processors prefetch together.
#[repr(C, align(128))]
struct Slots<M>([UnsafeCell<MaybeUninit<M>>; BLOCK]);

/// `blocks × BLOCK` message slots, and for each slot how many messages of its symbol were missed before it.
pub(crate) struct Pool<M> {
    slots: Box<[Slots<M>]>,
    /// All zero but where a hole was noted. Zeroed memory comes untouched from the system, so a lane
    /// without holes pays nothing for it.
    missed: Box<[AtomicU32]>,
    /// Whether a block has any note.
    noted: Box<[AtomicBool]>,
}

// SAFETY: the slots are the only part that is not `Sync` by itself. The protocol above gives each slot
// one user at a time, and handing it over is ordered by `published` and `finished`. What moves
// between threads is `M`, which is `Send`.
unsafe impl<M: Send> Sync for Pool<M> {}

impl<M: Copy> Pool<M> {
    /// A pool of this many blocks, none of whose memory has been touched.
    ///
    /// # Errors
    /// When the system has no such memory.
    pub(crate) fn new(blocks: usize) -> Result<Self, TryReserveError> {
        const { assert!(size_of::<M>() > 0, "a message has a size") };
        let mut slots: Vec<Slots<M>> = Vec::new();
        slots.try_reserve_exact(blocks)?;
        // SAFETY: the capacity is there, and an `UnsafeCell<MaybeUninit<M>>` needs no initialisation.
        unsafe { slots.set_len(blocks) };
        let slots = slots.into_boxed_slice();
        let missed = Box::<[AtomicU32]>::new_zeroed_slice(blocks * BLOCK);
        // SAFETY: zero is a valid `AtomicU32`.
        let missed = unsafe { missed.assume_init() };
        let noted = (0..blocks).map(|_| AtomicBool::new(false)).collect();
        Ok(Self { slots, missed, noted })
    }

    /// Bytes that a block takes.
    pub(crate) const BLOCK_BYTES: usize =
        size_of::<Slots<M>>() + BLOCK * size_of::<AtomicU32>() + size_of::<AtomicBool>();

    /// Number of blocks.
    pub(crate) fn blocks(&self) -> usize {
        self.noted.len()
    }

    /// Touches every page of the pool, so that the first overload does not fault them in.
    pub(crate) fn prefault(&mut self) {
        const PAGE: usize = 4096;
        let slots: &mut [Slots<M>] = &mut self.slots;
        let bytes = slots.as_mut_ptr().cast::<u8>();
        for offset in (0..size_of_val(slots)).step_by(PAGE) {
            // SAFETY: the byte is within the slots, which `&mut self` gives to us alone and which may hold any bytes. Volatile,
            // since nobody reads it.
            unsafe { bytes.add(offset).write_volatile(0) };
        }
        for note in self.missed.iter_mut().step_by(PAGE / size_of::<AtomicU32>()) {
            // A plain store of zero to zeroed memory could be left out.
            note.store(std::hint::black_box(0), Ordering::Relaxed);
        }
    }

    /// A slot, counted over all blocks.
    #[inline(always)]
    fn slot(&self, slot: usize) -> *mut M {
        debug_assert!(slot < self.blocks() * BLOCK);
        // `Slots` has no padding, since `BLOCK` is a multiple of its alignment.
        const { assert!(size_of::<Slots<M>>() == BLOCK * size_of::<M>()) };
        let slots = self.slots.as_ptr().cast::<UnsafeCell<MaybeUninit<M>>>();
        // SAFETY: callers pass the number of a slot that there is.
        UnsafeCell::raw_get(unsafe { slots.add(slot) }).cast()
    }

    /// Has the processor fetch a slot for writing, for a write some time from now. A hint, for any number.
    #[inline(always)]
    pub(crate) fn prefetch(&self, slot: usize) {
        let address = self.slots.as_ptr().cast::<M>().wrapping_add(slot);
        // SAFETY: a hint, which neither faults nor changes memory, whatever the address.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            std::arch::asm!("prefetchw [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = address;
    }

    /// Writes a message into a slot.
    ///
    /// # Safety
    /// The caller is the sender, and this slot is one of its open block, and not published.
    #[inline(always)]
    pub(crate) unsafe fn write(&self, slot: usize, message: M) {
        // SAFETY: by the contract the slot is there, and nobody else uses it.
        unsafe { self.slot(slot).write(message) };
    }

    /// The messages in `count` slots from this one on.
    ///
    /// # Safety
    /// The caller is the receiver, has seen these slots published, has not given their block back, and holds no
    /// other reference to them. They are all of one block.
    #[inline]
    #[allow(clippy::mut_from_ref, reason = "the protocol gives the receiver exclusive use of published slots")]
    pub(crate) unsafe fn read(&self, slot: usize, count: usize) -> &mut [M] {
        debug_assert!(slot % BLOCK + count <= BLOCK);
        // SAFETY: the slots are there and initialised, since published, and by the contract the receiver is their only user.
        unsafe { std::slice::from_raw_parts_mut(self.slot(slot), count) }
    }

    /// Notes that `missed` messages are missing before the one in this slot. Sender, before publishing it.
    ///
    /// Relaxed is enough: the receiver looks at the notes of published slots only, and publishing orders
    /// these stores before its look.
    pub(crate) fn note(&self, slot: usize, missed: u32) {
        self.missed[slot].store(missed, Ordering::Relaxed);
        self.noted[slot / BLOCK].store(true, Ordering::Relaxed);
    }

    /// The notes of a block's slots, if it has any. Receiver; meaningful for published slots only.
    #[inline]
    pub(crate) fn notes(&self, block: u32) -> Option<&[AtomicU32]> {
        let noted = self.noted[block as usize].load(Ordering::Relaxed);
        noted.then(|| &self.missed[block as usize * BLOCK..][..BLOCK])
    }

    /// Wipes a block's notes. Receiver, just before it gives the block back.
    #[inline]
    pub(crate) fn wipe_notes(&self, block: u32) {
        if let Some(notes) = self.notes(block) {
            notes.iter().for_each(|note| note.store(0, Ordering::Relaxed));
            self.noted[block as usize].store(false, Ordering::Relaxed);
        }
    }
}
