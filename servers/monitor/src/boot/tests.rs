use super::layout::{COMMAND_LINE, PVH_START, ZERO_PAGE};
use super::*;
use crate::exit::AccessSize;
use crate::memory::tests::ram;
use core::sync::atomic::AtomicU64;
use proptest::prelude::*;
use sel4_sys::VcpuField;
use std::sync::LazyLock;
use std::vec::Vec;

const RAM: usize = 64 << 20;
/// What the helpers below look into.
static WORDS: LazyLock<Vec<AtomicU64>> = LazyLock::new(|| ram(RAM));

fn memory() -> GuestMemory<'static> {
    GuestMemory::new(&WORDS)
}

fn put(image: &mut [u8], offset: usize, bytes: &[u8]) {
    image[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// A small bzImage: one setup sector, 4 KiB of code that begins with `code`.
fn bz_image() -> Vec<u8> {
    let mut image = vec![0; 1024 + 4096];
    put(&mut image, 0x1f1, &[1]);
    put(&mut image, 0x1fe, &[0x55, 0xaa]);
    put(&mut image, 0x200, &[0xeb, 0x66]);
    put(&mut image, 0x202, b"HdrS");
    put(&mut image, 0x206, &0x20fu16.to_le_bytes());
    put(&mut image, 0x211, &[1]);
    put(&mut image, 0x22c, &0x7fff_ffffu32.to_le_bytes());
    put(&mut image, 0x230, &0x20_0000u32.to_le_bytes());
    put(&mut image, 0x234, &[1]);
    put(&mut image, 0x236, &1u16.to_le_bytes());
    put(&mut image, 0x238, &2047u32.to_le_bytes());
    put(&mut image, 0x258, &0x100_0000u64.to_le_bytes());
    put(&mut image, 0x260, &0x10_0000u32.to_le_bytes());
    put(&mut image, 1024, b"code");
    image
}

/// A small ELF64 file with one segment at 2 MiB and the note.
fn elf_image() -> Vec<u8> {
    let mut image = vec![0; 0x1000];
    put(&mut image, 0, b"\x7fELF\x02\x01\x01");
    put(&mut image, 16, &[2, 0, 62, 0, 1, 0, 0, 0]);
    put(&mut image, 32, &64u64.to_le_bytes());
    put(&mut image, 52, &[64, 0, 56, 0, 2, 0]);
    let headers: [[u64; 7]; 2] = [
        [
            1 | 5 << 32,
            0x200,
            0xffff_ffff_8020_0000,
            0x20_0000,
            0x10,
            0x3000,
            0x1000,
        ],
        [4 | 4 << 32, 0x300, 0, 0, 24, 24, 4],
    ];
    for (index, header) in headers.iter().enumerate() {
        for (word, value) in header.iter().enumerate() {
            put(&mut image, 64 + index * 56 + word * 8, &value.to_le_bytes());
        }
    }
    put(&mut image, 0x200, b"segment contents");
    for (word, value) in [4u32, 8, 18].iter().enumerate() {
        put(&mut image, 0x300 + word * 4, &value.to_le_bytes());
    }
    put(&mut image, 0x30c, b"Xen\0");
    put(&mut image, 0x310, &0x20_0004u64.to_le_bytes());
    image
}

fn files<'a>(kernel: &'a [u8], initrd: Option<&'a [u8]>) -> BootFiles<'a> {
    BootFiles {
        kernel,
        initrd,
        command_line: "console=ttyS0",
    }
}

fn field(state: &InitialState, field: VcpuField) -> u64 {
    state.iter().find(|pair| pair.0 == field).unwrap().1
}

fn read(address: u64, size: AccessSize) -> u64 {
    memory().read_value(GuestAddress(address), size).unwrap()
}

fn text(address: GuestAddress, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    memory().read(address, &mut bytes).unwrap();
    bytes
}

#[test]
fn both_protocols_load_what_they_are_given() {
    // One test, since they share the memory.
    linux_gets_its_zero_page();
    pvh_gets_its_start_record();
}

fn linux_gets_its_zero_page() {
    let kernel = bz_image();
    let state = load(&memory(), &files(&kernel, Some(&[7; 5000])), 1).unwrap();
    assert_eq!(field(&state, VcpuField::Rip), 0x100_0200);
    assert_eq!(field(&state, VcpuField::Rsi), ZERO_PAGE.0);
    assert_eq!(text(GuestAddress(0x100_0000), 4), b"code");
    assert_eq!(text(COMMAND_LINE, 14), b"console=ttyS0\0");
    let zero_page = |offset| read(ZERO_PAGE.0 + offset, AccessSize::Dword);
    assert_eq!(zero_page(0x202), u64::from(u32::from_le_bytes(*b"HdrS")));
    assert_eq!(zero_page(0x228), COMMAND_LINE.0);
    assert_eq!(zero_page(0x218), RAM as u64 - 0x2000);
    assert_eq!(zero_page(0x21c), 5000);
    assert_eq!(zero_page(0x070), layout::ACPI_TABLES.0);
    assert_eq!(zero_page(0x1e8) & 0xff, 4, "ranges of the memory map");
    assert_eq!(text(GuestAddress(RAM as u64 - 0x2000), 5000), [7; 5000]);
}

fn pvh_gets_its_start_record() {
    let kernel = elf_image();
    let state = load(&memory(), &files(&kernel, Some(&[9; 100])), 1).unwrap();
    assert_eq!(field(&state, VcpuField::Rip), 0x20_0004);
    assert_eq!(field(&state, VcpuField::Rbx), PVH_START.0);
    assert_eq!(text(GuestAddress(0x20_0000), 17), b"segment contents\0");
    let record = |offset| read(PVH_START.0 + offset, AccessSize::Qword);
    assert_eq!(record(0), 0x1_336e_c578);
    assert_eq!(record(8) >> 32, 1, "one module");
    assert_eq!(record(24), COMMAND_LINE.0);
    assert_eq!(record(32), layout::ACPI_TABLES.0);
    assert_eq!(record(48), 4, "ranges of the memory map");
    let module = record(16) - PVH_START.0;
    assert_eq!(
        (record(module), record(module + 8)),
        (RAM as u64 - 0x1000, 100)
    );
    let map = record(40) - PVH_START.0;
    assert_eq!(
        (record(map), record(map + 8), record(map + 16)),
        (0, 0x9_fc00, 1)
    );
}

/// The error for an image after `change`.
fn refusal(mut image: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> BootError {
    change(&mut image);
    let words = ram(RAM);
    load(&GuestMemory::new(&words), &files(&image, None), 1).unwrap_err()
}

#[test]
fn bad_images_are_refused_by_name() {
    assert_eq!(refusal(vec![0; 4096], |_| {}), BootError::UnknownFormat);
    assert_eq!(refusal(vec![], |_| {}), BootError::UnknownFormat);
    assert_eq!(
        refusal(bz_image(), |image| put(image, 0x206, &[4, 2])),
        BootError::TooOld
    );
    assert_eq!(
        refusal(bz_image(), |image| image.truncate(1024)),
        BootError::Truncated
    );
    assert_eq!(
        refusal(bz_image(), |image| put(
            image,
            0x260,
            &u32::MAX.to_le_bytes()
        )),
        BootError::KernelDoesNotFit
    );
    assert_eq!(
        refusal(elf_image(), |image| put(image, 0x308, &[17])),
        BootError::NoEntry
    );
    assert_eq!(
        refusal(elf_image(), |image| put(
            image,
            64 + 24,
            &0u64.to_le_bytes()
        )),
        BootError::KernelDoesNotFit,
        "below 1 MiB"
    );
    assert_eq!(
        refusal(elf_image(), |image| put(
            image,
            64 + 40,
            &u64::MAX.to_le_bytes()
        )),
        BootError::KernelDoesNotFit
    );
    assert_eq!(
        refusal(elf_image(), |image| image.truncate(0x208)),
        BootError::NoEntry
    );
}

#[test]
fn a_command_line_and_a_ram_disk_have_limits() {
    let words = ram(RAM);
    let memory = GuestMemory::new(&words);
    let kernel = bz_image();
    let long = "x".repeat(2048);
    let mut too_long = files(&kernel, None);
    too_long.command_line = &long;
    assert_eq!(
        load(&memory, &too_long, 1).unwrap_err(),
        BootError::CommandLineTooLong
    );
    let big = vec![0; RAM - (16 << 20)];
    let refused = load(&memory, &files(&kernel, Some(&big)), 1).unwrap_err();
    assert_eq!(refused, BootError::InitrdDoesNotFit);
}

#[test]
fn a_machine_with_hardly_any_ram_is_refused() {
    let words = ram(1 << 20);
    let kernel = bz_image();
    let refused = load(&GuestMemory::new(&words), &files(&kernel, None), 1).unwrap_err();
    assert_eq!(refused, BootError::TooLittleRam);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn damaged_images_are_loaded_or_refused(
        is_elf: bool,
        length in 0usize..6000,
        damage in proptest::collection::vec((0usize..0x400, any::<u8>()), 0..12),
    ) {
        // A memory of its own: the bytes are wherever the damage says.
        let words = ram(17 << 20);
        let mut image = if is_elf { elf_image() } else { bz_image() };
        for (offset, byte) in damage {
            image[offset] = byte;
        }
        image.truncate(length);
        let _ = load(&GuestMemory::new(&words), &files(&image, Some(&[1; 64])), 4);
    }
}
