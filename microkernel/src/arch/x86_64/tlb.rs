//! Translation caches: forgetting what changed, on every CPU.
//!
//! Without tags, a CPU caches only translations of the space in its CR3, and loading CR3 forgets
//! all but the kernel's. With tags (PCID), it may cache those of any space.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use x86::controlregs::cr3_write;

use crate::store::{Ref, Table};

use super::cpu::{Cpu, this_cpu};
use super::features::features;
use super::paging::{space_word, switch_address_space};
use super::remote::{self, Question};

/// What must be forgotten, as the CPUs see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stale {
    /// CR3 of the space.
    pub cr3: u64,
    /// The page, for a single one.
    pub address: u64,
}

/// Kinds of INVPCID.
#[derive(Clone, Copy)]
#[repr(u64)]
enum Invalidate {
    Page = 0,
    Space = 1,
}

fn invalidate_tagged(kind: Invalidate, stale: Stale) {
    let descriptor = [stale.cr3 & 0xfff, stale.address];
    // SAFETY: used only where CPUID offers it; forgetting translations changes no memory.
    unsafe {
        asm!("invpcid {}, [{}]", in(reg) kind as u64, in(reg) &descriptor,
            options(readonly, nostack, preserves_flags));
    }
}

/// Forgets one page on this CPU.
pub fn forget_page(cpu: &Cpu, stale: Stale) {
    if features().tagged_tlb {
        invalidate_tagged(Invalidate::Page, stale);
    } else if cpu.cr3.get() == stale.cr3 {
        // SAFETY: as above.
        unsafe { x86::tlb::flush(stale.address as usize) };
    }
}

/// Forgets a whole space on this CPU.
fn forget_space(cpu: &Cpu, stale: Stale) {
    if features().tagged_tlb {
        invalidate_tagged(Invalidate::Space, stale);
    } else if cpu.cr3.get() == stale.cr3 {
        // SAFETY: loads what is loaded.
        unsafe { cr3_write(stale.cr3) };
    }
}

/// As `forget_space`, for another CPU: the space may be about to be deleted, so the CPU leaves it
/// and looks for its thread's space again before it returns to user mode.
pub fn leave_space(cpu: &Cpu, stale: Stale) {
    forget_space(cpu, stale);
    if cpu.cr3.get() == stale.cr3 {
        switch_address_space(None);
        cpu.lost_space.set(true);
    }
}

/// Other CPUs that may cache translations of the space.
fn others(stale: Stale) -> impl Fn(&Cpu) -> bool {
    move |cpu| features().tagged_tlb || cpu.cr3.get() == stale.cr3
}

/// Forgets the translation of one page of an address space, on every CPU.
pub fn invalidate_page(root: Ref<Table>, asid: u16, address: u64) {
    let stale = Stale {
        cr3: space_word(root, asid).0,
        address,
    };
    forget_page(this_cpu(), stale);
    remote::ask_others(Question::ForgetPage, stale, others(stale));
}

/// Forgets all translations of an address space, on every CPU. Other CPUs leave the space, so the
/// caller may delete it once it has made this CPU leave it too.
pub fn invalidate_address_space(root: Ref<Table>, asid: u16) {
    let stale = Stale {
        cr3: space_word(root, asid).0,
        address: 0,
    };
    forget_space(this_cpu(), stale);
    remote::ask_others(Question::LeaveSpace, stale, others(stale));
}

/// How often guest translations became stale.
static GUEST_GENERATION: AtomicU64 = AtomicU64::new(1);

/// A number that changes when guest translations become stale. A CPU about to enter a guest that
/// last saw another number must forget all it cached of guests.
pub fn guest_generation() -> u64 {
    GUEST_GENERATION.load(Ordering::Acquire)
}

/// Forgets all translations of a guest-physical address space, on every CPU: those that run
/// guests leave them, and everybody forgets at the next entry. Unmapping guest memory is rare, so
/// all guests' translations go at once.
pub fn invalidate_guest_space(_root: Ref<Table>, _asid: u16) {
    GUEST_GENERATION.fetch_add(1, Ordering::AcqRel);
    remote::ask_others(Question::LeaveGuest, Stale::default(), |_| true);
}
