//! Changing tables: micro ones here, fat ones in `fat_update`. A micro table that outgrows its form becomes a fat one.

use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;

use super::fat_update::{self, Change};
use super::hash::{crc64, normal_form};
use super::micro::{self, ENTRY_SIZE, NAME_SIZE};
use super::{CORRUPT, MICRO_BLOCK, ZapValue};
use crate::dmu::{NewObject, Objset};
use crate::dnode::ObjectType;
use crate::error::Error;
use crate::layout::{Fields, put_u32, put_u64};

/// Size of a new table.
pub const FIRST_SIZE: usize = 512;
/// Largest micro table.
const MAX_SIZE: usize = 128 << 10;
/// Bits of the hash that decide about collisions.
const HASH_MASK: u64 = !((1 << 36) - 1);
const NORMALIZATION_AT: usize = 16;
const CD_AT: usize = 8;
const NAME_AT: usize = 14;

/// Makes an empty table with a salt for its hash.
pub async fn create(objset: &Objset, object_type: ObjectType, salt: u64) -> Result<u64, Error> {
    create_with_bonus(objset, object_type, ObjectType::NONE, Vec::new(), salt).await
}

/// Makes an empty table whose object also has a bonus.
pub async fn create_with_bonus(
    objset: &Objset,
    object_type: ObjectType,
    bonus_type: ObjectType,
    bonus: Vec<u8>,
    salt: u64,
) -> Result<u64, Error> {
    let new = NewObject {
        object_type,
        block_size: FIRST_SIZE,
        bonus_type,
        bonus,
    };
    let number = objset.allocate(new).await?;
    initialize(objset, number, salt).await?;
    Ok(number)
}

/// Makes a new object, whose blocks are of [`FIRST_SIZE`], an empty table.
pub async fn initialize(objset: &Objset, number: u64, salt: u64) -> Result<(), Error> {
    let mut block = vec![0; FIRST_SIZE];
    put_u64(&mut block, 0, MICRO_BLOCK);
    // The salt may not be zero.
    put_u64(&mut block, 8, salt | 1);
    objset.set_block(number, 0, Rc::new(block)).await
}

/// Sets the value of a name, new or not, to one number.
///
/// # Errors
/// `Unsupported` when the table compares names in a normal form and the name is not ASCII.
pub async fn update(objset: &Objset, object: u64, name: &[u8], value: u64) -> Result<(), Error> {
    if name.is_empty() {
        return Err(Error::InvalidName);
    }
    let Some(mut block) = micro_block(objset, object).await? else {
        return fat_update::change(
            objset,
            object,
            name,
            Change::Set(&ZapValue::from_u64(value)),
        )
        .await;
    };
    let fits = name.len() < NAME_SIZE;
    let at = match find(&block, name).filter(|_| fits) {
        Some(at) => at,
        None => match find(&block, b"").filter(|_| fits) {
            Some(at) => add(&mut block, at, name)?,
            None if fits && block.len() + FIRST_SIZE <= MAX_SIZE => {
                let at = block.len();
                objset.set_block_size(object, at + FIRST_SIZE).await?;
                block.resize(at + FIRST_SIZE, 0);
                add(&mut block, at, name)?
            }
            None => return set(objset, object, name, &ZapValue::from_u64(value)).await,
        },
    };
    put_u64(&mut block, at, value);
    objset.set_block(object, 0, Rc::new(block)).await
}

/// Sets the value of a name to anything; the table becomes a fat one.
///
/// # Errors
/// `Unsupported` when the table compares names in a normal form and the name is not ASCII.
pub async fn set(objset: &Objset, object: u64, name: &[u8], value: &ZapValue) -> Result<(), Error> {
    upgrade(objset, object).await?;
    fat_update::change(objset, object, name, Change::Set(value)).await
}

/// Removes a name.
///
/// # Errors
/// `NotFound` when it is not there.
pub async fn remove(objset: &Objset, object: u64, name: &[u8]) -> Result<(), Error> {
    let Some(mut block) = micro_block(objset, object).await? else {
        return fat_update::change(objset, object, name, Change::Remove).await;
    };
    let at = find(&block, name)
        .filter(|_| !name.is_empty())
        .ok_or(Error::NotFound)?;
    block[at..at + ENTRY_SIZE].fill(0);
    objset.set_block(object, 0, Rc::new(block)).await
}

/// Makes a micro table a fat one.
async fn upgrade(objset: &Objset, object: u64) -> Result<(), Error> {
    let Some(old) = micro_block(objset, object).await? else {
        return Ok(());
    };
    let normalization = old.u64_at(NORMALIZATION_AT).unwrap_or(0);
    for entry in micro::entries(&old) {
        // Nothing is changed when a name cannot be hashed.
        normal_form(entry.name, normalization)?;
    }
    let [header, leaf] = fat_update::empty(old.u64_at(8).unwrap_or(1), normalization);
    objset
        .replace_blocks(
            object,
            fat_update::BLOCK_SIZE,
            [header, leaf].map(Rc::new).to_vec(),
        )
        .await?;
    for entry in micro::entries(&old) {
        let value = ZapValue::from_u64(entry.value);
        fat_update::change(objset, object, entry.name, Change::Set(&value)).await?;
    }
    Ok(())
}

/// Adds a number under its own name in hexadecimal, as sets of objects do.
pub async fn add_number(objset: &Objset, object: u64, number: u64) -> Result<(), Error> {
    update(
        objset,
        object,
        alloc::format!("{number:x}").as_bytes(),
        number,
    )
    .await
}

/// The block of a micro table; `None` when it is a fat one.
async fn micro_block(objset: &Objset, object: u64) -> Result<Option<Vec<u8>>, Error> {
    let dnode = objset.dnode(object).await?;
    let block = objset.block(&dnode, 0).await?.ok_or(CORRUPT)?;
    let micro = block.u64_at(0) == Some(MICRO_BLOCK);
    Ok(micro.then(|| Vec::clone(&block)))
}

/// Offset of the entry with a name; with no name, of a free one.
fn find(block: &[u8], name: &[u8]) -> Option<usize> {
    let entries = (ENTRY_SIZE..block.len()).step_by(ENTRY_SIZE);
    entries
        .into_iter()
        .find(|&at| block.name_at(at + NAME_AT, NAME_SIZE) == Some(name))
}

/// Puts a name into the free entry at `at`, with the lowest number that tells it from others of its hash.
fn add(block: &mut [u8], at: usize, name: &[u8]) -> Result<usize, Error> {
    let salt = block.u64_at(8).unwrap_or(0);
    let normalization = block.u64_at(NORMALIZATION_AT).unwrap_or(0);
    let hash = |name: &[u8]| {
        let normal = normal_form(name, normalization)?;
        Ok::<u64, Error>(crc64(salt, normal.iter().copied()) & HASH_MASK)
    };
    let wanted = hash(name)?;
    let mut taken: Vec<u32> = Vec::new();
    for at in (ENTRY_SIZE..block.len()).step_by(ENTRY_SIZE) {
        let found = block.name_at(at + NAME_AT, NAME_SIZE).unwrap_or(b"");
        if !found.is_empty() && hash(found)? == wanted {
            taken.extend(block.u32_at(at + CD_AT));
        }
    }
    let differentiator = (0..).find(|number| !taken.contains(number)).unwrap_or(0);
    put_u32(block, at + CD_AT, differentiator);
    block[at + NAME_AT..at + NAME_AT + name.len()].copy_from_slice(name);
    Ok(at)
}
