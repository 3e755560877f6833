//! The history of a pool: which commands changed it. A ring of packed lists, of which the first records are kept for ever.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::Spa;
use crate::dmu::NewObject;
use crate::dnode::ObjectType;
use crate::error::{Error, Structure};
use crate::layout::{Fields, put_u64};
use crate::nvlist::Nvlist;

const CORRUPT: Error = Error::Corrupt(Structure::Nvlist);
const BLOCK_SIZE: usize = 128 << 10;
/// Bonus: length of the records that stay, size of the ring, start, end, records lost.
const BONUS_SIZE: usize = 40;
/// The ring is a hundredth of the pool within these bounds.
const SIZES: (u64, u64) = (128 << 10, 1 << 30);
/// Largest record that is believed.
const MAX_RECORD: u64 = 1 << 20;
/// Bytes of a record's length before it.
const LENGTH_SIZE: u64 = 8;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRecord {
    /// Seconds since 1970.
    pub time: u64,
    /// The command, for records of commands.
    pub command: Option<String>,
}

/// Where records are.
struct Ring {
    kept: u64,
    size: u64,
    start: u64,
    end: u64,
    lost: u64,
}

impl Ring {
    fn decode(bonus: &[u8]) -> Result<Ring, Error> {
        let word = |index: usize| bonus.u64_at(8 * index).ok_or(CORRUPT);
        let ring = Ring {
            kept: word(0)?,
            size: word(1)?,
            start: word(2)?,
            end: word(3)?,
            lost: word(4)?,
        };
        let valid = ring.kept < ring.size && ring.kept <= ring.start && ring.start <= ring.end;
        if valid { Ok(ring) } else { Err(CORRUPT) }
    }

    fn encode(&self) -> Vec<u8> {
        let mut bonus = vec![0; BONUS_SIZE];
        for (index, word) in [self.kept, self.size, self.start, self.end, self.lost]
            .into_iter()
            .enumerate()
        {
            put_u64(&mut bonus, 8 * index, word);
        }
        bonus
    }

    /// The physical parts of a logical range.
    fn parts(&self, at: u64, length: u64) -> Vec<(u64, u64)> {
        let round = self.size - self.kept;
        let physical = |at: u64| {
            if at < self.kept {
                at
            } else {
                self.kept + (at - self.kept) % round
            }
        };
        let first = physical(at);
        let before_end = length.min(self.size - first);
        let mut parts = vec![(first, before_end)];
        if before_end < length {
            parts.push((self.kept, length - before_end));
        }
        parts
    }
}

impl Spa {
    /// All records, oldest first.
    pub async fn history(&self) -> Result<Vec<HistoryRecord>, Error> {
        let Some(object) = self.directory("history") else {
            return Ok(Vec::new());
        };
        let ring = Ring::decode(&self.mos().dnode(object).await?.phys.bonus)?;
        let mut records = Vec::new();
        for (mut at, end) in [(0, ring.kept), (ring.start, ring.end)] {
            while at < end {
                let bytes = self.read_ring(object, &ring, at, LENGTH_SIZE).await?;
                let length = bytes
                    .u64_at(0)
                    .filter(|&length| length <= MAX_RECORD)
                    .ok_or(CORRUPT)?;
                let record = Nvlist::decode(
                    &self
                        .read_ring(object, &ring, at + LENGTH_SIZE, length)
                        .await?,
                )?;
                records.push(HistoryRecord {
                    time: record.u64("history time").unwrap_or(0),
                    command: record.string("history command").map(ToString::to_string),
                });
                at += LENGTH_SIZE + length;
            }
        }
        Ok(records)
    }

    async fn read_ring(
        &self,
        object: u64,
        ring: &Ring,
        at: u64,
        length: u64,
    ) -> Result<Vec<u8>, Error> {
        let dnode = self.mos().dnode(object).await?;
        let mut all = Vec::new();
        for (offset, length) in ring.parts(at, length) {
            all.extend(self.mos().read_vec(&dnode, offset, length as usize).await?);
        }
        Ok(all)
    }

    /// Adds the record of a command; the next transaction group writes it.
    pub async fn log_history(&self, command: &str, now: u64) -> Result<(), Error> {
        let object = self.history_object().await?;
        let mut ring = Ring::decode(&self.mos().dnode(object).await?.phys.bonus)?;
        let mut record = Nvlist::new();
        record.set_u64("history time", now);
        record.set_string("history command", command);
        let packed = record.encode();
        let mut bytes = Vec::from((packed.len() as u64).to_le_bytes());
        bytes.extend(packed);
        let length = bytes.len() as u64;
        if length > MAX_RECORD.min((ring.size - ring.kept) / 2) {
            return Err(Error::InvalidArgument);
        }
        while ring.end + length - ring.start > ring.size - ring.kept {
            let oldest = self
                .read_ring(object, &ring, ring.start, LENGTH_SIZE)
                .await?;
            ring.start += LENGTH_SIZE + oldest.u64_at(0).ok_or(CORRUPT)?;
            ring.lost += 1;
        }
        let mut rest = bytes.as_slice();
        for (offset, length) in ring.parts(ring.end, length) {
            let (part, after) = rest.split_at(length as usize);
            self.mos().write(object, offset, part).await?;
            rest = after;
        }
        ring.end += length;
        if ring.kept == 0 {
            // How the pool was made stays for ever.
            (ring.kept, ring.start) = (ring.end, ring.end);
        }
        self.mos().set_bonus(object, ring.encode()).await
    }

    async fn history_object(&self) -> Result<u64, Error> {
        if let Some(object) = self.directory("history") {
            return Ok(object);
        }
        let ring = Ring {
            kept: 0,
            size: (self.data_space().await? / 100).clamp(SIZES.0, SIZES.1),
            start: 0,
            end: 0,
            lost: 0,
        };
        let new = NewObject {
            object_type: ObjectType::SPA_HISTORY,
            block_size: BLOCK_SIZE,
            bonus_type: ObjectType::SPA_HISTORY_OFFSETS,
            bonus: ring.encode(),
        };
        let object = self.mos().allocate(new).await?;
        self.set_directory("history", object).await?;
        Ok(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_at_the_end_of_the_ring_goes_on_after_what_stays() {
        let ring = Ring {
            kept: 100,
            size: 1000,
            start: 100,
            end: 100,
            lost: 0,
        };
        assert_eq!(ring.parts(50, 30), [(50, 30)]);
        assert_eq!(ring.parts(990, 30), [(990, 10), (100, 20)]);
        assert_eq!(ring.parts(1000, 30), [(100, 30)]);
    }
}
