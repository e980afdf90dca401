//! Nodes by address, name and prefix.

use std::collections::BTreeSet;

use ahash::AHashMap;

use super::{Node, NodeId, PrefixObject};
use crate::address::{Address, Prefix};

/// A node that says that it reaches a prefix, and at what further cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    pub node: NodeId,
    pub metric: u32,
    pub topology: u16,
}

#[derive(Debug, Default)]
pub(super) struct Addresses {
    /// Of a router's own; those that several have belong to none.
    by_address: AHashMap<Address, Option<NodeId>>,
    by_name: AHashMap<String, Option<NodeId>>,
}

impl Addresses {
    pub(super) fn build<'a>(
        nodes: impl Iterator<Item = (NodeId, &'a Node)>,
        interfaces: impl Iterator<Item = (NodeId, &'a [Address])>,
    ) -> Self {
        let mut index = Self::default();
        for (id, node) in nodes.filter(|(_, node)| !node.key.pseudonode) {
            for address in &node.facts.router_ids {
                index.put(*address, id);
            }
            // A router id of OSPF and of BGP is written as an address, and by habit is one.
            if let ([a, b, c, d], 3..=7) = (&*node.key.id, node.key.igp) {
                index.put(Address::from_v4([*a, *b, *c, *d]), id);
            }
            let mut names = vec![node.key.to_string()];
            names.extend(node.facts.name.clone());
            for name in names {
                let name = name.to_lowercase();
                index
                    .by_name
                    .entry(name)
                    .and_modify(|known| *known = known.filter(|known| *known == id))
                    .or_insert(Some(id));
            }
        }
        for (id, addresses) in interfaces {
            addresses.iter().for_each(|address| index.put(*address, id));
        }
        index
    }

    fn put(&mut self, address: Address, id: NodeId) {
        let known = self.by_address.entry(address).or_insert(Some(id));
        if *known != Some(id) {
            *known = None;
        }
    }

    pub(super) fn owner(&self, address: Address) -> Option<NodeId> {
        self.by_address.get(&address).copied().flatten()
    }

    pub(super) fn named(&self, name: &str) -> Option<NodeId> {
        self.by_name.get(&name.to_lowercase()).copied().flatten()
    }
}

/// Longest match over what the nodes say that they reach.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    owners: Vec<Owner>,
    /// First owner and how many.
    by_prefix: AHashMap<Prefix, (u32, u32)>,
    /// Lengths that occur, longest first: of IPv4, of IPv6.
    lengths: [Vec<u8>; 2],
}

impl Prefixes {
    pub(super) fn build<'a>(said: impl Iterator<Item = (NodeId, &'a PrefixObject)>) -> Self {
        let mut list: Vec<(Prefix, Owner)> = said
            .map(|(node, said)| (said.prefix, Owner { node, metric: said.metric, topology: said.topology }))
            .collect();
        list.sort_unstable();
        list.dedup();
        let mut index = Self { by_prefix: AHashMap::with_capacity(list.len()), ..Self::default() };
        let mut lengths = [BTreeSet::new(), BTreeSet::new()];
        for (prefix, owner) in list {
            let at = index.owners.len() as u32;
            index.by_prefix.entry(prefix).or_insert((at, 0)).1 += 1;
            index.owners.push(owner);
            lengths[usize::from(!prefix.address.is_v4())].insert(prefix.len);
        }
        index.lengths = lengths.map(|lengths| lengths.into_iter().rev().collect());
        index
    }

    pub(super) fn len(&self) -> usize {
        self.by_prefix.len()
    }

    /// The longest prefix that holds the address, and who reaches it.
    pub(super) fn find(&self, address: Address) -> Option<(Prefix, &[Owner])> {
        self.lengths[usize::from(!address.is_v4())].iter().find_map(|len| {
            let prefix = Prefix::new(address, *len);
            let (start, count) = self.by_prefix.get(&prefix)?;
            Some((prefix, &self.owners[*start as usize..(start + count) as usize]))
        })
    }
}
