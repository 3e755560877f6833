//! The kernel's own address space, and the switch between threads' spaces.
//!
//! The upper half is the same in every root table:
//! - from `DIRECT_BASE`: all usable memory except the kernel's image, never executable;
//! - from `DEVICE_BASE`: pages of interrupt controllers, uncached;
//! - from `KERNEL_BASE`: the image, each part with its own rights; guard pages are left out.
//!
//! All tables are static, so nothing here can run out of memory later. User mappings are
//! `crate::vspace`'s matter, translation caches `tlb`'s.

use core::cell::Cell;
use core::sync::atomic::{AtomicUsize, Ordering};

use x86::controlregs::cr3_write;

use crate::arch::SpaceWord;
use crate::boot::{MAX_MODULES, MAX_RAM_RANGES, PhysicalRange, page_aligned_module};
use crate::store::{Ref, Table};
use crate::vspace::entry::{
    ADDRESS, CACHE_DISABLE, EXECUTE_NEVER, LARGE, PRESENT, WRITE, WRITE_THROUGH,
};

use super::cpu::{STACKS, this_cpu};
use super::features::features;

/// Physical address 0 in the kernel's address space.
pub const DIRECT_BASE: usize = 0xffff_8000_0000_0000;
/// Where the image is linked, minus where it is loaded.
pub const KERNEL_BASE: usize = 0xffff_ffff_8000_0000;
/// Device pages.
const DEVICE_BASE: usize = 0xffff_ffff_c000_0000;

const PAGE: u64 = 4096;
const LARGE_PAGE: u64 = 2 << 20;
const HUGE_PAGE: u64 = 1 << 30;
const GLOBAL: u64 = 1 << 8;
/// First entry of the kernel's half of a root table.
const KERNEL_HALF: usize = 256;

/// Tables of 4 KiB pages for the image: 16 MiB from physical 0 on; kernel.ld checks the limit.
const IMAGE_TABLES: usize = 8;
/// Tables for the direct map. Without 1 GiB pages each GiB of memory takes one, with them each
/// ragged end of a range takes two: enough for 60 GiB on the oldest CPUs, and for any memory on
/// others. Memory beyond stays unused.
const DIRECT_TABLES: usize = 72;
/// Pages of devices: local APIC, I/O APICs, IOMMUs.
const DEVICE_PAGES: usize = 32;

#[repr(C, align(4096))]
struct KernelTable([Cell<u64>; 512]);

// SAFETY: changed by the first CPU during boot only, later read by the hardware and copied.
unsafe impl Sync for KernelTable {}

impl KernelTable {
    const fn new() -> Self {
        Self([const { Cell::new(0) }; 512])
    }

    /// Physical address; the table is part of the image.
    fn physical(&self) -> u64 {
        image_physical(core::ptr::from_ref(self) as usize)
    }

    fn set(&self, index: usize, entry: u64) {
        self.0[index & 511].set(entry);
    }

    fn get(&self, index: usize) -> u64 {
        self.0[index & 511].get()
    }
}

static ROOT: KernelTable = KernelTable::new();
static HIGH: KernelTable = KernelTable::new();
static IMAGE_DIRECTORY: KernelTable = KernelTable::new();
static IMAGE: [KernelTable; IMAGE_TABLES] = [const { KernelTable::new() }; IMAGE_TABLES];
static DEVICE_DIRECTORY: KernelTable = KernelTable::new();
static DEVICES: KernelTable = KernelTable::new();
static DIRECT: [KernelTable; DIRECT_TABLES] = [const { KernelTable::new() }; DIRECT_TABLES];
static DIRECT_USED: AtomicUsize = AtomicUsize::new(0);
static DEVICES_USED: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" {
    safe static __image_start: u8;
    safe static __text_start: u8;
    safe static __text_end: u8;
    safe static __rodata_end: u8;
    safe static __image_end: u8;
}

/// There are no tables left for the direct map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfTables;

/// Physical address of something in the kernel's image.
pub fn image_physical(address: usize) -> u64 {
    (address - KERNEL_BASE) as u64
}

/// Physical address of a kernel address in the direct map.
#[inline(always)]
#[must_use]
pub fn physical_address(address: usize) -> u64 {
    address.wrapping_sub(DIRECT_BASE) as u64
}

/// Kernel address of a physical address; the memory need not be mapped.
#[inline(always)]
#[must_use]
pub fn kernel_address(physical: u64) -> usize {
    (physical as usize).wrapping_add(DIRECT_BASE)
}

/// The physical memory that the image takes.
pub fn image_range() -> PhysicalRange {
    PhysicalRange {
        start: (&raw const __image_start) as u64,
        end: image_physical((&raw const __image_end) as usize),
    }
}

/// Memory that found place in the direct map.
pub struct Mapped {
    /// The part of the usable memory.
    pub ram: heapless::Vec<PhysicalRange, MAX_RAM_RANGES>,
    /// The boot modules.
    pub modules: heapless::Vec<PhysicalRange, MAX_MODULES>,
}

/// Builds the kernel's address space and switches to it. The boot loader's memory is out of reach
/// afterwards, except usable memory and modules, as far as the tables suffice.
pub fn build(ram: &[PhysicalRange], modules: &[PhysicalRange]) -> Mapped {
    map_image();
    link(&HIGH, KERNEL_BASE >> 30, &IMAGE_DIRECTORY);
    link(&HIGH, DEVICE_BASE >> 30, &DEVICE_DIRECTORY);
    link(&DEVICE_DIRECTORY, 0, &DEVICES);
    link(&ROOT, 511, &HIGH);
    let mut mapped = Mapped {
        ram: heapless::Vec::new(),
        modules: heapless::Vec::new(),
    };
    for range in ram {
        let end = map_around_image(*range);
        let part = PhysicalRange {
            start: range.start,
            end,
        };
        if !part.is_empty() {
            // As many ranges come out as went in.
            let _ = mapped.ram.push(part);
        }
        if end < range.end {
            break;
        }
    }
    for module in modules {
        if map_module(*module, &mapped.ram).is_ok() {
            // As for memory.
            let _ = mapped.modules.push(*module);
        }
    }
    load_kernel_space();
    mapped
}

/// Maps the pages of a module that are not usable memory: boot loaders put small modules below
/// 1 MiB.
fn map_module(module: PhysicalRange, ram: &[PhysicalRange]) -> Result<(), OutOfTables> {
    let pages = page_aligned_module(module);
    for page in (pages.start..pages.end).step_by(PAGE as usize) {
        let page_range = PhysicalRange {
            start: page,
            end: page + PAGE,
        };
        if !ram.iter().any(|range| range.overlaps(page_range)) {
            map_direct(page, PAGE)?;
        }
    }
    Ok(())
}

/// Loads the kernel's own space on this CPU, which has none of the others' yet.
pub fn load_kernel_space() {
    this_cpu().cr3.set(ROOT.physical());
    // SAFETY: the root maps the running code, its stack and data as they are mapped now.
    unsafe { cr3_write(ROOT.physical()) };
}

fn link(table: &KernelTable, index: usize, next: &KernelTable) {
    table.set(index, next.physical() | PRESENT | WRITE);
}

fn map_image() {
    for (index, table) in IMAGE.iter().enumerate() {
        link(&IMAGE_DIRECTORY, index, table);
    }
    let address = |symbol: *const u8| symbol as usize;
    let text = address(&raw const __text_start)..address(&raw const __text_end);
    let rodata_end = address(&raw const __rodata_end);
    for page in (text.start..address(&raw const __image_end)).step_by(PAGE as usize) {
        let rights = if text.contains(&page) {
            0
        } else if page < rodata_end {
            EXECUTE_NEVER
        } else {
            EXECUTE_NEVER | WRITE
        };
        if !STACKS.is_guard(page) {
            let physical = image_physical(page);
            let table = &IMAGE[physical as usize >> 21];
            table.set(
                physical as usize >> 12,
                physical | rights | PRESENT | GLOBAL,
            );
        }
    }
}

/// Maps a range of memory except the image; returns where it had to stop.
fn map_around_image(range: PhysicalRange) -> u64 {
    let image = image_range();
    let below = PhysicalRange {
        start: range.start,
        end: range.end.min(image.start),
    };
    let above = PhysicalRange {
        start: range.start.max(image.end),
        end: range.end,
    };
    for part in [below, above] {
        let mut at = part.start;
        while at < part.end {
            match map_direct(at, part.end - at) {
                Ok(size) => at += size,
                Err(OutOfTables) => return at,
            }
        }
    }
    range.end
}

/// Maps the largest page that begins at `physical` and is at most `length` long.
fn map_direct(physical: u64, length: u64) -> Result<u64, OutOfTables> {
    const RIGHTS: u64 = PRESENT | WRITE | EXECUTE_NEVER | GLOBAL;
    let fits = |size: u64| physical.is_multiple_of(size) && length >= size;
    let address = kernel_address(physical);
    let level3 = next_table(&ROOT, address >> 39)?;
    if features().huge_pages && fits(HUGE_PAGE) {
        level3.set(address >> 30, physical | RIGHTS | LARGE);
        return Ok(HUGE_PAGE);
    }
    let level2 = next_table(level3, address >> 30)?;
    if fits(LARGE_PAGE) {
        level2.set(address >> 21, physical | RIGHTS | LARGE);
        return Ok(LARGE_PAGE);
    }
    next_table(level2, address >> 21)?.set(address >> 12, physical | RIGHTS);
    Ok(PAGE)
}

/// The table below an entry of a direct-map table, made if it is not there.
fn next_table(table: &KernelTable, index: usize) -> Result<&'static KernelTable, OutOfTables> {
    let entry = table.get(index);
    if entry == 0 {
        let next = DIRECT
            .get(DIRECT_USED.fetch_add(1, Ordering::Relaxed))
            .ok_or(OutOfTables)?;
        link(table, index, next);
        return Ok(next);
    }
    DIRECT
        .iter()
        .find(|t| t.physical() == entry & ADDRESS)
        .ok_or(OutOfTables)
}

/// Maps the page of device registers at `physical`, uncached; `None` if there is no room.
pub fn map_device(physical: u64) -> Option<usize> {
    let index = DEVICES_USED.fetch_add(1, Ordering::Relaxed);
    if index >= DEVICE_PAGES {
        return None;
    }
    let rights = PRESENT | WRITE | EXECUTE_NEVER | GLOBAL | WRITE_THROUGH | CACHE_DISABLE;
    DEVICES.set(index, (physical & ADDRESS) | rights);
    Some(DEVICE_BASE + index * PAGE as usize + (physical & (PAGE - 1)) as usize)
}

/// Fills the kernel's half of a new root table.
pub fn copy_kernel_mappings(root: Ref<Table>) {
    for index in KERNEL_HALF..512 {
        root.entry(index).set(ROOT.get(index));
    }
}

/// What CR3 holds for an address space: the root, and its identifier where the CPU has tags.
#[must_use]
pub fn space_word(root: Ref<Table>, asid: u16) -> SpaceWord {
    SpaceWord(physical_address(root.address()) | u64::from(asid) & features().space_tag)
}

/// Makes `space` the address space of this CPU; `None` is the kernel's own.
#[inline(always)]
pub fn switch_address_space(space: Option<SpaceWord>) {
    let cpu = this_cpu();
    let cr3 = space.map_or_else(|| ROOT.physical(), |word| word.0);
    if cpu.cr3.get() != cr3 {
        cpu.cr3.set(cr3);
        // SAFETY: every root has the kernel's half, and a root that goes away is left first
        // (`tlb::invalidate_address_space`).
        unsafe { cr3_write(cr3 | features().keep_cached) };
    }
}
