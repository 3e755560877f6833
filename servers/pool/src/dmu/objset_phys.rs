//! The block that an object set's pointer leads to.

use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;

use super::usage::FLAG_COMPLETE;
use crate::blkptr::BlockPointer;
use crate::dnode::{DNODE_BLOCK_SIZE, DNODE_SIZE, DnodePhys, ObjectType};
use crate::error::{Error, Structure};
use crate::layout::{Fields, put_u64};

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
    fn id(self) -> u64 {
        match self {
            ObjsetType::None => 0,
            ObjsetType::Meta => 1,
            ObjsetType::Filesystem => 2,
            ObjsetType::Volume => 3,
            ObjsetType::Other(other) => other,
        }
    }

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
    /// The whole block as it was read, for the fields that are kept as they are.
    raw: Vec<u8>,
}

/// Size of a new object set's block: with room for the accounting of users and groups.
const NEW_SIZE: usize = 2048;
/// Pointers in the object whose data are the dnodes.
const METADNODE_POINTERS: usize = 3;
/// Size of the block with room for the accounting of projects.
const PROJECT_SIZE: usize = 4096;

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
            raw: Vec::from(block),
        })
    }

    /// An object set without objects.
    pub fn new(kind: ObjsetType) -> ObjsetPhys {
        let metadnode = DnodePhys {
            object_type: ObjectType::DNODE,
            indirect_shift: 17,
            levels: 1,
            bonus_type: ObjectType::NONE,
            checksum: 0,
            compression: 0,
            flags: 0,
            slots: 1,
            block_size: DNODE_BLOCK_SIZE,
            max_block: 0,
            used: 0,
            pointers: vec![BlockPointer::HOLE; METADNODE_POINTERS],
            bonus: Vec::new(),
            spill: None,
        };
        ObjsetPhys {
            metadnode: Rc::new(metadnode),
            zil: ZilHeader::default(),
            kind,
            flags: match kind {
                ObjsetType::Filesystem => FLAG_COMPLETE,
                _ => 0,
            },
            accounting: [None, None, None],
            raw: vec![0; NEW_SIZE],
        }
    }

    /// Whether there is room for the objects that count space of users and groups.
    pub fn has_accounting(&self) -> bool {
        self.raw.len() >= ACCOUNTING_AT[1] + DNODE_SIZE
    }

    /// Lets the block have the object that counts the space of projects.
    pub fn make_room_for_projects(&mut self) {
        self.raw.resize(self.raw.len().max(PROJECT_SIZE), 0);
    }

    /// The block again, with what changed.
    pub fn encode(&self) -> Vec<u8> {
        let mut block = self.raw.clone();
        block[..DNODE_SIZE].copy_from_slice(&self.metadnode.encode());
        put_u64(&mut block, ZIL_AT, self.zil.claim_txg);
        put_u64(&mut block, ZIL_AT + 8, self.zil.replay_sequence);
        self.zil.log.encode(&mut block, ZIL_AT + 16);
        put_u64(&mut block, ZIL_AT + 144, self.zil.claim_block_sequence);
        put_u64(&mut block, ZIL_AT + 152, self.zil.flags);
        put_u64(&mut block, ZIL_AT + 160, self.zil.claim_record_sequence);
        put_u64(&mut block, KIND_AT, self.kind.id());
        put_u64(&mut block, FLAGS_AT, self.flags);
        for (dnode, at) in self.accounting.iter().zip(ACCOUNTING_AT) {
            if let (Some(dnode), Some(slot)) = (dnode, block.get_mut(at..at + DNODE_SIZE)) {
                slot.copy_from_slice(&dnode.encode());
            }
        }
        block
    }
}
