//! Replaying the records of the intent log on a file system.

use alloc::vec;
use alloc::vec::Vec;

use super::names::Name;
use super::new::{NewFile, Owner, Placement, Role, create_object, words};
use super::{FileType, Zpl};
use crate::blkptr::BlockPointer;
use crate::error::{Bookmark, Error};
use crate::zil::{Change, Creation, Making, Record, Renaming};

/// Mode of the hidden directory of extended attributes.
const ATTRIBUTE_DIRECTORY_MODE: u64 = 0o777;

impl Zpl {
    /// Does again what the records say, in memory. Times that a record does not have become `now`.
    ///
    /// # Errors
    /// Those of the changes; the log was written by somebody for whom they succeeded.
    pub async fn replay(&self, records: &[Record], now: [u64; 2]) -> Result<(), Error> {
        for record in records {
            self.replay_one(&record.change, now).await?;
        }
        Ok(())
    }

    async fn replay_one(&self, change: &Change, now: [u64; 2]) -> Result<(), Error> {
        if let Some(object) = change.file()
            && matches!(self.objset.dnode(object).await, Err(Error::NotFound))
        {
            // The file was removed by a record that was committed before this one.
            return Ok(());
        }
        match change {
            Change::Create(new) => self.replay_create(new, now).await,
            Change::Remove { directory, name } => self.unlink(*directory, name, now).await,
            Change::RemoveDirectory { directory, name } => self.rmdir(*directory, name, now).await,
            Change::Link {
                directory,
                object,
                name,
            } => self.link(*object, *directory, name, now).await,
            Change::Rename {
                directories,
                names,
                renaming,
            } => {
                self.replay_rename(*directories, names, *renaming, now)
                    .await
            }
            Change::Write {
                object,
                offset,
                length,
                pointer: Some(pointer),
                ..
            } => {
                self.replay_block(*object, *offset, *length, pointer, now)
                    .await
            }
            Change::Write {
                object,
                offset,
                data,
                ..
            } => self.write(*object, *offset, data, now).await,
            Change::Truncate {
                object,
                offset,
                length: 0,
            } => self.truncate(*object, *offset, now).await,
            Change::Truncate {
                object,
                offset,
                length,
            } => self.punch_hole(*object, *offset, *length, now).await,
            Change::Attributes { object, changes } => {
                self.set_attributes(*object, changes, now).await
            }
            Change::Acl {
                object,
                count,
                entries,
            } => self.set_acl(*object, *count, entries.clone()).await,
            Change::ExtendedAttribute {
                object,
                name,
                value,
            } => {
                let value = Some(value.as_slice()).filter(|value| !value.is_empty());
                self.set_listed_xattr(*object, name, value, now).await
            }
            Change::CloneRange {
                object,
                offset,
                length,
                block_size,
                pointers,
            } => {
                let mut at = *offset;
                let end = offset.saturating_add(*length);
                for pointer in pointers {
                    let part = end.saturating_sub(at).min(*block_size);
                    self.replay_block(*object, at, part, pointer, now).await?;
                    at = at.saturating_add(*block_size);
                }
                Ok(())
            }
            Change::Nothing => Ok(()),
        }
    }

    async fn replay_create(&self, new: &Creation, now: [u64; 2]) -> Result<(), Error> {
        let file = NewFile {
            file_type: FileType::from_mode(new.mode),
            mode: new.mode & 0o7777,
            owner: Owner {
                uid: new.uid,
                gid: new.gid,
            },
            now: new.created,
            rdev: new.rdev,
            // Any salt will do that differs from table to table.
            salt: new.object.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ new.created[1],
        };
        let mut placement = Placement {
            object: Some(new.object),
            parent: Some(new.directory),
            txg: new.generation,
            role: Role::File,
        };
        if new.making == Making::AttributeDirectory {
            placement.role = Role::ExtendedAttribute;
            return self
                .place_attribute_directory(&file, placement)
                .await
                .map(drop);
        }
        self.create_placed(&new.name, &file, placement, &new.target, now)
            .await?;
        match &new.acl {
            Some((count, entries)) => self.set_acl(new.object, *count, entries.clone()).await,
            None => Ok(()),
        }
    }

    /// Makes the hidden directory of a file's extended attributes.
    pub(super) async fn place_attribute_directory(
        &self,
        new: &NewFile,
        placement: Placement,
    ) -> Result<u64, Error> {
        let file = placement.parent.ok_or(Error::InvalidArgument)?;
        let new = NewFile {
            file_type: FileType::Directory,
            mode: ATTRIBUTE_DIRECTORY_MODE,
            ..*new
        };
        let mut registry = self.registry()?.as_ref().clone();
        let object = create_object(&self.objset, &mut registry, &new, placement, &[]).await?;
        self.keep_registry(registry);
        self.store_attributes(file, vec![("ZPL_XATTR", Some(words(&[object])))])
            .await?;
        Ok(object)
    }

    async fn replay_rename(
        &self,
        directories: [u64; 2],
        names: &[Vec<u8>; 2],
        renaming: Renaming,
        now: [u64; 2],
    ) -> Result<(), Error> {
        let [from, to] = [0, 1].map(|index| Name {
            directory: directories[index],
            name: &names[index],
        });
        match renaming {
            Renaming::Exchange => return self.exchange(from, to, now).await,
            Renaming::Replace | Renaming::Whiteout => self.rename(from, to, now).await?,
        }
        if renaming == Renaming::Whiteout {
            let device = NewFile {
                file_type: FileType::Character,
                mode: 0,
                owner: Owner { uid: 0, gid: 0 },
                now,
                rdev: 0,
                salt: 1,
            };
            self.create(from.directory, from.name, &device, 0, &[])
                .await?;
        }
        Ok(())
    }

    /// Writes a block that the log points to; the record's range is inside it.
    async fn replay_block(
        &self,
        object: u64,
        offset: u64,
        length: u64,
        pointer: &BlockPointer,
        now: [u64; 2],
    ) -> Result<(), Error> {
        let size = pointer.logical_size() as u64;
        let end = offset.checked_add(length).ok_or(Error::OutOfRange)?;
        let start = if length < size {
            offset - offset % size
        } else {
            offset
        };
        let data = if pointer.is_hole() {
            vec![0; length as usize]
        } else {
            let bookmark = Bookmark::log(self.objset.id(), 0);
            Vec::clone(
                &*self
                    .objset
                    .zio()
                    .read(pointer, bookmark, self.objset.key())
                    .await?,
            )
        };
        let start = if pointer.is_hole() { offset } else { start };
        self.write_block(object, start, &data, end, now).await
    }
}
