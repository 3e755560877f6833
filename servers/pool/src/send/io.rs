//! Where streams come from and go to, and reading them record by record.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::future::{Future, ready};
use core::pin::Pin;

use super::{CORRUPT, HEADER_SIZE, Record, StreamDecoder};
use crate::error::{DeviceError, Error};

/// The answer of the other side of a stream.
pub type StreamFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, DeviceError>> + 'a>>;

/// Bytes of a stream that arrive.
pub trait StreamReader {
    /// Reads some bytes; 0 at the end.
    fn read<'a>(&'a mut self, buffer: &'a mut [u8]) -> StreamFuture<'a, usize>;
}

/// A place for the bytes of a stream.
pub trait StreamWriter {
    /// Takes all bytes.
    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> StreamFuture<'a, ()>;
}

impl StreamReader for &[u8] {
    fn read<'a>(&'a mut self, buffer: &'a mut [u8]) -> StreamFuture<'a, usize> {
        let count = buffer.len().min(self.len());
        let (taken, rest) = self.split_at(count);
        buffer[..count].copy_from_slice(taken);
        *self = rest;
        Box::pin(ready(Ok(count)))
    }
}

impl StreamWriter for Vec<u8> {
    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> StreamFuture<'a, ()> {
        self.extend_from_slice(bytes);
        Box::pin(ready(Ok(())))
    }
}

/// A stream that is read record by record.
pub struct RecordReader<'a> {
    reader: &'a mut dyn StreamReader,
    decoder: StreamDecoder,
    bytes: u64,
}

impl<'a> RecordReader<'a> {
    /// Starts at the beginning of a stream.
    pub fn new(reader: &'a mut dyn StreamReader) -> Self {
        RecordReader {
            reader,
            decoder: StreamDecoder::new(),
            bytes: 0,
        }
    }

    /// Bytes that were read.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next record with its payload; `None` when the stream ends before it.
    ///
    /// # Errors
    /// `Corrupt` when the stream breaks off inside a record or its checksum is wrong.
    pub async fn next(&mut self) -> Result<Option<(Record, Vec<u8>)>, Error> {
        let mut header = [0; HEADER_SIZE];
        match self.fill(&mut header).await? {
            0 => return Ok(None),
            HEADER_SIZE => {}
            _ => return Err(CORRUPT),
        }
        let record = self.decoder.header(&header)?;
        let length = self.decoder.payload_length();
        let mut payload = vec![0; length];
        if length > 0 {
            if self.fill(&mut payload).await? != length {
                return Err(CORRUPT);
            }
            self.decoder.payload(&payload)?;
        }
        Ok(Some((record, payload)))
    }

    /// Fills the buffer unless the stream ends; gives how much there was.
    async fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let mut done = 0;
        while done < buffer.len() {
            match self.reader.read(&mut buffer[done..]).await? {
                0 => break,
                count => done += count.min(buffer.len() - done),
            }
        }
        self.bytes += done as u64;
        Ok(done)
    }
}
