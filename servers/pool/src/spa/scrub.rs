//! Scrubs: every block of the pool is read in every copy, and what is bad is repaired from what is good.
//!
//! How far a scrub came stands in the MOS as OpenZFS keeps it, so that it goes on after an import, here or there. It goes
//! from data set to data set, and in each from object to object; a data set's blocks are those born since the snapshot before it.

use alloc::vec::Vec;

use super::Spa;
use super::mos::DIRECTORY_OBJECT;
use crate::blkptr::BlockPointer;
use crate::dmu::Objset;
use crate::dnode::ObjectType;
use crate::error::{Bookmark, Error};
use crate::zap::{Zap, ZapValue, entries_or_none, update};

/// Entry of the MOS directory, and its words.
const SCAN: &str = "scan";
const WORDS: usize = 24;
/// `function` of a scrub and of a resilver.
const SCRUB: u64 = 1;
const RESILVER: u64 = 2;
/// Bit of `flags`: it rests until it is asked to go on.
const FLAG_PAUSED: u64 = 2;

/// Where a scrub or resilver is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScanState {
    /// There never was one.
    #[default]
    None,
    /// It goes on, or would if it did not rest.
    Scanning,
    /// It came to its end.
    Finished,
    /// It was stopped.
    Canceled,
}

impl ScanState {
    fn from_word(word: u64) -> ScanState {
        match word {
            1 => ScanState::Scanning,
            2 => ScanState::Finished,
            3 => ScanState::Canceled,
            _ => ScanState::None,
        }
    }

    fn word(self) -> u64 {
        match self {
            ScanState::None => 0,
            ScanState::Scanning => 1,
            ScanState::Finished => 2,
            ScanState::Canceled => 3,
        }
    }
}

/// The latest scrub or resilver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// 1 for a scrub, 2 for a resilver.
    pub function: u64,
    /// Where it is in its life.
    pub state: ScanState,
    /// Table of data sets that are still to come.
    queue: u64,
    /// Blocks born later are not its business.
    max_txg: u64,
    /// Seconds since 1970.
    pub start_time: u64,
    /// The same for its end.
    pub end_time: u64,
    /// Bytes allocated when it began.
    pub to_examine: u64,
    /// Bytes examined.
    pub examined: u64,
    /// Bytes rewritten.
    pub repaired: u64,
    /// Blocks without a good copy.
    pub errors: u64,
    /// The data set it is in; 0 is the MOS.
    objset: u64,
    /// The object that comes next; 0 is the object set itself.
    object: u64,
    flags: u64,
}

impl Scan {
    fn decode(words: &[u64]) -> Option<Scan> {
        let word = |index: usize| words.get(index).copied();
        Some(Scan {
            function: word(0)?,
            state: ScanState::from_word(word(1)?),
            queue: word(2)?,
            max_txg: word(4)?,
            start_time: word(7)?,
            end_time: word(8)?,
            to_examine: word(9)?,
            examined: word(10)?,
            repaired: word(12)?,
            errors: word(13)?,
            objset: word(19)?,
            object: word(20)?,
            flags: word(23)?,
        })
    }

    fn encode(&self) -> [u64; WORDS] {
        let mut words = [0; WORDS];
        words[0] = self.function;
        words[1] = self.state.word();
        words[2] = self.queue;
        words[4] = self.max_txg;
        words[6] = self.max_txg;
        words[7] = self.start_time;
        words[8] = self.end_time;
        words[9] = self.to_examine;
        words[10] = self.examined;
        words[12] = self.repaired;
        words[13] = self.errors;
        words[19] = self.objset;
        words[20] = self.object;
        words[23] = self.flags;
        words
    }

    /// Whether it is under way, resting or not.
    pub fn is_under_way(&self) -> bool {
        self.state == ScanState::Scanning
    }

    /// Whether it rests.
    pub fn is_paused(&self) -> bool {
        self.flags & FLAG_PAUSED != 0
    }
}

impl Spa {
    /// The latest scrub or resilver; `None` when there never was one.
    pub async fn scan(&self) -> Result<Option<Scan>, Error> {
        let found = Zap::open(self.mos(), DIRECTORY_OBJECT)
            .await?
            .lookup(SCAN.as_bytes())
            .await?;
        let scan = found.and_then(|value| Scan::decode(&value.integers()));
        Ok(scan.filter(|scan| scan.state != ScanState::None))
    }

    async fn set_scan(&self, scan: &Scan) -> Result<(), Error> {
        let value = ZapValue {
            integer_size: 8,
            bytes: scan
                .encode()
                .iter()
                .flat_map(|word| word.to_be_bytes())
                .collect(),
        };
        update::set(self.mos(), DIRECTORY_OBJECT, SCAN.as_bytes(), &value).await
    }

    /// Starts a scrub, or lets a paused one go on, and commits that.
    ///
    /// # Errors
    /// `Busy` when a scrub or resilver is under way.
    pub async fn start_scrub(&self, now: u64) -> Result<(), Error> {
        self.check_writable().await?;
        match self.scan().await? {
            Some(mut scan) if scan.is_under_way() => {
                if !scan.is_paused() || scan.function != SCRUB {
                    return Err(Error::Busy);
                }
                scan.flags &= !FLAG_PAUSED;
                self.set_scan(&scan).await?;
            }
            _ => self.begin_scan(SCRUB, now).await?,
        }
        self.sync(now).await
    }

    /// Starts a resilver, in place of whatever is under way, and commits that. It reads all blocks, as a scrub does.
    pub async fn start_resilver(&self, now: u64) -> Result<(), Error> {
        self.check_writable().await?;
        if let Some(mut scan) = self.scan().await?.filter(Scan::is_under_way) {
            self.end_scan(&mut scan, ScanState::Canceled, now).await?;
        }
        self.begin_scan(RESILVER, now).await?;
        self.sync(now).await
    }

    async fn begin_scan(&self, function: u64, now: u64) -> Result<(), Error> {
        let queue = update::create(self.mos(), ObjectType::SCAN_QUEUE, self.guid()).await?;
        for entry in self.list_datasets(self.name()).await? {
            let key = alloc::format!("{:x}", entry.dataset.object);
            let since = entry.dataset.phys.previous_snapshot_txg;
            update::update(self.mos(), queue, key.as_bytes(), since).await?;
        }
        // What a pool that was just made has allocated is known by its data sets only.
        let in_use = self.root_dir().await?.phys.used_bytes;
        let scan = Scan {
            function,
            state: ScanState::Scanning,
            queue,
            max_txg: self.uberblock().txg,
            start_time: now,
            to_examine: self.allocated().await?.max(in_use),
            ..Scan::default()
        };
        self.set_scan(&scan).await
    }

    /// Lets a scrub rest, and commits that.
    ///
    /// # Errors
    /// `NotFound` when none is under way.
    pub async fn pause_scrub(&self, now: u64) -> Result<(), Error> {
        self.check_writable().await?;
        let mut scan = self.scrub_under_way().await?;
        scan.flags |= FLAG_PAUSED;
        self.set_scan(&scan).await?;
        self.sync(now).await
    }

    /// Ends a scrub before its time, and commits that.
    ///
    /// # Errors
    /// `NotFound` when none is under way.
    pub async fn stop_scrub(&self, now: u64) -> Result<(), Error> {
        self.check_writable().await?;
        let mut scan = self.scrub_under_way().await?;
        self.end_scan(&mut scan, ScanState::Canceled, now).await?;
        self.sync(now).await
    }

    async fn scrub_under_way(&self) -> Result<Scan, Error> {
        let scan = self.scan().await?;
        scan.filter(|scan| scan.is_under_way() && scan.function == SCRUB)
            .ok_or(Error::NotFound)
    }

    async fn end_scan(&self, scan: &mut Scan, state: ScanState, now: u64) -> Result<(), Error> {
        if scan.queue != 0 {
            self.mos().free_object(scan.queue).await?;
        }
        *scan = Scan {
            state,
            queue: 0,
            objset: 0,
            object: 0,
            flags: 0,
            end_time: now,
            ..*scan
        };
        self.set_scan(scan).await
    }

    /// Examines about `budget` bytes more and commits how far it came. A paused scrub stays where it is.
    ///
    /// # Errors
    /// `NotFound` when none is under way. A block without a good copy is counted, not an error.
    pub async fn scrub_some(&self, budget: u64, now: u64) -> Result<Scan, Error> {
        let scan = self.scan().await?.filter(Scan::is_under_way);
        let mut scan = scan.ok_or(Error::NotFound)?;
        if scan.is_paused() {
            return Ok(scan);
        }
        let end = scan.examined.saturating_add(budget);
        while scan.is_under_way() && scan.examined < end {
            let next = self.scrub_object(&mut scan).await?;
            match next {
                Some(object) => scan.object = object,
                None => self.next_data_set(&mut scan, now).await?,
            }
        }
        if scan.is_under_way() {
            self.set_scan(&scan).await?;
        } else if scan.errors == 0 && self.forget_missed().await? {
            self.sync_with_labels(now).await?;
            return Ok(scan);
        }
        self.sync(now).await?;
        Ok(scan)
    }

    /// Goes on to the next data set that is waiting; without one the scrub is finished.
    async fn next_data_set(&self, scan: &mut Scan, now: u64) -> Result<(), Error> {
        let waiting = entries_or_none(self.mos(), scan.queue).await?;
        let Some(first) = waiting.first() else {
            return self.end_scan(scan, ScanState::Finished, now).await;
        };
        update::remove(self.mos(), scan.queue, &first.name).await?;
        scan.objset = u64::from_str_radix(&first.text(), 16).unwrap_or(0);
        scan.object = 0;
        Ok(())
    }

    /// Examines one object; gives the number of the next.
    async fn scrub_object(&self, scan: &mut Scan) -> Result<Option<u64>, Error> {
        let (objset, since) = match scan.objset {
            0 => (self.mos().clone(), 0),
            dataset => match self.dsl_dataset(dataset).await {
                Ok(dataset) if !dataset.phys.pointer.is_hole() => {
                    let since = dataset.phys.previous_snapshot_txg;
                    match self.open_objset(&dataset, None).await {
                        Ok(objset) => (objset, since),
                        Err(error) => return self.count_failure(scan, error).map(|()| None),
                    }
                }
                // It was destroyed since.
                Ok(_) | Err(Error::NotFound) => return Ok(None),
                Err(error) => return Err(error),
            },
        };
        let blocks = match scan.object {
            0 => objset.own_blocks_since(since).await,
            object => objset.object_blocks_since(object, since).await,
        };
        match blocks {
            Ok(blocks) => self.scrub_blocks(scan, &objset, blocks).await?,
            // It was freed since.
            Err(Error::NotFound) => {}
            Err(error) => self.count_failure(scan, error)?,
        }
        match objset.next_object(scan.object).await {
            Ok(next) => Ok(next),
            Err(error) => self.count_failure(scan, error).map(|()| None),
        }
    }

    async fn scrub_blocks(
        &self,
        scan: &mut Scan,
        objset: &Objset,
        blocks: Vec<(u64, BlockPointer)>,
    ) -> Result<(), Error> {
        for (block, pointer) in blocks {
            if pointer.birth() > scan.max_txg {
                continue;
            }
            let bookmark = match pointer.object_type() {
                root if ObjectType(root) == ObjectType::OBJSET => Bookmark::root(objset.id()),
                _ => Bookmark {
                    objset: objset.id(),
                    object: scan.object,
                    level: pointer.level().into(),
                    block,
                },
            };
            scan.examined += pointer.allocated_size();
            match self.zio().scrub(&pointer, bookmark).await {
                Ok(repaired) => scan.repaired += repaired,
                Err(error) => self.count_failure(scan, error)?,
            }
        }
        Ok(())
    }

    /// A lost block does not end a scrub.
    fn count_failure(&self, scan: &mut Scan, error: Error) -> Result<(), Error> {
        match error {
            Error::Unreadable(_) | Error::Corrupt(_) => {
                scan.errors += 1;
                Ok(())
            }
            other => Err(other),
        }
    }
}
