//! Znodes: the attributes of a file, from system attributes or the older fixed structure.

use alloc::vec::Vec;

use super::Zpl;
use crate::dmu::Dnode;
use crate::dnode::ObjectType;
use crate::error::{Error, Structure};
use crate::layout::Fields;
use crate::sa::SaAttributes;

const CORRUPT: Error = Error::Corrupt(Structure::Znode);

/// Size of the fixed structure; the target of a short symbolic link follows it.
const LEGACY_SIZE: usize = 264;

/// The type of a file, from its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileType {
    /// A named pipe.
    Fifo,
    /// A character device.
    Character,
    /// A directory.
    Directory,
    /// A block device.
    Block,
    /// A regular file.
    Regular,
    /// A symbolic link.
    Symlink,
    /// A socket.
    Socket,
    /// None that is known.
    Unknown,
}

impl FileType {
    /// The type in the upper bits of a mode.
    pub fn from_mode(mode: u64) -> Self {
        match mode >> 12 & 0xf {
            1 => FileType::Fifo,
            2 => FileType::Character,
            4 => FileType::Directory,
            6 => FileType::Block,
            8 => FileType::Regular,
            10 => FileType::Symlink,
            12 => FileType::Socket,
            _ => FileType::Unknown,
        }
    }

    /// The letter that `find -printf %y` and `ls -l` (with `-` for `f`) use.
    pub fn letter(self) -> char {
        match self {
            FileType::Fifo => 'p',
            FileType::Character => 'c',
            FileType::Directory => 'd',
            FileType::Block => 'b',
            FileType::Regular => 'f',
            FileType::Symlink => 'l',
            FileType::Socket => 's',
            FileType::Unknown => '?',
        }
    }
}

/// The attributes of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Znode {
    /// Its object.
    pub object: u64,
    /// Its type.
    pub file_type: FileType,
    /// POSIX mode with the type.
    pub mode: u64,
    /// Bytes; for a directory, its entries and two.
    pub size: u64,
    /// Directory entries that name it.
    pub links: u64,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Object of the directory it was made in.
    pub parent: u64,
    /// Transaction group it was made in.
    pub generation: u64,
    /// Bits of the format, among them the file flags.
    pub flags: u64,
    /// Device number of device files.
    pub rdev: u64,
    /// Project, when it has one.
    pub project: Option<u64>,
    /// Seconds and nanoseconds of the last access.
    pub atime: [u64; 2],
    /// Of the last change of data.
    pub mtime: [u64; 2],
    /// Of the last change of attributes.
    pub ctime: [u64; 2],
    /// Of its creation.
    pub crtime: [u64; 2],
    /// Object of the directory of extended attributes, or 0.
    pub xattr_dir: u64,
    /// Extended attributes as a packed list.
    pub xattr_list: Option<Vec<u8>>,
    /// Access control entries as stored.
    pub acl: Option<Vec<u8>>,
    /// Target of a symbolic link, when it is among the attributes.
    pub symlink: Option<Vec<u8>>,
}

/// `flags`: the file is an extended attribute, or the directory of them.
const FLAG_EXTENDED_ATTRIBUTE: u64 = 0x1;

impl Znode {
    /// Whether it is part of another file's extended attributes.
    pub fn is_attribute(&self) -> bool {
        self.flags & FLAG_EXTENDED_ATTRIBUTE != 0
    }
}

impl Zpl {
    /// The attributes of the file in an object.
    pub async fn znode(&self, object: u64) -> Result<Znode, Error> {
        let dnode = self.objset.dnode(object).await?;
        if dnode.phys.bonus_type == ObjectType::ZNODE {
            return legacy(&dnode);
        }
        let registry = self.registry.borrow().clone().ok_or(CORRUPT)?;
        let attributes = match registry.attributes(&self.objset, &dnode).await {
            // A layout that is not known may be new.
            Err(Error::Corrupt(Structure::SystemAttributes)) => {
                let registry = self.reload_registry().await?;
                registry.attributes(&self.objset, &dnode).await?
            }
            other => other?,
        };
        from_attributes(object, &attributes)
    }
}

fn from_attributes(object: u64, attributes: &SaAttributes) -> Result<Znode, Error> {
    let optional = |name: &str| attributes.get(name).and_then(|bytes| bytes.u64_at(0));
    let mode = attributes.u64("ZPL_MODE")?;
    Ok(Znode {
        object,
        file_type: FileType::from_mode(mode),
        mode,
        size: attributes.u64("ZPL_SIZE")?,
        links: attributes.u64("ZPL_LINKS")?,
        uid: attributes.u64("ZPL_UID")?,
        gid: attributes.u64("ZPL_GID")?,
        parent: attributes.u64("ZPL_PARENT")?,
        generation: attributes.u64("ZPL_GEN")?,
        flags: attributes.u64("ZPL_FLAGS")?,
        rdev: optional("ZPL_RDEV").unwrap_or(0),
        project: optional("ZPL_PROJID"),
        atime: attributes.time("ZPL_ATIME")?,
        mtime: attributes.time("ZPL_MTIME")?,
        ctime: attributes.time("ZPL_CTIME")?,
        crtime: attributes.time("ZPL_CRTIME")?,
        xattr_dir: optional("ZPL_XATTR").unwrap_or(0),
        xattr_list: attributes.get("ZPL_DXATTR").map(Vec::from),
        acl: attributes.get("ZPL_DACL_ACES").map(Vec::from),
        symlink: attributes.get("ZPL_SYMLINK").map(Vec::from),
    })
}

fn legacy(dnode: &Dnode) -> Result<Znode, Error> {
    let bonus = &dnode.phys.bonus;
    let word = |index: usize| bonus.u64_at(8 * index).ok_or(CORRUPT);
    let time = |index: usize| Ok::<_, Error>([word(index)?, word(index + 1)?]);
    let (mode, size) = (word(9)?, word(10)?);
    let file_type = FileType::from_mode(mode);
    let inline = usize::try_from(size)
        .ok()
        .and_then(|size| bonus.bytes_at(LEGACY_SIZE, size));
    Ok(Znode {
        object: dnode.number,
        file_type,
        mode,
        size,
        parent: word(11)?,
        links: word(12)?,
        xattr_dir: word(13)?,
        rdev: word(14)?,
        flags: word(15)?,
        uid: word(16)?,
        gid: word(17)?,
        generation: word(8)?,
        project: None,
        atime: time(0)?,
        mtime: time(2)?,
        ctime: time(4)?,
        crtime: time(6)?,
        xattr_list: None,
        acl: bonus.bytes_at(8 * 22, 88).map(Vec::from),
        symlink: inline
            .filter(|_| file_type == FileType::Symlink && size > 0)
            .map(Vec::from),
    })
}
