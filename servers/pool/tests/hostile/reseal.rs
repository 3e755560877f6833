//! Changing any block of a pool so that every checksum is right again, up to the uberblock.
//!
//! The changed block goes to a new place, uncompressed; its pointer in the block above changes with it, which goes to a
//! new place too, and so on. Blocks with their checksum inside (labels, logs, gang headers) are sealed where they are.

use std::collections::BTreeMap;
use std::rc::Rc;

use pool::arc::Buffer;
use pool::blkptr::{BLKPTR_SIZE, BlockPointer, BlockShape, Dva, Gang};
use pool::checksum::{ChecksumKind, embed};
use pool::compress::Compression;
use pool::error::Bookmark;
use pool::future::block_on;
use pool::layout::Fields;
use pool::spa::Spa;
use pool::uberblock::Uberblock;
use pool::vdev::VdevKind;
use pool::vdev::label::{CONFIG_AT, CONFIG_SIZE, LABELS, RING_AT, RING_SIZE, label_offset};

use crate::device::Overlay;
use pool::block_device::BlockDevice;

pub const OBJSET: u8 = 11;
const DNODE: u8 = 10;
const PLAIN_FILE: u8 = 19;
const VOLUME: u8 = 23;
const DSL_DATASET: u8 = 16;
const DNODE_SIZE: usize = 512;
const DNODE_CORE: usize = 64;
const SPILL_FLAG: u8 = 4;
/// Where a data set's bonus has the pointer to its object set.
const DATASET_POINTER_AT: usize = 128;
/// Where an object set has the dnodes beside its own, and the first block of its log.
const ACCOUNTING_AT: [usize; 3] = [1024, 1536, 2048];
const LOG_AT: usize = 512 + 16;
/// One in so many data blocks of files and volumes: their content is nobody's structure.
const DATA_SHARE: usize = 64;

/// A block with the place of its pointer.
pub struct Site {
    pub pointer: BlockPointer,
    pub bookmark: Bookmark,
    /// The block that has the pointer, and where; `None` for the root, whose pointer is in the uberblock.
    parent: Option<(usize, usize)>,
}

/// All blocks of an open pool, parents before children.
pub fn sites(spa: &Spa) -> Vec<Site> {
    let mut all = vec![Site {
        pointer: spa.uberblock().rootbp,
        bookmark: Bookmark::root(0),
        parent: None,
    }];
    let mut data_blocks = 0;
    let mut index = 0;
    while index < all.len() {
        let Some(data) = read(spa, &all[index]) else {
            index += 1;
            continue;
        };
        for (at, bookmark) in pointers(&all[index], &data) {
            let pointer = BlockPointer::decode(&data, at).expect("the place is inside");
            if pointer.is_hole() || pointer.validate().is_err() {
                continue;
            }
            let content = matches!(pointer.object_type(), PLAIN_FILE | VOLUME);
            if content && pointer.level() == 0 {
                data_blocks += 1;
                if data_blocks % DATA_SHARE != 1 {
                    continue;
                }
            }
            let parent = Some((index, at));
            all.push(Site {
                pointer,
                bookmark,
                parent,
            });
        }
        index += 1;
    }
    all
}

pub fn read(spa: &Spa, site: &Site) -> Option<Buffer> {
    block_on(spa.zio().read(&site.pointer, site.bookmark, None)).ok()
}

/// The places of pointers in a block, with what they lead to.
fn pointers(site: &Site, data: &[u8]) -> Vec<(usize, Bookmark)> {
    let here = site.bookmark;
    let pointer = &site.pointer;
    if pointer.level() > 0 {
        let count = data.len() / BLKPTR_SIZE;
        let below = |index: usize| Bookmark {
            level: i64::from(pointer.level()) - 1,
            block: here.block * count as u64 + index as u64,
            ..here
        };
        return (0..count)
            .map(|index| (index * BLKPTR_SIZE, below(index)))
            .collect();
    }
    match pointer.object_type() {
        OBJSET => {
            let dnodes = std::iter::once(0).chain(ACCOUNTING_AT);
            let of_dnodes = dnodes.flat_map(|at| dnode_pointers(data, at, 0, here.objset));
            of_dnodes.collect()
        }
        DNODE => {
            let mut all = Vec::new();
            let mut at = 0;
            while at < data.len() {
                let object = (here.block * data.len() as u64 + at as u64) / DNODE_SIZE as u64;
                all.extend(dnode_pointers(data, at, object, here.objset));
                at += DNODE_SIZE * (1 + usize::from(data[at + 12]) * usize::from(data[at] != 0));
            }
            all
        }
        _ => Vec::new(),
    }
}

fn dnode_pointers(data: &[u8], at: usize, object: u64, objset: u64) -> Vec<(usize, Bookmark)> {
    let Some(core) = data.bytes_at(at, DNODE_CORE).filter(|core| core[0] != 0) else {
        return Vec::new();
    };
    let count = usize::from(core[3]);
    let end = at + DNODE_SIZE * (1 + usize::from(core[12]));
    let to = |level: u8, block: usize| Bookmark {
        objset,
        object,
        level: i64::from(level),
        block: block as u64,
    };
    let top = core[2].saturating_sub(1);
    let mut all: Vec<(usize, Bookmark)> = (0..count)
        .map(|index| (at + DNODE_CORE + index * BLKPTR_SIZE, to(top, index)))
        .collect();
    let bonus = at + DNODE_CORE + count * BLKPTR_SIZE;
    if core[7] & SPILL_FLAG != 0 {
        all.push((end - BLKPTR_SIZE, to(0, 0)));
    }
    if core[4] == DSL_DATASET {
        all.push((bonus + DATASET_POINTER_AT, Bookmark::root(object)));
    }
    all.retain(|(at, _)| *at + BLKPTR_SIZE <= data.len());
    all
}

/// Writes blocks of a pool with right checksums.
pub struct Sealer<'a> {
    pub spa: &'a Spa,
    pub disks: &'a [Rc<Overlay>],
    pub sites: &'a [Site],
    /// The next free place.
    vdev: u32,
    cursor: u64,
}

impl<'a> Sealer<'a> {
    pub fn new(spa: &'a Spa, disks: &'a [Rc<Overlay>], sites: &'a [Site]) -> Self {
        let tops = spa.zio().vdevs().tops();
        let plain =
            |top: &&pool::vdev::Vdev| !matches!(top.kind, VdevKind::Absent | VdevKind::Indirect(_));
        let top = tops.iter().find(plain).expect("a vdev that takes blocks");
        Sealer {
            spa,
            disks,
            sites,
            vdev: top.config.id as u32,
            // Golden pools are mostly empty towards the end; what is there is lost.
            cursor: (top.metaslab_space() / 8 * 7).next_multiple_of(1 << 20),
        }
    }

    /// Replaces the content of blocks and seals all above them.
    pub fn replace(&mut self, mut changed: BTreeMap<usize, Vec<u8>>) {
        while let Some((index, data)) = changed.pop_last() {
            let pointer = self.place(&self.sites[index].pointer, data);
            match self.sites[index].parent {
                Some((parent, at)) => {
                    let above = changed.entry(parent).or_insert_with(|| {
                        let data = read(self.spa, &self.sites[parent]);
                        data.expect("it was read before").to_vec()
                    });
                    pointer.encode(above, at);
                }
                None => self.seal_uberblock(Uberblock {
                    rootbp: pointer,
                    ..self.spa.uberblock()
                }),
            }
        }
    }

    /// Writes a block to a new place.
    fn place(&mut self, old: &BlockPointer, mut data: Vec<u8>) -> BlockPointer {
        data.resize(data.len().next_multiple_of(512), 0);
        let tree = self.spa.zio().vdevs();
        let top = tree.top(self.vdev).expect("it was there before");
        let shape = BlockShape {
            logical_size: data.len(),
            physical_size: data.len(),
            compression: Compression::Off,
            checksum: ChecksumKind::Fletcher4,
            object_type: old.object_type(),
            level: old.level(),
        };
        let mut pointer = BlockPointer::new(shape, old.birth(), old.fill());
        pointer.set_checksum(ChecksumKind::Fletcher4.compute(&[0; 32], &data));
        let allocated = top.allocated_size(data.len() as u64);
        let dva = Dva {
            vdev: self.vdev,
            offset: self.cursor,
            allocated,
            gang: Gang::No,
        };
        pointer.set_dva(0, dva);
        data.resize(data.len().next_multiple_of(1 << top.config.ashift), 0);
        block_on(top.write(tree, self.cursor, &data)).expect("a place for a changed block");
        self.cursor += allocated.next_multiple_of(64 << 10);
        pointer
    }

    /// Puts an uberblock in place of the last one, in every label.
    pub fn seal_uberblock(&self, uberblock: Uberblock) {
        let ashift = self.spa.root_vdev().children[0].ashift;
        let size = Uberblock::slot_size(ashift);
        let slot = self.spa.uberblock().txg as usize % (RING_SIZE / size);
        self.for_each_label(|disk, label| {
            let at = label + (RING_AT + slot * size) as u64;
            disk.poke(at, &uberblock.encode_slot(size, at))
                .expect("a label");
        });
    }

    /// Changes the configuration in every label alike.
    pub fn reseal_labels(&self, change: &mut dyn FnMut(&mut [u8])) {
        self.for_each_label(|disk, label| {
            let at = label + CONFIG_AT as u64;
            let mut area = vec![0; CONFIG_SIZE];
            disk.peek(at, &mut area).expect("a label");
            change(&mut area);
            embed(&mut area, [at, 0, 0, 0]);
            disk.poke(at, &area).expect("a label");
        });
    }

    fn for_each_label(&self, mut each: impl FnMut(&Overlay, u64)) {
        for disk in self.disks {
            for index in 0..LABELS {
                each(disk, label_offset(disk.length(), index).expect("labels"));
            }
        }
    }

    /// Changes a block of an intent log in its place; whether there is one in this object set.
    pub fn reseal_log(&self, site: &Site, steps: usize, change: &mut dyn FnMut(&mut [u8])) -> bool {
        let zio = self.spa.zio();
        let Some(objset) = read(self.spa, site) else {
            return false;
        };
        let Some(mut pointer) = BlockPointer::decode(&objset, LOG_AT) else {
            return false;
        };
        for _ in 0..steps {
            match block_on(zio.read_log_block(&pointer)) {
                Some(block) if !block.next.is_hole() => pointer = block.next,
                _ => break,
            }
        }
        let Some(block) = block_on(zio.read_log_block(&pointer)) else {
            return false;
        };
        let mut data = block.data[..block.records.end].to_vec();
        change(&mut data[block.records.clone()]);
        block_on(zio.write_log_block(&pointer, &block.next, data)).is_ok()
    }

    /// Changes a gang header in its place; whether the block is one.
    pub fn reseal_gang(&self, site: &Site, change: &mut dyn FnMut(&mut [u8])) -> bool {
        let gang = site.pointer.dvas().find(|dva| dva.gang == Gang::Header);
        let Some(dva) = gang else {
            return false;
        };
        let tree = self.spa.zio().vdevs();
        let top = tree.top(dva.vdev).expect("it was there before");
        let verifier = [
            u64::from(dva.vdev),
            dva.offset,
            site.pointer.physical_birth(),
            0,
        ];
        let request = pool::vdev::ReadRequest {
            offset: dva.offset,
            size: top.allocated_size(512) as usize,
            verify: &|_| true,
            prefer: 0,
            steps: 0,
            repair: pool::block_device::Access::ReadOnly,
        };
        let mut block = block_on(top.read(tree, request)).expect("a gang header");
        change(&mut block[..512 - 40]);
        embed(&mut block[..512], verifier);
        block_on(top.write(tree, dva.offset, &block)).is_ok()
    }
}
