//! The memory of a lane: a pool of blocks. With `ring`, which keeps its contract, the only module with unsafe code.
//!
//! The pool itself knows nothing of who may touch what. Its contract is the lane's protocol:
//!
//! * A slot is written by the sender alone, while its block is the sender's open block and the slot is not
//!   yet published.
//! * A slot is read, and handed out mutably, by the receiver alone, after it has seen it published
//!   (acquire) and before it has given the block back.
//! * A block that was given back reaches the sender through the queue of empty blocks, which orders
//!   the receiver's last access before the sender's next one.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::collections::TryReserveError;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Messages in a block.
pub(crate) const BLOCK: usize = 256;

/// `blocks × BLOCK` message slots, and for each slot how many messages of its symbol were missed before it.
pub(crate) struct Pool<M> {
    slots: Box<[UnsafeCell<MaybeUninit<M>>]>,
    /// All zero but where a hole was noted. Zeroed memory comes untouched from the system, so a lane
    /// without holes pays nothing for it.
    missed: Box<[AtomicU32]>,
    /// Whether a block has any note.
    noted: Box<[AtomicBool]>,
}

// SAFETY: the slots are the only part that is not `Sync` by itself. The protocol above gives each slot
// one user at a time, and handing it over is ordered by `published` and by the queues. What moves
// between threads is `M`, which is `Send`.
unsafe impl<M: Send> Sync for Pool<M> {}

impl<M: Copy> Pool<M> {
    /// A pool of this many blocks, none of whose memory has been touched.
    ///
    /// # Errors
    /// When the system has no such memory.
    pub(crate) fn new(blocks: usize) -> Result<Self, TryReserveError> {
        const { assert!(size_of::<M>() > 0, "a message has a size") };
        let mut slots: Vec<UnsafeCell<MaybeUninit<M>>> = Vec::new();
        slots.try_reserve_exact(blocks * BLOCK)?;
        // SAFETY: the capacity is there, and an `UnsafeCell<MaybeUninit<M>>` needs no initialisation.
        unsafe { slots.set_len(blocks * BLOCK) };
        let slots = slots.into_boxed_slice();
        let missed = Box::<[AtomicU32]>::new_zeroed_slice(blocks * BLOCK);
        // SAFETY: zero is a valid `AtomicU32`.
        let missed = unsafe { missed.assume_init() };
        let noted = (0..blocks).map(|_| AtomicBool::new(false)).collect();
        Ok(Self { slots, missed, noted })
    }

    /// Number of blocks.
    pub(crate) fn blocks(&self) -> usize {
        self.noted.len()
    }

    /// Touches every page of the pool, so that the first overload does not fault them in.
    pub(crate) fn prefault(&mut self) {
        const PAGE: usize = 4096;
        let slots: &mut [UnsafeCell<MaybeUninit<M>>] = &mut self.slots;
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

    /// Writes a message into a slot.
    ///
    /// # Safety
    /// The caller is the sender, `block` is its open block, and slot `offset` of it is not published.
    #[inline(always)]
    pub(crate) unsafe fn write(&self, block: u32, offset: usize, message: M) {
        debug_assert!(offset < BLOCK && (block as usize) < self.blocks());
        // SAFETY: block and offset are in range, as above; by the contract nobody else uses this slot.
        unsafe {
            let slot = self.slots.get_unchecked(block as usize * BLOCK + offset);
            (*slot.get()).write(message);
        }
    }

    /// The messages in slots `offset..offset + count` of a block.
    ///
    /// # Safety
    /// The caller is the receiver, has seen these slots published, has not given the block back, and holds no
    /// other reference to them.
    #[inline]
    #[allow(clippy::mut_from_ref, reason = "the protocol gives the receiver exclusive use of published slots")]
    pub(crate) unsafe fn read(&self, block: u32, offset: usize, count: usize) -> &mut [M] {
        debug_assert!(offset + count <= BLOCK && (block as usize) < self.blocks());
        // SAFETY: the slots are in range and initialised, since published, and by the contract the
        // receiver is their only user; `UnsafeCell<MaybeUninit<M>>` has the layout of `M`.
        unsafe {
            let first = self.slots.as_ptr().add(block as usize * BLOCK + offset);
            std::slice::from_raw_parts_mut(UnsafeCell::raw_get(first).cast::<M>(), count)
        }
    }

    /// Notes that `missed` messages are missing before the one in slot `offset`. Sender, before publishing it.
    ///
    /// Relaxed is enough: the receiver looks at the notes of published slots only, and publishing orders
    /// these stores before its look.
    pub(crate) fn note(&self, block: u32, offset: usize, missed: u32) {
        self.missed[block as usize * BLOCK + offset].store(missed, Ordering::Relaxed);
        self.noted[block as usize].store(true, Ordering::Relaxed);
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
