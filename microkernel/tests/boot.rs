//! Boots a root task in host memory and lets it make system calls.

use microkernel::arch;
use microkernel::boot::{self, BootError, Machine, PhysicalRange};
use microkernel::cap::Cap;
use microkernel::kernel::Kernel;
use microkernel::object::ThreadState;
use microkernel::vspace;
use sel4_sys::{InvocationLabel, MessageInfo, ObjectType, Syscall};

const ARENA: usize = 4 << 20;
const ENTRY: u64 = 0x40_0010;

/// Page-aligned memory that lives until the process ends.
fn arena() -> usize {
    let memory = vec![0u8; ARENA + (1 << 20)].leak();
    (memory.as_ptr() as usize).next_multiple_of(1 << 20)
}

/// A static ELF64 with a text page and a data page with 8 KiB of zeros behind it.
fn root_task() -> Vec<u8> {
    let mut file = vec![0u8; 0x3000];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &2u16.to_le_bytes());
    put(18, &62u16.to_le_bytes());
    put(20, &1u32.to_le_bytes());
    put(24, &ENTRY.to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(52, &64u16.to_le_bytes());
    put(54, &56u16.to_le_bytes());
    put(56, &2u16.to_le_bytes());
    let segments = [
        (5u32, 0x1000u64, 0x40_0000u64, 0x20u64, 0x20u64),
        (6, 0x2000, 0x40_1000, 8, 0x2008),
    ];
    for (index, (flags, offset, address, in_file, in_memory)) in segments.into_iter().enumerate() {
        let at = 64 + index * 56;
        put(at, &1u32.to_le_bytes());
        put(at + 4, &flags.to_le_bytes());
        put(at + 8, &offset.to_le_bytes());
        put(at + 16, &address.to_le_bytes());
        put(at + 32, &in_file.to_le_bytes());
        put(at + 40, &in_memory.to_le_bytes());
    }
    put(0x1010, b"code");
    put(0x2000, b"data1234");
    file
}

fn machine_with(file: &[u8]) -> Machine {
    let start = arena() as u64;
    let module = start + ARENA as u64 - (1 << 20);
    microkernel::store::copy_to(module as usize, file);
    let range = |start, length| PhysicalRange {
        start,
        end: start + length,
    };
    Machine {
        ram: heapless::Vec::from_slice(&[range(start, ARENA as u64)]).unwrap(),
        kernel: range(start + 0x10000, 0x10000),
        modules: heapless::Vec::from_slice(&[range(module, file.len() as u64)]).unwrap(),
        tsc_khz: 1_000_000,
        nodes: 1,
        ..Machine::default()
    }
}

fn booted() -> &'static Kernel {
    let kernel: &'static Kernel = Box::leak(Box::new(Kernel::new()));
    boot::boot(kernel, &machine_with(&root_task())).unwrap();
    kernel.leave();
    kernel
}

fn word_at(kernel: &Kernel, address: u64) -> u64 {
    let root =
        kernel.valid_address_space(kernel.current().slot(microkernel::object::TcbSlot::VSpace));
    let at = vspace::find(root.unwrap().0, address, 12).unwrap();
    let page = arch::kernel_address(at.entry().get() & vspace::entry::ADDRESS);
    let table = microkernel::store::Ref::<microkernel::store::Table>::from_address(page);
    table.entry((address & 0xfff) as usize / 8).get()
}

/// One system call of the root task; label and first word of the answer.
fn call(kernel: &Kernel, cap: u64, label: InvocationLabel, words: &[u64]) -> (u64, u64) {
    let tcb = kernel.current();
    let buffer = tcb
        .ipc_buffer(microkernel::object::BufferUse::Send)
        .unwrap();
    for (index, word) in words.iter().enumerate() {
        match tcb.registers.message().get(index) {
            Some(register) => register.set(*word),
            None => buffer.word(1 + index).set(*word),
        }
    }
    tcb.registers.rdi.set(cap);
    tcb.registers
        .rsi
        .set(MessageInfo::new(label.number(), words.len(), 0).word());
    kernel.enter();
    kernel.handle_syscall(Syscall::Call.number());
    kernel.leave();
    let info = MessageInfo::from_word(tcb.registers.rsi.get());
    (info.label(), tcb.registers.r10.get())
}

#[test]
fn the_root_task_runs_with_its_image_loaded() {
    let kernel = booted();
    let tcb = kernel.current();
    assert_eq!(tcb.state.get(), ThreadState::Running);
    assert_eq!(tcb.registers.rip.get(), ENTRY);
    assert_eq!(
        word_at(kernel, 0x40_0010),
        u64::from_le_bytes(*b"code\0\0\0\0")
    );
    assert_eq!(word_at(kernel, 0x40_1000), u64::from_le_bytes(*b"data1234"));
    assert_eq!(word_at(kernel, 0x40_3000), 0);
}

#[test]
fn boot_info_stands_behind_the_image_and_lists_memory_once() {
    let kernel = booted();
    let info = kernel.current().registers.rdi.get();
    // The image spans 0x400000..0x404000; then the IPC buffer, then BootInfo.
    assert_eq!(info, 0x40_5000);
    assert_eq!(word_at(kernel, info + 32), 0x40_4000);
    let untyped = (word_at(kernel, info + 168), word_at(kernel, info + 176));
    let mut memory = 0;
    let mut total = 0u128;
    for index in 0..untyped.1 - untyped.0 {
        let at = info + 184 + index * 16;
        let (bits, device) = (
            word_at(kernel, at + 8) & 0xff,
            word_at(kernel, at + 8) >> 8 & 1,
        );
        total += 1 << bits;
        if device == 0 {
            memory += 1u64 << bits;
        }
    }
    assert!(memory > ARENA as u64 / 2 && memory < ARENA as u64);
    assert!(total < 1 << 47);
}

#[test]
fn text_is_not_writable_and_data_not_executable() {
    let kernel = booted();
    let root =
        kernel.valid_address_space(kernel.current().slot(microkernel::object::TcbSlot::VSpace));
    let entry = |address| {
        vspace::find(root.unwrap().0, address, 12)
            .unwrap()
            .entry()
            .get()
    };
    assert_eq!(entry(0x40_0000) & vspace::entry::WRITE, 0);
    assert_eq!(entry(0x40_0000) & vspace::entry::EXECUTE_NEVER, 0);
    assert_ne!(entry(0x40_1000) & vspace::entry::WRITE, 0);
    assert_ne!(entry(0x40_1000) & vspace::entry::EXECUTE_NEVER, 0);
}

#[test]
fn the_root_task_makes_an_endpoint_from_untyped() {
    let kernel = booted();
    let info = kernel.current().registers.rdi.get();
    let empty = word_at(kernel, info + 40);
    let last_untyped = word_at(kernel, info + 176) - 1;
    let tcb = kernel.current();
    let buffer = tcb
        .ipc_buffer(microkernel::object::BufferUse::Send)
        .unwrap();
    buffer.word(122).set(2);
    for (index, word) in [ObjectType::Endpoint.number(), 0, 0, 0, empty, 1]
        .into_iter()
        .enumerate()
    {
        match tcb.registers.message().get(index) {
            Some(register) => register.set(word),
            None => buffer.word(1 + index).set(word),
        }
    }
    tcb.registers.rdi.set(last_untyped);
    tcb.registers
        .rsi
        .set(MessageInfo::new(InvocationLabel::UntypedRetype.number(), 6, 1).word());
    kernel.enter();
    kernel.handle_syscall(Syscall::Call.number());
    kernel.leave();
    assert_eq!(MessageInfo::from_word(tcb.registers.rsi.get()).label(), 0);
    let slot = microkernel::lookup::lookup_slot(tcb, empty).unwrap();
    assert!(matches!(slot.cap(), Cap::Endpoint(_)));
}

#[test]
fn a_label_that_an_object_does_not_have_is_an_illegal_operation() {
    let kernel = booted();
    assert_eq!(call(kernel, 1, InvocationLabel::UntypedRetype, &[]), (3, 0));
}

#[test]
fn a_file_that_is_no_executable_is_refused() {
    let kernel = Kernel::new();
    let refused = boot::boot(&kernel, &machine_with(&[0; 4096]));
    assert!(matches!(refused, Err(BootError::BadImage(_))));
}
