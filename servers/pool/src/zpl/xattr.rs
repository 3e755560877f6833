//! Extended attributes: a packed list among the system attributes, or files in a hidden directory.

use alloc::vec::Vec;

use super::Zpl;
use crate::error::{Error, Structure};
use crate::nvlist::{Nvlist, Value};

/// Largest attribute in a hidden directory that is read; Linux allows 64 KiB, illumos whole files.
const MAX_VALUE: u64 = 16 << 20;

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
}
