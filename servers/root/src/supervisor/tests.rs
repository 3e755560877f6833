//! The supervisor on a kernel that keeps books.

use super::*;
use crate::badge;
use crate::cspace::CSpace;
use crate::elf::tests::file as program_file;
use crate::fixed::DeviceMemory;
use crate::layout;
use crate::machine::{Framebuffer, Module};
use crate::mock::{BASE, MockKernel, NODE, Object};
use crate::resources::Arena;
use crate::untyped::{Block, UntypedPool};
use libcap::capability::CNode;
use proto::boot::{
    Authority, Channel, ChannelKind, Device, DeviceGrant, Placement, PortRange, Restart, Screen,
};
use proto::message::reply_label;
use proto::root::{Death, Virtualisation};
use proto::start::{CapKind, PANIC_MESSAGE_OFFSET, StartInfo};
use sel4_sys::thread::UserContext;
use sel4_sys::{CPtr, CapRights, MessageInfo, ObjectType, Syscall, VmAttributes};
use std::cell::RefCell;
use std::rc::Rc;

pub const CONSOLE: u16 = 0;
pub const ADMIN: u16 = 1;
pub const MONITOR: u16 = 2;

/// Files of the test: one program for everybody, whose code is `syscall` instructions.
pub struct OneProgram(Vec<u8>);

impl Files for OneProgram {
    fn file(&self, path: &str) -> Result<&[u8], ArchiveError> {
        if path == "/bin/missing" {
            Err(ArchiveError::NotFound)
        } else {
            Ok(&self.0)
        }
    }
}

/// Log lines, shared with the test.
#[derive(Clone, Default)]
pub struct Lines(Rc<RefCell<Vec<String>>>);

impl Log for Lines {
    fn line(&mut self, line: fmt::Arguments<'_>) {
        self.0.borrow_mut().push(line.to_string());
    }
}

pub type System = Supervisor<MockKernel, OneProgram, Lines>;

fn program(name: &str, priority: u8) -> Program {
    Program {
        name: name.into(),
        image: "/bin/program".into(),
        start: StartWhen::AtBoot,
        instances: 1,
        threads: 1,
        priority,
        placement: Placement::Spread,
        budget_us: 10_000,
        period_us: 10_000,
        heap_bytes: 0x21_0000,
        stack_bytes: 0x4000,
        replies: 0,
        timer_bit: None,
        signal_bits: 0,
        calls: vec![Callee::Root],
        authority: Authority::Report,
        devices: vec![],
        boot_archive: false,
        vcpus: 0,
        guest_bytes: 0,
        restart: Restart {
            limit: 2,
            backoff_ms: 100,
            calm_ms: 10_000,
        },
    }
}

fn manifest() -> Manifest {
    let console = Program {
        replies: 2,
        timer_bit: Some(2),
        devices: vec![
            DeviceGrant {
                device: 0,
                bit: Some(0),
            },
            DeviceGrant {
                device: 1,
                bit: None,
            },
        ],
        ..program("console", 200)
    };
    let admin = Program {
        calls: vec![Callee::Root, Callee::Program(CONSOLE)],
        authority: Authority::Manage,
        boot_archive: true,
        ..program("admin", 100)
    };
    let monitor = Program {
        start: StartWhen::OnRequest,
        instances: 2,
        threads: 3,
        vcpus: 2,
        guest_bytes: 64 << 20,
        signal_bits: 0b11100,
        restart: Restart {
            limit: 0,
            backoff_ms: 0,
            calm_ms: 0,
        },
        ..program("monitor", 90)
    };
    let channel = |kind, from, from_name: &str, to_name: &str| Channel {
        kind,
        from,
        from_name: from_name.into(),
        from_bit: 1,
        to: CONSOLE,
        to_name: to_name.into(),
        to_bit: 3,
    };
    Manifest {
        system: "test".into(),
        devices: vec![
            Device {
                name: "com1".into(),
                ports: Some(PortRange {
                    first: 0x3f8,
                    last: 0x3ff,
                }),
                interrupt: Some(4),
                framebuffer: false,
            },
            Device {
                name: "screen".into(),
                ports: None,
                interrupt: None,
                framebuffer: true,
            },
        ],
        programs: vec![console, admin, monitor],
        channels: vec![
            channel(ChannelKind::Log, Callee::Root, "log", "log.root"),
            channel(
                ChannelKind::Bytes,
                Callee::Program(MONITOR),
                "console",
                "vm.{instance}",
            ),
        ],
    }
}

fn machine() -> Machine {
    let screen = Screen {
        width: 640,
        height: 480,
        pitch_bytes: 2560,
        bits_per_pixel: 32,
    };
    Machine {
        archive: Some(Module {
            paddr: 0x2000_3000,
            bytes: 5000,
        }),
        virtualisation: Virtualisation::Svm,
        tsc_khz: 2_000_000,
        cpus: 2,
        framebuffer: Some(Framebuffer {
            paddr: 0xfd00_0000,
            screen,
        }),
        rsdp: None,
    }
}

/// A system with `memory_bits` of memory in which nothing runs.
pub fn system_with_memory(memory_bits: u8) -> (System, Lines) {
    let mut kernel = MockKernel::new();
    let mut cspace = CSpace::new(CNode::from_cptr(NODE), BASE);
    let (mut memory, mut devices) = (UntypedPool::default(), UntypedPool::default());
    for (paddr, bits, device) in [
        (0x1000_0000, memory_bits, false),
        (0x2000_0000, 22, true),
        (0xfd00_0000, 24, true),
    ] {
        let slot = cspace.take(1).unwrap();
        kernel.add_untyped(paddr, u32::from(bits), device, slot);
        let pool = if device { &mut devices } else { &mut memory };
        pool.add(Block { paddr, bits, slot });
    }
    let mut resources = Resources {
        kernel,
        cspace,
        memory,
        devices,
    };
    let (mut arena, machine, manifest) = (Arena::default(), machine(), manifest());
    let archive =
        DeviceMemory::of_module(&mut arena, &mut resources, machine.archive.unwrap()).unwrap();
    let framebuffer = machine.framebuffer;
    let fixed = Fixed::new(&mut arena, &mut resources, &manifest, archive, framebuffer).unwrap();
    let mut file = program_file(&[(5, 0x40_0000, 0x1800, 0x1800), (6, 0x40_2010, 8, 0x2000)]);
    file[0x1000..0x2800].copy_from_slice(&[0x0f, 0x05].repeat(0xc00));
    let context = SchedContext::from_cptr(CPtr(14));
    let own = Own {
        bytes: arena.bytes(),
        context,
        cpu_us: 0,
    };
    let lines = Lines::default();
    let system = Supervisor::new(
        resources,
        manifest,
        fixed,
        machine,
        own,
        OneProgram(file),
        lines.clone(),
    );
    (system, lines)
}

pub fn system() -> (System, Lines) {
    system_with_memory(28)
}

fn run_of(system: &System, place: Place) -> &Run {
    match &system.instance(place).unwrap().state {
        State::Running(run) => run,
        other => panic!("{place:?} does not run: {other:?}"),
    }
}

/// The frame that a run has mapped at an address, and how.
fn mapped(system: &System, place: Place, vaddr: u64) -> Option<(&Object, crate::kernel::Mapping)> {
    let kernel = &system.resources.kernel;
    let space = kernel.object_at(run_of(system, place).space.vspace().cptr());
    let (frame, mapping) = kernel.mappings[&space].get(&vaddr)?;
    Some((&kernel.objects[frame], *mapping))
}

fn start_info(system: &System, place: Place) -> StartInfo {
    let (page, mapping) = mapped(system, place, layout::START_INFO).expect("a start record");
    assert!(
        !mapping.rights.contains(CapRights::WRITE),
        "the start record is read-only"
    );
    StartInfo::decode(&page.content).unwrap()
}

fn cap_named<'a>(info: &'a StartInfo, name: &str) -> &'a proto::start::NamedCap {
    let found = info.caps.iter().find(|cap| cap.name == name);
    found.unwrap_or_else(|| panic!("no {name} among {:?}", info.caps))
}

#[test]
fn what_starts_at_boot_runs_and_knows_what_it_holds() {
    let (mut system, lines) = system();
    system.start_at_boot(0);
    assert_eq!(*lines.0.borrow(), [""; 0]);
    let info = start_info(&system, (CONSOLE, 0));
    let names: Vec<&str> = info.caps.iter().map(|cap| cap.name.as_str()).collect();
    let expected = [
        "self",
        "wake",
        "reply.0",
        "reply.1",
        "timer",
        "root",
        "log.root.wake",
        "vm.0.wake",
        "vm.1.wake",
        "com1.ports",
        "com1.irq",
    ];
    assert_eq!(names, expected);
    let regions: Vec<&str> = info
        .regions
        .iter()
        .map(|region| region.name.as_str())
        .collect();
    let expected = [
        "log.root.rx",
        "vm.0.tx",
        "vm.0.rx",
        "vm.1.tx",
        "vm.1.rx",
        "screen.memory",
    ];
    assert_eq!(regions, expected);
    assert_eq!(info.heap.length, 0x21_0000);
    assert_eq!(
        postcard::from_bytes(&info.args),
        Ok(machine().framebuffer.unwrap().screen)
    );
    let admin = start_info(&system, (ADMIN, 0));
    assert_eq!(cap_named(&admin, "console").kind, CapKind::Endpoint);
    assert_eq!(admin.regions[0].name, "boot");
    assert_eq!(admin.regions[0].vaddr, layout::ARCHIVE + 0x3000);
}

#[test]
fn threads_start_as_libcap_expects_with_the_manifests_priority() {
    let (mut system, _) = system();
    system.start((MONITOR, 1), vec![9], 4 << 20, 0).unwrap();
    let pid = system.instance((MONITOR, 1)).unwrap().pid;
    let kernel = &system.resources.kernel;
    for (thread, index) in run_of(&system, (MONITOR, 1)).threads.iter().zip(0..) {
        let started = &kernel.threads[&kernel.object_at(thread.tcb.cptr())];
        assert!(started.running);
        let context = started.context;
        assert_eq!((context.rip, context.rdi), (0x40_0010, layout::START_INFO));
        assert_eq!(
            (context.rsi, context.rsp),
            (u64::from(index), layout::stack_top(index))
        );
        assert_eq!(context.fs_base, layout::ipc_buffer(index));
        assert_eq!(started.priority, 90);
        assert_eq!(
            started.cpu,
            (1 + index) % 2,
            "spread from the instance's number on"
        );
        assert_eq!(started.fault_badge, badge::fault(pid, index));
    }
    assert_eq!(start_info(&system, (MONITOR, 1)).args, [9]);
}

#[test]
fn only_code_is_executable() {
    let (mut system, _) = system();
    system.start_at_boot(0);
    let executable = |vaddr| {
        let (_, mapping) = mapped(&system, (CONSOLE, 0), vaddr).expect("mapped");
        !mapping.attributes.contains(VmAttributes::EXECUTE_NEVER)
    };
    assert!(executable(0x40_0000) && executable(0x40_1000));
    for vaddr in [
        0x40_2000,
        layout::HEAP,
        layout::stack_top(0) - 0x1000,
        layout::START_INFO,
    ] {
        assert!(!executable(vaddr), "{vaddr:#x}");
    }
    assert!(
        mapped(&system, (CONSOLE, 0), layout::stack_top(0) - 0x5000).is_none(),
        "a guard"
    );
}

#[test]
fn a_guests_memory_is_the_monitors_and_nobody_elses() {
    let (mut system, _) = system();
    system.start((MONITOR, 0), vec![], 16 << 20, 0).unwrap();
    system.start((MONITOR, 1), vec![], 8 << 20, 0).unwrap();
    let kernel = &system.resources.kernel;
    assert_eq!(kernel.vcpus.len(), 4);
    let mut seen = std::collections::BTreeSet::new();
    for (instance, pages) in [(0, 8), (1, 4)] {
        let run = run_of(&system, (MONITOR, instance));
        let own = kernel.object_at(run.space.vspace().cptr());
        let bound = |thread: usize| kernel.object_at(run.threads[thread].tcb.cptr());
        let vcpu = kernel
            .vcpus
            .values()
            .find(|(thread, _)| *thread == bound(1));
        let (_, guest) = *vcpu.expect("thread 1 has a virtual CPU");
        assert_eq!(kernel.mappings[&guest].len(), pages);
        for (gpa, (frame, _)) in &kernel.mappings[&guest] {
            assert!(seen.insert(*frame), "a frame in two guests");
            assert_eq!(kernel.mappings[&own][&(layout::GUEST + gpa)].0, *frame);
        }
    }
}

#[test]
fn a_fault_restarts_a_program_after_a_wait_and_says_so() {
    let (mut system, lines) = system();
    system.start_at_boot(0);
    let pid = system.instance((CONSOLE, 0)).unwrap().pid;
    let death = Death::MemoryFault {
        ip: 0x40_0000,
        address: 8,
    };
    system.faulted(pid, 0, death, 1000);
    assert_eq!(
        *lines.0.borrow(),
        [
            "error: console (pid 1) died: memory fault at 0x400000, address 0x8",
            "console is started again in 100 ms"
        ]
    );
    assert_eq!(system.next_due_us(), Some(101_000));
    system.tick(100_999);
    assert!(matches!(
        system.instance((CONSOLE, 0)).unwrap().state,
        State::Waiting(101_000)
    ));
    system.tick(101_000);
    run_of(&system, (CONSOLE, 0));
    assert_eq!(system.instance((CONSOLE, 0)).unwrap().pid, 3);
    // A fault that was still on its way is not the new run's.
    system.faulted(pid, 0, death, 102_000);
    run_of(&system, (CONSOLE, 0));
}

#[test]
fn a_program_that_keeps_dying_stays_down() {
    let (mut system, lines) = system();
    system.start_at_boot(0);
    for now_us in [0, 1_000_000, 2_000_000] {
        system.tick(now_us);
        let pid = system.instance((ADMIN, 0)).unwrap().pid;
        system.faulted(pid, 0, Death::OtherFault(5), now_us);
    }
    let state = &system.instance((ADMIN, 0)).unwrap().state;
    assert!(
        matches!(state, State::Ended(Ending::Died(Death::OtherFault(5)))),
        "{state:?}"
    );
    assert_eq!(lines.0.borrow().last().unwrap(), "error: admin stays down");
    assert_eq!(system.next_due_us(), None);
}

#[test]
fn the_last_words_of_a_panic_are_logged() {
    let (mut system, lines) = system();
    system.start_at_boot(0);
    let run = run_of(&system, (ADMIN, 0));
    let (pid, buffer) = (run.pid, run.threads[0].buffer);
    let kernel = &mut system.resources.kernel;
    let id = kernel.object_at(CPtr(BASE + buffer));
    let content = &mut kernel.objects.get_mut(&id).unwrap().content;
    let at = PANIC_MESSAGE_OFFSET as usize;
    content[at..at + 4].copy_from_slice(&9_u32.to_le_bytes());
    content[at + 4..at + 13].copy_from_slice(b"no\ntile!\x07");
    system.faulted(pid, 0, Death::Exception { ip: 0, vector: 6 }, 0);
    assert_eq!(lines.0.borrow()[0], "admin (pid 2): no tile! ");
}

#[test]
fn what_a_program_had_is_free_again_when_it_ends() {
    let (mut system, _) = system();
    let mut after = Vec::new();
    for _ in 0..3 {
        let pid = system.start((MONITOR, 0), vec![], 32 << 20, 0).unwrap();
        assert_eq!(system.place_of(pid), Some((MONITOR, 0)));
        system.end((MONITOR, 0), Ending::Stopped);
        assert!(system.resources.kernel.threads.is_empty());
        after.push((
            system.resources.memory.free(),
            system.resources.cspace.free(),
        ));
    }
    assert_eq!(after[0], after[1]);
    assert_eq!(after[1], after[2]);
}

#[test]
fn a_refusal_at_any_point_of_building_leaves_nothing() {
    let (mut system, _) = system();
    system.start((MONITOR, 0), vec![], 4 << 20, 0).unwrap();
    system.end((MONITOR, 0), Ending::Stopped);
    let before = (
        system.resources.memory.free(),
        system.resources.cspace.free(),
    );
    let calls = system.resources.kernel.calls;
    system.start((MONITOR, 0), vec![], 4 << 20, 0).unwrap();
    let needed = system.resources.kernel.calls - calls;
    system.end((MONITOR, 0), Ending::Stopped);
    for limit in (0..needed).step_by(7) {
        let kernel = &mut system.resources.kernel;
        kernel.fail_after = Some(kernel.calls + limit);
        assert!(
            system.start((MONITOR, 0), vec![], 4 << 20, 0).is_err(),
            "after {limit}"
        );
        system.resources.kernel.fail_after = None;
        let left = (
            system.resources.memory.free(),
            system.resources.cspace.free(),
        );
        assert_eq!(left, before, "after {limit}");
    }
    system.start((MONITOR, 0), vec![], 4 << 20, 0).unwrap();
}

#[test]
fn too_little_memory_is_an_error_and_freed_halves_are_joined() {
    let (mut system, _) = system_with_memory(25);
    assert_eq!(
        system.start((MONITOR, 0), vec![], 32 << 20, 0),
        Err(BuildError::OutOfMemory)
    );
    system.start((MONITOR, 0), vec![], 8 << 20, 0).unwrap();
    system.end((MONITOR, 0), Ending::Stopped);
    // Takes halves of blocks that the first run had split.
    system.start((MONITOR, 0), vec![], 16 << 20, 0).unwrap();
}

/// Lets admin's thread stand on a `syscall` instruction with these registers.
fn admin_stands(system: &mut System, number: Syscall, target: u64) -> UserContext {
    let tcb = run_of(system, (ADMIN, 0)).threads[0].tcb;
    let context = UserContext {
        rip: 0x40_0100,
        rdx: number.number(),
        rdi: target,
        rsi: 77,
        ..UserContext::default()
    };
    let kernel = &mut system.resources.kernel;
    let id = kernel.object_at(tcb.cptr());
    kernel.threads.get_mut(&id).unwrap().context = context;
    context
}

fn admin_context(system: &mut System) -> UserContext {
    let tcb = run_of(system, (ADMIN, 0)).threads[0].tcb;
    system.resources.kernel.registers(tcb).unwrap()
}

#[test]
fn a_caller_of_a_dead_server_is_told() {
    let (mut system, _) = system();
    system.start_at_boot(0);
    let slot = cap_named(&start_info(&system, (ADMIN, 0)), "console").slot;
    admin_stands(&mut system, Syscall::Call, slot);
    system.died((CONSOLE, 0), Death::Killed, 0);
    let context = admin_context(&mut system);
    assert_eq!(context.rip, 0x40_0102);
    let info = MessageInfo::from_word(context.rsi);
    assert_eq!((info.label(), info.length()), (reply_label::PEER_DIED, 1));
    assert_eq!((context.rdi, context.r10), (0, 0));
}

#[test]
fn who_calls_a_server_that_is_down_for_good_is_told_within_a_second() {
    let (mut system, _) = system();
    system.start_at_boot(0);
    assert_eq!(system.next_due_us(), None);
    system.end((CONSOLE, 0), Ending::Stopped);
    system.tick(5_000_000);
    let slot = cap_named(&start_info(&system, (ADMIN, 0)), "console").slot;
    admin_stands(&mut system, Syscall::Call, slot);
    assert_eq!(system.next_due_us(), Some(6_000_000));
    system.tick(5_999_999);
    assert_eq!(admin_context(&mut system).rip, 0x40_0100);
    system.tick(6_000_000);
    assert_eq!(admin_context(&mut system).rip, 0x40_0102);
}

#[test]
fn who_does_not_wait_for_the_dead_server_is_left_alone() {
    let (mut system, _) = system();
    system.start_at_boot(0);
    let info = start_info(&system, (ADMIN, 0));
    let (console, root) = (
        cap_named(&info, "console").slot,
        cap_named(&info, "root").slot,
    );
    for (number, target) in [
        (Syscall::Call, root),
        (Syscall::Recv, console),
        (Syscall::Call, 0),
    ] {
        let before = admin_stands(&mut system, number, target);
        system.died((CONSOLE, 0), Death::Killed, 0);
        assert_eq!(admin_context(&mut system), before);
        system.restart((CONSOLE, 0), 0).unwrap();
    }
}

#[test]
fn root_is_alone_before_its_logs_reader_starts_and_when_that_is_down_for_good() {
    let (mut system, _) = system();
    assert!(system.is_alone());
    system.start_at_boot(0);
    assert!(!system.is_alone());
    system.died((CONSOLE, 0), Death::Killed, 0);
    assert!(!system.is_alone(), "it is only waiting");
    system.end((CONSOLE, 0), Ending::Stopped);
    assert!(system.is_alone());
}

#[test]
fn a_signal_reaches_the_instance_with_its_bits() {
    let (mut system, _) = system();
    system.start((MONITOR, 1), vec![], 4 << 20, 0).unwrap();
    system.signal((MONITOR, 1), 0b100).unwrap();
    assert_eq!(system.resources.kernel.signals, [0b100]);
    system.signal((MONITOR, 1), 0b1000).unwrap();
    assert_eq!(system.resources.kernel.signals.len(), 2);
}

#[test]
fn a_missing_image_ends_the_instance_and_says_why() {
    let (mut system, lines) = system();
    system.manifest.programs[usize::from(ADMIN)].image = "/bin/missing".into();
    system.start_at_boot(0);
    let state = &system.instance((ADMIN, 0)).unwrap().state;
    assert!(matches!(state, State::Ended(Ending::NotBuilt)));
    assert_eq!(
        *lines.0.borrow(),
        ["error: admin cannot be built: Archive(NotFound)"]
    );
    run_of(&system, (CONSOLE, 0));
}

#[test]
fn objects_of_every_kind_come_from_the_runs_own_memory() {
    let (mut system, _) = system();
    let before = system.resources.memory.free();
    system.start((MONITOR, 0), vec![], 4 << 20, 0).unwrap();
    let run = run_of(&system, (MONITOR, 0));
    assert_eq!(run.bytes(), before - system.resources.memory.free());
    let kernel = &system.resources.kernel;
    let vcpus = kernel
        .objects
        .values()
        .filter(|object| object.kind == Some(ObjectType::Vcpu));
    assert_eq!(vcpus.count(), 2);
}
