//! The table on disk: read back at start, so that flows are named before routers have sent everything again.
//!
//! | magic u64 | blocks: octets u32 | crc32 u32 | a RouteBatch, compressed |
//!
//! A block of no octets is the end. A file is written beside the one before and takes its place whole. Only peers'
//! own tables are kept: what is in VRFs and what has labels comes again with its session.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use benocs_model::route::{RouteBatch, RouteEvent, RouteView};

const MAGIC: &[u8; 8] = b"bencroT1";
/// Little for much: it is written while sessions go on.
const LEVEL: i32 = 1;
const BLOCK_OCTETS_MAX: usize = 64 << 20;
const BATCH_OCTETS_MAX: usize = 512 << 20;

/// Writes what is published; how many routes.
pub(crate) fn write(path: &Path, view: &RouteView) -> anyhow::Result<u64> {
    let beside = path.with_extension("new");
    let written = write_to(&beside, view).and_then(|routes| {
        fs::rename(&beside, path)?;
        Ok(routes)
    });
    written.with_context(|| format!("cannot save the routes in {}", path.display()))
}

fn write_to(path: &Path, view: &RouteView) -> anyhow::Result<u64> {
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(MAGIC)?;
    let mut routes = 0;
    for batch in view.snapshot() {
        let announced = |event: &RouteEvent| match event {
            RouteEvent::Announce { prefixes, .. } => prefixes.len() as u64,
            _ => 0,
        };
        routes += batch.events.iter().map(announced).sum::<u64>();
        let octets = zstd::bulk::compress(&postcard::to_stdvec(&batch)?, LEVEL)?;
        file.write_all(&(octets.len() as u32).to_be_bytes())?;
        file.write_all(&crc32fast::hash(&octets).to_be_bytes())?;
        file.write_all(&octets)?;
    }
    file.write_all(&[0; 8])?;
    file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    Ok(routes)
}

/// Batches of a file, as far as it is whole.
pub(crate) struct Saved {
    file: BufReader<File>,
    path: PathBuf,
    is_over: bool,
}

impl Saved {
    /// `None` where there is none.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot open {}", path.display())),
        };
        let mut file = BufReader::with_capacity(1 << 18, file);
        let mut magic = [0; 8];
        if file.read_exact(&mut magic).is_err() || magic != *MAGIC {
            bail!("{} is no saved table", path.display());
        }
        Ok(Some(Self { file, path: path.to_owned(), is_over: false }))
    }

    fn batch(&mut self) -> anyhow::Result<Option<RouteBatch>> {
        let mut head = [0; 8];
        self.file.read_exact(&mut head)?;
        let [a, b, c, d, e, f, g, h] = head;
        let octets = u32::from_be_bytes([a, b, c, d]) as usize;
        if octets == 0 {
            return Ok(None);
        }
        if octets > BLOCK_OCTETS_MAX {
            bail!("a block of {octets} octets");
        }
        let mut block = vec![0; octets];
        self.file.read_exact(&mut block)?;
        if crc32fast::hash(&block) != u32::from_be_bytes([e, f, g, h]) {
            bail!("a checksum that does not fit");
        }
        Ok(Some(postcard::from_bytes(&zstd::bulk::decompress(&block, BATCH_OCTETS_MAX)?)?))
    }
}

impl Iterator for Saved {
    type Item = anyhow::Result<RouteBatch>;

    /// Ends after an error.
    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let batch = self.batch().with_context(|| format!("{} is not whole", self.path.display())).transpose();
        self.is_over = !matches!(batch, Some(Ok(_)));
        batch
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use benocs_model::Address;
    use benocs_model::address::Prefix;
    use benocs_model::route::{Path as RoutePath, Peer, RouteTable};

    use super::*;

    fn table() -> RouteTable {
        let mut table = RouteTable::new();
        let mut events = Vec::new();
        for id in 0..3u32 {
            let address = Address::from_v4([192, 0, 2, id as u8]);
            let peer = Peer { id, name: format!("r{id}"), address, remote_as: 64_500, ..Peer::default() };
            events.push(RouteEvent::PeerUp(Arc::new(peer)));
            let path = RoutePath { next_hop: address, med: Some(id), ..RoutePath::default() };
            let prefix = |number: u32| (0, Prefix::new(Address::from_v4((number << 8).to_be_bytes()), 24));
            let prefixes = (0x00c6_0000..0x00c6_0000 + 500).map(prefix).collect();
            events.push(RouteEvent::Announce { peer: id, path: Arc::new(path), prefixes });
        }
        table.apply(&RouteBatch { generation: 1, events });
        table.publish();
        table
    }

    #[test]
    fn what_is_saved_builds_an_equal_table() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("table");
        assert!(Saved::open(&file).unwrap().is_none());
        let view = table().reader().view();
        assert_eq!(write(&file, &view).unwrap(), 1500);
        let mut read = RouteTable::new();
        Saved::open(&file).unwrap().unwrap().for_each(|batch| _ = read.apply(&batch.unwrap()));
        read.publish();
        let routes =
            |view: &RouteView, id| view.routes_of(id).map(|(a, b, c, _)| (a, b, c.clone())).collect::<Vec<_>>();
        for id in 0..3 {
            assert_eq!(routes(&read.reader().view(), id), routes(&view, id));
        }
    }

    #[test]
    fn a_file_that_is_cut_or_changed_gives_what_is_whole_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("table");
        write(&file, &table().reader().view()).unwrap();
        let octets = fs::read(&file).unwrap();
        for length in 8..octets.len() {
            fs::write(&file, &octets[..length]).unwrap();
            let last = Saved::open(&file).unwrap().unwrap().last().unwrap();
            assert!(last.unwrap_err().to_string().contains("not whole"), "{length}");
        }
        // The last four are nothing.
        for at in 8..octets.len() - 4 {
            let mut wrong = octets.clone();
            wrong[at] ^= 0x55;
            fs::write(&file, &wrong).unwrap();
            assert!(Saved::open(&file).unwrap().unwrap().any(|batch| batch.is_err()), "{at}");
        }
    }
}
