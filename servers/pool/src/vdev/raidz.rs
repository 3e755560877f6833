//! raidz: a block is cut into columns over the children, with parity columns in front.
//!
//! The stripe is as wide as the block needs, so there is no read-modify-write; where a column goes follows from
//! the block's offset and size alone.

use alloc::vec;
use alloc::vec::Vec;

use super::mirror::at_most_failing;
use super::raidz_math::{parities, reconstruct};
use super::{ReadFailure, ReadRequest, Vdev, VdevTree, count};
use crate::block_device::Access;
use crate::error::DeviceError;
use crate::future::join_all;

/// Offsets with this bit set swap the single parity column with the first data column, so that parity
/// is spread even when all blocks start on the same child.
const SWAP_BIT: u64 = 1 << 20;

/// One column of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Index of the child.
    pub child: usize,
    /// Byte offset in the child's data area.
    pub offset: u64,
    /// Bytes.
    pub size: usize,
}

/// Where the columns of a block are: parity first, then data in order.
pub fn columns(offset: u64, size: usize, ashift: u32, children: u64, parity: u64) -> Vec<Column> {
    let (start, sectors) = (offset >> ashift, size as u64 >> ashift);
    let first = start % children;
    let base = (start / children) << ashift;
    let full_rows = sectors / (children - parity);
    let rest = sectors % (children - parity);
    let larger = if rest == 0 { 0 } else { rest + parity };
    let count = if full_rows == 0 { larger } else { children };
    let mut columns: Vec<Column> = (0..count)
        .map(|column| {
            let at = first + column;
            let wrapped = u64::from(at >= children);
            Column {
                child: (at % children) as usize,
                offset: base + (wrapped << ashift),
                size: ((full_rows + u64::from(column < larger)) << ashift) as usize,
            }
        })
        .collect();
    if parity == 1 && offset & SWAP_BIT != 0 && columns.len() > 1 {
        let (zero, one) = (columns[0], columns[1]);
        columns[0] = Column {
            size: zero.size,
            ..one
        };
        columns[1] = Column {
            size: one.size,
            ..zero
        };
    }
    columns
}

/// Bytes that a block takes, with parity and with padding to a multiple of parity + 1 sectors.
pub fn allocated_size(physical_size: u64, ashift: u32, children: u64, parity: u64) -> u64 {
    let data = physical_size.div_ceil(1 << ashift);
    let sectors = data + parity * data.div_ceil(children - parity);
    sectors.next_multiple_of(parity + 1) << ashift
}

/// What the columns of children count for that may lack something.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stale {
    /// Nothing.
    Missing,
    /// As much as others.
    Read,
}

/// What was read of a block's columns; `None` where the child gave nothing.
struct Stripe<'a> {
    map: &'a [Column],
    parity: usize,
    stale: Stale,
    read: Vec<Option<Vec<u8>>>,
}

impl Stripe<'_> {
    /// The data columns as read, with zeros for the missing ones, and which those are.
    fn data(&self) -> (Vec<Vec<u8>>, Vec<usize>) {
        let mut missing = Vec::new();
        let columns = self.map[self.parity..]
            .iter()
            .zip(&self.read[self.parity..])
            .enumerate();
        let data = columns
            .map(|(index, (column, read))| {
                read.clone().unwrap_or_else(|| {
                    missing.push(index);
                    vec![0; column.size]
                })
            })
            .collect();
        (data, missing)
    }

    fn parities(&self) -> Vec<(usize, &[u8])> {
        let rows = self.read[..self.parity].iter().enumerate();
        rows.filter_map(|(row, read)| read.as_deref().map(|bytes| (row, bytes)))
            .collect()
    }

    /// Tries all sets of `suspects` further data columns as bad, with every choice of parity, until
    /// the result passes.
    fn search(&self, suspects: usize, verify: &dyn Fn(&[u8]) -> bool) -> Option<Vec<Vec<u8>>> {
        let (data, missing) = self.data();
        let parities = self.parities();
        let good: Vec<usize> = (0..data.len())
            .filter(|index| !missing.contains(index))
            .collect();
        let lost = missing.len() + suspects;
        for chosen in combinations(&good, suspects) {
            let bad: Vec<usize> = missing.iter().chain(&chosen).copied().collect();
            for rows in combinations(&(0..parities.len()).collect::<Vec<_>>(), lost) {
                let rows: Vec<_> = rows.iter().map(|&row| parities[row]).collect();
                let mut attempt = data.clone();
                if reconstruct(&mut attempt, &bad, &rows).is_some() && verify(&attempt.concat()) {
                    return Some(attempt);
                }
            }
        }
        None
    }
}

/// All subsets of `items` with `size` members; at most C(255, 3) of them.
fn combinations(items: &[usize], size: usize) -> Vec<Vec<usize>> {
    if size == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (index, &item) in items.iter().enumerate() {
        for mut rest in combinations(&items[index + 1..], size - 1) {
            rest.insert(0, item);
            all.push(rest);
        }
    }
    all
}

impl Vdev {
    fn column_map(&self, parity: usize, offset: u64, size: usize) -> Vec<Column> {
        columns(
            offset,
            size,
            self.config.ashift,
            self.children.len() as u64,
            parity as u64,
        )
    }

    /// Whether stale children count as missing, in the order in which that is tried.
    fn stale_tries(&self) -> &'static [Stale] {
        match self.children.iter().any(Vdev::is_stale) {
            true => &[Stale::Missing, Stale::Read],
            false => &[Stale::Read],
        }
    }

    pub(super) async fn read_raidz(
        &self,
        tree: &VdevTree,
        parity: usize,
        request: ReadRequest<'_>,
    ) -> Result<Vec<u8>, ReadFailure> {
        let mut failure = ReadFailure::WrongData;
        for stale in self.stale_tries() {
            match self.try_read_raidz(tree, parity, request, *stale).await {
                Ok(data) => return Ok(data),
                Err(reason) => failure = reason,
            }
        }
        Err(failure)
    }

    async fn try_read_raidz(
        &self,
        tree: &VdevTree,
        parity: usize,
        request: ReadRequest<'_>,
        stale: Stale,
    ) -> Result<Vec<u8>, ReadFailure> {
        let map = self.column_map(parity, request.offset, request.size);
        let mut stripe = Stripe {
            map: &map,
            parity,
            stale,
            read: vec![None; map.len()],
        };
        self.fetch_columns(tree, &mut stripe, parity..map.len())
            .await;
        let (data, missing) = stripe.data();
        if missing.is_empty() {
            let joined = data.concat();
            if (request.verify)(&joined) {
                return Ok(joined);
            }
        }
        self.fetch_columns(tree, &mut stripe, 0..parity).await;
        let available = stripe.parities().len();
        let spare = available
            .checked_sub(missing.len())
            .ok_or(ReadFailure::Device(DeviceError::Gone))?;
        for suspects in 0..=spare {
            if let Some(data) = stripe.search(suspects, request.verify) {
                self.repair_columns(tree, &stripe, &data, request.repair)
                    .await;
                return Ok(data.concat());
            }
        }
        Err(ReadFailure::WrongData)
    }

    /// Reads all columns and rewrites those that contradict the data that passes the check.
    pub(super) async fn scrub_raidz(
        &self,
        tree: &VdevTree,
        parity: usize,
        request: ReadRequest<'_>,
    ) -> Result<u64, ReadFailure> {
        let mut failure = ReadFailure::WrongData;
        for stale in self.stale_tries() {
            match self.try_scrub_raidz(tree, parity, request, *stale).await {
                Ok(repaired) => return Ok(repaired),
                Err(reason) => failure = reason,
            }
        }
        Err(failure)
    }

    async fn try_scrub_raidz(
        &self,
        tree: &VdevTree,
        parity: usize,
        request: ReadRequest<'_>,
        stale: Stale,
    ) -> Result<u64, ReadFailure> {
        let map = self.column_map(parity, request.offset, request.size);
        let mut stripe = Stripe {
            map: &map,
            parity,
            stale,
            read: vec![None; map.len()],
        };
        self.fetch_columns(tree, &mut stripe, 0..map.len()).await;
        let missing = stripe.data().1.len();
        let spare = stripe.parities().len().checked_sub(missing);
        for suspects in 0..=spare.ok_or(ReadFailure::Device(DeviceError::Gone))? {
            if let Some(data) = stripe.search(suspects, request.verify) {
                return Ok(self
                    .repair_columns(tree, &stripe, &data, request.repair)
                    .await);
            }
        }
        Err(ReadFailure::WrongData)
    }

    async fn fetch_columns(
        &self,
        tree: &VdevTree,
        stripe: &mut Stripe<'_>,
        range: core::ops::Range<usize>,
    ) {
        let any = |_: &[u8]| true;
        let reads = stripe.map[range.clone()].iter().map(|column| {
            let request = ReadRequest {
                offset: column.offset,
                size: column.size,
                verify: &any,
                prefer: 0,
                steps: 0,
                repair: Access::ReadOnly,
            };
            self.children[column.child].read(tree, request)
        });
        let results = join_all(reads.collect()).await;
        for (slot, result) in stripe.read[range].iter_mut().zip(results) {
            *slot = result.ok();
        }
        if stripe.stale == Stale::Missing {
            for (slot, column) in stripe.read.iter_mut().zip(stripe.map) {
                if self.children[column.child].is_stale() {
                    *slot = None;
                }
            }
        }
    }

    /// Counts the columns that were wrong, and rewrites them.
    async fn repair_columns(
        &self,
        tree: &VdevTree,
        stripe: &Stripe<'_>,
        data: &[Vec<u8>],
        repair: Access,
    ) -> u64 {
        let slices: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        let parities = parities(stripe.parity, &slices);
        let right = parities.into_iter().chain(data.iter().cloned());
        let mut repaired = 0;
        for ((column, read), right) in stripe.map.iter().zip(&stripe.read).zip(right) {
            let child = &self.children[column.child];
            let same = read.as_ref() == Some(&right);
            // Behind a replacement in progress there is more than was read.
            if same && !child.leaves().iter().any(|leaf| leaf.is_stale()) {
                continue;
            }
            if read.is_some() && !same {
                count(&child.statistics.checksum_errors);
            }
            if repair == Access::ReadWrite {
                // A repair that fails leaves the column bad, which the counters show.
                let written = child.write(tree, column.offset, &right).await;
                repaired += if written.is_ok() {
                    right.len() as u64
                } else {
                    0
                };
            }
        }
        repaired
    }

    pub(super) async fn write_raidz(
        &self,
        tree: &VdevTree,
        parity_count: usize,
        offset: u64,
        data: &[u8],
    ) -> Result<(), DeviceError> {
        let map = self.column_map(parity_count, offset, data.len());
        let mut rest = data;
        let mut slices = Vec::with_capacity(map.len());
        for column in &map[parity_count..] {
            let (slice, after) = rest.split_at(column.size);
            slices.push(slice);
            rest = after;
        }
        let parities = parities(parity_count, &slices);
        let contents = parities
            .iter()
            .map(Vec::as_slice)
            .chain(slices.iter().copied());
        let writes = map
            .iter()
            .zip(contents)
            .map(|(column, bytes)| self.children[column.child].write(tree, column.offset, bytes));
        at_most_failing(join_all(writes.collect()).await, parity_count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_stripe_uses_every_child_once() {
        let map = columns(0, 8 << 9, 9, 5, 1);
        assert_eq!(
            map.iter().map(|column| column.child).collect::<Vec<_>>(),
            [0, 1, 2, 3, 4]
        );
        assert!(
            map.iter()
                .all(|column| column.size == 1024 && column.offset == 0)
        );
    }

    #[test]
    fn a_small_block_takes_only_the_columns_it_needs() {
        let map = columns(4 << 9, 2 << 9, 9, 5, 1);
        let places: Vec<_> = map
            .iter()
            .map(|column| (column.child, column.offset, column.size))
            .collect();
        assert_eq!(places, [(4, 0, 512), (0, 512, 512), (1, 512, 512)]);
    }

    #[test]
    fn single_parity_is_swapped_in_every_other_mebibyte() {
        let plain = columns(0, 4 << 9, 9, 3, 1);
        let swapped = columns(SWAP_BIT * 3, 4 << 9, 9, 3, 1);
        assert_eq!(plain[0].child, 0);
        assert_eq!((swapped[0].child, swapped[1].child), (1, 0));
    }

    #[test]
    fn allocation_is_padded_to_whole_parity_groups() {
        assert_eq!(allocated_size(512, 9, 5, 1), 1024);
        assert_eq!(allocated_size(1024, 9, 5, 1), 2048);
        assert_eq!(allocated_size(131_072, 12, 3, 1), 48 << 12);
        assert_eq!(allocated_size(4096, 12, 6, 3), 4 << 12);
    }
}
