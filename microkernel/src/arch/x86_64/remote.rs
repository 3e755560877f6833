//! What one CPU asks of another and waits for.
//!
//! Only the holder of the big lock asks, one question at a time. The other CPU answers from the
//! interrupt if it runs user code, a guest or nothing, and from its wait for the lock if it is in
//! the kernel; so nobody waits for somebody who waits for him.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicU64, Ordering};

use super::apic;
use super::cpu::{CPUS, Cpu, this_cpu};
use super::thread_state;
use super::tlb::{self, Stale};
use super::trap::vector;
use super::vmx;
use crate::config::MAX_NODES;

/// A question. The number is what stands in `Cpu::pending`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Question {
    /// Save all of the current thread's state, and go for the lock.
    Stall = 1,
    /// Forget a page.
    ForgetPage = 2,
    /// Forget a space and leave it.
    LeaveSpace = 3,
    /// Leave the guest that runs, if one does.
    LeaveGuest = 4,
    /// Give up a VMCS.
    ReleaseGuest = 5,
}

impl Question {
    fn from_number(number: u32) -> Option<Self> {
        [
            Self::Stall,
            Self::ForgetPage,
            Self::LeaveSpace,
            Self::LeaveGuest,
            Self::ReleaseGuest,
        ]
        .into_iter()
        .find(|question| *question as u32 == number)
    }
}

/// The argument of the question under way.
static CR3: AtomicU64 = AtomicU64::new(0);
static ADDRESS: AtomicU64 = AtomicU64::new(0);

/// Asks all other running CPUs that `concerns` picks, and waits for their answers.
pub fn ask_others(question: Question, stale: Stale, concerns: impl Fn(&Cpu) -> bool) {
    let me = this_cpu().index.get();
    let mut asked = [false; MAX_NODES];
    CR3.store(stale.cr3, Ordering::Relaxed);
    ADDRESS.store(stale.address, Ordering::Relaxed);
    for (index, cpu) in CPUS.iter().enumerate() {
        if index != me && cpu.online.load(Ordering::Acquire) && concerns(cpu) {
            cpu.pending.store(question as u32, Ordering::Release);
            apic::send_interrupt(cpu.apic_id.get(), vector::REMOTE);
            asked[index] = true;
        }
    }
    for (cpu, _) in CPUS.iter().zip(asked).filter(|(_, asked)| *asked) {
        while cpu.pending.load(Ordering::Acquire) != 0 {
            spin_loop();
        }
    }
}

/// Answers the question that is put to this CPU, if one is.
pub fn answer(cpu: &Cpu) -> Option<Question> {
    let question = Question::from_number(cpu.pending.load(Ordering::Acquire))?;
    let stale = Stale {
        cr3: CR3.load(Ordering::Relaxed),
        address: ADDRESS.load(Ordering::Relaxed),
    };
    match question {
        Question::Stall => thread_state::save(cpu),
        Question::ForgetPage => tlb::forget_page(cpu, stale),
        Question::LeaveSpace => tlb::leave_space(cpu, stale),
        Question::LeaveGuest => {}
        Question::ReleaseGuest => vmx::clear_if_held(cpu, stale.address),
    }
    cpu.pending.store(0, Ordering::Release);
    Some(question)
}

/// Makes CPU `node` leave user or guest mode and waits until the registers of its current thread
/// are saved; it then waits for the big lock and schedules when it gets it.
pub fn stall(node: usize) {
    ask_others(Question::Stall, Stale::default(), |cpu| {
        cpu.index.get() == node
    });
}

/// Makes CPU `node` enter the kernel and schedule. Does not wait.
pub fn kick(node: usize) {
    if let Some(cpu) = CPUS.get(node)
        && cpu.online.load(Ordering::Acquire)
    {
        apic::send_interrupt(cpu.apic_id.get(), vector::KICK);
    }
}
