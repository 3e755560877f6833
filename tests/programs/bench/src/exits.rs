//! Exits of a virtual CPU to this program and back, with as little as a monitor can do between.
//!
//! The guest is a few bytes in real mode: one instruction that exits, and a jump back to it. A round is the guest's instruction and the jump, the exit, the answer and the
//! next entry. What the system's own monitor adds is measured inside its virtual machines.

use core::sync::atomic::{AtomicU64, Ordering};

use libcap::capability::{
    AsidPool, Frame, GuestPageDirectory, GuestPageTable, GuestPdpt, GuestRoot, Vcpu,
};
use libcap::kernel;
use libcap::vcpu::{self, Entry, ExitRecord, GENERAL_REGISTERS, Outcome};
use sel4_sys::{CapRights, Event, ExitReason, InitialSlot, ObjectType, VcpuField, VmAttributes};

use crate::figure::{Figure, Samples};
use crate::report::Report;
use crate::workshop::Workshop;

/// The vector that is injected.
const VECTOR: u8 = 0x20;
/// Where its handler is, behind the vectors; the stack grows down from it.
const HANDLER: u64 = 0x500;
/// Where the instruction is. A CPU starts elsewhere, at an address to which no IRET returns.
const CODE: u64 = 0x600;
/// IRET.
const IRET: u64 = 0xcf;
/// Index of RSP among the general registers.
const RSP: usize = 4;
const RFLAGS_IF: u64 = 1 << 9;
const RFLAGS_ONE: u64 = 1 << 1;

/// A page of the guest's memory, part of this program's image.
#[repr(C, align(4096))]
struct Page([AtomicU64; 512]);

impl Page {
    const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; 512])
    }

    fn address(&self) -> u64 {
        self.0.as_ptr().addr() as u64
    }

    /// Writes the eight bytes from `offset` on.
    fn write(&self, offset: usize, word: u64) {
        self.0[offset / 8].store(word, Ordering::SeqCst);
    }
}

/// All of the guest's memory: the page at address 0.
static MEMORY: Page = Page::new();
static ROUNDS: Samples = Samples::new();

/// How an exit is answered.
#[derive(Clone, Copy)]
enum Answer {
    /// The guest goes on behind the instruction, with the registers that it had.
    Skip { bytes: u64 },
    /// Likewise, with other registers.
    SkipWithRegisters { bytes: u64 },
    /// The guest goes on behind the instruction, in the handler of an interrupt.
    Interrupt { bytes: u64 },
}

/// An instruction that exits.
struct Trial {
    figure: &'static str,
    /// Its code and that of the jump, little-endian.
    code: u64,
    reason: ExitReason,
    answer: Answer,
}

const TRIALS: [Trial; 4] = [
    Trial {
        figure: "VM exit, CPUID, bare",
        // cpuid; jmp -4
        code: 0xfceb_a20f,
        reason: ExitReason::Cpuid,
        answer: Answer::SkipWithRegisters { bytes: 2 },
    },
    Trial {
        figure: "VM exit, port write, bare",
        // out 0x80, al; jmp -4
        code: 0xfceb_80e6,
        reason: ExitReason::Io,
        answer: Answer::Skip { bytes: 2 },
    },
    Trial {
        figure: "VM exit, write to unmapped memory, bare",
        // mov [0x2000], al; jmp -5
        code: 0xfb_eb20_00a2,
        reason: ExitReason::MemoryFault,
        answer: Answer::Skip { bytes: 3 },
    },
    Trial {
        figure: "VM exit, HLT and injected interrupt, bare",
        // hlt; jmp -3
        code: 0xfd_ebf4,
        reason: ExitReason::Hlt,
        answer: Answer::Interrupt { bytes: 1 },
    },
];

/// Measures every kind of exit, if guests can run here.
pub fn measure(workshop: &mut Workshop, report: &mut Report) {
    let root = guest_space(workshop);
    let vcpu: Vcpu = workshop.make(ObjectType::Vcpu);
    if vcpu.set_guest_root(root).is_err() {
        report.line(format_args!("no virtual machines here"));
        return;
    }
    vcpu.set_tcb(workshop.main_thread()).expect("it has none");
    let state = [
        (VcpuField::CsSelector, 0),
        (VcpuField::CsBase, 0),
        (VcpuField::Rsp, HANDLER),
    ];
    vcpu.write_fields(&state).expect("a real-mode segment");
    for trial in &TRIALS {
        report.figure(trial.figure, measure_trial(trial));
    }
}

/// The page at address 0; nothing else.
fn guest_space(workshop: &mut Workshop) -> GuestRoot {
    let root: GuestRoot = workshop.make(ObjectType::GuestPml4);
    AsidPool::from_cptr(InitialSlot::AsidPool.cptr())
        .assign(root.cptr())
        .expect("the pool has room");
    GuestPdpt::from_cptr(workshop.make_slot(ObjectType::GuestPdpt, 0))
        .map(root, 0)
        .expect("an empty space");
    GuestPageDirectory::from_cptr(workshop.make_slot(ObjectType::GuestPageDirectory, 0))
        .map(root, 0)
        .expect("an empty space");
    GuestPageTable::from_cptr(workshop.make_slot(ObjectType::GuestPageTable, 0))
        .map(root, 0)
        .expect("an empty space");
    let frame: Frame = workshop.copy(workshop.image_frame(MEMORY.address()));
    frame
        .map_guest(root, 0, CapRights::ALL, VmAttributes::WRITE_BACK)
        .expect("the tables are there");
    MEMORY.write(usize::from(VECTOR) * 4, HANDLER);
    MEMORY.write(HANDLER as usize, IRET);
    root
}

fn measure_trial(trial: &Trial) -> Figure {
    MEMORY.write(CODE as usize, trial.code);
    let mut record = ExitRecord::default();
    let mut rip = CODE;
    let mut registers = [0; GENERAL_REGISTERS];
    registers[RSP] = HANDLER;
    let mut event = None;
    for round in Samples::rounds() {
        let before = kernel::time_stamp();
        let mut entry = Entry::resume()
            .with_registers(rip, &registers)
            .with_rflags(RFLAGS_IF | RFLAGS_ONE);
        if let Some(event) = event {
            entry = entry.after_emulation().with_event(event);
        }
        let outcome = vcpu::enter(&entry, &mut record);
        assert_eq!(outcome, Outcome::Exit, "{}", trial.figure);
        assert_eq!(record.reason(), Ok(trial.reason), "{}", trial.figure);
        registers = *record.registers();
        match trial.answer {
            Answer::Skip { bytes } => rip = record.rip() + bytes,
            Answer::SkipWithRegisters { bytes } => {
                registers[..RSP].fill(round as u64);
                rip = record.rip() + bytes;
            }
            Answer::Interrupt { bytes } => {
                rip = record.rip() + bytes;
                event = Some(Event::interrupt(VECTOR));
            }
        }
        ROUNDS.set(round, kernel::time_stamp() - before);
    }
    ROUNDS.figure()
}
