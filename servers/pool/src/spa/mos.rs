//! Reading what the MOS directory points to: the configuration, feature counts, mappings of removed vdevs.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use crate::checksum::Salt;
use crate::dmu::{Dnode, Objset};
use crate::error::{Error, Structure};
use crate::layout::Fields;
use crate::nvlist::Nvlist;
use crate::vdev::indirect::{ENTRY_SIZE, MappingEntry};
use crate::vdev::{VdevKind, VdevTree};
use crate::zap::{Zap, ZapEntry, entries_or_none};

/// The object of the MOS directory.
pub const DIRECTORY_OBJECT: u64 = 1;
/// Entry of the directory: the key of the pool's keyed checksums.
pub const SALT: &str = "org.illumos:checksum_salt";
/// Largest packed configuration that is read; 255 children of a few hundred bytes fit many times.
const MAX_CONFIG_SIZE: u64 = 16 << 20;

/// All entries of the MOS directory.
pub async fn directory(mos: &Objset) -> Result<Vec<ZapEntry>, Error> {
    Zap::open(mos, DIRECTORY_OBJECT).await?.entries().await
}

/// The pool's configuration.
pub async fn config(mos: &Objset, object: u64) -> Result<Nvlist, Error> {
    let dnode = mos.dnode(object).await?;
    let size = dnode
        .phys
        .bonus
        .u64_at(0)
        .filter(|&size| size <= MAX_CONFIG_SIZE);
    let size = size.ok_or(Error::Corrupt(Structure::Nvlist))?;
    Nvlist::decode(&mos.read_vec(&dnode, 0, size as usize).await?)
}

/// The salt of keyed checksums, when the pool has one.
pub fn salt(directory: &[ZapEntry]) -> Option<Salt> {
    let entry = directory
        .iter()
        .find(|entry| entry.name == SALT.as_bytes())?;
    entry.value.bytes.as_slice().try_into().ok()
}

/// Feature guids with their reference counts.
pub async fn features(mos: &Objset, object: u64) -> Result<BTreeMap<String, u64>, Error> {
    let entries = entries_or_none(mos, object).await?;
    Ok(entries
        .iter()
        .filter_map(|entry| Some((entry.text(), entry.value.u64()?)))
        .collect())
}

/// Loads the mapping of every removed vdev. A mapping may itself have been moved, so that one becomes readable through another: rounds go on
/// while there is progress.
pub async fn load_mappings(mos: &Objset, tree: &VdevTree) -> Result<(), Error> {
    loop {
        let mut progress = false;
        let mut failure = None;
        for top in tree.tops() {
            let VdevKind::Indirect(indirect) = &top.kind else {
                continue;
            };
            let Some((object, _)) = top
                .config
                .indirect_objects
                .filter(|_| !indirect.is_loaded())
            else {
                continue;
            };
            match mapping(mos, object).await {
                Ok(entries) => {
                    indirect
                        .load(entries)
                        .map_err(|_| Error::Corrupt(Structure::IndirectMapping))?;
                    progress = true;
                }
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            None => return Ok(()),
            Some(error) if !progress => return Err(error),
            Some(_) => {}
        }
    }
}

async fn mapping(mos: &Objset, object: u64) -> Result<Vec<MappingEntry>, Error> {
    let corrupt = Error::Corrupt(Structure::IndirectMapping);
    let dnode = mos.dnode(object).await?;
    let count = dnode.phys.bonus.u64_at(16).ok_or(corrupt)?;
    let size = count
        .checked_mul(ENTRY_SIZE as u64)
        .filter(|&size| size <= stored_bytes(&dnode))
        .ok_or(corrupt)?;
    let bytes = mos.read_vec(&dnode, 0, size as usize).await?;
    bytes
        .chunks_exact(ENTRY_SIZE)
        .map(|entry| MappingEntry::decode(entry).ok_or(corrupt))
        .collect()
}

/// Bytes that an object's blocks can hold: the bound for lengths that it claims.
pub fn stored_bytes(dnode: &Dnode) -> u64 {
    (dnode.phys.max_block.saturating_add(1)).saturating_mul(dnode.phys.block_size as u64)
}
