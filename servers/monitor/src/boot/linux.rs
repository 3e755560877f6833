//! Linux's boot protocol: bzImage, started at its 64-bit entry, or at the 32-bit one if it has no
//! other. Source: Linux Documentation/arch/x86/boot.rst and zero-page.rst.

use super::cpu_state::{self, InitialState};
use super::{BootError, BootFiles, layout, place_initrd, write_command_line};
use crate::memory::{GuestAddress, GuestMemory};

/// First byte of the setup header in the file and in the zero page.
const HEADER: usize = 0x1f1;
const SETUP_SECTORS: usize = 0x1f1;
const BOOT_FLAG: usize = 0x1fe;
const HEADER_END: usize = 0x201;
const MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
const LOADER_TYPE: usize = 0x210;
const LOAD_FLAGS: usize = 0x211;
const RAMDISK_ADDRESS: usize = 0x218;
const RAMDISK_SIZE: usize = 0x21c;
const COMMAND_LINE_POINTER: usize = 0x228;
const RAMDISK_HIGHEST: usize = 0x22c;
const ALIGNMENT: usize = 0x230;
const RELOCATABLE: usize = 0x234;
const EXTENDED_LOAD_FLAGS: usize = 0x236;
const COMMAND_LINE_SIZE: usize = 0x238;
const PREFERRED_ADDRESS: usize = 0x258;
const INIT_SIZE: usize = 0x260;

/// Fields of the zero page that are not in the header.
const ZERO_PAGE_ACPI: usize = 0x070;
const ZERO_PAGE_MAP_COUNT: usize = 0x1e8;
const ZERO_PAGE_MAP: usize = 0x2d0;
const ZERO_PAGE_BYTES: usize = 0x1000;
const MAP_ENTRY_BYTES: usize = 20;

/// Loader without a number of its own.
const LOADER_UNDEFINED: u8 = 0xff;
/// The protected-mode code is at or above 1 MiB.
const LOADED_HIGH: u8 = 1 << 0;
/// There is an entry for 64-bit code, at this offset.
const HAS_64_BIT_ENTRY: u16 = 1 << 0;
const LONG_ENTRY_OFFSET: u64 = 0x200;
const SECTOR: usize = 512;
/// The first protocol with a command line of known length.
const OLDEST_VERSION: u16 = 0x206;
/// Protocol that introduced the preferred address and the size of the running kernel.
const VERSION_INIT_SIZE: u16 = 0x20a;
/// Protocol that introduced the 64-bit entry.
const VERSION_64_BIT: u16 = 0x20c;
/// What a kernel without [`INIT_SIZE`] is taken to need beyond its image.
const DEFAULT_SPARE: u64 = 16 << 20;

/// The setup header of an image, as far as it is read.
#[derive(Clone, Copy, Debug)]
struct Header<'a> {
    image: &'a [u8],
    version: u16,
}

impl<'a> Header<'a> {
    fn parse(image: &'a [u8]) -> Result<Self, BootError> {
        let is_bz_image = image.get(BOOT_FLAG..BOOT_FLAG + 2) == Some(&[0x55, 0xaa])
            && image.get(MAGIC..MAGIC + 4) == Some(b"HdrS");
        if !is_bz_image {
            return Err(BootError::UnknownFormat);
        }
        let mut header = Self { image, version: 0 };
        header.version = header.word(VERSION)?;
        if header.version < OLDEST_VERSION || header.byte(LOAD_FLAGS)? & LOADED_HIGH == 0 {
            return Err(BootError::TooOld);
        }
        Ok(header)
    }

    fn bytes<const N: usize>(&self, offset: usize) -> Result<[u8; N], BootError> {
        self.image
            .get(offset..offset + N)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(BootError::Truncated)
    }

    fn byte(&self, offset: usize) -> Result<u8, BootError> {
        self.bytes(offset).map(u8::from_le_bytes)
    }

    fn word(&self, offset: usize) -> Result<u16, BootError> {
        self.bytes(offset).map(u16::from_le_bytes)
    }

    fn double_word(&self, offset: usize) -> Result<u32, BootError> {
        self.bytes(offset).map(u32::from_le_bytes)
    }

    /// The protected-mode code.
    fn code(&self) -> Result<&'a [u8], BootError> {
        let sectors = match self.byte(SETUP_SECTORS)? {
            0 => 4,
            sectors => usize::from(sectors),
        };
        let code = self.image.get((sectors + 1) * SECTOR..);
        code.filter(|code| !code.is_empty())
            .ok_or(BootError::Truncated)
    }

    fn has_long_entry(&self) -> Result<bool, BootError> {
        Ok(self.version >= VERSION_64_BIT
            && self.word(EXTENDED_LOAD_FLAGS)? & HAS_64_BIT_ENTRY != 0)
    }

    /// Memory that the kernel needs from its load address on until it has read its own map.
    fn footprint(&self, code: &[u8]) -> Result<u64, BootError> {
        let image = code.len() as u64;
        if self.version < VERSION_INIT_SIZE {
            return Ok(image + DEFAULT_SPARE);
        }
        Ok(u64::from(self.double_word(INIT_SIZE)?).max(image))
    }

    /// Load addresses in the order in which they should be tried.
    fn candidates(&self) -> Result<[u64; 2], BootError> {
        let is_relocatable = self.byte(RELOCATABLE)? != 0;
        let low = if is_relocatable {
            let alignment = u64::from(self.double_word(ALIGNMENT)?).max(1);
            // A hostile alignment only leads beyond RAM, and to a refusal there.
            layout::KERNEL_FLOOR.div_ceil(alignment) * alignment
        } else {
            layout::KERNEL_FLOOR
        };
        if self.version < VERSION_INIT_SIZE || !is_relocatable {
            return Ok([low, low]);
        }
        let preferred = self.bytes(PREFERRED_ADDRESS).map(u64::from_le_bytes)?;
        Ok([preferred, low])
    }
}

/// Loads a bzImage.
///
/// # Errors
/// [`BootError`].
pub fn load(
    memory: &GuestMemory,
    files: &BootFiles,
    acpi: GuestAddress,
) -> Result<InitialState, BootError> {
    let header = Header::parse(files.kernel)?;
    let code = header.code()?;
    let footprint = header.footprint(code)?;
    let fits = |start: &u64| {
        let end = start.checked_add(footprint);
        *start >= layout::KERNEL_FLOOR && end.is_some_and(|end| end <= memory.low_length())
    };
    let start = header
        .candidates()?
        .into_iter()
        .find(fits)
        .ok_or(BootError::KernelDoesNotFit)?;
    memory.write(GuestAddress(start), code)?;
    write_command_line(
        memory,
        files.command_line,
        u64::from(header.double_word(COMMAND_LINE_SIZE)?),
    )?;
    let mut page = zero_page(&header, memory, acpi)?;
    if let Some(initrd) = files.initrd {
        let highest = u64::from(header.double_word(RAMDISK_HIGHEST)?);
        let address = place_initrd(memory, initrd, start + footprint, highest)?;
        put(
            &mut page,
            RAMDISK_ADDRESS,
            &(address.0 as u32).to_le_bytes(),
        );
        put(
            &mut page,
            RAMDISK_SIZE,
            &(initrd.len() as u32).to_le_bytes(),
        );
    }
    memory.write(layout::ZERO_PAGE, &page)?;
    let zero_page = layout::ZERO_PAGE.0;
    Ok(if header.has_long_entry()? {
        cpu_state::long_mode(memory, start + LONG_ENTRY_OFFSET, zero_page)?
    } else {
        cpu_state::protected_mode(memory, start, 0, zero_page)?
    })
}

fn put(page: &mut [u8; ZERO_PAGE_BYTES], offset: usize, bytes: &[u8]) {
    page[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// The zero page without the RAM disk.
fn zero_page(
    header: &Header,
    memory: &GuestMemory,
    acpi: GuestAddress,
) -> Result<[u8; ZERO_PAGE_BYTES], BootError> {
    let mut page = [0; ZERO_PAGE_BYTES];
    let header_end = MAGIC + usize::from(header.byte(HEADER_END)?);
    let source = header
        .image
        .get(HEADER..header_end)
        .ok_or(BootError::Truncated)?;
    // The map follows the header; a longer one would run into it.
    let source = &source[..source.len().min(ZERO_PAGE_MAP - HEADER)];
    put(&mut page, HEADER, source);
    put(&mut page, LOADER_TYPE, &[LOADER_UNDEFINED]);
    put(
        &mut page,
        COMMAND_LINE_POINTER,
        &(layout::COMMAND_LINE.0 as u32).to_le_bytes(),
    );
    put(&mut page, RAMDISK_ADDRESS, &[0; 8]);
    put(&mut page, ZERO_PAGE_ACPI, &acpi.0.to_le_bytes());
    let map = layout::memory_map(memory);
    put(&mut page, ZERO_PAGE_MAP_COUNT, &[map.len() as u8]);
    for (index, range) in map.iter().enumerate() {
        let offset = ZERO_PAGE_MAP + index * MAP_ENTRY_BYTES;
        put(&mut page, offset, &range.start.to_le_bytes());
        put(&mut page, offset + 8, &range.length.to_le_bytes());
        put(&mut page, offset + 16, &(range.kind as u32).to_le_bytes());
    }
    Ok(page)
}
