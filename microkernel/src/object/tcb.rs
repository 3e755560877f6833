//! A thread: its registers, its five capability slots, its state, and its links in queues.

use core::cell::Cell;

use super::{Endpoint, Notification, Reply, SchedContext, Slot};
use crate::arch::SpaceWord;
use crate::cap::Rights;
use crate::fault::Fault;
use crate::store::{IpcBuffer, Ref};
use crate::vcpu::Vcpu;

/// Bytes of XSAVE area for x87, SSE and AVX: 512 legacy + 64 header + 256 AVX.
pub const FPU_AREA_BYTES: usize = 832;

/// Extended processor state in XSAVE format; `arch` alone reads and writes it.
#[repr(C, align(64))]
pub struct FpuArea(pub Cell<[u8; FPU_AREA_BYTES]>);

/// Offsets in the legacy region and values after FINIT and reset (Intel SDM volume 1, 10.5).
const CONTROL_WORD: usize = 0;
const MXCSR: usize = 24;
const INITIAL_CONTROL_WORD: u16 = 0x37f;
const INITIAL_MXCSR: u32 = 0x1f80;

impl FpuArea {
    /// Sets the state that a fresh thread or CPU has.
    pub fn reset(&self) {
        let mut area = [0; FPU_AREA_BYTES];
        area[CONTROL_WORD..][..2].copy_from_slice(&INITIAL_CONTROL_WORD.to_le_bytes());
        area[MXCSR..][..4].copy_from_slice(&INITIAL_MXCSR.to_le_bytes());
        self.0.set(area);
    }
}

/// The capability slots of a TCB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum TcbSlot {
    /// Root of the capability space.
    CSpace = 0,
    /// Root of the address space.
    VSpace = 1,
    /// Frame of the IPC buffer.
    IpcBuffer = 2,
    /// Endpoint for faults.
    FaultHandler = 3,
    /// Endpoint for timeout faults.
    TimeoutHandler = 4,
}

/// What a thread is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ThreadState {
    /// Not runnable until resumed.
    Inactive = 0,
    /// Runnable.
    Running = 1,
    /// Runnable; the system call or faulting instruction runs again.
    Restart = 2,
    /// Waits on an endpoint to receive.
    BlockedOnReceive = 3,
    /// Waits on an endpoint to send.
    BlockedOnSend = 4,
    /// Called, waits for the answer.
    BlockedOnReply = 5,
    /// Waits on a notification.
    BlockedOnNotification = 6,
    /// The idle thread of a node.
    Idle = 7,
    /// Runnable inside VMEnter: the guest runs when the thread does.
    RunningVm = 8,
}

/// What a blocked thread waits on, and with what authority.
#[derive(Clone, Copy, Debug)]
pub struct Blocking {
    /// The endpoint of a blocked send or receive.
    pub endpoint: Option<Ref<Endpoint>>,
    /// The notification of a blocked wait.
    pub notification: Option<Ref<Notification>>,
    /// Badge of the sender's capability.
    pub badge: u64,
    /// The sender may transfer capabilities; the receiver's reply may.
    pub can_grant: bool,
    /// The sender may be replied to.
    pub can_grant_reply: bool,
    /// The sender called: it waits for a reply afterwards.
    pub is_call: bool,
}

impl Blocking {
    /// Waits on nothing.
    pub const NONE: Self = Self {
        endpoint: None,
        notification: None,
        badge: 0,
        can_grant: false,
        can_grant_reply: false,
        is_call: false,
    };
}

/// Flags that TCB.SetFlags changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcbFlags(pub u64);

impl TcbFlags {
    /// The thread has no floating-point state.
    pub const FPU_DISABLED: u64 = 1;
    /// Every `syscall` is a fault.
    pub const FOREIGN_SYSCALLS: u64 = 1 << 16;
    /// All flags there are.
    pub const ALL: u64 = Self::FPU_DISABLED | Self::FOREIGN_SYSCALLS;
}

/// User registers, in the order of TCB.ReadRegisters.
#[repr(C)]
#[expect(missing_docs, reason = "the registers of that name")]
pub struct Registers {
    pub rip: Cell<u64>,
    pub rsp: Cell<u64>,
    pub rflags: Cell<u64>,
    pub rax: Cell<u64>,
    pub rbx: Cell<u64>,
    pub rcx: Cell<u64>,
    pub rdx: Cell<u64>,
    pub rsi: Cell<u64>,
    pub rdi: Cell<u64>,
    pub rbp: Cell<u64>,
    pub r8: Cell<u64>,
    pub r9: Cell<u64>,
    pub r10: Cell<u64>,
    pub r11: Cell<u64>,
    pub r12: Cell<u64>,
    pub r13: Cell<u64>,
    pub r14: Cell<u64>,
    pub r15: Cell<u64>,
    pub fs_base: Cell<u64>,
    pub gs_base: Cell<u64>,
}

impl Registers {
    /// All registers in the order of TCB.ReadRegisters.
    #[must_use]
    pub fn all(&self) -> [&Cell<u64>; 20] {
        [
            &self.rip,
            &self.rsp,
            &self.rflags,
            &self.rax,
            &self.rbx,
            &self.rcx,
            &self.rdx,
            &self.rsi,
            &self.rdi,
            &self.rbp,
            &self.r8,
            &self.r9,
            &self.r10,
            &self.r11,
            &self.r12,
            &self.r13,
            &self.r14,
            &self.r15,
            &self.fs_base,
            &self.gs_base,
        ]
    }

    /// The four message registers, MR0 first.
    #[inline(always)]
    #[must_use]
    pub fn message(&self) -> [&Cell<u64>; 4] {
        [&self.r10, &self.r8, &self.r9, &self.r15]
    }

    /// Copies as many message registers to `to` as a message of `length` words has.
    #[inline(always)]
    pub fn copy_message(&self, to: &Self, length: usize) {
        for (from, to) in self.message().into_iter().zip(to.message()).take(length) {
            to.set(from.get());
        }
    }
}

/// A thread.
#[repr(C, align(2048))]
pub struct Tcb {
    /// The five slots, in the order of [`TcbSlot`]. They come first: a zombie names them by the
    /// TCB's address.
    pub slots: [Slot; 5],
    /// Extended state.
    pub fpu: FpuArea,
    /// General state.
    pub registers: Registers,
    /// The instruction that a Restart runs again: after a system call the `syscall` itself, else
    /// the same as `registers.rip`. Every kernel entry sets it.
    pub restart_ip: Cell<u64>,
    /// What it is doing.
    pub state: Cell<ThreadState>,
    /// 0..=255, higher runs first.
    pub priority: Cell<u8>,
    /// Highest priority that it may give.
    pub max_controlled_priority: Cell<u8>,
    /// Scheduling domain.
    pub domain: Cell<u8>,
    /// Node that it runs on.
    pub node: Cell<u8>,
    /// In its node's ready queue.
    pub in_ready_queue: Cell<bool>,
    /// In its node's release queue.
    pub in_release_queue: Cell<bool>,
    /// Flags of TCB.SetFlags.
    pub flags: Cell<TcbFlags>,
    /// What it waits on, meaningful in a blocked state.
    pub blocking: Cell<Blocking>,
    /// Reply object: of a receive under way, or of the call it waits on.
    pub reply: Cell<Option<Ref<Reply>>>,
    /// Neighbours in the one queue that it is in: of an endpoint or notification, ready or release.
    pub queue_previous: Cell<Option<Ref<Tcb>>>,
    /// See `queue_previous`.
    pub queue_next: Cell<Option<Ref<Tcb>>>,
    /// Time to run on; without one the thread is passive.
    pub sched_context: Cell<Option<Ref<SchedContext>>>,
    /// The context that it yielded to.
    pub yield_to: Cell<Option<Ref<SchedContext>>>,
    /// Notification whose signals it also receives on endpoints.
    pub bound_notification: Cell<Option<Ref<Notification>>>,
    /// Its address space, if `space_epoch` is the kernel's (see `asid`).
    pub space: Cell<SpaceWord>,
    /// See `space`.
    pub space_epoch: Cell<u64>,
    /// User address of its IPC buffer.
    pub ipc_buffer_address: Cell<u64>,
    /// The fault it waits to have handled.
    pub fault: Cell<Fault>,
    /// The VCPU that it runs with VMEnter.
    pub vcpu: Cell<Option<Ref<Vcpu>>>,
    /// Name given by DebugNameThread, zero-terminated.
    pub name: Cell<[u8; 32]>,
}

impl Tcb {
    /// Size as a power of two: part of the ABI.
    pub const SIZE_BITS: u8 = 11;
    /// Slots of a TCB.
    pub const SLOTS: usize = 5;

    /// Whether the scheduler may choose it.
    #[inline(always)]
    #[must_use]
    pub fn is_runnable(&self) -> bool {
        matches!(
            self.state.get(),
            ThreadState::Running | ThreadState::Restart | ThreadState::RunningVm
        )
    }

    /// Whether it is in the domain and on the node of `other`.
    #[inline(always)]
    #[must_use]
    pub fn is_beside(&self, other: Ref<Tcb>) -> bool {
        // As one word of two bytes: one comparison.
        let place = |tcb: &Self| u16::from_le_bytes([tcb.domain.get(), tcb.node.get()]);
        place(self) == place(&other)
    }

    /// Whether it waits to have a fault handled.
    #[inline(always)]
    #[must_use]
    pub fn has_fault(&self) -> bool {
        !matches!(self.fault.get(), Fault::Null)
    }

    /// Whether it waits for something.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        matches!(
            self.state.get(),
            ThreadState::BlockedOnReceive
                | ThreadState::BlockedOnSend
                | ThreadState::BlockedOnReply
                | ThreadState::BlockedOnNotification
        )
    }
}

/// Who asks for an IPC buffer: a receiver must be able to write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BufferUse {
    /// To read a message from.
    Send,
    /// To write a message to.
    Receive,
}

impl Ref<Tcb> {
    /// Its IPC buffer, if it has one that allows `purpose`.
    #[inline(always)]
    #[must_use]
    pub fn ipc_buffer(self, purpose: BufferUse) -> Option<Ref<IpcBuffer>> {
        let frame = self.slot(TcbSlot::IpcBuffer).raw().frame()?;
        let needed = match purpose {
            BufferUse::Send => Rights::READ,
            BufferUse::Receive => Rights::READ.union(Rights::WRITE),
        };
        if frame.device || !frame.rights.contains(needed) {
            return None;
        }
        let offset = self.ipc_buffer_address.get() & ((1 << frame.size.bits()) - 1);
        Some(Ref::from_address(frame.base + offset as usize))
    }

    /// One of its capability slots.
    #[inline(always)]
    #[must_use]
    pub fn slot(self, slot: TcbSlot) -> Ref<Slot> {
        Ref::<Slot>::from_address(self.address()).element(slot as usize)
    }
}

const _: () = assert!(size_of::<Tcb>() == 1 << Tcb::SIZE_BITS);
const _: () = assert!(core::mem::offset_of!(Tcb, slots) == 0);
