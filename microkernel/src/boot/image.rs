//! The root task's ELF file: which pages it has, and what is in them.

use elf::ElfBytes;
use elf::abi::{EM_X86_64, ET_EXEC, PF_W, PF_X, PT_LOAD};
use elf::endian::LittleEndian;

use super::BootError;
use crate::config::USER_TOP;
use crate::store;

/// Bytes of a page.
pub const PAGE_BYTES: u64 = 4096;
/// Largest span of the root task's image: each page needs a slot of its CNode.
pub const MAX_IMAGE_PAGES: u64 = 6144;

const _: () = assert!(MAX_IMAGE_PAGES < 1 << crate::config::ROOT_CNODE_SIZE_BITS);

/// How a page of the image may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageUse {
    /// A segment in it is executable.
    pub execute: bool,
    /// A segment in it is writable, or no segment is in it.
    pub write: bool,
}

/// A static ELF64 for x86-64, checked.
pub struct Image<'a> {
    file: ElfBytes<'a, LittleEndian>,
    bytes: &'a [u8],
    /// First address, on a page.
    pub start: u64,
    /// Address after the last, on a page.
    pub end: u64,
}

/// A loadable segment, checked against file and address space.
struct Segment<'a> {
    address: u64,
    end: u64,
    content: &'a [u8],
    flags: u32,
}

impl<'a> Image<'a> {
    /// Checks the file.
    ///
    /// # Errors
    /// `BadImage` with what is wrong.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BootError> {
        let file = ElfBytes::<LittleEndian>::minimal_parse(bytes)
            .map_err(|_| BootError::BadImage("not an ELF64 file"))?;
        if file.ehdr.e_type != ET_EXEC || file.ehdr.e_machine != EM_X86_64 {
            return Err(BootError::BadImage("not a static x86-64 executable"));
        }
        let mut image = Self {
            file,
            bytes,
            start: u64::MAX,
            end: 0,
        };
        let (mut start, mut end) = (u64::MAX, 0);
        for segment in image.segments() {
            let segment = segment?;
            start = start.min(segment.address & !(PAGE_BYTES - 1));
            end = end.max(segment.end.next_multiple_of(PAGE_BYTES));
        }
        if start >= end {
            return Err(BootError::BadImage("nothing to load"));
        }
        if (end - start) / PAGE_BYTES > MAX_IMAGE_PAGES {
            return Err(BootError::BadImage("larger than 24 MiB"));
        }
        (image.start, image.end) = (start, end);
        Ok(image)
    }

    /// Where the root task begins to run.
    #[must_use]
    pub fn entry(&self) -> u64 {
        self.file.ehdr.e_entry
    }

    fn segments(&self) -> impl Iterator<Item = Result<Segment<'a>, BootError>> + '_ {
        let headers = self.file.segments().into_iter().flatten();
        headers
            .filter(|h| h.p_type == PT_LOAD && h.p_memsz > 0)
            .map(|h| {
                let bad =
                    BootError::BadImage("a segment lies outside the file or the address space");
                let end = h
                    .p_vaddr
                    .checked_add(h.p_memsz)
                    .filter(|end| *end < USER_TOP / 2);
                let file_end = h.p_offset.checked_add(h.p_filesz);
                match (end, file_end) {
                    (Some(end), Some(file_end)) if h.p_filesz <= h.p_memsz => {
                        let content = self.bytes.get(h.p_offset as usize..file_end as usize);
                        let content = content.ok_or(bad)?;
                        Ok(Segment {
                            address: h.p_vaddr,
                            end,
                            content,
                            flags: h.p_flags,
                        })
                    }
                    _ => Err(bad),
                }
            })
    }

    /// Fills the cleared page for user address `page` at a kernel address, and says how it is used.
    #[must_use]
    pub fn load_page(&self, page: u64, kernel_address: usize) -> PageUse {
        let mut usage = PageUse::default();
        let mut is_covered = false;
        let page_end = page + PAGE_BYTES;
        for segment in self.segments().flatten() {
            if segment.address >= page_end || segment.end <= page {
                continue;
            }
            is_covered = true;
            usage.execute |= segment.flags & PF_X != 0;
            usage.write |= segment.flags & PF_W != 0;
            let from = segment.address.max(page);
            let content_end = segment.address + segment.content.len() as u64;
            let to = content_end.min(page_end);
            if from < to {
                let part = (from - segment.address) as usize..(to - segment.address) as usize;
                store::copy_to(
                    kernel_address + (from - page) as usize,
                    &segment.content[part],
                );
            }
        }
        usage.write |= !is_covered;
        usage
    }
}
