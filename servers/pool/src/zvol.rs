//! Volumes: a block device in an object.

use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;

use crate::blkptr::BlockPointer;
use crate::block_device::Access;
use crate::dmu::{Dnode, NewObject, Objset, ObjsetType};
use crate::dnode::ObjectType;
use crate::error::{Bookmark, Error, Structure};
use crate::zap::{Zap, update};
use crate::zil::{Change, Record};

/// The object with the data.
const DATA_OBJECT: u64 = 1;
/// The object with the properties.
const PROPERTIES_OBJECT: u64 = 2;
/// Bytes of a block of a new volume, unless asked otherwise.
pub const DEFAULT_BLOCK_SIZE: usize = 16 << 10;
/// Bounds of a volume's blocks.
const BLOCK_SIZES: core::ops::RangeInclusive<usize> = 512..=128 << 10;

/// An open volume.
pub struct Zvol {
    objset: Rc<Objset>,
    size: u64,
    block_size: usize,
}

/// Fills an empty object set with a volume of zeros.
///
/// # Errors
/// `InvalidArgument` when the block size is no power of two from 512 bytes to 128 KiB or the size no multiple of it.
pub async fn create(objset: &Objset, size: u64, block_size: usize, salt: u64) -> Result<(), Error> {
    check_shape(size, block_size)?;
    let data = NewObject {
        object_type: ObjectType::ZVOL,
        block_size,
        bonus_type: ObjectType::NONE,
        bonus: Vec::new(),
    };
    objset.allocate_at(DATA_OBJECT, data).await?;
    let properties = NewObject {
        object_type: ObjectType::ZVOL_PROP,
        block_size: update::FIRST_SIZE,
        bonus_type: ObjectType::NONE,
        bonus: Vec::new(),
    };
    objset.allocate_at(PROPERTIES_OBJECT, properties).await?;
    update::initialize(objset, PROPERTIES_OBJECT, salt).await?;
    update::update(objset, PROPERTIES_OBJECT, b"size", size).await
}

/// Refuses sizes that no volume has.
pub(crate) fn check_shape(size: u64, block_size: usize) -> Result<(), Error> {
    let fits = block_size.is_power_of_two() && BLOCK_SIZES.contains(&block_size);
    if fits && size > 0 && size.is_multiple_of(block_size as u64) {
        Ok(())
    } else {
        Err(Error::InvalidArgument)
    }
}

/// Bytes that a volume needs when it is full: its data and the indirect blocks above.
pub(crate) fn reservation(size: u64, block_size: usize) -> u64 {
    /// Pointers in an indirect block, and bytes of two copies of one.
    const FANOUT: u64 = 1024;
    const INDIRECT: u64 = 2 * (128 << 10);
    let mut total = size;
    let mut blocks = size / block_size as u64;
    while blocks > 1 {
        blocks = blocks.div_ceil(FANOUT);
        total = total.saturating_add(blocks * INDIRECT);
    }
    total
}

impl Zvol {
    /// Opens the volume in an object set.
    pub async fn open(objset: impl Into<Rc<Objset>>) -> Result<Zvol, Error> {
        let objset: Rc<Objset> = objset.into();
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
        let block_size = objset.dnode(DATA_OBJECT).await?.phys.block_size;
        Ok(Zvol {
            objset,
            size,
            block_size,
        })
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of a block: `volblocksize`.
    pub fn block_size(&self) -> usize {
        self.block_size
    }

    /// The objects.
    pub fn objset(&self) -> &Objset {
        &self.objset
    }

    fn check(&self, offset: u64, length: u64) -> Result<u64, Error> {
        let end = offset.checked_add(length).filter(|&end| end <= self.size);
        end.ok_or(Error::OutOfRange)
    }

    async fn data(&self) -> Result<Dnode, Error> {
        self.objset.dnode(DATA_OBJECT).await
    }

    /// Reads a range.
    ///
    /// # Errors
    /// `OutOfRange` when it ends beyond the volume.
    pub async fn read(&self, offset: u64, size: usize) -> Result<Vec<u8>, Error> {
        self.check(offset, size as u64)?;
        self.objset
            .read_vec(&self.data().await?, offset, size)
            .await
    }

    /// Writes a range in memory; durable after a commit of the log or a transaction group.
    ///
    /// # Errors
    /// `OutOfRange` when it ends beyond the volume.
    pub async fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.check_changeable()?;
        self.check(offset, data.len() as u64)?;
        self.objset.write(DATA_OBJECT, offset, data).await?;
        self.objset.log(Change::Write {
            object: DATA_OBJECT,
            offset,
            length: data.len() as u64,
            pointer: None,
            data: Vec::new(),
        });
        Ok(())
    }

    /// Gives the space of a range back; it reads as zeros.
    ///
    /// # Errors
    /// `OutOfRange` when it ends beyond the volume.
    pub async fn discard(&self, offset: u64, length: u64) -> Result<(), Error> {
        self.check_changeable()?;
        let end = self.check(offset, length)?;
        if length == 0 {
            return Ok(());
        }
        self.objset.cut(DATA_OBJECT, offset, end).await?;
        self.objset.log(Change::Truncate {
            object: DATA_OBJECT,
            offset,
            length,
        });
        Ok(())
    }

    /// Changes the size: `zfs set volsize`. What is cut off is gone.
    ///
    /// # Errors
    /// `InvalidArgument` when it is no multiple of the block size.
    pub async fn resize(&mut self, size: u64) -> Result<(), Error> {
        if size == 0 || !size.is_multiple_of(self.block_size as u64) {
            return Err(Error::InvalidArgument);
        }
        if size < self.size {
            self.objset.cut(DATA_OBJECT, size, u64::MAX).await?;
        }
        update::update(&self.objset, PROPERTIES_OBJECT, b"size", size).await?;
        self.objset.log_needs_group();
        self.size = size;
        Ok(())
    }

    /// Refuses changes of a volume with `readonly=on`.
    fn check_changeable(&self) -> Result<(), Error> {
        match self.objset.settings().access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly => Err(Error::ReadOnly),
        }
    }

    /// Does again what the records of a log say.
    ///
    /// # Errors
    /// Those of the writes; records that no volume has are `Corrupt`.
    pub async fn replay(&self, records: &[Record]) -> Result<(), Error> {
        for record in records {
            match &record.change {
                Change::Write {
                    offset,
                    length,
                    pointer: Some(pointer),
                    ..
                } => self.replay_block(*offset, *length, pointer).await?,
                Change::Write { offset, data, .. } => self.write(*offset, data).await?,
                Change::Truncate { offset, length, .. } => {
                    let length = if *length == 0 {
                        self.size.saturating_sub(*offset)
                    } else {
                        *length
                    };
                    self.discard(*offset, length).await?;
                }
                Change::Nothing => {}
                _ => return Err(Error::Corrupt(Structure::IntentLog)),
            }
        }
        Ok(())
    }

    /// Writes a whole block that the log points to.
    async fn replay_block(
        &self,
        offset: u64,
        length: u64,
        pointer: &BlockPointer,
    ) -> Result<(), Error> {
        let size = pointer.logical_size() as u64;
        let aligned = if length < size {
            offset - offset % size
        } else {
            offset
        };
        if pointer.is_hole() {
            return self.write(offset, &vec![0; length as usize]).await;
        }
        let bookmark = Bookmark::log(self.objset.id(), 0);
        let data = self
            .objset
            .zio()
            .read(pointer, bookmark, self.objset.key())
            .await?;
        self.write(aligned, &data).await
    }
}
