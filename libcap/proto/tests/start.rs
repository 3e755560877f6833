//! The bytes of a start record, frozen: root and a program may be built at different times.

use proto::start::{CapKind, NamedCap, NamedRegion, Region, StartInfo};

/// Every kind, in wire order.
const KINDS: [CapKind; 20] = [
    CapKind::Endpoint,
    CapKind::Notification,
    CapKind::Reply,
    CapKind::Tcb,
    CapKind::CNode,
    CapKind::Untyped,
    CapKind::Frame,
    CapKind::VSpace,
    CapKind::SchedContext,
    CapKind::SchedControl,
    CapKind::IrqHandler,
    CapKind::IrqControl,
    CapKind::IoPort,
    CapKind::IoPortControl,
    CapKind::AsidPool,
    CapKind::AsidControl,
    CapKind::Vcpu,
    CapKind::GuestRoot,
    CapKind::Timer,
    CapKind::IoSpace,
];

#[test]
fn the_bytes_of_a_start_record_are_frozen() {
    let info = StartInfo {
        program: "disk".into(),
        instance: 1,
        threads: 2,
        ipc_buffers: vec![0x1000, 0x2000],
        heap: Region {
            vaddr: 0x10_0000,
            length: 0x8000,
        },
        tsc_khz: 2_000_000,
        caps: Vec::new(),
        regions: vec![NamedRegion {
            name: "log.tx".into(),
            vaddr: 0x3000,
            length: 0x1000,
            paddr: Some(0x80),
            writable: true,
        }],
        args: vec![7],
    };
    #[rustfmt::skip]
    let expected = [
        40, 0, 0, 0, // bytes that follow
        4, b'd', b'i', b's', b'k', // program
        1, 2, // instance, threads
        2, 0x80, 0x20, 0x80, 0x40, // IPC buffers
        0x80, 0x80, 0x40, 0x80, 0x80, 0x02, // heap
        0x80, 0x89, 0x7a, // TSC frequency
        0, // capabilities
        1, 6, b'l', b'o', b'g', b'.', b't', b'x', 0x80, 0x60, 0x80, 0x20, 1, 0x80, 0x01, 1, // regions
        1, 7, // arguments
    ];
    assert_eq!(info.encode().unwrap(), expected);
}

#[test]
fn the_number_of_each_kind_is_frozen() {
    for (number, kind) in KINDS.into_iter().enumerate() {
        let cap = NamedCap {
            name: String::new(),
            kind,
            slot: 5,
        };
        let info = StartInfo {
            caps: vec![cap],
            ..StartInfo::default()
        };
        let bytes = info.encode().unwrap();
        // Before the capabilities: length word, empty name, four numbers, the heap, a count.
        let [name, kind_number, slot, ..] = bytes[12..] else {
            panic!("{bytes:?}")
        };
        assert_eq!(
            (name, usize::from(kind_number), slot),
            (0, number, 5),
            "{kind:?}"
        );
    }
}
