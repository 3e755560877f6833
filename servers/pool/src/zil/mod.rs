//! The intent log (ZIL): what was changed since the last transaction group, on stable storage.
//!
//! Changes are kept in memory as they happen. Somebody who needs them durable commits the log: the records go into a chain of
//! blocks that starts in the object set's own block. A transaction group makes all records obsolete; the chain then goes on
//! from its next block. After a power cut, import takes the blocks of the chain out of the free space (claims them) and replays them.
//! Records on disk are this module's; what they mean to files and volumes is that of `zpl` and `zvol`.

mod chain;
mod commit;
mod decode;
mod encode;
mod import;
mod record;

use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

pub use record::{AttributeChanges, Change, Creation, Making, Record, Renaming};

use crate::blkptr::BlockPointer;
use crate::error::Error;
use crate::zio::Zio;

/// The log of one open object set.
#[derive(Default)]
pub struct IntentLog {
    /// Changes that no record on disk has.
    pending: RefCell<Vec<Change>>,
    /// The block that is written next; allocated, and named by what is on disk.
    next: Cell<Option<BlockPointer>>,
    /// Blocks that were written since the last transaction group.
    written: RefCell<Vec<BlockPointer>>,
    /// Number of the last record.
    sequence: Cell<u64>,
    /// Bytes of the last commit: the next is expected to be alike.
    last_size: Cell<usize>,
    state: Cell<State>,
}

/// What the log can do for its object set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Takes changes.
    #[default]
    Open,
    /// Something changed that no record says: only a transaction group makes it durable.
    NeedsGroup,
    /// Takes nothing: the log itself is being replayed, or nobody may ask for it.
    Closed,
}

impl IntentLog {
    /// A log that goes on where the chain on disk ends, which is at `next`.
    pub fn continued(next: BlockPointer) -> Self {
        IntentLog {
            next: Cell::new(Some(next).filter(|next| !next.is_hole())),
            ..IntentLog::default()
        }
    }

    /// Keeps a change for the next commit.
    pub fn record(&self, change: Change) {
        if self.state.get() == State::Open {
            self.pending.borrow_mut().push(change);
        }
    }

    /// Says that something changed for which there is no record.
    pub fn need_group(&self) {
        if self.state.get() == State::Open {
            self.state.set(State::NeedsGroup);
        }
    }

    /// Stops taking changes.
    pub fn close(&self) {
        self.state.set(State::Closed);
    }

    /// Takes changes from now on.
    pub fn open(&self) {
        self.state.set(State::Open);
    }

    /// Starts a chain at a block, or has none.
    pub fn start(&self, next: Option<BlockPointer>) {
        self.next.set(next);
    }

    /// Whether nothing waits for a commit.
    fn is_clean(&self) -> bool {
        self.pending.borrow().is_empty() && self.state.get() != State::NeedsGroup
    }

    /// Whether the next transaction group must write the object set for the log's sake.
    pub fn is_dirty(&self) -> bool {
        !self.written.borrow().is_empty()
    }

    /// A transaction group writes all that was logged: the blocks are freed, and the chain goes on from the block
    /// that is returned.
    ///
    /// # Errors
    /// `Corrupt` when a block was free already.
    pub fn retire(&self, zio: &Zio) -> Result<BlockPointer, Error> {
        self.pending.borrow_mut().clear();
        if self.state.get() == State::NeedsGroup {
            self.state.set(State::Open);
        }
        for block in self.written.borrow_mut().drain(..) {
            zio.free(&block)?;
        }
        Ok(self.next.get().unwrap_or(BlockPointer::HOLE))
    }

    /// Ends the chain: its next block is freed too. A snapshot must not have a log.
    ///
    /// # Errors
    /// As [`IntentLog::retire`].
    pub fn end(&self, zio: &Zio) -> Result<(), Error> {
        match self.next.take() {
            Some(block) => zio.free(&block),
            None => Ok(()),
        }
    }
}

impl Change {
    /// The file of a change that may come after the file's end: changes of names are logged in order, others are not.
    pub fn file(&self) -> Option<u64> {
        match self {
            Change::Write { object, .. }
            | Change::Truncate { object, .. }
            | Change::Attributes { object, .. }
            | Change::Acl { object, .. }
            | Change::ExtendedAttribute { object, .. }
            | Change::CloneRange { object, .. } => Some(*object),
            _ => None,
        }
    }
}
