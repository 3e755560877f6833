//! Reading all that a vdev keeps of a block, not just enough of it, and repairing what is bad.

use alloc::vec::Vec;

use super::{ReadFailure, ReadRequest, Vdev, VdevFuture, VdevKind, VdevTree};
use crate::block_device::Access;
use crate::error::DeviceError;

impl Vdev {
    /// Reads every copy or column of a block and rewrites those that are bad. Gives the bytes that were rewritten.
    ///
    /// # Errors
    /// No copy is good and none can be made from the others.
    pub fn scrub<'a>(
        &'a self,
        tree: &'a VdevTree,
        request: ReadRequest<'a>,
    ) -> VdevFuture<'a, Result<u64, ReadFailure>> {
        alloc::boxed::Box::pin(async move {
            match &self.kind {
                VdevKind::Mirror => self.scrub_mirror(tree, request).await,
                VdevKind::Raidz(parity) => self.scrub_raidz(tree, *parity, request).await,
                VdevKind::Leaf(_) | VdevKind::Indirect(_) | VdevKind::Absent => {
                    self.read(tree, request).await.map(|_| 0)
                }
            }
        })
    }

    async fn scrub_mirror(
        &self,
        tree: &VdevTree,
        request: ReadRequest<'_>,
    ) -> Result<u64, ReadFailure> {
        let mut failure = ReadFailure::Device(DeviceError::Gone);
        let mut good = None;
        let mut bad = Vec::new();
        let look = ReadRequest {
            repair: Access::ReadOnly,
            ..request
        };
        let readable = self.children.iter().filter(|child| child.is_readable());
        // Those that may lack something come last, and are compared with the others: not every block has a check.
        let (stale, fresh): (Vec<&Vdev>, Vec<&Vdev>) = readable.partition(|child| child.is_stale());
        for child in fresh.into_iter().chain(stale) {
            match child.read(tree, look).await {
                Ok(data) if good.as_ref().is_some_and(|good| *good != data) => bad.push(child),
                Ok(data) => good = Some(data),
                Err(reason) => {
                    failure = reason;
                    bad.push(child);
                }
            }
        }
        let good: Vec<u8> = good.ok_or(failure)?;
        let mut repaired = 0;
        if request.repair == Access::ReadWrite {
            for child in bad {
                // A repair that fails leaves the copy bad, which the counters show.
                if child.write(tree, request.offset, &good).await.is_ok() {
                    repaired += good.len() as u64;
                }
            }
        }
        Ok(repaired)
    }
}
