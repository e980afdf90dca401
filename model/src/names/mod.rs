//! Names: which service an address served, as resolvers answered their clients.
//!
//! dns00 reads answers, finds the service of the name that was asked for
//! ([`service`]), and sends [`NameBatch`]es: addresses, truncated clients,
//! service ids, 64-bit hashes of names; never a name. A [`NameTable`]
//! is filled from them by one writer wherever flows are joined, and read
//! without locks through a [`NameReader`].

pub mod service;
pub mod suffix;
mod table;

use serde::{Deserialize, Serialize};

pub use service::{Rule, ServiceRules};
pub use table::{NameReader, NameStats, NameTable, NameView, Named, Settings};

use crate::address::Address;

/// How clients are cut before anything of them is kept: bits of the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientPrefix {
    pub v4: u8,
    pub v6: u8,
}

impl Default for ClientPrefix {
    fn default() -> Self {
        Self { v4: 24, v6: 48 }
    }
}

impl ClientPrefix {
    pub fn truncate(self, client: Address) -> Address {
        client.truncate(if client.is_v4() { self.v4 } else { self.v6 })
    }
}

/// One answer; its addresses and aliases end at these positions of the batch's
/// lists, and begin where the previous answer's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Answer {
    /// Unix seconds, when the resolver answered.
    time_s: u32,
    /// Truncated; unspecified where the resolver itself had asked.
    client: Address,
    /// [`name_hash`] of the name asked for.
    asked: u64,
    /// Service of the name asked for.
    service: u32,
    addresses_end: u32,
    aliases_end: u32,
}

/// What one answer says, as it goes into a batch and comes out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerRef<'a> {
    pub time_s: u32,
    pub client: Option<Address>,
    pub asked: u64,
    pub service: u32,
    /// With the TTL in seconds.
    pub addresses: &'a [(Address, u32)],
    /// Hashes of the canonical names on the way (CNAME, DNAME), in order, with the TTL in seconds.
    pub aliases: &'a [(u64, u32)],
}

/// A line of a table as a replica takes it over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Of (address, client) where true, of the address alone where not.
    pub of_client: bool,
    pub key: u64,
    pub service: u32,
    pub first_s: u32,
    pub last_s: u32,
    pub ttl_s: u32,
    pub count: u8,
}

/// Answers, or a part of a snapshot, on their way to a [`NameTable`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameBatch {
    pub client_prefix: ClientPrefix,
    answers: Vec<Answer>,
    addresses: Vec<(Address, u32)>,
    aliases: Vec<(u64, u32)>,
    rows: Vec<Row>,
}

impl NameBatch {
    pub fn new(client_prefix: ClientPrefix) -> Self {
        Self { client_prefix, ..Self::default() }
    }

    /// The client is truncated here, whoever gives it.
    pub fn push(&mut self, answer: AnswerRef<'_>) {
        self.addresses.extend_from_slice(answer.addresses);
        self.aliases.extend_from_slice(answer.aliases);
        self.answers.push(Answer {
            time_s: answer.time_s,
            client: answer.client.map_or(Address::UNSPECIFIED, |client| self.client_prefix.truncate(client)),
            asked: answer.asked,
            service: answer.service,
            addresses_end: self.addresses.len() as u32,
            aliases_end: self.aliases.len() as u32,
        });
    }

    pub fn push_row(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Answers and rows of it.
    pub fn len(&self) -> usize {
        self.answers.len() + self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.answers.is_empty() && self.rows.is_empty()
    }

    pub fn answers(&self) -> impl Iterator<Item = AnswerRef<'_>> {
        let (mut addresses, mut aliases) = (0, 0);
        self.answers.iter().map(move |answer| {
            let from = (addresses, aliases);
            (addresses, aliases) = (answer.addresses_end as usize, answer.aliases_end as usize);
            AnswerRef {
                time_s: answer.time_s,
                client: (answer.client != Address::UNSPECIFIED).then_some(answer.client),
                asked: answer.asked,
                service: answer.service,
                // A batch from another machine may say anything.
                addresses: self.addresses.get(from.0..addresses).unwrap_or_default(),
                aliases: self.aliases.get(from.1..aliases).unwrap_or_default(),
            }
        })
    }

    pub fn rows(&self) -> &[Row] {
        &self.rows
    }
}

const MIX: [u64; 3] = [0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93, 0xa076_1d64_78bd_642f];

fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

/// Hash of a name in lower-case, uncompressed wire form: equal on all machines.
pub fn name_hash(wire: &[u8]) -> u64 {
    let mut hash = MIX[0] ^ wire.len() as u64;
    for chunk in wire.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = mix(hash ^ u64::from_le_bytes(word), MIX[1]);
    }
    mix(hash ^ MIX[2], MIX[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_out_as_they_went_in_with_clients_cut() {
        let mut batch = NameBatch::new(ClientPrefix::default());
        let server = Address::from_v4([192, 0, 2, 7]);
        let answer = AnswerRef {
            time_s: 1000,
            client: Some(Address::from_v4([10, 1, 2, 3])),
            asked: 1,
            service: 5,
            addresses: &[(server, 60)],
            aliases: &[(2, 30), (3, 30)],
        };
        batch.push(answer);
        batch.push(AnswerRef { client: None, asked: 9, aliases: &[], ..answer });
        let octets = postcard::to_stdvec(&batch).expect("serializes");
        let back: NameBatch = postcard::from_bytes(&octets).expect("deserializes");
        let answers: Vec<_> = back.answers().collect();
        assert_eq!(answers[0], AnswerRef { client: Some(Address::from_v4([10, 1, 2, 0])), ..answer });
        assert_eq!(answers[1], AnswerRef { client: None, asked: 9, aliases: &[], ..answer });
    }

    #[test]
    fn hashes_differ_in_each_octet() {
        let name = b"\x03www\x07example\x03com\x00";
        let mut seen = std::collections::HashSet::from([name_hash(name)]);
        for at in 0..name.len() {
            let mut other = *name;
            other[at] ^= 1;
            assert!(seen.insert(name_hash(&other)));
        }
    }
}
