//! The block that an object set's pointer leads to.

use alloc::rc::Rc;

use crate::blkptr::BlockPointer;
use crate::dnode::{DNODE_SIZE, DnodePhys};
use crate::error::{Error, Structure};
use crate::layout::Fields;

const CORRUPT: Error = Error::Corrupt(Structure::Objset);

const ZIL_AT: usize = 512;
const KIND_AT: usize = 704;
const FLAGS_AT: usize = 712;
/// Offsets of the dnodes that count space of users, groups and projects; older blocks end before them.
const ACCOUNTING_AT: [usize; 3] = [1024, 1536, 2048];

/// What an object set is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjsetType {
    /// Nothing, as in the pool's internal data sets.
    None,
    /// The MOS.
    Meta,
    /// A file system.
    Filesystem,
    /// A volume.
    Volume,
    /// Something else, with this number.
    Other(u64),
}

impl ObjsetType {
    fn from_id(id: u64) -> Self {
        match id {
            0 => ObjsetType::None,
            1 => ObjsetType::Meta,
            2 => ObjsetType::Filesystem,
            3 => ObjsetType::Volume,
            other => ObjsetType::Other(other),
        }
    }
}

/// Where an object set's intent log is and how much of it is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZilHeader {
    /// Transaction group that claimed the chain; 0 when it was not.
    pub claim_txg: u64,
    /// Records up to this sequence were replayed.
    pub replay_sequence: u64,
    /// First block of the chain.
    pub log: BlockPointer,
    /// Last block sequence that was claimed.
    pub claim_block_sequence: u64,
    /// Bits of the format.
    pub flags: u64,
    /// Last record sequence that was claimed.
    pub claim_record_sequence: u64,
}

/// An object set's own block.
#[derive(Clone, Debug)]
pub struct ObjsetPhys {
    /// The object whose data are the dnodes.
    pub metadnode: Rc<DnodePhys>,
    /// The intent log.
    pub zil: ZilHeader,
    /// What it is for.
    pub kind: ObjsetType,
    /// Bits of the format: which accounting is complete.
    pub flags: u64,
    /// The objects that count the space of users, groups and projects.
    pub accounting: [Option<DnodePhys>; 3],
}

impl ObjsetPhys {
    /// Reads the block.
    pub fn decode(block: &[u8]) -> Result<ObjsetPhys, Error> {
        let metadnode = block.bytes_at(0, DNODE_SIZE).ok_or(CORRUPT)?;
        let word = |at: usize| block.u64_at(at).ok_or(CORRUPT);
        let zil = ZilHeader {
            claim_txg: word(ZIL_AT)?,
            replay_sequence: word(ZIL_AT + 8)?,
            log: BlockPointer::decode(block, ZIL_AT + 16).ok_or(CORRUPT)?,
            claim_block_sequence: word(ZIL_AT + 144)?,
            flags: word(ZIL_AT + 152)?,
            claim_record_sequence: word(ZIL_AT + 160)?,
        };
        let mut accounting = [None, None, None];
        for (slot, at) in accounting.iter_mut().zip(ACCOUNTING_AT) {
            if let Some(dnode) = block.bytes_at(at, DNODE_SIZE) {
                *slot = DnodePhys::decode(dnode)?;
            }
        }
        Ok(ObjsetPhys {
            metadnode: Rc::new(DnodePhys::decode(metadnode)?.ok_or(CORRUPT)?),
            zil,
            kind: ObjsetType::from_id(word(KIND_AT)?),
            flags: word(FLAGS_AT)?,
            accounting,
        })
    }
}
