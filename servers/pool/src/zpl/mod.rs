//! The ZPL: files, directories and links over the objects of a file system.

mod attributes;
mod create;
mod dir;
mod names;
mod new;
mod path;
mod permission;
mod replay;
mod unlinked;
mod userspace;
mod write;
mod xattr;
mod znode;

pub use create::create;
pub use dir::{DirectoryEntry, EntryKind};
pub use names::Name;
pub use new::{NewFile, Owner};
pub use permission::QuotaKind;
pub use userspace::{AccountingKind, SpaceUse};
pub use xattr::ExtendedAttribute;
pub use znode::{FileType, Znode};

use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use crate::dmu::{Objset, ObjsetType};
use crate::error::{Error, Structure, Unsupported};
use crate::sa::SaRegistry;
use crate::zap::Zap;

/// The master node: the object that leads to everything else of a file system.
const MASTER_NODE: u64 = 1;
/// The file system versions that are read; before 5, attributes are in fixed structures.
const VERSIONS: core::ops::RangeInclusive<u64> = 3..=5;

/// An open file system.
pub struct Zpl {
    objset: Rc<Objset>,
    root: u64,
    version: u64,
    /// Layouts of attributes as last read; none before version 5.
    registry: RefCell<Option<Rc<SaRegistry>>>,
    /// The entries of the master node that are numbers.
    master: Vec<(alloc::string::String, u64)>,
}

impl Zpl {
    /// Opens the file system in an object set.
    ///
    /// # Errors
    /// `Unsupported` when it is no file system or of an unknown version.
    pub async fn open(objset: impl Into<Rc<Objset>>) -> Result<Zpl, Error> {
        let objset: Rc<Objset> = objset.into();
        match objset.kind() {
            ObjsetType::Filesystem => {}
            ObjsetType::Other(kind) => {
                return Err(Error::Unsupported(Unsupported::ObjsetType(kind)));
            }
            _ => return Err(Error::InvalidArgument),
        }
        let master = Zap::open(&objset, MASTER_NODE).await?.numbers().await?;
        let number = |name: &str| {
            master
                .iter()
                .find(|(found, _)| found == name)
                .map(|(_, value)| *value)
        };
        let version = number("VERSION").ok_or(Error::Corrupt(Structure::Znode))?;
        if !VERSIONS.contains(&version) {
            return Err(Error::Unsupported(Unsupported::FilesystemVersion(version)));
        }
        let registry = match number("SA_ATTRS") {
            Some(object) => Some(SaRegistry::open(&objset, object).await?),
            None => None,
        };
        let root = number("ROOT").ok_or(Error::Corrupt(Structure::Znode))?;
        Ok(Zpl {
            objset,
            root,
            version,
            registry: RefCell::new(registry.map(Rc::new)),
            master,
        })
    }

    fn registry(&self) -> Result<Rc<SaRegistry>, Error> {
        let registry = self.registry.borrow();
        registry
            .clone()
            .ok_or(Error::Unsupported(Unsupported::OldFilesystemWrite))
    }

    fn keep_registry(&self, registry: SaRegistry) {
        self.registry.replace(Some(Rc::new(registry)));
    }

    /// Reads the layouts again: another opener may have registered some.
    async fn reload_registry(&self) -> Result<Rc<SaRegistry>, Error> {
        let master = self
            .master_number("SA_ATTRS")
            .ok_or(Error::Corrupt(Structure::Znode))?;
        self.keep_registry(SaRegistry::open(&self.objset, master).await?);
        self.registry()
    }

    /// The objects.
    pub fn objset(&self) -> &Objset {
        &self.objset
    }

    /// Object of the root directory.
    pub fn root(&self) -> u64 {
        self.root
    }

    /// Version of the file system's structures.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// A number from the master node, such as `casesensitivity`.
    pub fn master_number(&self, name: &str) -> Option<u64> {
        self.master
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| *value)
    }

    /// Reads a file from `offset`; shorter than `size` at the file's end.
    pub async fn read(&self, object: u64, offset: u64, size: usize) -> Result<Vec<u8>, Error> {
        let znode = self.znode(object).await?;
        let left = znode.size.saturating_sub(offset).min(size as u64) as usize;
        let mut buffer = vec![0; left];
        let dnode = self.objset.dnode(object).await?;
        self.objset.read(&dnode, offset, &mut buffer).await?;
        Ok(buffer)
    }

    /// Offset of the first byte at or after `from` that may be other than zero; `None` when only a hole follows.
    pub async fn next_data(&self, object: u64, from: u64) -> Result<Option<u64>, Error> {
        let dnode = self.objset.dnode(object).await?;
        self.objset.next_data(&dnode, from).await
    }

    /// Where a symbolic link points.
    pub async fn readlink(&self, object: u64) -> Result<Vec<u8>, Error> {
        let znode = self.znode(object).await?;
        if znode.file_type != FileType::Symlink {
            return Err(Error::InvalidArgument);
        }
        if let Some(target) = znode.symlink {
            return Ok(target);
        }
        // A target too long for the attributes is the object's data.
        if znode.size > MAX_LINK {
            return Err(Error::Corrupt(Structure::Znode));
        }
        self.read(object, 0, znode.size as usize).await
    }
}

/// Longest target of a symbolic link.
const MAX_LINK: u64 = 64 << 10;
