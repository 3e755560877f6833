//! Changing files: create, write, truncate, link, unlink, rename, attributes.
//!
//! Everything happens in memory; the next transaction group writes it.

use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;

use super::{FileType, Zpl};
use crate::dmu::{NewObject, Objset};
use crate::dnode::ObjectType;
use crate::error::{Error, Structure};
use crate::layout::put_u64;
use crate::sa::pack::{FIRST_LAYOUT, Length, pack};
use crate::zap::update;

/// Longest name of a directory entry.
const MAX_NAME: usize = 255;
/// Largest block of a file, which is its block size once it is larger.
const RECORD_SIZE: usize = 128 << 10;
/// Smallest block, and the unit in which a small file's block grows.
const SECTOR: usize = 512;
/// Links to one file at most.
const MAX_LINKS: u64 = u32::MAX as u64;

/// `ZPL_FLAGS` of new files: archive, modified, and an access list that says no more than the mode.
const FLAGS: u64 = 0x408_0000_0004;
/// `ZPL_FLAGS`: everybody may execute.
const FLAG_NO_EXECUTE_DENIED: u64 = 0x100;

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
    /// Regular file, directory or symbolic link.
    pub file_type: FileType,
    /// Permissions, without the type.
    pub mode: u64,
    /// Its owner.
    pub owner: Owner,
    /// Seconds and nanoseconds for all its times.
    pub now: [u64; 2],
    /// A random number, for a directory's hash.
    pub salt: u64,
}

/// Makes the object of a file. `parent` is its directory, itself for the root; `target` is what a symbolic link says.
pub(super) async fn create_object(
    objset: &Objset,
    new: &NewFile,
    parent: Option<u64>,
    txg: u64,
    target: &[u8],
) -> Result<u64, Error> {
    let bonus_type = ObjectType::SYSTEM_ATTRIBUTES;
    // Room for the attributes is taken at once; they are set when the number is known.
    let object = match new.file_type {
        FileType::Directory => {
            update::create_with_bonus(
                objset,
                ObjectType::DIRECTORY,
                bonus_type,
                Vec::new(),
                new.salt,
            )
            .await?
        }
        _ => {
            let object_type = ObjectType::PLAIN_FILE;
            objset
                .allocate(NewObject {
                    object_type,
                    block_size: SECTOR,
                    bonus_type,
                    bonus: Vec::new(),
                })
                .await?
        }
    };
    let bonus = attributes(new, parent.unwrap_or(object), txg, target)?;
    objset.set_bonus(object, bonus).await?;
    Ok(object)
}

fn type_bits(file_type: FileType) -> u64 {
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

fn attributes(new: &NewFile, parent: u64, txg: u64, target: &[u8]) -> Result<Vec<u8>, Error> {
    let directory = new.file_type == FileType::Directory;
    let everybody_executes = new.mode & 0o111 == 0o111;
    let flags = FLAGS
        | if everybody_executes {
            FLAG_NO_EXECUTE_DENIED
        } else {
            0
        };
    let links = if directory { 2 } else { 1 };
    let size = if directory { 2 } else { target.len() as u64 };
    let word = |value: u64| (Vec::from(value.to_le_bytes()), Length::Fixed);
    let time = || {
        let mut bytes = vec![0; 16];
        put_u64(&mut bytes, 0, new.now[0]);
        put_u64(&mut bytes, 8, new.now[1]);
        (bytes, Length::Fixed)
    };
    let entries = access_list(new.mode, new.file_type);
    let mut values = vec![
        word(type_bits(new.file_type) | new.mode & 0o7777),
        word(size),
        word(txg),
        word(new.owner.uid),
        word(new.owner.gid),
        word(parent),
        word(flags),
        time(),
        time(),
        time(),
        time(),
        word(links),
        word((entries.len() / ACCESS_ENTRY) as u64),
        (entries, Length::Own),
    ];
    let mut layout = FIRST_LAYOUT;
    if new.file_type == FileType::Symlink {
        values.push((target.into(), Length::Own));
        layout += 1;
    }
    pack(layout, &values)
}

/// Bytes of an access control entry for owner, group or everybody.
const ACCESS_ENTRY: usize = 8;

/// The access list that says what a mode says: entries for owner, group and everybody.
fn access_list(mode: u64, file_type: FileType) -> Vec<u8> {
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

fn check_name(name: &[u8]) -> Result<(), Error> {
    match name {
        b"" | b"." | b".." => Err(Error::InvalidName),
        _ if name.contains(&b'/') || name.contains(&0) => Err(Error::InvalidName),
        _ if name.len() > MAX_NAME => Err(Error::NameTooLong),
        _ => Ok(()),
    }
}

impl Zpl {
    /// Makes a file, directory or symbolic link in a directory. `target` is what a link says.
    pub async fn create(
        &self,
        directory: u64,
        name: &[u8],
        new: &NewFile,
        txg: u64,
        target: &[u8],
    ) -> Result<u64, Error> {
        check_name(name)?;
        match self.lookup(directory, name).await {
            Err(Error::NotFound) => {}
            Ok(_) => return Err(Error::AlreadyExists),
            Err(error) => return Err(error),
        }
        let object = create_object(&self.objset, new, Some(directory), txg, target).await?;
        self.enter(directory, name, object, new.file_type).await?;
        let links = if new.file_type == FileType::Directory {
            1
        } else {
            0
        };
        self.change_directory(directory, 1, links, new.now).await?;
        Ok(object)
    }

    async fn enter(
        &self,
        directory: u64,
        name: &[u8],
        object: u64,
        file_type: FileType,
    ) -> Result<(), Error> {
        let value = object | type_bits(file_type) >> 12 << 60;
        update::update(&self.objset, directory, name, value).await
    }

    /// Changes a directory's counts of entries and of links, and its times.
    async fn change_directory(
        &self,
        directory: u64,
        entries: i64,
        links: i64,
        now: [u64; 2],
    ) -> Result<(), Error> {
        let znode = self.znode(directory).await?;
        let size = znode.size.saturating_add_signed(entries);
        let links = znode.links.saturating_add_signed(links);
        self.set_attributes(
            directory,
            &[
                ("ZPL_SIZE", &[size]),
                ("ZPL_LINKS", &[links]),
                ("ZPL_MTIME", &now),
                ("ZPL_CTIME", &now),
            ],
        )
        .await
    }

    /// Sets attributes that the file already has, in place.
    pub(super) async fn set_attributes(
        &self,
        object: u64,
        values: &[(&str, &[u64])],
    ) -> Result<(), Error> {
        let corrupt = Error::Corrupt(Structure::Znode);
        let registry = self.registry.as_ref().ok_or(corrupt)?;
        let mut bonus = self.objset.dnode(object).await?.phys.bonus.clone();
        let places = registry.places(&bonus)?;
        for (name, words) in values {
            let place = places
                .get(*name)
                .filter(|place| place.len() == 8 * words.len())
                .ok_or(corrupt)?;
            for (index, word) in words.iter().enumerate() {
                put_u64(&mut bonus, place.start + 8 * index, *word);
            }
        }
        self.objset.set_bonus(object, bonus).await
    }

    /// Writes to a regular file, which grows as needed.
    pub async fn write(
        &self,
        object: u64,
        offset: u64,
        data: &[u8],
        now: [u64; 2],
    ) -> Result<(), Error> {
        let znode = self.znode(object).await?;
        match znode.file_type {
            FileType::Regular => {}
            FileType::Directory => return Err(Error::IsDirectory),
            _ => return Err(Error::InvalidArgument),
        }
        let end = offset
            .checked_add(data.len() as u64)
            .filter(|&end| end < 1 << 63)
            .ok_or(Error::OutOfRange)?;
        self.grow_block(object, end).await?;
        self.objset.write(object, offset, data).await?;
        let size = znode.size.max(end);
        self.set_attributes(
            object,
            &[
                ("ZPL_SIZE", &[size]),
                ("ZPL_MTIME", &now),
                ("ZPL_CTIME", &now),
            ],
        )
        .await
    }

    /// A file of one block has a block as large as it needs, up to a full record.
    async fn grow_block(&self, object: u64, end: u64) -> Result<(), Error> {
        let dnode = self.objset.dnode(object).await?;
        if dnode.phys.max_block > 0 || dnode.phys.block_size >= RECORD_SIZE {
            return Ok(());
        }
        let wanted = usize::try_from(end)
            .unwrap_or(RECORD_SIZE)
            .min(RECORD_SIZE)
            .next_multiple_of(SECTOR);
        if wanted > dnode.phys.block_size {
            self.objset.set_block_size(object, wanted).await?;
        }
        Ok(())
    }

    /// Cuts a regular file off or extends it with a hole.
    pub async fn truncate(&self, object: u64, size: u64, now: [u64; 2]) -> Result<(), Error> {
        let znode = self.znode(object).await?;
        if znode.file_type != FileType::Regular {
            return Err(Error::InvalidArgument);
        }
        if size < znode.size {
            let dnode = self.objset.dnode(object).await?;
            let block_size = dnode.phys.block_size as u64;
            self.objset
                .truncate(object, size.div_ceil(block_size))
                .await?;
            let inside = (size % block_size) as usize;
            if inside != 0
                && let Some(block) = self.objset.block(&dnode, size / block_size).await?
            {
                // What is cut off may not come back when the file grows again.
                let mut block = Vec::clone(&block);
                block[inside..].fill(0);
                self.objset
                    .set_block(object, size / block_size, Rc::new(block))
                    .await?;
            }
        } else {
            self.grow_block(object, size).await?;
        }
        self.set_attributes(
            object,
            &[
                ("ZPL_SIZE", &[size]),
                ("ZPL_MTIME", &now),
                ("ZPL_CTIME", &now),
            ],
        )
        .await
    }

    /// Removes a name; a file without names is freed.
    pub async fn unlink(&self, directory: u64, name: &[u8], now: [u64; 2]) -> Result<(), Error> {
        let entry = self.lookup(directory, name).await?;
        if entry.kind == FileType::Directory {
            return Err(Error::IsDirectory);
        }
        update::remove(&self.objset, directory, &entry.name).await?;
        self.change_directory(directory, -1, 0, now).await?;
        let links = self.znode(entry.object).await?.links.saturating_sub(1);
        if links == 0 {
            return self.objset.free_object(entry.object).await;
        }
        self.set_attributes(
            entry.object,
            &[("ZPL_LINKS", &[links]), ("ZPL_CTIME", &now)],
        )
        .await
    }

    /// Removes an empty directory.
    pub async fn rmdir(&self, directory: u64, name: &[u8], now: [u64; 2]) -> Result<(), Error> {
        let entry = self.lookup(directory, name).await?;
        if entry.kind != FileType::Directory {
            return Err(Error::NotDirectory);
        }
        if !self.readdir(entry.object).await?.is_empty() {
            return Err(Error::NotEmpty);
        }
        update::remove(&self.objset, directory, &entry.name).await?;
        self.change_directory(directory, -1, -1, now).await?;
        self.objset.free_object(entry.object).await
    }

    /// Gives a file another name.
    pub async fn link(
        &self,
        object: u64,
        directory: u64,
        name: &[u8],
        now: [u64; 2],
    ) -> Result<(), Error> {
        check_name(name)?;
        let znode = self.znode(object).await?;
        if znode.file_type == FileType::Directory {
            return Err(Error::IsDirectory);
        }
        if znode.links >= MAX_LINKS {
            return Err(Error::InvalidArgument);
        }
        match self.lookup(directory, name).await {
            Err(Error::NotFound) => {}
            Ok(_) => return Err(Error::AlreadyExists),
            Err(error) => return Err(error),
        }
        self.enter(directory, name, object, znode.file_type).await?;
        self.change_directory(directory, 1, 0, now).await?;
        self.set_attributes(
            object,
            &[("ZPL_LINKS", &[znode.links + 1]), ("ZPL_CTIME", &now)],
        )
        .await
    }
}
