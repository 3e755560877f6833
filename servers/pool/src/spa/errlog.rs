//! The error log: blocks of which no copy was good, as they were met and as the pool remembers them.

use alloc::collections::BTreeSet;
use alloc::format;

use super::Spa;
use crate::dnode::ObjectType;
use crate::error::{Bookmark, Error};
use crate::zap::{ZapValue, entries_or_none, update};

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
        let by_head = self
            .feature_counts()
            .await?
            .get(HEAD_ERRLOG)
            .is_some_and(|count| *count > 0);
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
        for lost in self.zio().take_new_losses() {
            let object = match self.directory(LOGS[0]).filter(|&object| object != 0) {
                Some(object) => object,
                None => {
                    let object =
                        update::create(self.mos(), ObjectType::ERROR_LOG, self.open_txg()).await?;
                    self.set_directory(LOGS[0], object).await?;
                    object
                }
            };
            let key = format!(
                "{:x}:{:x}:{:x}:{:x}",
                lost.objset, lost.object, lost.level, lost.block
            );
            // The value has room for a name, which nobody fills in.
            let value = ZapValue {
                integer_size: 1,
                bytes: [0].into(),
            };
            update::set(self.mos(), object, key.as_bytes(), &value).await?;
        }
        Ok(())
    }
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
