//! The index over the manifest, in sled: can be rebuilt, and is, whenever it
//! does not agree with the manifest.

use std::collections::BTreeMap;

use benocs_model::message::{Cursors, Stream};
use benocs_runtime::state::{State, Tree};

use crate::manifest::{FileMeta, Snapshot};

pub(crate) struct Index {
    files: Tree,
    cursors: Tree,
}

const STREAMS: [(Stream, &[u8]); 2] = [(Stream::Flows, b"flows"), (Stream::Rollups, b"rollups")];

impl Index {
    /// Opens, and brings it to what the manifest says; true where it had to be rebuilt.
    pub(crate) fn open(state: &State, snapshot: &Snapshot) -> anyhow::Result<(Self, bool)> {
        let index = Self { files: state.tree("store.files")?, cursors: state.tree("store.cursors")? };
        let agrees = index.agrees(snapshot);
        if !agrees {
            index.rebuild(snapshot)?;
        }
        Ok((index, !agrees))
    }

    fn agrees(&self, snapshot: &Snapshot) -> bool {
        let found: BTreeMap<Vec<u8>, FileMeta> = self.files.entries().collect();
        let same = |(id, file): (&u64, &std::sync::Arc<crate::manifest::DataFile>)| {
            found.get(id.to_be_bytes().as_slice()) == Some(&file.meta)
        };
        self.files.len() == snapshot.files.len()
            && snapshot.files.iter().all(same)
            && STREAMS.iter().all(|(stream, key)| {
                self.cursors.get::<Cursors>(key).ok().flatten().as_ref() == Some(snapshot.cursors(*stream))
            })
    }

    fn rebuild(&self, snapshot: &Snapshot) -> anyhow::Result<()> {
        self.files.clear()?;
        for (id, file) in snapshot.files.iter() {
            self.files.put(&id.to_be_bytes(), &file.meta)?;
        }
        self.put_cursors(snapshot)
    }

    fn put_cursors(&self, snapshot: &Snapshot) -> anyhow::Result<()> {
        STREAMS.iter().try_for_each(|(stream, key)| self.cursors.put(key, snapshot.cursors(*stream)))
    }

    /// After a commit.
    pub(crate) fn apply(&self, added: &[FileMeta], removed: &[u64], snapshot: &Snapshot) -> anyhow::Result<()> {
        for id in removed {
            self.files.remove(&id.to_be_bytes())?;
        }
        for meta in added {
            self.files.put(&meta.id.to_be_bytes(), meta)?;
        }
        self.put_cursors(snapshot)
    }
}
