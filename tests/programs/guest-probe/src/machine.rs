//! One virtual CPU as a monitor sees it: its state, entries, and exits to compare.

use libcap::capability::{Tcb, Vcpu};
use libcap::vcpu::{self, Entry, ExitRecord, GeneralRegisters, Outcome as Entered};
use sel4_sys::vcpu::IoQualification;
use sel4_sys::vcpu_field::segment_attributes as attributes;
use sel4_sys::{Event, ExitReason, ObjectType, VcpuField as F};

use crate::bench::Bench;
use crate::code;
use crate::failure::{Outcome, ensure, ensure_equal};
use crate::memory;

/// Indexes of general registers.
pub const RAX: usize = 0;
pub const RCX: usize = 1;
pub const RDX: usize = 2;
pub const RBX: usize = 3;
pub const RBP: usize = 5;
pub const RSI: usize = 6;
pub const RDI: usize = 7;

/// Tables of the guest, which scenarios in 64-bit mode share.
pub const PAGE_TABLES: u64 = 0x10000;
/// Interrupt descriptors in 64-bit mode.
pub const INTERRUPT_TABLE: u64 = 0x9000;
/// A word that guests change.
pub const COUNTER: u64 = 0x3000;
const STACK_TOP: u64 = 0x8000;

/// Code of the guest's segment at 0x18.
const LONG_CODE: u64 = 0x18;
const PRESENT_ACCESSED: u64 = attributes::PRESENT | attributes::CODE_OR_DATA;
const DATA: u64 = PRESENT_ACCESSED | 3;
const CODE: u64 = PRESENT_ACCESSED | 0xb;
const BUSY_TASK: u64 = attributes::PRESENT | 0xb;
const LOCAL_TABLE: u64 = attributes::PRESENT | 2;

pub const CR0_RESET: u64 = 0x6000_0010;
pub const CR0_LONG: u64 = 0x8005_0033;
pub const CR4_LONG: u64 = 0x4_0620;
pub const EFER_LONG: u64 = 0xd01;

/// A virtual CPU, and what its next entry changes.
pub struct Machine {
    pub vcpu: Vcpu,
    /// The last exit.
    pub record: ExitRecord,
    rip: u64,
    registers: GeneralRegisters,
    event: Option<Event>,
    window: bool,
    emulated: bool,
}

impl Machine {
    /// A new virtual CPU in the guests' address space, for the own thread.
    pub fn new(bench: &mut Bench) -> Outcome<Self> {
        let machine = Self::without_thread(bench)?;
        machine.vcpu.set_tcb(bench.own_thread())?;
        Ok(machine)
    }

    /// A new virtual CPU that no thread runs yet.
    pub fn without_thread(bench: &mut Bench) -> Outcome<Self> {
        let vcpu: Vcpu = bench.make(ObjectType::Vcpu, 0);
        vcpu.set_guest_root(bench.space)?;
        Ok(Self {
            vcpu,
            record: ExitRecord::default(),
            rip: 0xfff0,
            registers: [0; 16],
            event: None,
            window: false,
            emulated: false,
        })
    }

    /// Gives the virtual CPU to another thread.
    pub fn give_to(&self, thread: Tcb) -> Outcome {
        Ok(self.vcpu.set_tcb(thread)?)
    }

    /// Memory with nothing but the code, and the CPU in real mode at `rip`.
    pub fn start_real(&mut self, rip: u64) -> Outcome {
        memory::clear();
        memory::write_bytes(code::CODE_BASE, code::image());
        self.write_segments(0, DATA, 0, CODE, 0xffff)?;
        self.vcpu.write_fields(&[
            (F::Cr0, CR0_RESET),
            (F::Cr3, 0),
            (F::Cr4, 0),
            (F::Efer, 0),
            (F::IdtrBase, 0),
            (F::IdtrLimit, 0xffff),
        ])?;
        self.start(rip)
    }

    /// Memory with the code and the tables of 64-bit mode, and the CPU in it at `rip`.
    pub fn start_long(&mut self, rip: u64) -> Outcome {
        memory::clear();
        memory::write_bytes(code::CODE_BASE, code::image());
        write_long_tables();
        self.enter_long_mode(rip)
    }

    /// The CPU in 64-bit mode at `rip`; the memory stays.
    pub fn enter_long_mode(&mut self, rip: u64) -> Outcome {
        let (long, wide) = (attributes::LONG | attributes::GRANULARITY, 0xffff_ffff);
        let data = DATA | attributes::GRANULARITY | attributes::DEFAULT_32;
        self.write_segments(0x10, data, LONG_CODE, CODE | long, wide)?;
        self.vcpu.write_fields(&[
            (F::Cr0, CR0_LONG),
            (F::Cr3, PAGE_TABLES),
            (F::Cr4, CR4_LONG),
            (F::Efer, EFER_LONG),
            (F::GdtrBase, code::gdt()),
            (F::GdtrLimit, 0x1f),
            (F::IdtrBase, INTERRUPT_TABLE),
            (F::IdtrLimit, 0xfff),
        ])?;
        self.start(rip)
    }

    /// The CPU in 32-bit protected mode without paging at `rip`; the memory stays.
    pub fn enter_protected_mode(&mut self, rip: u64) -> Outcome {
        let flat = attributes::GRANULARITY | attributes::DEFAULT_32;
        self.write_segments(0x10, DATA | flat, 0x08, CODE | flat, 0xffff_ffff)?;
        self.vcpu
            .write_fields(&[(F::Cr0, 0x11), (F::Cr4, 0), (F::Efer, 0)])?;
        self.start(rip)
    }

    fn write_segments(
        &self,
        data: u64,
        rights: u64,
        code: u64,
        code_rights: u64,
        limit: u64,
    ) -> Outcome {
        let selectors = [
            F::EsSelector,
            F::SsSelector,
            F::DsSelector,
            F::FsSelector,
            F::GsSelector,
        ];
        let bases = [F::EsBase, F::SsBase, F::DsBase, F::FsBase, F::GsBase];
        let limits = [F::EsLimit, F::SsLimit, F::DsLimit, F::FsLimit, F::GsLimit];
        let all = [
            F::EsAttributes,
            F::SsAttributes,
            F::DsAttributes,
            F::FsAttributes,
            F::GsAttributes,
        ];
        self.vcpu
            .write_fields(&selectors.map(|field| (field, data)))?;
        self.vcpu.write_fields(&bases.map(|field| (field, 0)))?;
        self.vcpu
            .write_fields(&limits.map(|field| (field, limit)))?;
        self.vcpu.write_fields(&all.map(|field| (field, rights)))?;
        Ok(self.vcpu.write_fields(&[
            (F::CsSelector, code),
            (F::CsBase, 0),
            (F::CsLimit, limit),
            (F::CsAttributes, code_rights),
            (F::LdtrSelector, 0),
            (F::LdtrBase, 0),
            (F::LdtrLimit, 0xffff),
            (F::LdtrAttributes, LOCAL_TABLE),
            (F::TrSelector, 0),
            (F::TrBase, 0),
            (F::TrLimit, 0xffff),
            (F::TrAttributes, BUSY_TASK),
        ])?)
    }

    fn start(&mut self, rip: u64) -> Outcome {
        self.vcpu.write_fields(&[
            (F::Rflags, 2),
            (F::Interruptibility, 0),
            (F::PendingEvent, 0),
            (F::ExceptionIntercepts, 0),
            (F::Rip, rip),
            (F::Rsp, STACK_TOP),
        ])?;
        (self.event, self.window, self.emulated) = (None, false, false);
        self.rip = rip;
        self.registers = [0; 16];
        self.registers[4] = STACK_TOP;
        Ok(())
    }

    /// A general register at the next entry.
    pub fn set(&mut self, register: usize, value: u64) {
        self.registers[register] = value;
    }

    /// A general register at the last exit.
    pub fn get(&self, register: usize) -> u64 {
        self.record.registers()[register]
    }

    /// The next entry injects `event`.
    pub fn inject(&mut self, event: Event) {
        self.event = Some(event);
    }

    /// The next entry ends when the guest can take an interrupt.
    pub fn wait_for_window(&mut self) {
        self.window = true;
    }

    /// The next entry is at `rip`.
    pub fn go_to(&mut self, rip: u64) {
        self.rip = rip;
    }

    /// The next entry is behind the instruction that exited, which is `length` bytes long.
    pub fn skip(&mut self, length: u64) -> Outcome {
        if let Some(told) = self.record.instruction_length() {
            ensure_equal!(
                told,
                length,
                "length of the instruction at {:#x}",
                self.record.rip()
            );
        }
        self.rip = self.record.rip() + length;
        self.emulated = true;
        Ok(())
    }

    /// Runs the guest once.
    pub fn enter(&mut self) -> Entered {
        let mut entry = Entry::resume().with_registers(self.rip, &self.registers);
        if let Some(event) = self.event.take() {
            entry = entry.with_event(event);
        }
        if self.window {
            entry = entry.until_interrupt_window();
        }
        if self.emulated {
            entry = entry.after_emulation();
        }
        (self.window, self.emulated) = (false, false);
        let entered = vcpu::enter(&entry, &mut self.record);
        if entered == Entered::Exit {
            self.rip = self.record.rip();
            self.registers = *self.record.registers();
        }
        entered
    }

    /// Runs the guest as it is, without setting a register.
    pub fn resume(&mut self) -> Entered {
        let entered = vcpu::enter(&Entry::resume(), &mut self.record);
        if entered == Entered::Exit {
            self.rip = self.record.rip();
            self.registers = *self.record.registers();
        }
        entered
    }

    /// Runs the guest until an exit, which must be for `reason`.
    pub fn expect(&mut self, reason: ExitReason) -> Outcome {
        let entered = self.enter();
        self.must_be(entered, reason)
    }

    /// Fails unless `entered` is an exit for `reason`.
    pub fn must_be(&self, entered: Entered, reason: ExitReason) -> Outcome {
        ensure!(entered == Entered::Exit, "{entered:?} instead of an exit");
        let got = self.record.reason();
        ensure!(
            got == Ok(reason),
            "{got:?} (qualification {:#x}, address {:#x}) at {:#x} instead of {reason:?}",
            self.record.qualification(),
            self.record.guest_physical(),
            self.record.rip()
        );
        Ok(())
    }

    /// Runs the guest until it writes a byte to `port` with a two-byte instruction, and skips that.
    pub fn expect_mark(&mut self, port: u16) -> Outcome {
        self.expect(ExitReason::Io)?;
        self.must_be_mark(port)
    }

    /// The last exit is that of a mark; skips it.
    pub fn must_be_mark(&mut self, port: u16) -> Outcome {
        let wanted = IoQualification::new(port, 1, 0);
        ensure_equal!(
            self.record.qualification(),
            wanted.0,
            "I/O at {:#x}",
            self.record.rip()
        );
        self.skip(2)
    }

    /// The value of a field.
    pub fn field(&self, field: F) -> Outcome<u64> {
        Ok(self.vcpu.read_fields([field])?[0])
    }
}

/// Identity mapping of the first 2 MiB, and descriptors of the handlers.
pub fn write_long_tables() {
    const TABLE: u64 = 7;
    const LARGE_PAGE: u64 = 0x83;
    memory::write(PAGE_TABLES, (PAGE_TABLES + 0x1000) | TABLE);
    memory::write(PAGE_TABLES + 0x1000, (PAGE_TABLES + 0x2000) | TABLE);
    memory::write(PAGE_TABLES + 0x2000, LARGE_PAGE);
    let handlers = [
        (6, code::handler_undefined()),
        (13, code::handler_protection()),
        (14, code::handler_page_fault()),
        (0x30, code::handler_long_interrupt()),
    ];
    for (vector, handler) in handlers {
        const INTERRUPT_GATE: u64 = 0x8e00;
        let low = handler | LONG_CODE << 16 | INTERRUPT_GATE << 32;
        memory::write(INTERRUPT_TABLE + vector * 16, low);
        memory::write(INTERRUPT_TABLE + vector * 16 + 8, 0);
    }
}
