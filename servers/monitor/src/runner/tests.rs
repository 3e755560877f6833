use super::*;
use crate::boot::cpu_state;
use crate::cpuid::Leaf;
use crate::machine::Machine;
use crate::memory::tests::ram;
use crate::memory::{GuestAddress, GuestMemory};
use crate::mode::{CR0_PE, EFER_LMA};
use crate::outcome::ResetCause;
use crate::time::TimeBase;
use crate::vcpu::{FieldRefused, RAX, RBX, RCX, RDX};
use core::cell::{Cell, RefCell};
use core::sync::atomic::AtomicU64;
use sel4_sys::ExitReason;
use sel4_sys::vcpu::exit;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::vec;
use std::vec::Vec;

mod endings;
mod hostile;
mod interrupts;

/// One tick is one nanosecond.
const KHZ: u64 = 1_000_000;
/// Where the guest's code is.
const CODE: u64 = 0x1000;

struct Locked(Mutex<Machine>);

impl MachineLock for Locked {
    fn with<R>(&self, action: impl FnOnce(&mut Machine) -> R) -> R {
        action(&mut self.0.lock().unwrap())
    }
}

/// A system around the VM in which time stands still unless somebody sleeps.
#[derive(Default)]
struct TestHost {
    now: Cell<u64>,
    timers: RefCell<BTreeMap<usize, u64>>,
    woken: RefCell<Vec<usize>>,
    sleeps: Cell<u32>,
    output: RefCell<Vec<u8>>,
    input: RefCell<VecDeque<u8>>,
    service_wakes: Cell<u32>,
}

impl Host for TestHost {
    fn now(&self) -> Ticks {
        Ticks(self.now.get())
    }

    fn tsc_offset(&self) -> u64 {
        0x1000_0000
    }

    fn wake(&self, index: usize) {
        self.woken.borrow_mut().push(index);
    }

    fn sleep(&self, index: usize) {
        self.sleeps.set(self.sleeps.get() + 1);
        if let Some(deadline) = self.timers.borrow_mut().remove(&index) {
            self.now.set(self.now.get().max(deadline));
        }
    }

    fn set_vcpu_timer(&self, index: usize, deadline: Ticks) {
        self.timers.borrow_mut().insert(index, deadline.0);
    }

    fn set_platform_timer(&self, _deadline: Ticks) {}

    fn wake_service(&self) {
        self.service_wakes.set(self.service_wakes.get() + 1);
    }

    fn write_console(&self, byte: u8) -> bool {
        self.output.borrow_mut().push(byte);
        true
    }

    fn flush_console(&self) {}

    fn read_console(&self) -> Option<u8> {
        self.input.borrow_mut().pop_front()
    }
}

/// What an entry asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    registers: Option<Registers>,
    event: Option<Event>,
    window: bool,
    emulated: bool,
}

/// A VCPU that plays exits from a list and remembers how it was entered.
#[derive(Default)]
struct Script {
    exits: VecDeque<[u64; exit::LENGTH]>,
    seen: Vec<Seen>,
    fields: BTreeMap<VcpuField, u64>,
    refused: Vec<VcpuField>,
}

impl Vcpu for &mut Script {
    fn enter(&mut self, request: &EntryRequest, record: &mut ExitRecord) -> Outcome {
        self.seen.push(Seen {
            registers: request.registers.copied(),
            event: request.event,
            window: request.window,
            emulated: request.emulated,
        });
        match self.exits.pop_front() {
            Some(words) => {
                *record = ExitRecord::from_words(words);
                Outcome::Exit
            }
            None => Outcome::Notification(1),
        }
    }

    fn read_fields<const N: usize>(&mut self, fields: [VcpuField; N]) -> [u64; N] {
        fields.map(|field| self.fields.get(&field).copied().unwrap_or(0))
    }

    fn write_fields(&mut self, pairs: &[(VcpuField, u64)]) -> Result<(), FieldRefused> {
        if pairs.iter().any(|(field, _)| self.refused.contains(field)) {
            return Err(FieldRefused);
        }
        self.fields.extend(pairs.iter().copied());
        Ok(())
    }
}

/// An exit in 64-bit code at [`CODE`], interrupts enabled, no paging so that the code is found.
fn words(reason: ExitReason, qualification: u64) -> [u64; exit::LENGTH] {
    let mut words = [0; exit::LENGTH];
    words[exit::REASON] = reason.number();
    words[exit::QUALIFICATION] = qualification;
    words[exit::RIP] = CODE;
    words[exit::RFLAGS] = RFLAGS_IF | 2;
    words[exit::CR0] = CR0_PE;
    words[exit::EFER] = EFER_LMA;
    words[exit::MODE] = exit_mode::CS_LONG | exit_mode::INTERRUPTS_ENABLED;
    words
}

fn register(words: &mut [u64; exit::LENGTH], index: usize, value: u64) {
    words[exit::REGISTERS + index] = value;
}

fn host_cpuid(leaf: u32, _subleaf: u32) -> Leaf {
    match leaf {
        0 => Leaf {
            eax: 0x16,
            ebx: u32::from_le_bytes(*b"Genu"),
            ..Leaf::default()
        },
        0x8000_0000 => Leaf {
            eax: 0x8000_0008,
            ..Leaf::default()
        },
        0x8000_0008 => Leaf {
            eax: 40,
            ..Leaf::default()
        },
        _ => Leaf {
            eax: 0,
            ebx: u32::MAX,
            ecx: u32::MAX,
            edx: u32::MAX,
        },
    }
}

fn host_cpu() -> HostCpu<'static> {
    HostCpu {
        cpuid: &host_cpuid,
        xcr0: 7,
    }
}

struct Bench {
    words: Vec<AtomicU64>,
    script: Script,
    vcpus: usize,
}

type TestVm<'m> = VirtualMachine<'m, Locked, TestHost>;

impl Bench {
    fn new(exits: &[[u64; exit::LENGTH]]) -> Self {
        let script = Script {
            exits: exits.iter().copied().collect(),
            ..Script::default()
        };
        Self {
            words: ram(1 << 20),
            script,
            vcpus: 1,
        }
    }

    fn code(self, bytes: &[u8]) -> Self {
        GuestMemory::new(&self.words)
            .write(GuestAddress(CODE), bytes)
            .unwrap();
        self
    }

    fn vm(&self) -> TestVm<'_> {
        let base = TimeBase::new(KHZ).unwrap();
        let machine = Locked(Mutex::new(Machine::new(self.vcpus, base, 0)));
        VirtualMachine::new(
            GuestMemory::new(&self.words),
            machine,
            TestHost::default(),
            base,
            77,
        )
    }

    /// Runs so many rounds on VCPU 0 with `prepare` before; what the entries asked for.
    fn run(
        &mut self,
        rounds: usize,
        prepare: impl FnOnce(&TestVm),
    ) -> (Vec<Seen>, Result<(), VmEvent>) {
        let vm = {
            let base = TimeBase::new(KHZ).unwrap();
            let machine = Locked(Mutex::new(Machine::new(self.vcpus, base, 0)));
            let memory = GuestMemory::new(&self.words);
            VirtualMachine::new(memory, machine, TestHost::default(), base, 77)
        };
        prepare(&vm);
        let mut runner = Runner::new(&vm, 0, self.vcpus, &mut self.script, host_cpu());
        let mut result = Ok(());
        for _ in 0..rounds {
            result = runner.step();
            if result.is_err() {
                break;
            }
        }
        (core::mem::take(&mut self.script.seen), result)
    }

    /// Registers with which the guest goes on after its first exit.
    fn registers_after(&mut self) -> Registers {
        let (seen, result) = self.run(2, |_| {});
        assert_eq!(result, Ok(()));
        seen[1]
            .registers
            .expect("the guest goes on with new registers")
    }

    /// The event injected after the first exit.
    fn event_after(&mut self) -> Option<Event> {
        let (seen, result) = self.run(2, |_| {});
        assert_eq!(result, Ok(()));
        assert_eq!(
            seen[1].registers, None,
            "a faulting instruction changes nothing"
        );
        seen[1].event
    }
}

#[test]
fn cpuid_is_answered_and_its_length_read_from_memory() {
    let mut exit = words(ExitReason::Cpuid, 0);
    register(&mut exit, RAX, 0x4000_0000);
    let registers = Bench::new(&[exit]).code(&[0x0f, 0xa2]).registers_after();
    assert_eq!(registers.rip, CODE + 2);
    assert_eq!(
        registers.general[RBX],
        u64::from(u32::from_le_bytes(*b"Tess"))
    );
}

#[test]
fn a_length_that_the_cpu_gives_is_taken() {
    let mut exit = words(ExitReason::Cpuid, 0);
    exit[exit::INSTRUCTION_LENGTH] = 3;
    assert_eq!(Bench::new(&[exit]).registers_after().rip, CODE + 3);
}

#[test]
fn code_that_is_no_cpuid_any_more_is_simply_run() {
    let mut bench = Bench::new(&[words(ExitReason::Cpuid, 0)]).code(&[0x90, 0x90]);
    let (seen, result) = bench.run(2, |_| {});
    assert_eq!(
        (seen[1].registers, seen[1].event, result),
        (None, None, Ok(()))
    );
}

#[test]
fn port_output_reaches_the_console() {
    let mut exit = words(ExitReason::Io, 0x3f8 | 1 << 16);
    exit[exit::INSTRUCTION_LENGTH] = 1;
    register(&mut exit, RAX, 0xaa41);
    let bench = Bench::new(&[exit]);
    let vm = bench.vm();
    let mut script = Script {
        exits: [exit].into(),
        ..Script::default()
    };
    Runner::new(&vm, 0, 1, &mut script, host_cpu())
        .step()
        .unwrap();
    assert_eq!(*vm.host().output.borrow(), b"A");
}

#[test]
fn port_input_fills_only_its_part_of_rax() {
    for (size, expected) in [
        (1u64, 0x1122_3344_5566_77ff),
        (2, 0x1122_3344_5566_ffff),
        (4, 0xffff_ffff),
    ] {
        let mut exit = words(ExitReason::Io, 0x300 | size << 16 | 1 << 20);
        exit[exit::INSTRUCTION_LENGTH] = 2;
        register(&mut exit, RAX, 0x1122_3344_5566_7788);
        let registers = Bench::new(&[exit]).registers_after();
        assert_eq!(registers.general[RAX], expected);
        assert_eq!(registers.rip, CODE + 2);
    }
}

#[test]
fn a_string_output_is_decoded() {
    let mut exit = words(ExitReason::Io, 0x3f8 | 1 << 16 | 1 << 21 | 1 << 22);
    register(&mut exit, RDX, 0x3f8);
    register(&mut exit, RCX, 3);
    register(&mut exit, crate::vcpu::RSI, CODE);
    let bench = Bench::new(&[]).code(&[0xf3, 0x6e, 0x21]); // rep outsb
    let vm = bench.vm();
    let mut script = Script {
        exits: [exit].into(),
        ..Script::default()
    };
    Runner::new(&vm, 0, 1, &mut script, host_cpu())
        .step()
        .unwrap();
    assert_eq!(*vm.host().output.borrow(), [0xf3, 0x6e, 0x21]);
}

#[test]
fn device_memory_is_read_by_emulation() {
    let mut exit = words(ExitReason::MemoryFault, 1);
    exit[exit::GUEST_PHYSICAL] = 0xfee0_0030;
    register(&mut exit, RBX, 0xfee0_0030);
    let registers = Bench::new(&[exit]).code(&[0x8b, 0x03]).registers_after();
    assert_eq!(registers.general[RAX], 0x0005_0014);
}

#[test]
fn unknown_msrs_are_protection_faults_and_known_ones_have_values() {
    let gp = Some(Event::exception(13, Some(0)));
    for (reason, code) in [(ExitReason::MsrRead, 0x32), (ExitReason::MsrWrite, 0x30)] {
        let mut bench = Bench::new(&[words(reason, 0xdead)]).code(&[0x0f, code]);
        assert_eq!(bench.event_after(), gp);
    }
    let mut bench = Bench::new(&[words(ExitReason::MsrRead, 0x1b)]).code(&[0x0f, 0x32]);
    let registers = bench.registers_after();
    assert_eq!(
        (registers.general[RAX], registers.general[RDX]),
        (0xfee0_0900, 0)
    );
}

#[test]
fn writing_efer_keeps_its_rules() {
    let mut exit = words(ExitReason::MsrWrite, 0xc000_0080);
    register(&mut exit, RAX, 0x101);
    let mut bench = Bench::new(&[exit]).code(&[0x0f, 0x30]);
    bench.registers_after();
    assert_eq!(bench.script.fields[&VcpuField::Efer], 0x501);
    let mut svme = exit;
    register(&mut svme, RAX, 0x1101);
    let mut bench = Bench::new(&[svme]).code(&[0x0f, 0x30]);
    assert_eq!(bench.event_after(), Some(Event::exception(13, Some(0))));
}

#[test]
fn what_the_kernel_refuses_is_the_guests_fault() {
    let mut bench = Bench::new(&[words(ExitReason::MsrWrite, 0xc000_0082)]).code(&[0x0f, 0x30]);
    bench.script.refused = vec![VcpuField::Lstar];
    assert_eq!(bench.event_after(), Some(Event::exception(13, Some(0))));
}

#[test]
fn writing_the_tsc_moves_the_offset() {
    let mut exit = words(ExitReason::MsrWrite, 0x10);
    register(&mut exit, RAX, 500);
    let mut bench = Bench::new(&[exit]).code(&[0x0f, 0x30]);
    bench.registers_after();
    assert_eq!(
        bench.script.fields[&VcpuField::TscOffset],
        0x1000_0000 + 500
    );
}

#[test]
fn a_write_to_cr0_is_decoded_and_carried_out() {
    let mut exit = words(ExitReason::CrAccess, 0);
    exit[exit::EFER] = 0;
    exit[exit::MODE] = exit_mode::CS_DEFAULT_32;
    register(&mut exit, RAX, 0x11);
    let mut bench = Bench::new(&[exit]).code(&[0x0f, 0x22, 0xc0]);
    assert_eq!(bench.registers_after().rip, CODE + 3);
    assert_eq!(bench.script.fields[&VcpuField::Cr0], 0x11);
    register(&mut exit, RAX, 0x8000_0000);
    let mut bench = Bench::new(&[exit]).code(&[0x0f, 0x22, 0xc0]);
    assert_eq!(bench.event_after(), Some(Event::exception(13, Some(0))));
}

#[test]
fn instructions_that_cpuid_does_not_offer_are_invalid() {
    for reason in [ExitReason::VirtualisationInstruction, ExitReason::Monitor] {
        assert_eq!(
            Bench::new(&[words(reason, 0)]).event_after(),
            Some(Event::exception(6, None))
        );
    }
}

#[test]
fn a_started_vcpu_gets_its_real_mode_state() {
    use crate::device::interrupt_message::{Delivery, Destination, InterruptMessage, Trigger};
    let mut bench = Bench::new(&[]);
    bench.vcpus = 2;
    let vm = bench.vm();
    for delivery in [Delivery::Init, Delivery::Startup] {
        vm.access(None, |machine, _| {
            let message = InterruptMessage {
                destination: Destination::Physical(1),
                delivery,
                trigger: Trigger::Edge,
                vector: 0x9a,
            };
            machine.platform.interrupts.deliver(message, Some(0));
        });
    }
    let mut script = Script::default();
    let mut runner = Runner::new(&vm, 1, 2, &mut script, host_cpu());
    runner.step().unwrap();
    runner.step().unwrap();
    assert_eq!(script.fields[&VcpuField::CsBase], 0x9_a000);
    assert_eq!(script.seen.len(), 1);
}

#[test]
fn single_stepping_over_an_emulated_instruction_traps() {
    let mut exit = words(ExitReason::Cpuid, 0);
    exit[exit::RFLAGS] |= RFLAGS_TF;
    let mut bench = Bench::new(&[exit]).code(&[0x0f, 0xa2]);
    let (seen, _) = bench.run(2, |_| {});
    assert_eq!(seen[1].event, Some(Event::exception(1, None)));
    assert_eq!(seen[1].registers.unwrap().rip, CODE + 2);
    assert_eq!(
        bench.script.fields[&VcpuField::Dr6] & DR6_SINGLE_STEP,
        DR6_SINGLE_STEP
    );
}

#[test]
fn the_boot_state_is_written_with_the_tsc_offset() {
    let bench = Bench::new(&[]);
    let vm = bench.vm();
    let state = cpu_state::long_mode(&vm.memory(), 0x10_0200, 0x7000).unwrap();
    let mut script = Script::default();
    let mut runner = Runner::new(&vm, 0, 1, &mut script, host_cpu());
    runner.set_state(&state).unwrap();
    assert_eq!(script.fields[&VcpuField::Rip], 0x10_0200);
    assert_eq!(script.fields[&VcpuField::TscOffset], 0x1000_0000);
}
