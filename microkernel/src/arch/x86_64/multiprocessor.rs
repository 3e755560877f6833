//! Starting the other CPUs, one after the other (Intel SDM volume 3, 9.4.4).

use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::boot::PhysicalRange;
use crate::config::MAX_NODES;
use crate::firmware::Handover;

use super::cpu::{CPUS, STACKS, this_cpu};
use super::global::kernel;
use super::{apic, clock, descriptors, features, guest, lock, paging, trap};

/// Top of the stack of the CPU that is being started; read by its first instructions (boot.s).
pub static AP_STACK: AtomicUsize = AtomicUsize::new(0);
/// Its index; taken by it, so that a second one finds none.
static AP_INDEX: AtomicUsize = AtomicUsize::new(NOBODY);
const NOBODY: usize = usize::MAX;
/// The others may enter the kernel.
static RELEASED: AtomicBool = AtomicBool::new(false);

const INIT_WAIT_US: u64 = 10_000;
const STARTUP_WAIT_US: u64 = 200;
/// Patience with a CPU after its second startup interrupt; it needs microseconds.
const ONLINE_WAIT_US: u64 = 100_000;
const ONLINE_POLL_US: u64 = 100;

unsafe extern "C" {
    safe static ap_trampoline: u8;
    safe static ap_trampoline_end: u8;
}

/// Page of conventional memory where other CPUs begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrampolinePage(u8);

/// Copies the first instructions of other CPUs below 1 MiB, to a usable page that is not page 0
/// and no module's. Called while physical addresses are mapped to themselves. `None` if there is
/// no such page.
pub fn place_trampoline(handover: &Handover) -> Option<TrampolinePage> {
    const USABLE: u32 = 1;
    const PAGE: u64 = 4096;
    // Video memory begins at page 0xa0.
    let page = (1..0xa0u8).rev().find(|page| {
        let start = u64::from(*page) * PAGE;
        let end = start + PAGE;
        let is_free = |module: &PhysicalRange| !module.overlaps(PhysicalRange { start, end });
        handover.modules.iter().all(is_free)
            && handover.memory_map.iter().any(|e| {
                e.kind == USABLE && e.base <= start && end <= e.base.saturating_add(e.length)
            })
    })?;
    let source = &raw const ap_trampoline;
    let length = (&raw const ap_trampoline_end) as usize - source as usize;
    let target = (usize::from(page) << 12) as *mut u8;
    // SAFETY: the page is usable memory below 1 MiB, where nothing of the kernel or its modules
    // is, and boot still maps it to itself; the source is part of the image's boot section.
    unsafe { core::ptr::copy_nonoverlapping(source, target, length) };
    Some(TrampolinePage(page))
}

/// Starts the CPUs with these APIC identifiers, except this one. They wait for [`release`].
/// Returns how many CPUs run.
pub fn start_others(apic_ids: &[u32], page: Option<TrampolinePage>) -> usize {
    let me = this_cpu().apic_id.get();
    let mut running = 1;
    let Some(page) = page else { return running };
    for &apic_id in apic_ids.iter().filter(|id| **id != me) {
        if running < MAX_NODES && start_one(running, apic_id, page) {
            running += 1;
        }
    }
    running
}

fn start_one(index: usize, apic_id: u32, page: TrampolinePage) -> bool {
    CPUS[index].apic_id.set(apic_id);
    AP_STACK.store(STACKS.tops(index).kernel, Ordering::Release);
    AP_INDEX.store(index, Ordering::Release);
    apic::send_init(apic_id);
    clock::wait_us(INIT_WAIT_US);
    for patience_us in [STARTUP_WAIT_US, ONLINE_WAIT_US] {
        apic::send_startup(apic_id, page.0);
        for _ in 0..patience_us / ONLINE_POLL_US {
            if CPUS[index].online.load(Ordering::Acquire) {
                return true;
            }
            clock::wait_us(ONLINE_POLL_US);
        }
    }
    // Back to waiting, so that it does not come up on somebody else's stack.
    apic::send_init(apic_id);
    AP_INDEX.store(NOBODY, Ordering::Release);
    CPUS[index].online.load(Ordering::Acquire)
}

/// Lets the other CPUs enter the kernel, whose nodes are ready.
pub fn release() {
    RELEASED.store(true, Ordering::Release);
}

/// Where another CPU comes to Rust, on its stack, with the boot tables.
pub extern "C" fn ap_start() -> ! {
    let index = AP_INDEX.swap(NOBODY, Ordering::AcqRel);
    if index >= MAX_NODES {
        super::panic::debug_halt();
    }
    descriptors::load(index);
    features::enable();
    guest::enable(this_cpu());
    paging::load_kernel_space();
    apic::enable();
    let cpu = this_cpu();
    cpu.online.store(true, Ordering::Release);
    while !RELEASED.load(Ordering::Acquire) {
        spin_loop();
    }
    lock::acquire(cpu);
    kernel().enter();
    trap::start(cpu)
}
