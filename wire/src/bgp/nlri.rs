//! Routes as they are announced and withdrawn.
//!
//! unicast:  | [path identifier u32 (RFC 7911)] | length in bits u8 | ceil(length / 8) octets |      repeated
//! labelled: | [path identifier] | length u8 | label of 3 octets, ... | prefix |                     RFC 8277 2
//! VPN:      | [path identifier] | length u8 | label, ... | distinguisher 8 | prefix |               RFC 4364 4.3.4
//! FlowSpec: | [path identifier] | length u8, or u16 from 0xf000 | [distinguisher 8] | components |  RFC 8955 4.1, 8

use super::flow_spec::FlowRule;
use super::{Agreed, Cursor, Family};
use crate::error::{Why, WireError};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PrefixAddress {
    V4([u8; 4]),
    V6([u8; 16]),
}

/// Bits after `len` are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NlriPrefix {
    /// 0 where not agreed.
    pub path_id: u32,
    pub address: PrefixAddress,
    pub len: u8,
}

/// A prefix with what a labelled or VPN family has before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NlriRoute<'a> {
    pub prefix: NlriPrefix,
    /// Route distinguisher, of a VPN family.
    pub rd: Option<[u8; 8]>,
    pub labels: Labels<'a>,
}

/// A label stack, top first; empty in a withdrawal, where it says nothing (RFC 8277 2.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Labels<'a>(&'a [[u8; 3]]);

impl Labels<'_> {
    /// 20 bits each.
    pub fn iter(&self) -> impl Iterator<Item = u32> + use<'_> {
        self.0.iter().map(|[a, b, c]| u32::from_be_bytes([0, *a, *b, *c]) >> 4)
    }
}

/// How the routes of a family are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Form {
    #[default]
    Unicast,
    Labelled,
    Vpn,
    FlowSpec,
    VpnFlowSpec,
}

/// The form and whether addresses are of IPv6; `None` is a family that is not read.
pub(super) fn form(family: Family) -> Option<(Form, bool)> {
    let v6 = match family.afi {
        1 => false,
        2 => true,
        _ => return None,
    };
    let form = match family.safi {
        1 => Form::Unicast,
        4 => Form::Labelled,
        128 => Form::Vpn,
        133 => Form::FlowSpec,
        134 => Form::VpnFlowSpec,
        _ => return None,
    };
    Some((form, v6))
}

/// Routes of one family that were checked: iterating does not fail. It goes through prefixes of a unicast
/// family; for the others there are [`Nlri::routes`] and [`Nlri::rules`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nlri<'a> {
    octets: &'a [u8],
    family: Family,
    form: Form,
    v6: bool,
    add_path: bool,
    labels: Stack,
}

/// Labels before a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stack {
    /// Three octets that say nothing.
    Ignored,
    One,
    /// Up to the one with the bottom-of-stack bit.
    ToBottom,
}

impl Default for Nlri<'_> {
    fn default() -> Self {
        Self {
            octets: &[],
            family: Family::V4_UNICAST,
            form: Form::Unicast,
            v6: false,
            add_path: false,
            labels: Stack::One,
        }
    }
}

impl<'a> Nlri<'a> {
    /// Checks each route: RFC 4271 6.3, RFC 7606 5.3. An error beside the result is one of a rule whose own
    /// length is sound: its routes can be told apart.
    pub(super) fn parse(
        octets: &'a [u8],
        offset: usize,
        family: Family,
        withdrawn: bool,
        agreed: &Agreed,
    ) -> Result<(Self, Option<WireError>), WireError> {
        let Some((form, v6)) = form(family) else { return Ok((Self::default(), None)) };
        let labels = match withdrawn {
            true => Stack::Ignored,
            false if agreed.multiple_labels.contains(&family) => Stack::ToBottom,
            false => Stack::One,
        };
        let nlri = Self { octets, family, form, v6, add_path: agreed.has_add_path(family), labels };
        let mut cursor = Cursor::new(octets, offset);
        let mut soft = None;
        while !cursor.rest.is_empty() {
            match form {
                Form::FlowSpec | Form::VpnFlowSpec => {
                    let at = cursor.offset;
                    let rule = nlri.rule(&mut cursor)?;
                    if let Err(error) = rule.check(at)
                        && soft.is_none()
                    {
                        soft = Some(error);
                    }
                }
                _ => drop(nlri.route(&mut cursor)?),
            }
        }
        Ok((nlri, soft))
    }

    pub fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    pub fn is_v6(&self) -> bool {
        self.v6
    }

    pub fn family(&self) -> Family {
        self.family
    }

    /// Of a unicast, labelled or VPN family.
    pub fn routes(&self) -> impl Iterator<Item = NlriRoute<'a>> + use<'a> {
        let nlri = *self;
        let is_prefix = matches!(nlri.form, Form::Unicast | Form::Labelled | Form::Vpn);
        let mut cursor = Cursor::new(if is_prefix { nlri.octets } else { &[] }, 0);
        std::iter::from_fn(move || if cursor.rest.is_empty() { None } else { nlri.route(&mut cursor).ok() })
    }

    /// Of a FlowSpec family.
    pub fn rules(&self) -> impl Iterator<Item = FlowRule<'a>> + use<'a> {
        let nlri = *self;
        let is_rule = matches!(nlri.form, Form::FlowSpec | Form::VpnFlowSpec);
        let mut cursor = Cursor::new(if is_rule { nlri.octets } else { &[] }, 0);
        std::iter::from_fn(move || if cursor.rest.is_empty() { None } else { nlri.rule(&mut cursor).ok() })
    }

    #[inline]
    fn path_id(&self, cursor: &mut Cursor<'a>) -> Result<u32, WireError> {
        if self.add_path { cursor.array("path identifier").map(u32::from_be_bytes) } else { Ok(0) }
    }

    #[inline]
    fn route(&self, cursor: &mut Cursor<'a>) -> Result<NlriRoute<'a>, WireError> {
        let path_id = self.path_id(cursor)?;
        let at = cursor.offset;
        let bits = cursor.u8("prefix length")?;
        let wrong = || WireError { offset: at, reading: "prefix length", why: Why::Length(u32::from(bits)) };
        let mut len = bits;
        let mut labels: &[[u8; 3]] = &[];
        if self.form != Form::Unicast {
            let start = cursor.rest;
            let mut count = 0;
            loop {
                len = len.checked_sub(24).ok_or_else(wrong)?;
                let [.., last] = cursor.array::<3>("label")?;
                count += 1;
                // RFC 8277 2.2: of a single label the bit says nothing.
                if self.labels != Stack::ToBottom || last & 1 != 0 {
                    break;
                }
            }
            if self.labels != Stack::Ignored {
                labels = start[..count * 3].as_chunks().0;
            }
        }
        let mut rd = None;
        if self.form == Form::Vpn {
            len = len.checked_sub(64).ok_or_else(wrong)?;
            rd = Some(cursor.array("route distinguisher")?);
        }
        if len > if self.v6 { 128 } else { 32 } {
            return Err(wrong());
        }
        let octets = cursor.take(usize::from(len).div_ceil(8), "prefix")?;
        let address = if self.v6 {
            PrefixAddress::V6((u128::from_be_bytes(filled(octets)) & mask(len, 128)).to_be_bytes())
        } else {
            PrefixAddress::V4((u32::from_be_bytes(filled(octets)) & mask(len, 32) as u32).to_be_bytes())
        };
        Ok(NlriRoute { prefix: NlriPrefix { path_id, address, len }, rd, labels: Labels(labels) })
    }

    fn rule(&self, cursor: &mut Cursor<'a>) -> Result<FlowRule<'a>, WireError> {
        let path_id = self.path_id(cursor)?;
        let at = cursor.offset;
        let mut length = usize::from(cursor.u8("rule length")?);
        // RFC 8955 4.1: from 240 octets in two, the first four bits set.
        if length >= 0xf0 {
            length = (length & 0x0f) << 8 | usize::from(cursor.u8("rule length")?);
        }
        let mut octets = cursor.take(length, "rule")?;
        let mut rd = None;
        if self.form == Form::VpnFlowSpec {
            let Some((head, rest)) = octets.split_first_chunk::<8>() else {
                return Err(WireError { offset: at, reading: "rule length", why: Why::Length(length as u32) });
            };
            (rd, octets) = (Some(*head), rest);
        }
        Ok(FlowRule { path_id, rd, octets, v6: self.v6 })
    }
}

impl Iterator for Nlri<'_> {
    type Item = NlriPrefix;

    #[inline]
    fn next(&mut self) -> Option<NlriPrefix> {
        if self.octets.is_empty() || self.form != Form::Unicast {
            return None;
        }
        let mut cursor = Cursor::new(self.octets, 0);
        let route = self.route(&mut cursor).ok()?;
        self.octets = cursor.rest;
        Some(route.prefix)
    }
}

/// At most N octets, which were checked, and zeros.
fn filled<const N: usize>(octets: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.iter_mut().zip(octets).for_each(|(to, from)| *to = *from);
    array
}

fn mask(len: u8, width: u8) -> u128 {
    if len == 0 { 0 } else { u128::MAX << (width - len.min(width)) }
}
