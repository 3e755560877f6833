//! The error log: blocks of which no copy was good, as they were met and as the pool remembers them.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;

use super::Spa;
use crate::dnode::ObjectType;
use crate::error::{Bookmark, Error};
use crate::zap::{Zap, ZapValue, entries_or_none, update};

/// The log of what reading met, and that of the last scrub.
const LOGS: [&str; 2] = ["errlog_last", "errlog_scrub"];
/// With this feature, errors stand below the data set that has them.
const HEAD_ERRLOG: &str = "com.delphix:head_errlog";

/// A bookmark from its words in hexadecimal.
fn parse(key: &str) -> Option<[u64; 4]> {
    let mut words = key.split(':').map(|word| u64::from_str_radix(word, 16));
    let mut next = || words.next()?.ok();
    Some([next()?, next()?, next()?, next()?])
}

impl Spa {
    /// All blocks that are known to be lost: those of the log and those met since the pool was imported.
    pub async fn lost_blocks(&self) -> Result<BTreeSet<Bookmark>, Error> {
        let mut all = self.zio().lost_blocks();
        let by_head = self.has_head_errlog().await?;
        for log in LOGS {
            for entry in entries_or_none(self.mos(), self.directory(log).unwrap_or(0)).await? {
                if !by_head {
                    all.extend(parse(&entry.text()).map(|[objset, object, level, block]| {
                        Bookmark {
                            objset,
                            object,
                            level: level as i64,
                            block,
                        }
                    }));
                    continue;
                }
                let objset = u64::from_str_radix(&entry.text(), 16).unwrap_or(0);
                for error in entries_or_none(self.mos(), entry.value.u64().unwrap_or(0)).await? {
                    // The last word is when the block was born.
                    all.extend(
                        parse(&error.text()).map(|[object, level, block, _]| Bookmark {
                            objset,
                            object,
                            level: level as i64,
                            block,
                        }),
                    );
                }
            }
        }
        Ok(all)
    }

    /// Puts the blocks that were found lost into the log.
    pub(super) async fn write_errlog(&self) -> Result<(), Error> {
        let losses = self.zio().take_new_losses();
        if losses.is_empty() {
            return Ok(());
        }
        let by_head = self.has_head_errlog().await?;
        let log = match self.directory(LOGS[0]).filter(|&object| object != 0) {
            Some(log) => log,
            None => {
                let log = self.create_errlog().await?;
                self.set_directory(LOGS[0], log).await?;
                log
            }
        };
        for lost in losses {
            // A table is made for each head, so the way to the right one is known only now.
            let (table, key) = match by_head {
                true => self.head_entry(log, &lost).await?,
                false => (log, whole_key(&lost)),
            };
            // The value has room for a name, which nobody fills in.
            let value = ZapValue {
                integer_size: 1,
                bytes: [0].into(),
            };
            update::set(self.mos(), table, key.as_bytes(), &value).await?;
        }
        Ok(())
    }

    async fn has_head_errlog(&self) -> Result<bool, Error> {
        let counts = self.feature_counts().await?;
        Ok(counts.get(HEAD_ERRLOG).is_some_and(|count| *count > 0))
    }

    async fn create_errlog(&self) -> Result<u64, Error> {
        update::create(self.mos(), ObjectType::ERROR_LOG, self.open_txg()).await
    }

    /// The table of the head that a lost block belongs to, and its key there.
    async fn head_entry(&self, log: u64, lost: &Bookmark) -> Result<(u64, String), Error> {
        let head = match lost.objset {
            0 => 0,
            objset => {
                let dir = self.dsl_dataset(objset).await?.phys.dir;
                self.dsl_dir(dir).await?.phys.head_dataset
            }
        };
        let name = format!("{head:x}");
        let known = Zap::open(self.mos(), log)
            .await?
            .lookup(name.as_bytes())
            .await?;
        let table = match known.and_then(|table| table.u64()) {
            Some(table) => table,
            None => {
                let table = self.create_errlog().await?;
                update::update(self.mos(), log, name.as_bytes(), table).await?;
                table
            }
        };
        // A block whose birth cannot be found is as old as the pool.
        let birth = self.birth_of(lost).await.unwrap_or(0);
        let (object, level, block) = (lost.object, lost.level, lost.block);
        Ok((table, format!("{object:x}:{level:x}:{block:x}:{birth:x}")))
    }

    async fn birth_of(&self, lost: &Bookmark) -> Result<u64, Error> {
        let objset = match lost.objset {
            0 => self.mos().clone(),
            objset => {
                let dataset = self.dsl_dataset(objset).await?;
                self.open_objset(&dataset, None).await?
            }
        };
        let dnode = objset.dnode(lost.object).await?;
        let level = u8::try_from(lost.level).map_err(|_| Error::InvalidArgument)?;
        if level >= dnode.phys.levels {
            return Err(Error::InvalidArgument);
        }
        let below = lost
            .block
            .checked_shl(u32::from(level) * dnode.phys.fanout_shift());
        let pointer = objset
            .stored_pointer(&dnode, below.ok_or(Error::InvalidArgument)?, level)
            .await?;
        Ok(pointer.birth())
    }
}

/// The key of a block in a log of the whole pool.
fn whole_key(lost: &Bookmark) -> String {
    format!(
        "{:x}:{:x}:{:x}:{:x}",
        lost.objset, lost.object, lost.level, lost.block
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_four_words() {
        assert_eq!(
            parse("15:a:ffffffffffffffff:0"),
            Some([0x15, 10, u64::MAX, 0])
        );
        assert_eq!(parse("15:a:b"), None);
        assert_eq!(parse("x:a:b:c"), None);
    }
}
