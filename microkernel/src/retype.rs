//! Building objects: what each type of object needs before its first capability exists.
//!
//! Memory that an untyped hands out is zero, and zero is a valid object of every type; only what
//! must not be zero is set here. Where the memory comes from is `invocation::untyped`'s business.

use sel4_sys::ObjectType;

use crate::arch;
use crate::cap::{
    CNodeCap, Cap, EndpointCap, FrameCap, FrameSize, MapSpace, NotificationCap, Rights, RootCap,
    TableCap, TableLevel, UntypedCap,
};
use crate::config::{MAX_UNTYPED_BITS, MIN_UNTYPED_BITS};
use crate::fault::SyscallError;
use crate::kernel::Kernel;
use crate::object::{SchedContext, Slot, Tcb};
use crate::store::Ref;
use crate::vcpu;

/// Interrupts enabled, and the bit that is always one: RFLAGS of a new thread.
const INITIAL_RFLAGS: u64 = 1 << 9 | 1 << 1;

/// Argument of Retype with the object type.
const TYPE_ARGUMENT: u64 = 0;
/// Argument of Retype with the size. Refusals of kernel objects in device memory name it too.
const SIZE_ARGUMENT: u64 = 1;

/// What to build: a type of object and, where the type leaves it open, its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blueprint {
    object: ObjectType,
    /// Retype's size argument, below 64; meaningless for types of one size.
    user_size_bits: u8,
}

impl Blueprint {
    /// Checks Retype's first two arguments.
    ///
    /// # Errors
    /// `InvalidArgument` 0 for an unknown type (nothing translates for devices, so an I/O page table
    /// is one) and 1 for a size that is too small, `RangeError`
    /// for one that is too large.
    pub fn decode(object: u64, user_size_bits: u64) -> Result<Self, SyscallError> {
        let object = ObjectType::try_from(object)
            .ok()
            .filter(|object| *object != ObjectType::IoPageTable)
            .ok_or(SyscallError::InvalidArgument(TYPE_ARGUMENT))?;
        let too_large = SyscallError::RangeError {
            min: 0,
            max: u64::from(MAX_UNTYPED_BITS),
        };
        if user_size_bits >= u64::from(u64::BITS) {
            return Err(too_large);
        }
        let blueprint = Self {
            object,
            user_size_bits: user_size_bits as u8,
        };
        if blueprint.size_bits() > MAX_UNTYPED_BITS {
            return Err(too_large);
        }
        let smallest = match object {
            ObjectType::CapTable => 1,
            ObjectType::Untyped => MIN_UNTYPED_BITS,
            ObjectType::SchedContext => SchedContext::MIN_SIZE_BITS,
            _ => 0,
        };
        if blueprint.user_size_bits < smallest {
            return Err(SyscallError::InvalidArgument(SIZE_ARGUMENT));
        }
        Ok(blueprint)
    }

    /// Base-2 logarithm of the bytes that one object takes.
    #[must_use]
    pub const fn size_bits(self) -> u8 {
        match self.object {
            ObjectType::CapTable => self.user_size_bits + Slot::SIZE_BITS,
            object => object.size_bits(self.user_size_bits as u32) as u8,
        }
    }

    /// Refuses objects that the kernel would read or write, which device memory cannot hold.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn ensure_fits_device_memory(self) -> Result<(), SyscallError> {
        match self.object {
            ObjectType::Untyped
            | ObjectType::SmallPage
            | ObjectType::LargePage
            | ObjectType::HugePage => Ok(()),
            _ => Err(SyscallError::InvalidArgument(SIZE_ARGUMENT)),
        }
    }

    /// Builds the object in the cleared memory at `base` and returns its first capability.
    pub(crate) fn build(self, kernel: &Kernel, base: usize, device: bool) -> Cap {
        let frame = |size| {
            Cap::Frame(FrameCap {
                base,
                size,
                device,
                rights: Rights::READ.union(Rights::WRITE),
                space: MapSpace::Virtual,
                mapping: None,
            })
        };
        match self.object {
            ObjectType::Untyped => Cap::Untyped(UntypedCap {
                base,
                size_bits: self.user_size_bits,
                device,
                watermark: 0,
            }),
            ObjectType::SmallPage => frame(FrameSize::Small),
            ObjectType::LargePage => frame(FrameSize::Large),
            ObjectType::HugePage => frame(FrameSize::Huge),
            _ => self.build_kernel_object(kernel, base),
        }
    }

    fn build_kernel_object(self, kernel: &Kernel, base: usize) -> Cap {
        match self.object {
            ObjectType::Tcb => Cap::Thread {
                tcb: new_thread(kernel, base),
            },
            ObjectType::Endpoint => Cap::Endpoint(EndpointCap {
                endpoint: Ref::from_address(base),
                badge: 0,
                rights: Rights::ALL,
            }),
            ObjectType::Notification => Cap::Notification(NotificationCap {
                notification: Ref::from_address(base),
                badge: 0,
                rights: Rights::READ.union(Rights::WRITE),
            }),
            ObjectType::CapTable => Cap::CNode(CNodeCap {
                slots: Ref::from_address(base),
                radix: self.user_size_bits,
                guard_size: 0,
                guard: 0,
            }),
            ObjectType::SchedContext => Cap::SchedContext {
                context: Ref::from_address(base),
                size_bits: self.user_size_bits,
            },
            ObjectType::Reply => Cap::Reply {
                reply: Ref::from_address(base),
                can_grant: true,
            },
            ObjectType::Vcpu => {
                let vcpu = Ref::from_address(base);
                vcpu::initialise(vcpu);
                Cap::Vcpu { vcpu }
            }
            ObjectType::Timer => Cap::Timer {
                timer: Ref::from_address(base),
            },
            _ => self.build_paging_structure(base),
        }
    }

    fn build_paging_structure(self, base: usize) -> Cap {
        let table = |level, space| {
            Cap::Table(TableCap {
                table: Ref::from_address(base),
                level,
                space,
                mapping: None,
            })
        };
        match self.object {
            ObjectType::PageTable => table(TableLevel::PageTable, MapSpace::Virtual),
            ObjectType::PageDirectory => table(TableLevel::PageDirectory, MapSpace::Virtual),
            ObjectType::Pdpt => table(TableLevel::Pdpt, MapSpace::Virtual),
            ObjectType::GuestPageTable => table(TableLevel::PageTable, MapSpace::Guest),
            ObjectType::GuestPageDirectory => table(TableLevel::PageDirectory, MapSpace::Guest),
            ObjectType::GuestPdpt => table(TableLevel::Pdpt, MapSpace::Guest),
            ObjectType::Pml4 => {
                let table = Ref::from_address(base);
                arch::copy_kernel_mappings(table);
                Cap::Root(RootCap {
                    table,
                    space: MapSpace::Virtual,
                    asid: None,
                })
            }
            ObjectType::GuestPml4 => Cap::Root(RootCap {
                table: Ref::from_address(base),
                space: MapSpace::Guest,
                asid: None,
            }),
            _ => Cap::Null,
        }
    }
}

pub(crate) fn new_thread(kernel: &Kernel, base: usize) -> Ref<Tcb> {
    let tcb = Ref::<Tcb>::from_address(base);
    tcb.registers.rflags.set(INITIAL_RFLAGS);
    tcb.domain.set(kernel.node().domain.get());
    arch::initialise_thread_state(tcb);
    tcb
}
