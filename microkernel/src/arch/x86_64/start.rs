//! The way up: from the first Rust instruction of the first CPU to the root task.

use core::arch::global_asm;
use core::sync::atomic::Ordering;

use x86::msr::{IA32_APIC_BASE, rdmsr};

use crate::boot::{self, Machine, PhysicalRange};
use crate::firmware::acpi::{self, PmTimer, Processors};
use crate::firmware::{Handover, HandoverError, PhysicalMemory, memory_map, multiboot2, pvh};

use super::console::{self, print_line};
use super::cpu::{BOOT_STACK_TOP, STACKS, this_cpu};
use super::global::kernel;
use super::multiprocessor::{self, AP_STACK, TrampolinePage, ap_start};
use super::{apic, clock, descriptors, features, guest, io_apic, lock, paging, trap};

global_asm!(
    include_str!("boot.s"),
    PVH_MAGIC = const pvh::MAGIC,
    STACKS = sym STACKS,
    BOOT_STACK_TOP = const BOOT_STACK_TOP,
    KERNEL_START = sym kernel_start,
    AP_STACK = sym AP_STACK,
    AP_START = sym ap_start,
);

/// Physical memory as the boot tables map it: the first 4 GiB, to itself.
struct IdentityMemory;

const IDENTITY_END: u64 = 1 << 32;

impl PhysicalMemory for IdentityMemory {
    fn read(&self, address: u64, bytes: &mut [u8]) -> Option<()> {
        let end = address.checked_add(bytes.len() as u64)?;
        if address == 0 || end > IDENTITY_END {
            return None;
        }
        // SAFETY: mapped until `paging::build`; this value does not live longer. What is there is
        // plain memory or, if a table lies, a device whose reading disturbs nothing we rely on.
        unsafe {
            core::ptr::copy_nonoverlapping(address as *const u8, bytes.as_mut_ptr(), bytes.len());
        }
        Some(())
    }
}

/// What is read while the boot loader's and the firmware's memory is in reach.
struct Findings {
    handover: Handover,
    processors: Processors,
    pm_timer: Option<PmTimer>,
    trampoline: Option<TrampolinePage>,
}

/// Where the first CPU comes to Rust, on its stack, with the boot tables.
extern "C" fn kernel_start(magic: u32, info: u32) -> ! {
    console::initialise();
    features::find();
    descriptors::fill_idt();
    descriptors::load(0);
    features::enable();
    guest::find();
    guest::enable(this_cpu());
    let findings = match look_around(magic, u64::from(info)) {
        Ok(findings) => findings,
        Err(error) => panic!("the boot loader's information is unusable: {error:?}"),
    };
    let machine = take_over(&findings);
    print_line!(
        "kernel: {} CPUs, {} MiB, TSC {} kHz",
        machine.nodes,
        mebibytes(&machine.ram),
        machine.tsc_khz,
    );
    let cpu = this_cpu();
    lock::acquire(cpu);
    kernel().update_timestamp();
    if let Err(error) = boot::boot(kernel(), &machine) {
        panic!("no root task: {error:?}");
    }
    multiprocessor::release();
    kernel().enter();
    trap::start(cpu)
}

fn look_around(magic: u32, info: u64) -> Result<Findings, HandoverError> {
    let memory = IdentityMemory;
    let handover = match magic {
        multiboot2::MAGIC => multiboot2::parse(&memory, info)?,
        pvh::MAGIC => pvh::parse(&memory, info)?,
        _ => return Err(HandoverError::UnknownProtocol),
    };
    let rsdp = handover.rsdp.or_else(|| acpi::find_rsdp(&memory));
    let tables = rsdp.as_ref().and_then(acpi::Tables::new);
    let trampoline = multiprocessor::place_trampoline(&handover);
    Ok(Findings {
        handover: Handover { rsdp, ..handover },
        processors: tables
            .and_then(|t| t.processors(&memory))
            .unwrap_or_default(),
        pm_timer: tables.and_then(|t| t.pm_timer(&memory)),
        trampoline,
    })
}

/// Takes the machine over: memory, interrupts, time, the other CPUs.
fn take_over(findings: &Findings) -> Machine {
    let handover = &findings.handover;
    let usable = memory_map::usable_ram(&handover.memory_map);
    let mapped = paging::build(&usable, &handover.modules);
    let left_out = mebibytes(&usable) - mebibytes(&mapped.ram);
    if left_out != 0 {
        print_line!("kernel: {left_out} MiB of memory have no room in the page tables");
    }
    let local_apic = local_apic_address(&findings.processors);
    io_apic::silence_legacy_controllers();
    apic::find(local_apic);
    apic::enable();
    let cpu = this_cpu();
    cpu.apic_id.set(apic::id());
    cpu.online.store(true, Ordering::Release);
    let mut machine = Machine {
        ram: mapped.ram,
        modules: mapped.modules,
        kernel: paging::image_range(),
        memory_map: handover.memory_map.clone(),
        rsdp: handover.rsdp,
        framebuffer: handover.framebuffer,
        xcr0: features::thread_xcr0(),
        virtualisation: guest::offered(),
        ..Machine::default()
    };
    let pages = io_apic::initialise(&findings.processors.ioapics);
    let local_apic_page = PhysicalRange {
        start: local_apic,
        end: local_apic + 0x1000,
    };
    machine
        .withheld
        .extend(core::iter::once(local_apic_page).chain(pages));
    clock::calibrate(findings.pm_timer);
    machine.tsc_khz = clock::tsc_khz();
    machine.nodes =
        multiprocessor::start_others(&findings.processors.apic_ids, findings.trampoline);
    machine
}

fn mebibytes(ranges: &[PhysicalRange]) -> u64 {
    ranges.iter().map(|range| range.length()).sum::<u64>() >> 20
}

/// What the firmware tells, else what this CPU's APIC itself says.
fn local_apic_address(processors: &Processors) -> u64 {
    const PAGE_MASK: u64 = 0xf_ffff_f000;
    match processors.local_apic {
        // SAFETY: every 64-bit CPU has this MSR.
        0 => unsafe { rdmsr(IA32_APIC_BASE) & PAGE_MASK },
        address => address,
    }
}
