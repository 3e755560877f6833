//! Boots a root task in host memory and lets it make system calls.

use microkernel::arch;
use microkernel::boot::{self, BootError};
use microkernel::cap::Cap;
use microkernel::kernel::Kernel;
use microkernel::object::{TcbSlot, ThreadState};
use microkernel::store::{Ref, Table};
use microkernel::vspace;
use sel4_sys::{InvocationLabel, MessageInfo, ObjectType, Syscall};
use support::{ARENA, ENTRY, Memory, machine_with, root_task};

mod support;

fn booted() -> &'static Kernel {
    let kernel: &'static Kernel = Box::leak(Box::new(Kernel::new()));
    let memory = Box::leak(Box::new(Memory::new()));
    boot::boot(kernel, &machine_with(memory, &root_task(), 1)).unwrap();
    kernel.leave();
    kernel
}

/// The root task's top table.
fn root_table(kernel: &Kernel) -> Ref<Table> {
    let slot = kernel.current().slot(TcbSlot::VSpace);
    slot.raw().root().unwrap().table
}

fn word_at(kernel: &Kernel, address: u64) -> u64 {
    let at = vspace::find(root_table(kernel), address, 12).unwrap();
    let page = arch::kernel_address(at.entry().get() & vspace::entry::ADDRESS);
    let table = Ref::<Table>::from_address(page);
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
    let entry = |address| {
        vspace::find(root_table(kernel), address, 12)
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
    let memory = Memory::new();
    let refused = boot::boot(&kernel, &machine_with(&memory, &[0; 4096], 1));
    assert!(matches!(refused, Err(BootError::BadImage(_))));
}
