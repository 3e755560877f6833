//! I/O APICs: from device pins to vectors; and the legacy controllers, which stay silent.

use core::cell::Cell;

use heapless::Vec;
use x86::io::outb;

use crate::arch::{IoApicRoute, IrqMask};
use crate::boot::PhysicalRange;
use crate::config::{IRQ_USER_BASE, NUM_IRQS};
use crate::firmware::acpi::{IoApic, MAX_IOAPICS};

use super::cpu::CPUS;
use super::global::SetAtBoot;
use super::paging;
use super::trap::vector;

const SELECT: usize = 0;
const WINDOW: usize = 0x10;
const VERSION: u32 = 1;
const REDIRECTIONS: u32 = 0x10;
const MASKED: u32 = 1 << 16;
const LEVEL_SHIFT: u32 = 15;
const POLARITY_SHIFT: u32 = 13;
const DESTINATION_SHIFT: u32 = 24;

/// Ports of the two legacy controllers.
const LEGACY: [u16; 2] = [0x20, 0xa0];

/// An I/O APIC that can be used.
#[derive(Clone, Copy)]
struct Controller {
    registers: usize,
    pins: u32,
}

/// Where an interrupt comes from: index of the controller, pin, and the low word of its entry.
#[derive(Clone, Copy)]
struct Source {
    controller: usize,
    pin: u32,
    entry: u32,
}

struct Sources([Cell<Option<Source>>; NUM_IRQS]);

// SAFETY: for the holder of the big lock only.
unsafe impl Sync for Sources {}

static CONTROLLERS: SetAtBoot<Vec<Controller, MAX_IOAPICS>> = SetAtBoot::new(Vec::new());
static SOURCES: Sources = Sources([const { Cell::new(None) }; NUM_IRQS]);

impl Controller {
    fn read(self, register: u32) -> u32 {
        // SAFETY: the registers are mapped, and reached under the big lock or at boot.
        unsafe {
            ((self.registers + SELECT) as *mut u32).write_volatile(register);
            ((self.registers + WINDOW) as *const u32).read_volatile()
        }
    }

    fn write(self, register: u32, value: u32) {
        // SAFETY: as in `read`.
        unsafe {
            ((self.registers + SELECT) as *mut u32).write_volatile(register);
            ((self.registers + WINDOW) as *mut u32).write_volatile(value);
        }
    }

    fn write_entry(self, pin: u32, low: u32) {
        self.write(REDIRECTIONS + 2 * pin, low);
    }
}

/// Takes over the controllers that the firmware tells of, with every pin masked. For the first
/// CPU, once. Returns the pages of their registers.
pub fn initialise(found: &[IoApic]) -> Vec<PhysicalRange, MAX_IOAPICS> {
    let mut controllers = Vec::new();
    let mut pages = Vec::new();
    for ioapic in found {
        let Some(registers) = paging::map_device(ioapic.address) else {
            break;
        };
        let mut controller = Controller { registers, pins: 0 };
        controller.pins = (controller.read(VERSION) >> 16 & 0xff) + 1;
        for pin in 0..controller.pins {
            controller.write_entry(pin, MASKED);
        }
        let start = ioapic.address & !0xfff;
        // Both lists have room for as many as `found` can have.
        let _ = controllers.push(controller);
        let _ = pages.push(PhysicalRange {
            start,
            end: start + 0x1000,
        });
    }
    // SAFETY: boot, one CPU.
    unsafe { CONTROLLERS.set(controllers) };
    pages
}

/// Moves the legacy controllers off the exception vectors and masks all their lines.
///
/// This must come before the local APIC's LINT0 is masked: a request that the 8259 has raised is
/// then withdrawn through LINT0. QEMU otherwise keeps it and, at the first instruction with
/// interrupts on, delivers an interrupt without a vector as a general-protection fault.
pub fn silence_legacy_controllers() {
    const INITIALISE: u8 = 0x11;
    const MODE_8086: u8 = 1;
    let first = vector::FIRST_INTERRUPT as u8;
    // SAFETY: the initialisation sequence of the two 8259s; afterwards they deliver nothing.
    unsafe {
        for ((port, base), wiring) in LEGACY.into_iter().zip([first, first + 8]).zip([4, 2]) {
            outb(port, INITIALISE);
            outb(port + 1, base);
            outb(port + 1, wiring);
            outb(port + 1, MODE_8086);
            outb(port + 1, 0xff);
        }
    }
}

/// How many pins I/O APIC `index` has; `None` if there is no such one.
#[must_use]
pub fn ioapic_pins(index: u64) -> Option<u64> {
    let controller = CONTROLLERS.get().get(usize::try_from(index).ok()?)?;
    Some(u64::from(controller.pins))
}

/// Programs a pin, masked, to deliver to the first CPU. The arguments were checked.
pub fn route_ioapic(route: IoApicRoute) {
    let index = route.ioapic as usize;
    let Some(controller) = CONTROLLERS.get().get(index) else {
        return;
    };
    let entry = (vector::FIRST_INTERRUPT + IRQ_USER_BASE + route.vector) as u32
        | (route.level as u32) << LEVEL_SHIFT
        | (route.polarity as u32) << POLARITY_SHIFT;
    let pin = route.pin as u32;
    controller.write_entry(pin, entry | MASKED);
    let destination = CPUS[0].apic_id.get() << DESTINATION_SHIFT;
    controller.write(REDIRECTIONS + 2 * pin + 1, destination);
    // A pin has one vector: an interrupt that had it before has no source any more.
    let is_other = |source: &Source| source.controller == index && source.pin == pin;
    for slot in &SOURCES.0 {
        if slot.get().as_ref().is_some_and(is_other) {
            slot.set(None);
        }
    }
    if let Some(slot) = SOURCES.0.get((IRQ_USER_BASE + route.vector) as usize) {
        slot.set(Some(Source {
            controller: index,
            pin,
            entry,
        }));
    }
}

/// Masks an interrupt that is nobody's any more, and forgets where it came from.
pub fn release_irq(irq: u8) {
    set_irq_mask(irq, IrqMask::Masked);
    if let Some(slot) = SOURCES.0.get(usize::from(irq)) {
        slot.set(None);
    }
}

/// Masks or unmasks an interrupt at its controller. One that comes as a message has none.
pub fn set_irq_mask(irq: u8, mask: IrqMask) {
    let Some(source) = SOURCES.0.get(usize::from(irq)).and_then(Cell::get) else {
        return;
    };
    let Some(controller) = CONTROLLERS.get().get(source.controller) else {
        return;
    };
    let masked = match mask {
        IrqMask::Masked => MASKED,
        IrqMask::Unmasked => 0,
    };
    controller.write_entry(source.pin, source.entry | masked);
}
