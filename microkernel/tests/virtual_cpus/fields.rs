//! Fields are the same on both kinds of control block.

use microkernel::arch::host::{vmcs_read, vmcs_write};
use microkernel::boot::Virtualisation;
use microkernel::store::{Ref, Table};
use microkernel::vcpu::control::{Control, Window};
use microkernel::vcpu::field;
use microkernel::vcpu::svm::Svm;
use microkernel::vcpu::vmx::Vmx;
use microkernel::vspace::entry;
use proptest::prelude::*;
use sel4_sys::VcpuField as F;
use sel4_sys::vcpu_field::segment_attributes::UNUSABLE;
use x86::vmx::vmcs::{control, guest};

use crate::world::World;

/// What a field that was written with `value` reads as.
fn kept(field: F, value: u64) -> u64 {
    match field {
        // SVM has no place for blocked NMIs.
        F::Interruptibility => value & 1,
        _ => value,
    }
}

/// Segments that are not usable have no attributes but that, and present segments are usable.
fn is_plain(field: F, value: u64) -> bool {
    const PRESENT: u64 = 1 << 7;
    !(24..=31).contains(&field.number()) || (value & PRESENT != 0) != (value & UNUSABLE != 0)
}

fn round_trip(vcpu: &World, control: impl Control, field: F, value: u64) -> u64 {
    field::write(&vcpu.vcpu, control, field, value);
    field::read(&vcpu.vcpu, control, field)
}

proptest! {
    #[test]
    fn an_acceptable_value_comes_back_on_both(number in 0..80_u64, value: u64, bits in 0..64_u32) {
        let field = F::try_from(number).expect("dense");
        let value = value >> bits;
        prop_assume!(field::is_acceptable(field, value) && is_plain(field, value));
        let svm = World::new(Virtualisation::Svm);
        prop_assert_eq!(kept(field, round_trip(&svm, Svm(svm.vcpu), field, value)), kept(field, value));
        let vmx = World::new(Virtualisation::Vmx);
        let control = Vmx::claim(vmx.vcpu);
        prop_assert_eq!(kept(field, round_trip(&vmx, control, field, value)), kept(field, value));
    }

    #[test]
    fn a_field_changes_no_other(first in 0..80_u64, second in 0..80_u64, value: u64, bits in 0..64_u32) {
        let [first, second] = [first, second].map(|number| F::try_from(number).expect("dense"));
        let value = value >> bits;
        prop_assume!(first != second && field::is_acceptable(first, value));
        // Which shadow it is depends on the interrupt flag, but not that it is one.
        let svm = World::new(Virtualisation::Svm);
        let before = field::read(&svm.vcpu, Svm(svm.vcpu), second);
        field::write(&svm.vcpu, Svm(svm.vcpu), first, value);
        prop_assert_eq!(field::read(&svm.vcpu, Svm(svm.vcpu), second), before);
        let vmx = World::new(Virtualisation::Vmx);
        let control = Vmx::claim(vmx.vcpu);
        let before = field::read(&vmx.vcpu, control, second);
        field::write(&vmx.vcpu, control, first, value);
        prop_assert_eq!(field::read(&vmx.vcpu, control, second), before);
    }
}

#[test]
fn a_new_cpu_is_in_the_same_state_on_both() {
    let svm = World::new(Virtualisation::Svm);
    let read = |field: &F| field::read(&svm.vcpu, Svm(svm.vcpu), *field);
    let states: Vec<u64> = F::ALL.iter().map(read).collect();
    let vmx = World::new(Virtualisation::Vmx);
    let control = Vmx::claim(vmx.vcpu);
    for (field, state) in F::ALL.iter().zip(states) {
        assert_eq!(field::read(&vmx.vcpu, control, *field), state, "{field:?}");
    }
    assert_eq!(control.state(), {
        let svm = World::new(Virtualisation::Svm);
        Svm(svm.vcpu).state()
    });
}

#[test]
fn vmx_keeps_what_operation_needs_out_of_sight() {
    const NUMERIC_ERROR: u64 = 1 << 5;
    const CACHE_DISABLE: u64 = 1 << 30;
    let world = World::new(Virtualisation::Vmx);
    let control = Vmx::claim(world.vcpu);
    assert_eq!(vmcs_read(guest::CR0) & NUMERIC_ERROR, NUMERIC_ERROR);
    assert_eq!(vmcs_read(guest::CR0) & CACHE_DISABLE, 0);
    assert_eq!(control.read(F::Cr0), 0x6000_0010);
    assert_eq!(vmcs_read(guest::CR4), 1 << 13);
    assert_eq!(control.read(F::Cr4), 0);
}

#[test]
fn long_mode_is_an_entry_control_too() {
    const LONG_MODE_GUEST: u64 = 1 << 9;
    let world = World::new(Virtualisation::Vmx);
    let control = Vmx::claim(world.vcpu);
    control.write(F::Efer, 0xd01);
    assert_eq!(
        vmcs_read(control::VMENTRY_CONTROLS) & LONG_MODE_GUEST,
        LONG_MODE_GUEST
    );
    control.write(F::Efer, 0x900);
    assert_eq!(vmcs_read(control::VMENTRY_CONTROLS) & LONG_MODE_GUEST, 0);
}

#[test]
fn a_window_is_asked_for_and_taken_back() {
    const WINDOW: u64 = 1 << 2;
    let world = World::new(Virtualisation::Vmx);
    let control = Vmx::claim(world.vcpu);
    let primary = || vmcs_read(control::PRIMARY_PROCBASED_EXEC_CONTROLS);
    control.request_window(Window::Wanted);
    assert_eq!(primary() & WINDOW, WINDOW);
    control.request_window(Window::NotWanted);
    assert_eq!(primary() & WINDOW, 0);
}

#[test]
fn states_that_do_not_fit_name_a_field() {
    let world = World::new(Virtualisation::Svm);
    let control = Svm(world.vcpu);
    let cases = [
        (
            [(F::Cr0, 0x8000_0010), (F::Efer, 0), (F::Cr4, 0)],
            Err(F::Cr0),
        ),
        (
            [(F::Cr0, 0x8000_0011), (F::Efer, 0x100), (F::Cr4, 0x20)],
            Err(F::Efer),
        ),
        (
            [(F::Cr0, 0x11), (F::Efer, 0x500), (F::Cr4, 0x20)],
            Err(F::Efer),
        ),
        (
            [(F::Cr0, 0x8000_0011), (F::Efer, 0x500), (F::Cr4, 0)],
            Err(F::Cr4),
        ),
        (
            [(F::Cr0, 0x8000_0011), (F::Efer, 0x500), (F::Cr4, 0x20)],
            Ok(()),
        ),
    ];
    for (fields, expected) in cases {
        for (field, value) in fields {
            assert!(field::is_acceptable(field, value), "{field:?} = {value:#x}");
            control.write(field, value);
        }
        assert_eq!(field::check_state(control), expected, "{fields:x?}");
    }
    // 64-bit and 32-bit code at once.
    control.write(F::CsAttributes, 0xe09b);
    assert_eq!(field::check_state(control), Err(F::CsAttributes));
}

/// Guest memory of one page, at guest-physical 0, with `word` in it at `offset`.
struct Memory {
    tables: Vec<u64>,
}

impl Memory {
    const WORDS: usize = 512;

    fn new(flags: u64, offset: usize, word: u64) -> Self {
        let mut memory = Self {
            tables: vec![0; 6 * Self::WORDS],
        };
        let start = memory.start();
        let first = (start - memory.tables.as_ptr() as usize) / 8;
        for level in 0..4 {
            let next = (start + (level + 1) * 4096) as u64;
            let flags = if level == 3 { flags } else { 0 };
            memory.tables[first + level * Self::WORDS] = next | flags | 7;
        }
        memory.tables[first + 4 * Self::WORDS + offset / 8] = word;
        memory
    }

    fn start(&self) -> usize {
        (self.tables.as_ptr() as usize).next_multiple_of(4096)
    }

    fn root(&self) -> Ref<Table> {
        Ref::from_address(self.start())
    }
}

fn loaded_pointers(memory: &Memory, cr3: u64) -> [u64; 4] {
    let world = World::new(Virtualisation::Vmx);
    let control = Vmx::claim(world.vcpu);
    for index in 0..4 {
        vmcs_write(guest::PDPTE0_FULL + index * 2, 0x99);
    }
    for (field, value) in [(F::Cr0, 0x8000_0011), (F::Cr3, cr3), (F::Cr4, 0x20)] {
        control.write(field, value);
    }
    control.settle(memory.root());
    [0, 1, 2, 3].map(|index| vmcs_read(guest::PDPTE0_FULL + index * 2))
}

#[test]
fn page_directory_pointers_come_from_guest_memory() {
    let memory = Memory::new(0, 0x28, 0x1234_5001);
    assert_eq!(loaded_pointers(&memory, 0x20), [0, 0x1234_5001, 0, 0]);
    assert_eq!(
        loaded_pointers(&memory, 0x5020),
        [0; 4],
        "memory that is not there"
    );
    let reserved = Memory::new(0, 0x28, 0x1234_5003);
    assert_eq!(loaded_pointers(&reserved, 0x20), [0; 4], "a reserved bit");
    let device = Memory::new(entry::DEVICE, 0x28, 0x1234_5001);
    assert_eq!(loaded_pointers(&device, 0x20), [0; 4], "a device's memory");
}
