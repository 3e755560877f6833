//! Files without names that somebody still has open: they stand in the delete queue and are freed when the last one
//! closes them, or when the file system is opened again.

use alloc::format;

use super::Zpl;
use crate::error::{Error, Structure};
use crate::zap::{entries_or_none, update};

/// Entry of the master node.
const DELETE_QUEUE: &str = "DELETE_QUEUE";

impl Zpl {
    /// Keeps a file although its last name may go: somebody has it open. As many calls of [`Zpl::release`] follow.
    pub fn hold(&self, object: u64) {
        self.objset.hold(object);
    }

    /// Somebody closes a file, which is freed when it has no name and nobody else has it open.
    pub async fn release(&self, object: u64) -> Result<(), Error> {
        if self.objset.release(object) > 0 || self.znode(object).await?.links > 0 {
            return Ok(());
        }
        self.free_unlinked(object).await
    }

    /// A file lost its last name.
    pub(super) async fn file_without_name(&self, object: u64, now: [u64; 2]) -> Result<(), Error> {
        if !self.objset.is_held(object) {
            return self.free_file(object).await;
        }
        self.set_words(object, &[("ZPL_LINKS", &[0]), ("ZPL_CTIME", &now)])
            .await?;
        update::add_number(&self.objset, self.delete_queue()?, object).await
    }

    /// Frees what an earlier user of the file system had open when it ended.
    pub(crate) async fn drain_delete_queue(&self) -> Result<(), Error> {
        let Some(queue) = self.master_number(DELETE_QUEUE) else {
            return Ok(());
        };
        for entry in entries_or_none(&self.objset, queue).await? {
            let object = entry.value.u64().ok_or(Error::Corrupt(Structure::Znode))?;
            self.free_unlinked(object).await?;
        }
        Ok(())
    }

    async fn free_unlinked(&self, object: u64) -> Result<(), Error> {
        match self.free_file(object).await {
            Ok(()) | Err(Error::NotFound) => {}
            Err(error) => return Err(error),
        }
        let key = format!("{object:x}");
        match update::remove(&self.objset, self.delete_queue()?, key.as_bytes()).await {
            Err(Error::NotFound) => Ok(()),
            removed => removed,
        }
    }

    fn delete_queue(&self) -> Result<u64, Error> {
        self.master_number(DELETE_QUEUE)
            .ok_or(Error::Corrupt(Structure::Znode))
    }
}
