//! Changing directories: create, link, unlink, rename.
//!
//! Everything is checked before anything changes, so that a refused call changed nothing.

use alloc::vec::Vec;

use super::new::{NewFile, Placement, Role, create_object, type_bits};
use super::{DirectoryEntry, FileType, QuotaKind, Zpl};
use crate::error::Error;
use crate::zap::update;
use crate::zil::{Change, Creation, Making, Renaming};

/// Longest name of a directory entry.
const MAX_NAME: usize = 255;
/// Links to one file at most.
const MAX_LINKS: u64 = u32::MAX as u64;
/// Directories from one up to the root at most, against cycles in damaged pools.
const MAX_DEPTH: usize = 4096;

/// A name in a directory.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a> {
    /// The directory's object.
    pub directory: u64,
    /// The name.
    pub name: &'a [u8],
}

fn check_name(name: &[u8]) -> Result<(), Error> {
    match name {
        b"" | b"." | b".." => Err(Error::InvalidName),
        _ if name.contains(&b'/') || name.contains(&0) => Err(Error::InvalidName),
        _ if name.len() > MAX_NAME => Err(Error::NameTooLong),
        _ => Ok(()),
    }
}

/// Subdirectories are links of their parent.
fn links_of(file_type: FileType) -> i64 {
    i64::from(file_type == FileType::Directory)
}

impl Zpl {
    /// Makes a file of any type in a directory. `target` is what a symbolic link says.
    pub async fn create(
        &self,
        directory: u64,
        name: &[u8],
        new: &NewFile,
        txg: u64,
        target: &[u8],
    ) -> Result<u64, Error> {
        let placement = Placement {
            object: None,
            parent: Some(directory),
            txg,
            role: Role::File,
        };
        self.create_placed(name, new, placement, target, new.now)
            .await
    }

    /// [`Zpl::create`] with all that a log says; the directory changes `now`.
    pub(super) async fn create_placed(
        &self,
        name: &[u8],
        new: &NewFile,
        mut placement: Placement,
        target: &[u8],
        now: [u64; 2],
    ) -> Result<u64, Error> {
        check_name(name)?;
        self.check_changeable()?;
        let directory = placement.parent.ok_or(Error::InvalidArgument)?;
        self.check_absent(directory, name).await?;
        self.check_quota(new.owner, 0, QuotaKind::Objects).await?;
        if self.znode(directory).await?.is_attribute() {
            placement.role = Role::ExtendedAttribute;
        }
        let mut registry = self.registry()?.as_ref().clone();
        let object = create_object(&self.objset, &mut registry, new, placement, target).await?;
        self.keep_registry(registry);
        self.enter(directory, name, object, new.file_type).await?;
        self.change_directory(directory, 1, links_of(new.file_type), now)
            .await?;
        self.objset.log(Change::Create(Creation {
            making: match new.file_type {
                FileType::Directory => Making::Directory,
                FileType::Symlink => Making::Symlink,
                _ => Making::File,
            },
            directory,
            object,
            mode: type_bits(new.file_type) | new.mode,
            uid: new.owner.uid,
            gid: new.owner.gid,
            generation: placement.txg,
            created: new.now,
            rdev: new.rdev,
            acl: None,
            name: name.into(),
            target: target.into(),
        }));
        Ok(object)
    }

    async fn check_absent(&self, directory: u64, name: &[u8]) -> Result<(), Error> {
        match self.lookup(directory, name).await {
            Err(Error::NotFound) => Ok(()),
            Ok(_) => Err(Error::AlreadyExists),
            Err(error) => Err(error),
        }
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
        self.set_words(
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

    /// Removes a name; a file without names is freed when nobody has it open any more.
    pub async fn unlink(&self, directory: u64, name: &[u8], now: [u64; 2]) -> Result<(), Error> {
        self.check_changeable()?;
        let entry = self.lookup(directory, name).await?;
        if entry.kind == FileType::Directory {
            return Err(Error::IsDirectory);
        }
        update::remove(&self.objset, directory, &entry.name).await?;
        self.change_directory(directory, -1, 0, now).await?;
        self.drop_link(entry.object, now).await?;
        self.objset.log(Change::Remove {
            directory,
            name: entry.name,
        });
        Ok(())
    }

    /// Takes one name from a file; without names it is freed.
    async fn drop_link(&self, object: u64, now: [u64; 2]) -> Result<(), Error> {
        let links = self.znode(object).await?.links.saturating_sub(1);
        if links == 0 {
            return self.file_without_name(object, now).await;
        }
        self.set_words(object, &[("ZPL_LINKS", &[links]), ("ZPL_CTIME", &now)])
            .await
    }

    /// Frees a file with its extended attributes.
    pub(super) async fn free_file(&self, object: u64) -> Result<(), Error> {
        let attributes = self.znode(object).await?.xattr_dir;
        if attributes != 0 {
            for entry in self.readdir(attributes).await? {
                self.objset.free_object(entry.object).await?;
            }
            self.objset.free_object(attributes).await?;
        }
        self.objset.free_object(object).await
    }

    /// Removes an empty directory.
    pub async fn rmdir(&self, directory: u64, name: &[u8], now: [u64; 2]) -> Result<(), Error> {
        self.check_changeable()?;
        let entry = self.lookup(directory, name).await?;
        if entry.kind != FileType::Directory {
            return Err(Error::NotDirectory);
        }
        if !self.readdir(entry.object).await?.is_empty() {
            return Err(Error::NotEmpty);
        }
        update::remove(&self.objset, directory, &entry.name).await?;
        self.change_directory(directory, -1, -1, now).await?;
        self.file_without_name(entry.object, now).await?;
        self.objset.log(Change::RemoveDirectory {
            directory,
            name: entry.name,
        });
        Ok(())
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
        self.check_changeable()?;
        let znode = self.znode(object).await?;
        if znode.file_type == FileType::Directory {
            return Err(Error::IsDirectory);
        }
        if znode.links >= MAX_LINKS {
            return Err(Error::InvalidArgument);
        }
        self.check_absent(directory, name).await?;
        self.enter(directory, name, object, znode.file_type).await?;
        self.change_directory(directory, 1, 0, now).await?;
        let links = znode.links + 1;
        self.set_words(object, &[("ZPL_LINKS", &[links]), ("ZPL_CTIME", &now)])
            .await?;
        self.objset.log(Change::Link {
            directory,
            object,
            name: name.into(),
        });
        Ok(())
    }

    /// Gives a file or directory another name, in place of what has it, as rename(2) does.
    ///
    /// # Errors
    /// `InvalidArgument` when a directory would move below itself, `NotEmpty` when the new name is a directory with
    /// entries, `IsDirectory` and `NotDirectory` when only one of the two is a directory.
    pub async fn rename(&self, from: Name<'_>, to: Name<'_>, now: [u64; 2]) -> Result<(), Error> {
        check_name(to.name)?;
        self.check_changeable()?;
        let entry = self.lookup(from.directory, from.name).await?;
        let replaced = match self.lookup(to.directory, to.name).await {
            Ok(found) => Some(found),
            Err(Error::NotFound) => None,
            Err(error) => return Err(error),
        };
        if replaced
            .as_ref()
            .is_some_and(|found| found.object == entry.object)
        {
            // Two names of one file: POSIX wants nothing done.
            return Ok(());
        }
        if entry.kind == FileType::Directory {
            self.check_not_below(to.directory, entry.object).await?;
        }
        if let Some(found) = &replaced {
            self.check_replaceable(&entry, found).await?;
            update::remove(&self.objset, to.directory, &found.name).await?;
            self.change_directory(to.directory, -1, -links_of(found.kind), now)
                .await?;
            match found.kind {
                FileType::Directory => self.file_without_name(found.object, now).await?,
                _ => self.drop_link(found.object, now).await?,
            }
        }
        update::remove(&self.objset, from.directory, &entry.name).await?;
        self.change_directory(from.directory, -1, -links_of(entry.kind), now)
            .await?;
        self.enter(to.directory, to.name, entry.object, entry.kind)
            .await?;
        self.change_directory(to.directory, 1, links_of(entry.kind), now)
            .await?;
        let parent = [to.directory];
        self.set_words(
            entry.object,
            &[("ZPL_PARENT", &parent), ("ZPL_CTIME", &now)],
        )
        .await?;
        self.objset.log(Change::Rename {
            directories: [from.directory, to.directory],
            names: [entry.name, to.name.into()],
            renaming: Renaming::Replace,
        });
        Ok(())
    }

    async fn check_replaceable(
        &self,
        entry: &DirectoryEntry,
        found: &DirectoryEntry,
    ) -> Result<(), Error> {
        match (
            entry.kind == FileType::Directory,
            found.kind == FileType::Directory,
        ) {
            (true, false) => Err(Error::NotDirectory),
            (false, true) => Err(Error::IsDirectory),
            (true, true) if !self.readdir(found.object).await?.is_empty() => Err(Error::NotEmpty),
            _ => Ok(()),
        }
    }

    /// A directory may not move into itself.
    async fn check_not_below(&self, mut directory: u64, moved: u64) -> Result<(), Error> {
        for _ in 0..MAX_DEPTH {
            if directory == moved {
                return Err(Error::InvalidArgument);
            }
            if directory == self.root() {
                return Ok(());
            }
            directory = self.znode(directory).await?.parent;
        }
        Err(Error::InvalidArgument)
    }

    /// Lets two names change places.
    pub async fn exchange(
        &self,
        one: Name<'_>,
        other: Name<'_>,
        now: [u64; 2],
    ) -> Result<(), Error> {
        self.check_changeable()?;
        let first = self.lookup(one.directory, one.name).await?;
        let second = self.lookup(other.directory, other.name).await?;
        for (moved, directory) in [(&first, other.directory), (&second, one.directory)] {
            if moved.kind == FileType::Directory {
                self.check_not_below(directory, moved.object).await?;
            }
        }
        let difference = links_of(second.kind) - links_of(first.kind);
        for (place, moved, links) in [(one, &second, difference), (other, &first, -difference)] {
            self.enter(place.directory, place.name, moved.object, moved.kind)
                .await?;
            self.change_directory(place.directory, 0, links, now)
                .await?;
            let parent = [place.directory];
            self.set_words(
                moved.object,
                &[("ZPL_PARENT", &parent), ("ZPL_CTIME", &now)],
            )
            .await?;
        }
        self.objset.log(Change::Rename {
            directories: [one.directory, other.directory],
            names: [Vec::from(one.name), Vec::from(other.name)],
            renaming: Renaming::Exchange,
        });
        Ok(())
    }
}
