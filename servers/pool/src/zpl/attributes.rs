//! Setting a file's attributes: mode, owner, times, and whatever else a layer above keeps there.

use alloc::string::String;
use alloc::vec::Vec;

use super::new::{
    ACCESS_ENTRY, FLAG_ACL_TRIVIAL, FLAG_NO_EXECUTE_DENIED, access_list, execute_flag,
    full_capacity, store, words,
};
use super::{FileType, Zpl};
use crate::error::{Error, Structure};
use crate::sa::SaRegistry;
use crate::zil::{AttributeChanges, Change};

const CORRUPT: Error = Error::Corrupt(Structure::Znode);

/// Bits of a mode that can be set.
const PERMISSIONS: u64 = 0o7777;

impl Zpl {
    /// Sets some of a file's attributes, as chmod, chown, utimes and truncate do. `now` becomes the time of change.
    ///
    /// # Errors
    /// `InvalidArgument` when a size is given for something that is no regular file.
    pub async fn set_attributes(
        &self,
        object: u64,
        changes: &AttributeChanges,
        now: [u64; 2],
    ) -> Result<(), Error> {
        self.check_changeable()?;
        let mut logged = *changes;
        if let Some(size) = changes.size {
            self.truncate(object, size, now).await?;
        }
        let znode = self.znode(object).await?;
        let mut values: Vec<(&str, Option<Vec<u8>>)> = Vec::new();
        let mut add = |name, bytes| values.push((name, Some(bytes)));
        if let Some(mode) = changes.mode {
            let mode = znode.mode & !PERMISSIONS | mode & PERMISSIONS;
            logged.mode = Some(mode);
            // The access list is made anew from the mode, as aclmode=discard says.
            let entries = access_list(mode, znode.file_type);
            let flags =
                znode.flags & !FLAG_NO_EXECUTE_DENIED | FLAG_ACL_TRIVIAL | execute_flag(mode);
            add("ZPL_MODE", words(&[mode]));
            add("ZPL_FLAGS", words(&[flags]));
            add(
                "ZPL_DACL_COUNT",
                words(&[(entries.len() / ACCESS_ENTRY) as u64]),
            );
            add("ZPL_DACL_ACES", entries);
        }
        for (name, value) in [("ZPL_UID", changes.uid), ("ZPL_GID", changes.gid)] {
            if let Some(value) = value {
                add(name, words(&[value]));
            }
        }
        for (name, time) in [("ZPL_ATIME", changes.atime), ("ZPL_MTIME", changes.mtime)] {
            if let Some(time) = time {
                add(name, words(&time));
            }
        }
        add("ZPL_CTIME", words(&now));
        self.store_attributes(object, values).await?;
        self.objset().log(Change::Attributes {
            object,
            changes: logged,
        });
        Ok(())
    }

    /// Replaces a file's access list by entries that say more than its mode.
    pub(super) async fn set_acl(
        &self,
        object: u64,
        count: u64,
        entries: Vec<u8>,
    ) -> Result<(), Error> {
        let flags = self.znode(object).await?.flags & !FLAG_ACL_TRIVIAL;
        let values = [
            ("ZPL_FLAGS", Some(words(&[flags]))),
            ("ZPL_DACL_COUNT", Some(words(&[count]))),
            ("ZPL_DACL_ACES", Some(entries)),
        ];
        self.store_attributes(object, values.into()).await
    }

    /// Sets words of attributes.
    pub(super) async fn set_words(
        &self,
        object: u64,
        values: &[(&str, &[u64])],
    ) -> Result<(), Error> {
        let values = values
            .iter()
            .map(|(name, value)| (*name, Some(words(value))));
        self.store_attributes(object, values.collect()).await
    }

    /// Sets attributes to bytes, or removes them. What keeps its length is changed in place.
    pub(super) async fn store_attributes(
        &self,
        object: u64,
        values: Vec<(&str, Option<Vec<u8>>)>,
    ) -> Result<(), Error> {
        let dnode = self.objset.dnode(object).await?;
        let mut registry = self.registry()?;
        if !registry.knows(&dnode.phys.bonus) {
            registry = self.reload_registry().await?;
        }
        let mut bonus = dnode.phys.bonus.clone();
        let places = registry.places(&bonus)?;
        let in_place = values.iter().all(|(name, value)| {
            let length = value.as_ref().map(Vec::len);
            places
                .get(*name)
                .is_some_and(|place| Some(place.len()) == length)
        });
        if in_place {
            for (name, value) in &values {
                let place = places.get(*name).cloned().ok_or(CORRUPT)?;
                bonus[place].copy_from_slice(value.as_deref().unwrap_or_default());
            }
            return self.objset.set_bonus(object, bonus).await;
        }
        let mut all: Vec<(String, Vec<u8>)> = registry.ordered(&self.objset, &dnode).await?;
        for (name, value) in values {
            let at = all.iter().position(|(known, _)| known == name);
            match (at, value) {
                (Some(at), Some(value)) => all[at].1 = value,
                (Some(at), None) => drop(all.remove(at)),
                (None, Some(value)) => all.push((name.into(), value)),
                (None, None) => {}
            }
        }
        let mut registry = SaRegistry::clone(&registry);
        let packed = registry
            .arrange(&self.objset, &all, full_capacity(&dnode.phys))
            .await?;
        self.keep_registry(registry);
        store(&self.objset, object, packed).await
    }

    /// The time of the last access, which `atime=on` keeps.
    pub async fn touch(&self, object: u64, now: [u64; 2]) -> Result<(), Error> {
        self.set_words(object, &[("ZPL_ATIME", &now)]).await
    }

    /// Refuses everything but regular files.
    pub(super) async fn regular_size(&self, object: u64) -> Result<u64, Error> {
        let znode = self.znode(object).await?;
        match znode.file_type {
            FileType::Regular => Ok(znode.size),
            FileType::Directory => Err(Error::IsDirectory),
            _ => Err(Error::InvalidArgument),
        }
    }
}
