//! The objects of new files: which attributes they start with.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::FileType;
use crate::dmu::{NewObject, Objset};
use crate::dnode::{DnodePhys, ObjectType};
use crate::error::Error;
use crate::layout::put_u64;
use crate::sa::{Packed, SaRegistry};
use crate::zap::update;

/// Smallest block, and the unit in which a small file's block grows.
pub(super) const SECTOR: usize = 512;

/// `ZPL_FLAGS` of new files: archive, modified, and an access list that says no more than the mode.
const FLAGS: u64 = 0x408_0000_0004;
/// `ZPL_FLAGS`: the file is an extended attribute, or the directory of them.
const FLAG_EXTENDED_ATTRIBUTE: u64 = 0x1;
/// `ZPL_FLAGS`: the access list says no more than the mode.
pub(super) const FLAG_ACL_TRIVIAL: u64 = 0x4;
/// `ZPL_FLAGS`: everybody may execute.
pub(super) const FLAG_NO_EXECUTE_DENIED: u64 = 0x100;

/// Whom a file belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u64,
    /// Group.
    pub gid: u64,
}

/// What a new file is to be.
#[derive(Clone, Copy, Debug)]
pub struct NewFile {
    /// Regular file, directory, symbolic link, pipe, socket or device.
    pub file_type: FileType,
    /// Permissions, without the type.
    pub mode: u64,
    /// Its owner.
    pub owner: Owner,
    /// Seconds and nanoseconds for all its times.
    pub now: [u64; 2],
    /// Device number of device files.
    pub rdev: u64,
    /// A random number, for a directory's hash.
    pub salt: u64,
}

/// Where a new file stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placement {
    /// Its object, when a log says which.
    pub object: Option<u64>,
    /// Its directory; itself for the root.
    pub parent: Option<u64>,
    /// The transaction group that makes it.
    pub txg: u64,
    /// Whether it is a file or part of another one's extended attributes.
    pub role: Role,
}

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Itself.
    File,
    /// An extended attribute or the hidden directory of them.
    ExtendedAttribute,
}

/// Makes the object of a file. `target` is what a symbolic link says.
pub(super) async fn create_object(
    objset: &Objset,
    registry: &mut SaRegistry,
    new: &NewFile,
    placement: Placement,
    target: &[u8],
) -> Result<u64, Error> {
    let directory = new.file_type == FileType::Directory;
    let description = NewObject {
        object_type: if directory {
            ObjectType::DIRECTORY
        } else {
            ObjectType::PLAIN_FILE
        },
        block_size: SECTOR,
        bonus_type: ObjectType::SYSTEM_ATTRIBUTES,
        bonus: Vec::new(),
    };
    // The object is made first: a root directory's attributes name it as its own parent.
    let object = match placement.object {
        Some(object) => objset.allocate_at(object, description).await?,
        None => objset.allocate(description).await?,
    };
    if directory {
        update::initialize(objset, object, new.salt).await?;
    }
    let values = attributes(new, placement, object, target);
    let capacity = objset.dnode(object).await?.phys.bonus_capacity();
    let packed = registry.arrange(objset, &values, capacity).await?;
    store(objset, object, packed).await?;
    Ok(object)
}

/// Puts packed attributes into an object.
pub(super) async fn store(objset: &Objset, object: u64, packed: Packed) -> Result<(), Error> {
    let had_spill = objset.dnode(object).await?.phys.spill.is_some();
    // The bonus may grow into the place of a spill pointer that goes, and must be short before one comes.
    match packed.spill {
        Some(spill) => {
            objset.set_bonus(object, packed.bonus).await?;
            objset.set_spill(object, Some(spill.into())).await
        }
        None => {
            if had_spill {
                objset.set_spill(object, None).await?;
            }
            objset.set_bonus(object, packed.bonus).await
        }
    }
}

/// Bytes that the attributes of an object may take without a spill block.
pub(super) fn full_capacity(phys: &DnodePhys) -> usize {
    let spill = if phys.spill.is_some() {
        crate::blkptr::BLKPTR_SIZE
    } else {
        0
    };
    phys.bonus_capacity() + spill
}

/// The upper bits of a mode.
pub(super) fn type_bits(file_type: FileType) -> u64 {
    let bits = match file_type {
        FileType::Fifo => 1,
        FileType::Character => 2,
        FileType::Directory => 4,
        FileType::Block => 6,
        FileType::Regular => 8,
        FileType::Symlink => 10,
        FileType::Socket => 12,
        FileType::Unknown => 0,
    };
    bits << 12
}

/// 64-bit words as an attribute's bytes.
pub(super) fn words(words: &[u64]) -> Vec<u8> {
    let mut bytes = vec![0; 8 * words.len()];
    for (index, word) in words.iter().enumerate() {
        put_u64(&mut bytes, 8 * index, *word);
    }
    bytes
}

/// `ZPL_FLAGS` that follow from a mode.
pub(super) fn execute_flag(mode: u64) -> u64 {
    if mode & 0o111 == 0o111 {
        FLAG_NO_EXECUTE_DENIED
    } else {
        0
    }
}

/// The attributes in the order of the layouts that OpenZFS registers: the first seven stand at fixed places.
fn attributes(
    new: &NewFile,
    placement: Placement,
    object: u64,
    target: &[u8],
) -> Vec<(String, Vec<u8>)> {
    let directory = new.file_type == FileType::Directory;
    let role = match placement.role {
        Role::File => 0,
        Role::ExtendedAttribute => FLAG_EXTENDED_ATTRIBUTE,
    };
    let entries = access_list(new.mode, new.file_type);
    let count = (entries.len() / ACCESS_ENTRY) as u64;
    let mut values: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>| values.push((name.into(), bytes));
    add(
        "ZPL_MODE",
        words(&[type_bits(new.file_type) | new.mode & 0o7777]),
    );
    add(
        "ZPL_SIZE",
        words(&[if directory { 2 } else { target.len() as u64 }]),
    );
    add("ZPL_GEN", words(&[placement.txg]));
    add("ZPL_UID", words(&[new.owner.uid]));
    add("ZPL_GID", words(&[new.owner.gid]));
    add("ZPL_PARENT", words(&[placement.parent.unwrap_or(object)]));
    add("ZPL_FLAGS", words(&[FLAGS | role | execute_flag(new.mode)]));
    for name in ["ZPL_ATIME", "ZPL_MTIME", "ZPL_CTIME", "ZPL_CRTIME"] {
        add(name, words(&new.now));
    }
    add("ZPL_LINKS", words(&[if directory { 2 } else { 1 }]));
    if matches!(new.file_type, FileType::Character | FileType::Block) {
        add("ZPL_RDEV", words(&[new.rdev]));
    }
    add("ZPL_DACL_COUNT", words(&[count]));
    add("ZPL_DACL_ACES", entries);
    if new.file_type == FileType::Symlink {
        add("ZPL_SYMLINK", target.into());
    }
    values
}

/// Bytes of an access control entry for owner, group or everybody.
pub(super) const ACCESS_ENTRY: usize = 8;

/// The access list that says what a mode says: entries for owner, group and everybody.
pub(super) fn access_list(mode: u64, file_type: FileType) -> Vec<u8> {
    /// What everybody may: read attributes and list, and synchronize.
    const COMMON: u32 = 0x12_0088;
    /// What the owner may besides: change them.
    const OWNER: u32 = 0x0c_0110;
    let rights = |bits: u64| {
        let read = if bits & 4 != 0 { 0x1 } else { 0 };
        let delete_child = if file_type == FileType::Directory {
            0x40
        } else {
            0
        };
        let write = if bits & 2 != 0 { 0x6 | delete_child } else { 0 };
        let execute = if bits & 1 != 0 { 0x20 } else { 0 };
        read | write | execute
    };
    let entries: [(u16, u32); 3] = [
        (0x1000, COMMON | OWNER | rights(mode >> 6)),
        (0x2040, COMMON | rights(mode >> 3)),
        (0x4000, COMMON | rights(mode)),
    ];
    let mut list = Vec::with_capacity(entries.len() * ACCESS_ENTRY);
    for (who, mask) in entries {
        list.extend(0u16.to_le_bytes());
        list.extend(who.to_le_bytes());
        list.extend(mask.to_le_bytes());
    }
    list
}
