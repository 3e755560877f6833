//! Extended attributes: a packed list among the system attributes, or files in a hidden directory.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::new::{NewFile, Owner, Placement, Role};
use super::{FileType, Zpl};
use crate::dmu::AttributePlace;
use crate::error::{Error, Structure, Unsupported};
use crate::nvlist::{Nvlist, Value};
use crate::zil::Change;

/// Largest attribute in a hidden directory that is read; Linux allows 64 KiB, illumos whole files.
const MAX_VALUE: u64 = 16 << 20;
/// Largest value in the packed list, and largest list; OpenZFS has the same limits.
const MAX_LISTED: usize = 32 << 10;
const MAX_LIST: usize = 64 << 10;
/// Longest name that Linux takes.
const MAX_NAME: usize = 255;

/// One extended attribute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExtendedAttribute {
    /// Its name with the namespace, such as `user.mime_type`.
    pub name: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

impl Zpl {
    /// The extended attributes of a file, in the order of their names.
    pub async fn xattrs(&self, object: u64) -> Result<Vec<ExtendedAttribute>, Error> {
        let znode = self.znode(object).await?;
        let mut all = Vec::new();
        if let Some(packed) = &znode.xattr_list {
            for (name, value) in Nvlist::decode(packed)?.iter() {
                let Value::ByteArray(value) = value else {
                    return Err(Error::Corrupt(Structure::Znode));
                };
                all.push(ExtendedAttribute {
                    name: name.as_bytes().into(),
                    value: value.clone(),
                });
            }
        }
        if znode.xattr_dir != 0 {
            for entry in self.readdir(znode.xattr_dir).await? {
                let size = self.znode(entry.object).await?.size;
                if size > MAX_VALUE {
                    return Err(Error::Corrupt(Structure::Znode));
                }
                let value = self.read(entry.object, 0, size as usize).await?;
                all.push(ExtendedAttribute {
                    name: entry.name,
                    value,
                });
            }
        }
        all.sort();
        Ok(all)
    }

    /// Sets an extended attribute, or removes it when there is no value. Small ones go into the packed list, large ones
    /// into a file of the hidden directory.
    ///
    /// # Errors
    /// `NotFound` when one is to be removed that is not there.
    pub async fn set_xattr(
        &self,
        object: u64,
        name: &[u8],
        value: Option<&[u8]>,
        txg: u64,
        now: [u64; 2],
    ) -> Result<(), Error> {
        if name.is_empty() || name.len() > MAX_NAME || name.contains(&0) {
            return Err(Error::InvalidName);
        }
        self.check_changeable()?;
        let place = self.objset.settings().attributes;
        if place == AttributePlace::None {
            return Err(Error::Unsupported(Unsupported::ExtendedAttributes));
        }
        let in_directory = self.attribute_file(object, name).await?;
        if let Some(file) = in_directory {
            return match value {
                Some(value) => self.overwrite(file, value, now).await,
                None => self.remove_attribute_file(object, name, now).await,
            };
        }
        if place == AttributePlace::Directory
            && let Some(value) = value
            && !self.has_listed_xattr(object, name).await?
        {
            return self.add_attribute_file(object, name, value, txg, now).await;
        }
        match self.set_listed_xattr(object, name, value, now).await {
            Err(Error::OutOfRange) => {
                self.add_attribute_file(object, name, value.unwrap_or_default(), txg, now)
                    .await
            }
            other => other,
        }
    }

    /// The file of the hidden directory that is this attribute.
    async fn attribute_file(&self, object: u64, name: &[u8]) -> Result<Option<u64>, Error> {
        let directory = self.znode(object).await?.xattr_dir;
        if directory == 0 {
            return Ok(None);
        }
        match self.lookup(directory, name).await {
            Ok(entry) => Ok(Some(entry.object)),
            Err(Error::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn has_listed_xattr(&self, object: u64, name: &[u8]) -> Result<bool, Error> {
        let Some(packed) = self.znode(object).await?.xattr_list else {
            return Ok(false);
        };
        let text = String::from_utf8(name.into()).map_err(|_| Error::InvalidName)?;
        Ok(Nvlist::decode(&packed)?.get(&text).is_some())
    }

    /// Sets or removes an attribute of the packed list; `OutOfRange` when it is too large for it.
    pub(super) async fn set_listed_xattr(
        &self,
        object: u64,
        name: &[u8],
        value: Option<&[u8]>,
        now: [u64; 2],
    ) -> Result<(), Error> {
        let text = String::from_utf8(name.into()).map_err(|_| Error::InvalidName)?;
        let mut list = match &self.znode(object).await?.xattr_list {
            Some(packed) => Nvlist::decode(packed)?,
            None => Nvlist::new(),
        };
        match value {
            Some(value) if value.len() > MAX_LISTED => return Err(Error::OutOfRange),
            Some(value) => list.set(&text, Value::ByteArray(value.into())),
            None => drop(list.remove(&text).ok_or(Error::NotFound)?),
        }
        let packed = list.encode();
        if packed.len() > MAX_LIST {
            return Err(Error::OutOfRange);
        }
        let time = super::new::words(&now);
        self.store_attributes(
            object,
            vec![("ZPL_DXATTR", Some(packed)), ("ZPL_CTIME", Some(time))],
        )
        .await?;
        self.objset.log(Change::ExtendedAttribute {
            object,
            name: name.into(),
            value: value.unwrap_or_default().into(),
        });
        Ok(())
    }

    async fn overwrite(&self, file: u64, value: &[u8], now: [u64; 2]) -> Result<(), Error> {
        self.truncate(file, value.len() as u64, now).await?;
        self.write(file, 0, value, now).await
    }

    async fn remove_attribute_file(
        &self,
        object: u64,
        name: &[u8],
        now: [u64; 2],
    ) -> Result<(), Error> {
        let directory = self.znode(object).await?.xattr_dir;
        self.unlink(directory, name, now).await
    }

    async fn add_attribute_file(
        &self,
        object: u64,
        name: &[u8],
        value: &[u8],
        txg: u64,
        now: [u64; 2],
    ) -> Result<(), Error> {
        let znode = self.znode(object).await?;
        let new = NewFile {
            file_type: FileType::Regular,
            mode: 0o644,
            owner: Owner {
                uid: znode.uid,
                gid: znode.gid,
            },
            now,
            rdev: 0,
            salt: object.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ now[1],
        };
        let mut directory = znode.xattr_dir;
        if directory == 0 {
            let placement = Placement {
                object: None,
                parent: Some(object),
                txg,
                role: Role::ExtendedAttribute,
            };
            directory = self.place_attribute_directory(&new, placement).await?;
            // The log has no record for it from here on; a transaction group stands in.
            self.objset.log_needs_group();
        }
        if znode.xattr_list.is_some() {
            // An older, smaller value must not hide the new one.
            match self.set_listed_xattr(object, name, None, now).await {
                Ok(()) | Err(Error::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        let file = self.create(directory, name, &new, txg, &[]).await?;
        self.write(file, 0, value, now).await
    }
}
