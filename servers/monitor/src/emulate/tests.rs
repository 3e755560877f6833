use super::fetch::{CodeBytes, Fetcher};
use super::*;
use crate::exit::AccessSize;
use crate::memory::tests::ram;
use crate::mode::{CR0_PE, CR0_PG, CR4_PAE, EFER_LMA};
use crate::segment::Segment;
use crate::vcpu::{RAX, RCX, RDI, RDX, RSI, RSP, SegmentName};
use arithmetic::{CF, DF, OF, ZF};
use core::sync::atomic::AtomicU64;
use libcap::vcpu::ExitRecord;
use proptest::prelude::*;
use sel4_sys::vcpu::{exit, exit_mode};
use std::vec;
use std::vec::Vec;

mod places;
mod strings;

/// Enough RAM for code, stack and tables.
const RAM: usize = 0x1_0000;
/// Device memory; nothing but devices is above [`RAM`].
const DEVICE: u64 = 0x10_0000;

/// A device that gives out queued values and remembers what it was sent.
#[derive(Default)]
struct Recorder {
    answers: Vec<u64>,
    reads: Vec<(u64, usize)>,
    writes: Vec<(u64, usize, u64)>,
}

impl Recorder {
    fn answer(&mut self) -> u64 {
        if self.answers.is_empty() {
            u64::MAX
        } else {
            self.answers.remove(0)
        }
    }
}

impl Bus for Recorder {
    fn read_memory(&mut self, address: GuestAddress, size: AccessSize) -> u64 {
        self.reads.push((address.0, size.bytes()));
        self.answer()
    }

    fn write_memory(&mut self, address: GuestAddress, size: AccessSize, value: u64) {
        self.writes.push((address.0, size.bytes(), value));
    }

    fn read_port(&mut self, port: u16, size: AccessSize) -> u64 {
        self.reads.push((u64::from(port), size.bytes()));
        self.answer()
    }

    fn write_port(&mut self, port: u16, size: AccessSize, value: u64) {
        self.writes.push((u64::from(port), size.bytes(), value));
    }
}

/// Flat segments, except that FS and GS have bases.
struct Flat;

impl SegmentSource for Flat {
    fn segment(&mut self, name: SegmentName) -> Segment {
        let base = match name {
            SegmentName::Fs => 0x1000,
            SegmentName::Gs => 0x2000,
            _ => 0,
        };
        Segment {
            base,
            limit: 0xffff_ffff,
            attributes: 0xc093,
        }
    }
}

struct Bench {
    words: Vec<AtomicU64>,
    registers: Registers,
    bus: Recorder,
    mode: CpuMode,
    reported: Option<GuestAddress>,
}

impl Bench {
    /// 64-bit code with identity addresses: paging is left out so that a test is about one thing.
    fn long() -> Self {
        Self::with(EFER_LMA, exit_mode::CS_LONG)
    }

    fn protected() -> Self {
        Self::with(0, exit_mode::CS_DEFAULT_32)
    }

    fn real() -> Self {
        let mut bench = Self::with(0, 0);
        bench.mode.cr0 = 0;
        bench
    }

    fn with(efer: u64, code: u64) -> Self {
        let mut words = [0; exit::LENGTH];
        words[exit::CR0] = CR0_PE;
        words[exit::EFER] = efer;
        words[exit::MODE] = code;
        Self {
            words: ram(RAM),
            registers: Registers {
                rip: 0x1000,
                ..Registers::default()
            },
            bus: Recorder::default(),
            mode: CpuMode::of(&ExitRecord::from_words(words)),
            reported: None,
        }
    }

    fn memory(&self) -> GuestMemory<'_> {
        GuestMemory::new(&self.words)
    }

    fn answering(mut self, answers: &[u64]) -> Self {
        self.bus.answers = answers.to_vec();
        self
    }

    fn set(mut self, index: usize, value: u64) -> Self {
        self.registers.general[index] = value;
        self
    }

    fn run(&mut self, code: &[u8]) -> Result<Progress, EmulationError> {
        let memory = GuestMemory::new(&self.words);
        let instruction = Fetcher::default().decode(
            &memory,
            &self.mode,
            self.registers.rip,
            &CodeBytes::new(code),
        )?;
        Emulator {
            registers: &mut self.registers,
            mode: &self.mode,
            memory,
            segments: &mut Flat,
            bus: &mut self.bus,
            reported: self.reported,
        }
        .run(&instruction)
    }

    /// Runs and expects one finished instruction of exactly these bytes.
    fn done(&mut self, code: &[u8]) {
        let start = self.registers.rip;
        assert_eq!(self.run(code), Ok(Progress::Done));
        assert_eq!(self.registers.rip - start, code.len() as u64);
    }
}

#[test]
fn a_store_reaches_the_device_in_its_width() {
    let mut bench = Bench::long()
        .set(RDI, DEVICE)
        .set(RSI, 0x1122_3344_5566_7788);
    bench.done(&[0x89, 0x77, 0x10]); // mov [rdi+0x10], esi
    bench.done(&[0x66, 0x89, 0x37]); // mov [rdi], si
    bench.done(&[0x40, 0x88, 0x37]); // mov [rdi], sil
    bench.done(&[0x48, 0x89, 0x37]); // mov [rdi], rsi
    bench.done(&[0xc7, 0x47, 0x04, 0xff, 0, 0, 0]); // mov dword [rdi+4], 0xff
    bench.done(&[0x48, 0xc7, 0x07, 0xff, 0xff, 0xff, 0xff]); // mov qword [rdi], -1
    assert_eq!(
        bench.bus.writes,
        [
            (DEVICE + 0x10, 4, 0x5566_7788),
            (DEVICE, 2, 0x7788),
            (DEVICE, 1, 0x88),
            (DEVICE, 8, 0x1122_3344_5566_7788),
            (DEVICE + 4, 4, 0xff),
            (DEVICE, 8, u64::MAX),
        ]
    );
}

#[test]
fn a_load_fills_the_register_as_its_width_says() {
    let old = 0xaaaa_bbbb_cccc_dddd;
    let mut bench = Bench::long()
        .set(RSI, DEVICE)
        .answering(&[0x11, 0x22, 0x3333, 0x8000_0001]);
    bench.registers.general[RAX] = old;
    bench.done(&[0x8a, 0x06]); // mov al, [rsi]
    assert_eq!(bench.registers.general[RAX], 0xaaaa_bbbb_cccc_dd11);
    bench.done(&[0x8a, 0x26]); // mov ah, [rsi]
    assert_eq!(bench.registers.general[RAX], 0xaaaa_bbbb_cccc_2211);
    bench.done(&[0x66, 0x8b, 0x06]); // mov ax, [rsi]
    assert_eq!(bench.registers.general[RAX], 0xaaaa_bbbb_cccc_3333);
    bench.done(&[0x8b, 0x06]); // mov eax, [rsi]
    assert_eq!(bench.registers.general[RAX], 0x8000_0001);
}

#[test]
fn extending_loads_extend() {
    let mut bench = Bench::long()
        .set(RSI, DEVICE)
        .answering(&[0x80, 0x80, 0x8000_0000, 0xfffe]);
    bench.done(&[0x0f, 0xb6, 0x06]); // movzx eax, byte [rsi]
    assert_eq!(bench.registers.general[RAX], 0x80);
    bench.done(&[0x48, 0x0f, 0xbe, 0x06]); // movsx rax, byte [rsi]
    assert_eq!(bench.registers.general[RAX], 0xffff_ffff_ffff_ff80);
    bench.done(&[0x48, 0x63, 0x06]); // movsxd rax, dword [rsi]
    assert_eq!(bench.registers.general[RAX], 0xffff_ffff_8000_0000);
    bench.done(&[0x0f, 0xbf, 0x06]); // movsx eax, word [rsi]
    assert_eq!(bench.registers.general[RAX], 0xffff_fffe);
}

#[test]
fn absolute_rip_relative_and_segment_addresses_are_computed() {
    let mut bench = Bench::long().set(RAX, 7);
    bench.done(&[0xa3, 0x10, 0, 0x10, 0, 0, 0, 0, 0]); // mov [0x100010], eax
    bench.registers.rip = 0x1000;
    bench.done(&[0x89, 0x05, 0xfa, 0xef, 0x0f, 0]); // mov [rip+0xfeffa], eax
    bench.registers.general[RDI] = DEVICE;
    bench.done(&[0x65, 0x89, 0x07]); // mov gs:[rdi], eax
    bench.done(&[0x67, 0x89, 0x07]); // mov [edi], eax
    bench.registers.general[RSI] = 4;
    bench.done(&[0x89, 0x44, 0xb7, 0x01]); // mov [rdi+rsi*4+1], eax
    assert_eq!(
        bench.bus.writes,
        [
            (DEVICE + 0x10, 4, 7),
            (DEVICE, 4, 7),
            (DEVICE + 0x2000, 4, 7),
            (DEVICE, 4, 7),
            (DEVICE + 17, 4, 7),
        ]
    );
}

#[test]
fn arithmetic_on_a_device_reads_writes_and_sets_flags() {
    let mut bench = Bench::long()
        .set(RDI, DEVICE)
        .answering(&[0xffff_ffff, 0x0f, 5, 1]);
    bench.done(&[0x83, 0x07, 0x01]); // add dword [rdi], 1
    assert_eq!(bench.registers.rflags & (CF | ZF | OF), CF | ZF);
    bench.done(&[0x83, 0x27, 0x03]); // and dword [rdi], 3
    assert_eq!(bench.registers.rflags & (CF | ZF), 0);
    bench.done(&[0x83, 0x3f, 0x05]); // cmp dword [rdi], 5
    assert_eq!(bench.registers.rflags & ZF, ZF);
    bench.done(&[0xf7, 0x07, 0x02, 0, 0, 0]); // test dword [rdi], 2
    assert_eq!(bench.registers.rflags & ZF, ZF);
    assert_eq!(bench.bus.writes, [(DEVICE, 4, 0), (DEVICE, 4, 3)]);
}

#[test]
fn unary_instructions_change_the_device() {
    let mut bench = Bench::long().set(RDI, DEVICE).answering(&[1, 1, 1, 1]);
    bench.done(&[0xff, 0x07]); // inc dword [rdi]
    bench.done(&[0xff, 0x0f]); // dec dword [rdi]
    bench.done(&[0xf7, 0x1f]); // neg dword [rdi]
    bench.done(&[0xf7, 0x17]); // not dword [rdi]
    let values: Vec<u64> = bench.bus.writes.iter().map(|write| write.2).collect();
    assert_eq!(values, [2, 0, 0xffff_ffff, 0xffff_fffe]);
}

#[test]
fn exchanges_swap_register_and_device() {
    let mut bench = Bench::long()
        .set(RDI, DEVICE)
        .set(RSI, 5)
        .answering(&[9, 3]);
    bench.done(&[0x87, 0x37]); // xchg [rdi], esi
    assert_eq!(bench.registers.general[RSI], 9);
    bench.done(&[0xf0, 0x0f, 0xc1, 0x37]); // lock xadd [rdi], esi
    assert_eq!(bench.registers.general[RSI], 3);
    assert_eq!(bench.bus.writes, [(DEVICE, 4, 5), (DEVICE, 4, 12)]);
}

#[test]
fn compare_and_exchange_takes_either_branch() {
    let mut bench = Bench::long()
        .set(RDI, DEVICE)
        .set(RSI, 5)
        .set(RAX, 9)
        .answering(&[9, 4]);
    bench.done(&[0xf0, 0x0f, 0xb1, 0x37]); // lock cmpxchg [rdi], esi
    assert_eq!(bench.registers.rflags & ZF, ZF);
    bench.done(&[0xf0, 0x0f, 0xb1, 0x37]);
    assert_eq!(bench.registers.rflags & ZF, 0);
    assert_eq!(bench.registers.general[RAX], 4);
    assert_eq!(bench.bus.writes, [(DEVICE, 4, 5), (DEVICE, 4, 4)]);
}

#[test]
fn a_bit_index_in_a_register_reaches_beyond_the_operand() {
    let mut bench = Bench::long().set(RDI, DEVICE + 8).answering(&[0, 0, 0xff]);
    bench.registers.general[RSI] = 33;
    bench.done(&[0x0f, 0xab, 0x37]); // bts [rdi], esi
    bench.registers.general[RSI] = -1i64 as u64;
    bench.done(&[0x0f, 0xab, 0x37]);
    bench.done(&[0x0f, 0xba, 0x37, 0x23]); // btr dword [rdi], 35: an immediate wraps
    assert_eq!(bench.registers.rflags & CF, CF);
    assert_eq!(
        bench.bus.writes,
        [
            (DEVICE + 12, 4, 2),
            (DEVICE + 4, 4, 0x8000_0000),
            (DEVICE + 8, 4, 0xf7)
        ]
    );
}

#[test]
fn push_and_pop_move_between_device_and_stack() {
    let mut bench = Bench::long()
        .set(RSP, 0x8000)
        .set(RDI, DEVICE)
        .answering(&[0x1234]);
    bench.done(&[0xff, 0x37]); // push qword [rdi]
    assert_eq!(bench.registers.general[RSP], 0x7ff8);
    assert_eq!(bench.memory().read_word(GuestAddress(0x7ff8)), Ok(0x1234));
    bench.done(&[0x8f, 0x07]); // pop qword [rdi]
    assert_eq!(bench.registers.general[RSP], 0x8000);
    assert_eq!(bench.bus.writes, [(DEVICE, 8, 0x1234)]);
}

#[test]
fn what_cannot_be_finished_says_so() {
    let mut bench = Bench::long().set(RDI, DEVICE);
    let before = bench.registers;
    // movups [rdi], xmm0; fld dword [rdi]; mov es, [rdi]
    for code in [&[0x0f, 0x11, 0x07][..], &[0xd9, 0x07], &[0x8e, 0x07]] {
        assert_eq!(bench.run(code), Err(EmulationError::Unsupported));
    }
    assert_eq!(
        bench.run(&[0x0f, 0x0b]), // ud2
        Err(EmulationError::Unsupported)
    );
    assert_eq!(bench.registers, before);
}

#[test]
fn bytes_that_are_no_instruction_are_an_invalid_opcode() {
    let mut bench = Bench::long();
    assert_eq!(
        bench.run(&[0x06, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90]), // push es
        Err(GuestException::InvalidOpcode.into())
    );
}

#[test]
fn control_register_moves_are_decoded_to_requests() {
    use control::{ControlRegister, ControlRequest};
    let cases: [(&[u8], ControlRequest); 6] = [
        (
            &[0x0f, 0x22, 0xc0],
            ControlRequest::Write {
                register: ControlRegister::Cr0,
                value: 0x77,
            },
        ),
        (
            &[0x44, 0x0f, 0x22, 0xc0],
            ControlRequest::Write {
                register: ControlRegister::Cr8,
                value: 0x77,
            },
        ),
        (
            &[0x0f, 0x20, 0xe1],
            ControlRequest::Read {
                register: ControlRegister::Cr4,
                general: RCX,
            },
        ),
        (
            &[0x0f, 0x06],
            ControlRequest::Write {
                register: ControlRegister::Cr0,
                value: 1,
            },
        ),
        (
            &[0x0f, 0x01, 0xf0],
            ControlRequest::Write {
                register: ControlRegister::Cr0,
                value: 7,
            },
        ),
        (
            &[0x0f, 0x23, 0xe0],
            ControlRequest::WriteDebug {
                register: 6,
                value: 0x77,
            },
        ),
    ];
    for (code, request) in cases {
        let mut bench = Bench::long().set(RAX, 0x77);
        let memory = GuestMemory::new(&bench.words);
        let instruction = Fetcher::default()
            .decode(&memory, &bench.mode, 0x1000, &CodeBytes::new(code))
            .unwrap();
        let mut emulator = Emulator {
            registers: &mut bench.registers,
            mode: &bench.mode,
            memory,
            segments: &mut Flat,
            bus: &mut bench.bus,
            reported: None,
        };
        assert_eq!(
            emulator.control_request(&instruction),
            Ok(request),
            "{code:x?}"
        );
    }
}

#[test]
fn instructions_are_fetched_across_a_page_boundary_and_cached_by_their_bytes() {
    let bench = Bench::protected();
    let memory = bench.memory();
    let mut fetcher = Fetcher::default();
    let record = ExitRecord::default();
    memory
        .write(GuestAddress(0x1ffe), &[0xc7, 0x07, 1, 0, 0, 0])
        .unwrap();
    for value in [1u8, 2, 2] {
        memory.write(GuestAddress(0x2000), &[value]).unwrap();
        let code = fetcher
            .bytes(&memory, &bench.mode, &record, 0x1ffe)
            .unwrap();
        let instruction = fetcher.decode(&memory, &bench.mode, 0x1ffe, &code).unwrap();
        assert_eq!(instruction.immediate32(), u32::from(value));
        assert_eq!(instruction.len(), 6);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn random_bytes_never_panic_and_never_move_rip_too_far(
        code in proptest::collection::vec(any::<u8>(), 1..16),
        general in proptest::array::uniform16(prop_oneof![any::<u64>(), 0u64..0x20_0000]),
        rflags: u64, kind in 0u8..3,
    ) {
        let mut bench = match kind {
            0 => Bench::long(),
            1 => Bench::protected(),
            _ => Bench::real(),
        };
        bench.registers.general = general;
        bench.registers.rflags = rflags;
        if bench.run(&code) == Ok(Progress::Done) {
            let moved = bench.registers.rip.wrapping_sub(0x1000);
            prop_assert!(moved >= 1 && moved <= code.len() as u64);
        }
    }

    #[test]
    fn instructions_that_are_emulated_never_panic(
        prefix in prop::sample::select(vec![&[][..], &[0x66], &[0x67], &[0xf3], &[0x48], &[0xf0], &[0x65]]),
        opcode in prop::sample::select(vec![
            &[0x88u8][..], &[0x89], &[0x8a], &[0x8b], &[0xc6], &[0xc7], &[0x01], &[0x11], &[0x19], &[0x21], &[0x29],
            &[0x31], &[0x39], &[0x81], &[0x83], &[0x85], &[0x86], &[0x87], &[0xf6], &[0xf7], &[0xff], &[0x8f],
            &[0xa4], &[0xa5], &[0xa6], &[0xaa], &[0xab], &[0xac], &[0xae], &[0x6c], &[0x6d], &[0x6e], &[0x6f],
            &[0x0f, 0xa3], &[0x0f, 0xab], &[0x0f, 0xb0], &[0x0f, 0xb1], &[0x0f, 0xba], &[0x0f, 0xc1], &[0x0f, 0xb6], &[0x0f, 0xbe],
        ]),
        rest in proptest::array::uniform8(any::<u8>()),
        general in proptest::array::uniform16(prop_oneof![any::<u64>(), 0u64..0x20_0000]),
    ) {
        let mut code = prefix.to_vec();
        code.extend_from_slice(opcode);
        code.extend_from_slice(&rest);
        for mut bench in [Bench::long(), Bench::protected(), Bench::real()] {
            bench.registers.general = general;
            let _ = bench.run(&code);
        }
    }
}
