//! The walk over the blocks of a destroyed object set, a portion at a time.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::future::Future;
use core::pin::Pin;

use super::{CORRUPT, DeadTree};
use crate::blkptr::{BLKPTR_SIZE, BlockPointer};
use crate::dmu::{OBJECTS_PER_BLOCK, ObjsetPhys, PROJECTUSED_OBJECT};
use crate::dnode::{DNODE_SIZE, DnodePhys};
use crate::error::{Bookmark, Error};
use crate::zio::Zio;

/// The object whose data are the dnodes.
const METADNODE: u64 = 0;
/// Level of the object set's own block.
const ROOT_LEVEL: i64 = -1;
/// Block number of an object's spill block.
const SPILL: u64 = u64::MAX - 1;

/// Where a block is in an object set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its object; 0 for the blocks that lead to the dnodes, and for the object set's own.
    pub object: u64,
    /// Its level; -1 for the object set's own block.
    pub level: i64,
    /// Its number among those of its level.
    pub block: u64,
}

impl Place {
    const ROOT: Place = Place {
        object: METADNODE,
        level: ROOT_LEVEL,
        block: 0,
    };

    /// First data block that it leads to, and the one after the last. `shift` is log2 of the pointers in an indirect block.
    fn span(&self, shift: u32) -> (u64, u64) {
        let scale = |block: u64| {
            let factor = 1u64.checked_shl(self.level.max(0) as u32 * shift);
            block.saturating_mul(factor.unwrap_or(u64::MAX))
        };
        (scale(self.block), scale(self.block.saturating_add(1)))
    }

    fn in_dnodes(&self) -> bool {
        self.object == METADNODE
    }

    fn counts_space(&self) -> bool {
        self.object >= PROJECTUSED_OBJECT
    }

    /// Whether everything at and below this place comes before `next` in the walk.
    fn is_before(&self, next: &Place, shift: u32) -> bool {
        if *self == Place::ROOT || *next == Place::ROOT {
            return *self != Place::ROOT;
        }
        let (_, end) = self.span(shift);
        match (self.in_dnodes(), next.in_dnodes()) {
            _ if self.object == next.object => end <= next.span(shift).0,
            (true, false) => next.counts_space() || end <= next.object / OBJECTS_PER_BLOCK,
            (false, true) => {
                !self.counts_space() && self.object / OBJECTS_PER_BLOCK < next.span(shift).1
            }
            _ => self.object < next.object,
        }
    }
}

/// What one portion of a walk found.
pub struct Portion {
    /// Blocks that nothing needs any more.
    pub blocks: Vec<BlockPointer>,
    /// Where to go on; `None` when all was found.
    pub next: Option<Place>,
}

/// Finds up to `limit` blocks of a tree, from where the last portion ended.
///
/// # Errors
/// Those of reading the blocks that lead to others; `Corrupt` when the place to go on from is not there.
pub async fn walk(zio: &Zio, tree: &DeadTree, limit: usize) -> Result<Portion, Error> {
    let mut walk = Walk {
        zio,
        since: tree.since,
        resume: tree.place,
        limit,
        found: Portion {
            blocks: Vec::new(),
            next: None,
        },
    };
    walk.root(&tree.pointer).await?;
    match walk.resume {
        Some(_) => Err(CORRUPT),
        None => Ok(walk.found),
    }
}

struct Walk<'a> {
    zio: &'a Zio,
    since: u64,
    resume: Option<Place>,
    limit: usize,
    found: Portion,
}

/// What to do at a block.
#[derive(PartialEq, Eq)]
enum Step {
    /// It and all below were freed.
    Skip,
    /// All below was freed.
    Itself,
    /// All is there.
    Whole,
}

impl Walk<'_> {
    fn step(&mut self, pointer: &BlockPointer, place: Place, shift: u32) -> Step {
        if pointer.is_hole() || pointer.birth() <= self.since || self.found.next.is_some() {
            return Step::Skip;
        }
        match self.resume {
            Some(next) if next == place => {
                self.resume = None;
                Step::Itself
            }
            Some(next) if place.is_before(&next, shift) => Step::Skip,
            _ => Step::Whole,
        }
    }

    /// All below a block was found, and so is the block, unless the portion is full.
    fn leave(&mut self, pointer: &BlockPointer, place: Place) {
        if self.found.next.is_some() {
            return;
        }
        if self.found.blocks.len() >= self.limit {
            self.found.next = Some(place);
        } else {
            self.found.blocks.push(*pointer);
        }
    }

    async fn read(&self, pointer: &BlockPointer, place: Place) -> Result<Vec<u8>, Error> {
        let bookmark = Bookmark {
            objset: u64::MAX,
            object: place.object,
            level: place.level,
            block: place.block,
        };
        Ok(Vec::clone(&*self.zio.read(pointer, bookmark, None).await?))
    }

    async fn root(&mut self, pointer: &BlockPointer) -> Result<(), Error> {
        match self.step(pointer, Place::ROOT, 0) {
            Step::Skip => return Ok(()),
            Step::Itself => {}
            Step::Whole => {
                let phys = ObjsetPhys::decode(&self.read(pointer, Place::ROOT).await?)?;
                self.object(METADNODE, &phys.metadnode).await?;
                // In the order of their numbers: projects, groups, users.
                for (index, phys) in phys.accounting.iter().enumerate().rev() {
                    if let Some(phys) = phys {
                        self.object(u64::MAX - index as u64, phys).await?;
                    }
                }
            }
        }
        self.leave(pointer, Place::ROOT);
        Ok(())
    }

    async fn object(&mut self, object: u64, phys: &DnodePhys) -> Result<(), Error> {
        let shift = phys.fanout_shift();
        let level = i64::from(phys.levels) - 1;
        for (block, pointer) in (0..).zip(&phys.pointers) {
            let place = Place {
                object,
                level,
                block,
            };
            self.visit(*pointer, place, shift).await?;
        }
        if let Some(spill) = phys.spill {
            let place = Place {
                object,
                level: 0,
                block: SPILL,
            };
            self.visit(spill, place, shift).await?;
        }
        Ok(())
    }

    fn visit<'b>(
        &'b mut self,
        pointer: BlockPointer,
        place: Place,
        shift: u32,
    ) -> Pin<Box<dyn Future<Output = Result<(), Error>> + 'b>> {
        Box::pin(async move {
            match self.step(&pointer, place, shift) {
                Step::Skip => return Ok(()),
                Step::Itself => {}
                Step::Whole => self.below(&pointer, place, shift).await?,
            }
            self.leave(&pointer, place);
            Ok(())
        })
    }

    async fn below(
        &mut self,
        pointer: &BlockPointer,
        place: Place,
        shift: u32,
    ) -> Result<(), Error> {
        if i64::from(pointer.level()) != place.level {
            return Err(CORRUPT);
        }
        if place.level > 0 {
            let data = self.read(pointer, place).await?;
            for slot in 0..data.len() / BLKPTR_SIZE {
                let child = BlockPointer::decode(&data, slot * BLKPTR_SIZE).ok_or(CORRUPT)?;
                let below = Place {
                    object: place.object,
                    level: place.level - 1,
                    block: (place.block << shift) + slot as u64,
                };
                self.visit(child, below, shift).await?;
            }
        } else if place.in_dnodes() {
            let data = self.read(pointer, place).await?;
            let mut at = 0;
            while at < data.len() {
                let object = place.block * OBJECTS_PER_BLOCK + (at / DNODE_SIZE) as u64;
                let dnode = DnodePhys::decode(&data[at..])?;
                at += dnode.as_ref().map_or(1, |dnode| usize::from(dnode.slots)) * DNODE_SIZE;
                if let Some(dnode) = dnode {
                    self.object(object, &dnode).await?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(object: u64, level: i64, block: u64) -> Place {
        Place {
            object,
            level,
            block,
        }
    }

    #[test]
    fn children_come_before_parents_and_objects_before_their_dnodes() {
        let shift = 10;
        let walk = [
            place(3, 0, 7),
            place(3, 0, 1023),
            place(3, 1, 0),
            place(3, 0, 1024),
            place(3, 0, SPILL),
            place(4, 0, 0),
            place(0, 0, 0),
            place(64, 0, 0),
            place(0, 0, 2),
            place(0, 1, 0),
            place(u64::MAX - 2, 0, 0),
            place(u64::MAX, 0, 0),
            Place::ROOT,
        ];
        for (index, next) in walk.iter().enumerate() {
            for before in &walk[..index] {
                // A parent counts as before only what comes after all of it.
                assert!(
                    before.is_before(next, shift) || next.level > before.level,
                    "{before:?} {next:?}"
                );
            }
            for after in &walk[index..] {
                assert!(!after.is_before(next, shift), "{after:?} {next:?}");
            }
        }
    }
}
