//! Volumes: a block device in an object.

use alloc::vec::Vec;

use crate::dmu::{Dnode, Objset, ObjsetType};
use crate::error::{Error, Structure};
use crate::zap::Zap;

/// The object with the data.
const DATA_OBJECT: u64 = 1;
/// The object with the properties.
const PROPERTIES_OBJECT: u64 = 2;

/// An open volume.
pub struct Zvol {
    objset: Objset,
    size: u64,
    data: Dnode,
}

impl Zvol {
    /// Opens the volume in an object set.
    pub async fn open(objset: Objset) -> Result<Zvol, Error> {
        if objset.kind() != ObjsetType::Volume {
            return Err(Error::InvalidArgument);
        }
        let size = Zap::open(&objset, PROPERTIES_OBJECT)
            .await?
            .lookup_u64("size")
            .await;
        let size = size.map_err(|error| match error {
            Error::NotFound => Error::Corrupt(Structure::Volume),
            other => other,
        })?;
        let data = objset.dnode(DATA_OBJECT).await?;
        Ok(Zvol { objset, size, data })
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of a block: `volblocksize`.
    pub fn block_size(&self) -> usize {
        self.data.phys.block_size
    }

    /// The objects.
    pub fn objset(&self) -> &Objset {
        &self.objset
    }

    /// Reads a range.
    ///
    /// # Errors
    /// `OutOfRange` when it ends beyond the volume.
    pub async fn read(&self, offset: u64, size: usize) -> Result<Vec<u8>, Error> {
        match offset.checked_add(size as u64) {
            Some(end) if end <= self.size => self.objset.read_vec(&self.data, offset, size).await,
            _ => Err(Error::OutOfRange),
        }
    }
}
