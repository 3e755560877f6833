//! Mirrors, and the two vdevs that behave like one: replacing and spare.

use alloc::vec::Vec;

use super::{ReadFailure, ReadRequest, Vdev, VdevTree};
use crate::block_device::Access;
use crate::error::DeviceError;
use crate::future::join_all;

/// Bytes that go to one child before the next is preferred, so that sequential reads stay sequential.
const SPREAD_SHIFT: u32 = 20;

impl Vdev {
    pub(super) async fn read_mirror(
        &self,
        tree: &VdevTree,
        request: ReadRequest<'_>,
    ) -> Result<Vec<u8>, ReadFailure> {
        let count = self.children.len();
        let start = (request.offset >> SPREAD_SHIFT) as usize + request.prefer;
        let mut failure = ReadFailure::Device(DeviceError::Gone);
        let mut bad = Vec::new();
        let turns = (0..count).map(|turn| &self.children[(start + turn) % count]);
        let (stale, fresh): (Vec<&Vdev>, Vec<&Vdev>) = turns.partition(|child| child.is_stale());
        for child in fresh.into_iter().chain(stale) {
            if !child.is_readable() {
                continue;
            }
            match child.read(tree, request).await {
                Ok(data) => {
                    if request.repair == Access::ReadWrite {
                        for child in bad {
                            // A repair that fails leaves the copy bad, which the counters show.
                            let _ = Vdev::write(child, tree, request.offset, &data).await;
                        }
                    }
                    return Ok(data);
                }
                Err(reason) => {
                    failure = reason;
                    bad.push(child);
                }
            }
        }
        Err(failure)
    }

    pub(super) async fn write_mirror(
        &self,
        tree: &VdevTree,
        offset: u64,
        data: &[u8],
    ) -> Result<(), DeviceError> {
        let writes = self
            .children
            .iter()
            .map(|child| child.write(tree, offset, data));
        at_most_failing(join_all(writes.collect()).await, self.children.len() - 1)
    }
}

/// Success when no more than `spare` of the writes failed.
pub(super) fn at_most_failing(
    results: Vec<Result<(), DeviceError>>,
    spare: usize,
) -> Result<(), DeviceError> {
    let failures: Vec<DeviceError> = results.into_iter().filter_map(Result::err).collect();
    match failures.first() {
        Some(&error) if failures.len() > spare => Err(error),
        _ => Ok(()),
    }
}
