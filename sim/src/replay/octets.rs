//! A file's octets, whatever it is compressed with: gzip, bzip2 or zstd, told by its beginning.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub struct Octets {
    pub(super) input: Box<dyn Read>,
    pub(super) position: Arc<AtomicU64>,
    pub(super) length: u64,
}

impl Octets {
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let position = Arc::new(AtomicU64::new(0));
        let counted = BufReader::with_capacity(1 << 16, Counted { inner: file, position: position.clone() });
        Ok(Self { input: decompressed(counted)?, position, length })
    }

    /// Octets of the file, and how many of them are read.
    pub fn length(&self) -> u64 {
        self.length
    }

    pub fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }
}

impl Read for Octets {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.read(buffer)
    }
}

struct Counted<R> {
    inner: R,
    position: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.position.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

pub(super) fn decompressed<R: Read + 'static>(mut input: BufReader<R>) -> io::Result<Box<dyn Read>> {
    let head = input.fill_buf()?;
    if head.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(input))));
    }
    if head.starts_with(b"BZh") {
        return Ok(Box::new(BufReader::new(bzip2::bufread::MultiBzDecoder::new(input))));
    }
    if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return Ok(Box::new(BufReader::new(zstd::Decoder::with_buffer(input)?)));
    }
    Ok(Box::new(input))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_file_is_read_whatever_it_is_compressed_with() {
        let text = b"octets that are long enough to be compressed, octets that are long enough".repeat(100);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
        gzip.write_all(&text).unwrap();
        bzip2.write_all(&text).unwrap();
        let files = [
            text.clone(),
            gzip.finish().unwrap(),
            bzip2.finish().unwrap(),
            zstd::encode_all(text.as_slice(), 1).unwrap(),
        ];
        for file in files {
            std::fs::write(&path, &file).unwrap();
            let mut octets = Octets::open(&path).unwrap();
            let mut read = Vec::new();
            octets.read_to_end(&mut read).unwrap();
            assert_eq!(read, text);
            assert_eq!((octets.position(), octets.length()), (file.len() as u64, file.len() as u64));
        }
    }
}
