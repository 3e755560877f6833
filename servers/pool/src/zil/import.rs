//! What import does with logs: claim all blocks, then replay all records, then give the blocks back.

use alloc::rc::Rc;
use alloc::vec::Vec;

use super::Change;
use super::chain::Chain;
use crate::blkptr::BlockPointer;
use crate::block_device::Access;
use crate::dmu::{Objset, ObjsetType};
use crate::dsl::{DatasetEntry, OpenDataset};
use crate::error::{Bookmark, Error};
use crate::spa::Spa;
use crate::zpl::Zpl;
use crate::zvol::Zvol;

/// A log that has records.
struct PendingLog {
    entry: DatasetEntry,
    objset: Objset,
    chain: Chain,
}

impl Spa {
    /// Replays the logs of all data sets. On a pool that is written, one transaction group makes that durable; otherwise the
    /// changes stay in memory, where readers see them.
    ///
    /// # Errors
    /// Those of claiming and replaying. A pool with damage that was imported to be read gives what can be read.
    pub(crate) async fn replay_logs(&self, now: u64) -> Result<(), Error> {
        let writable = self.access() == Access::ReadWrite && self.check_writable().await.is_ok();
        let logs = self.pending_logs().await?;
        let first_txg = self.open_txg();
        let mut claimed = Vec::new();
        let mut last_birth = 0;
        if writable {
            for log in &logs {
                claimed.extend(self.claim(log, first_txg).await?);
            }
            last_birth = claimed.iter().map(BlockPointer::birth).max().unwrap_or(0);
            // The first block of a chain may be from a group that was committed: it is not claimed, but goes with the rest.
            let committed = logs.iter().flat_map(|log| &log.chain.blocks);
            claimed.extend(committed.filter(|block| block.birth() < first_txg));
        }
        let any = !logs.is_empty();
        for log in logs {
            self.replay(log, first_txg, now).await?;
        }
        if !writable || !any {
            return Ok(());
        }
        for block in &claimed {
            self.zio().free(block)?;
        }
        self.sync(now).await?;
        // Groups go on from beyond those that were open when the power went.
        while self.uberblock().txg < last_birth {
            self.sync(now).await?;
        }
        // Who opens them from now on gets their properties.
        self.datasets.borrow_mut().clear();
        Ok(())
    }

    async fn pending_logs(&self) -> Result<Vec<PendingLog>, Error> {
        let mut logs = Vec::new();
        let entries = match self.list_datasets(self.name()).await {
            Ok(entries) => entries,
            Err(_) if self.access() == Access::ReadOnly => return Ok(logs),
            Err(error) => return Err(error),
        };
        for entry in entries {
            if entry.dataset.is_snapshot() || entry.dataset.phys.pointer.is_encrypted() {
                continue;
            }
            let pointer = &entry.dataset.phys.pointer;
            let opened =
                Objset::open(self.zio().clone(), entry.dataset.object, pointer, None).await;
            // A data set that does not open has no log that could be read.
            let Ok(objset) = opened else { continue };
            let chain = Chain::read(self.zio(), &objset.zil_header()).await?;
            if !chain.is_empty() {
                logs.push(PendingLog {
                    entry,
                    objset,
                    chain,
                });
            }
        }
        Ok(logs)
    }

    /// Takes the blocks of a log out of the free space; gives those that were.
    async fn claim(&self, log: &PendingLog, first_txg: u64) -> Result<Vec<BlockPointer>, Error> {
        let mut blocks = log.chain.blocks.clone();
        for record in &log.chain.records {
            if let Change::Write {
                pointer: Some(pointer),
                ..
            } = &record.change
                && !pointer.is_hole()
                && !pointer.is_embedded()
            {
                // A block that cannot be read was not written before the power went.
                let bookmark = Bookmark::log(log.objset.id(), record.sequence);
                self.zio().read_physical(pointer, bookmark).await?;
                blocks.push(*pointer);
            }
        }
        blocks.retain(|block| block.birth() >= first_txg);
        for dva in blocks.iter().flat_map(BlockPointer::dvas) {
            self.zio().allocator().claim(dva)?;
        }
        Ok(blocks)
    }

    async fn replay(&self, log: PendingLog, first_txg: u64, now: u64) -> Result<(), Error> {
        let mut records = log.chain.records;
        records.retain(|record| record.txg >= first_txg);
        let objset = Rc::new(log.objset);
        objset.intent_log().close();
        self.add_open_dataset(OpenDataset {
            objset: objset.clone(),
            dataset: log.entry.dataset.object,
            dir: log.entry.dir.object,
        });
        objset.reset_log();
        let replayed = match objset.kind() {
            ObjsetType::Filesystem => {
                Zpl::open(objset.clone())
                    .await?
                    .replay(&records, [now, 0])
                    .await
            }
            ObjsetType::Volume => Zvol::open(objset.clone()).await?.replay(&records).await,
            _ => Ok(()),
        };
        replayed?;
        objset.intent_log().open();
        Ok(())
    }
}
