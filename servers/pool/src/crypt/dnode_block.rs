//! Blocks of dnodes: only the bonus buffers with user data are encrypted, the rest is authenticated, so that a
//! locked data set can be walked, scrubbed and sent.

use alloc::vec::Vec;
use core::ops::Range;

use super::{NotAuthentic, Suite};
use crate::blkptr::{BLKPTR_SIZE, BlockPointer};
use crate::dnode::{CORE_SIZE, DNODE_SIZE, FLAG_SPILL, MAX_POINTERS, ObjectType};
use crate::layout::put_u64;

/// Bytes of a dnode core whose value differs between pools with the same contents.
const FLAGS_AT: usize = 7;
const USED_AT: usize = 24;

/// What of a block of dnodes is authenticated and what is encrypted.
struct Parts {
    authenticated: Vec<u8>,
    encrypted: Vec<Range<usize>>,
}

/// Decrypts a block of dnodes in place.
pub(super) fn decrypt(
    suite: Suite,
    version: u64,
    key: &[u8],
    nonce: &[u8; 12],
    mac: &[u8; 16],
    block: &mut [u8],
) -> Result<(), NotAuthentic> {
    let parts = split(block, version).ok_or(NotAuthentic)?;
    let mut secret: Vec<u8> = Vec::new();
    for range in &parts.encrypted {
        secret.extend_from_slice(&block[range.clone()]);
    }
    suite.decrypt(key, nonce, &parts.authenticated, &mut secret, mac)?;
    let mut rest = secret.as_slice();
    for range in parts.encrypted {
        let (part, after) = rest.split_at(range.len());
        block[range].copy_from_slice(part);
        rest = after;
    }
    Ok(())
}

fn split(block: &[u8], version: u64) -> Option<Parts> {
    let mut parts = Parts {
        authenticated: Vec::with_capacity(block.len()),
        encrypted: Vec::new(),
    };
    let mut at = 0;
    while at < block.len() {
        let slots = usize::from(*block.get(at + 12)?) + 1;
        let dnode = block.get(at..at + slots * DNODE_SIZE)?;
        split_dnode(dnode, at, version, &mut parts)?;
        at += dnode.len();
    }
    Some(parts)
}

fn split_dnode(dnode: &[u8], at: usize, version: u64, parts: &mut Parts) -> Option<()> {
    let mut core = Vec::from(&dnode[..CORE_SIZE]);
    core[FLAGS_AT] &= FLAG_SPILL;
    put_u64(&mut core, USED_AT, 0);
    parts.authenticated.extend(core);
    let pointers = usize::from(dnode[3]);
    if pointers > MAX_POINTERS {
        return None;
    }
    for index in 0..pointers {
        let pointer = BlockPointer::decode(dnode, CORE_SIZE + index * BLKPTR_SIZE)?;
        authenticate_pointer(&pointer, version, &mut parts.authenticated);
    }
    let mut end = dnode.len();
    if dnode[FLAGS_AT] & FLAG_SPILL != 0 {
        end -= BLKPTR_SIZE;
        authenticate_pointer(
            &BlockPointer::decode(dnode, end)?,
            version,
            &mut parts.authenticated,
        );
    }
    let bonus = CORE_SIZE + pointers * BLKPTR_SIZE..end;
    let has_bonus = dnode[10] != 0 || dnode[11] != 0;
    if dnode[0] != 0 && has_bonus && ObjectType(dnode[4]).is_encrypted() {
        parts.encrypted.push(at + bonus.start..at + bonus.end);
    } else {
        parts.authenticated.extend_from_slice(dnode.get(bonus)?);
    }
    Some(())
}

/// Adds what of a block pointer is the same in every pool that holds the block: its shape and its code.
fn authenticate_pointer(pointer: &BlockPointer, version: u64, out: &mut Vec<u8>) {
    out.extend(portable_properties(pointer, version).to_le_bytes());
    let mac = if ObjectType(pointer.object_type()) == ObjectType::OBJSET {
        [0; 16]
    } else {
        pointer.crypt_mac()
    };
    out.extend(mac);
    if version > 0 {
        out.extend([0; 8]);
    }
}

/// The property word with the fields cleared that a raw receive may change.
fn portable_properties(pointer: &BlockPointer, version: u64) -> u64 {
    const PHYSICAL_SIZE: u64 = 0xffff << 16;
    const COMPRESSION: u64 = 0x7f << 32;
    const CHECKSUM: u64 = 0xff << 40;
    const DEDUP: u64 = 1 << 62;
    const BYTE_ORDER: u64 = 1 << 63;
    let word = pointer.property_word() & !(DEDUP | CHECKSUM);
    if version == 0 {
        return word & !PHYSICAL_SIZE;
    }
    if pointer.is_hole() {
        return 0;
    }
    // Above the data, packing is the receiver's choice; a size field of 0 means one sector.
    if pointer.level() != 0 {
        word & !(PHYSICAL_SIZE | COMPRESSION | BYTE_ORDER)
    } else {
        word
    }
}
