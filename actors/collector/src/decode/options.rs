//! Options records: what an exporter says about itself.
//!
//! Applied: samplers (34, 50, 305/306, 309/310; by 48 or 302, by template 145),
//! systemInitTimeMilliseconds (160), the exporter's address (130, 131), and names:
//! of interfaces (82, 83 by 10, 252, 14 or 253), VRFs (236 by 234 or 235) and
//! applications (96, 94 by 95; RFC 6759).

use benocs_model::flow::builder::Octets16;
use benocs_model::network::LabelKind;

use super::labels::Key as Named;
use super::layout::{Layout, Placed, Rows, content, integer, octets};
use super::plan::application_id;
use super::sampling::{Fraction, Key};

/// Every element that is made use of.
const APPLIED: &[u16] = &[
    10, 14, 34, 35, 48, 49, 50, 82, 83, 84, 94, 95, 96, 130, 131, 145, 160, 210, 234, 235, 236, 252, 253, 302, 304,
    305, 306, 309, 310,
];
const INTERFACE: &[u16] = &[10, 252, 14, 253];
const VRF: &[u16] = &[234, 235];
const APPLICATION: u16 = 95;
/// Name and description of each.
const INTERFACE_TEXTS: (u16, u16) = (82, 83);
const APPLICATION_TEXTS: (u16, u16) = (96, 94);
const VRF_NAME: u16 = 236;

/// Longest text that is kept, in octets.
const TEXT_OCTETS_MAX: usize = 255;

pub(crate) fn is_text(element: u16) -> bool {
    matches!(element, 82 | 83 | 94 | 96 | 236)
}

/// Whether an element of an options record is made use of.
pub(crate) fn is_applied(element: u16) -> bool {
    APPLIED.contains(&element)
}

/// What one record says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said<'a> {
    pub(crate) sampler: Option<(Key, Fraction)>,
    pub(crate) init_ms: Option<i64>,
    pub(crate) exporter: Option<Octets16>,
    /// Who is named; name and description.
    pub(crate) label: Option<(Named, &'a [u8], &'a [u8])>,
}

/// The records of a set, read.
pub(crate) fn read<'l, 'a>(
    layout: &'l Layout,
    rows: Rows<'a>,
    set: &'a [u8],
) -> impl Iterator<Item = Said<'a>> + use<'l, 'a> {
    rows.iter().map(move |record| read_one(&layout.fields, record, set))
}

fn read_one<'a>(fields: &[Placed], record: &'a [u8], set: &'a [u8]) -> Said<'a> {
    let field = |elements: &[u16]| {
        let one = |element: &u16| fields.iter().find(|field| field.element == *element && field.enterprise == 0);
        elements.iter().find_map(one)
    };
    let place = |elements: &[u16]| field(elements).filter(|field| !field.reference).map(|field| field.at);
    let value = |elements: &[u16]| place(elements).map(|at| integer(record, at));
    let fraction = value(&[34, 50])
        .and_then(Fraction::one_of)
        .or_else(|| Fraction::count_based(value(&[305])?, value(&[306])))
        .or_else(|| Fraction::new(value(&[309])?, value(&[310])?));
    let key = match (value(&[48, 302]), value(&[145])) {
        (Some(id), _) => Key::Sampler(id),
        (None, Some(template)) => Key::Template(template as u16),
        (None, None) => Key::Domain,
    };
    let v4 = place(&[130]).filter(|at| at.width == 4).map(|at| octets::<4>(record, at.offset.into()));
    let v6 = place(&[131]).filter(|at| at.width == 16).map(|at| Octets16::new(octets(record, at.offset.into())));

    let text = |element: u16| field(&[element]).map(|field| trimmed(content(field, record, set)));
    let named = |kind: LabelKind, number: Option<u64>, name: u16, description: u16| {
        let (name, description) = (text(name), text(description));
        let said = name.or(description).is_some_and(|text| !text.is_empty());
        let key = Named { kind, number: number.filter(|_| said)? };
        Some((key, name.unwrap_or_default(), description.unwrap_or_default()))
    };
    let application = || place(&[APPLICATION]).map(|at| application_id(integer(record, at), at.width));
    let label = named(LabelKind::Interface, value(INTERFACE), INTERFACE_TEXTS.0, INTERFACE_TEXTS.1)
        .or_else(|| named(LabelKind::Vrf, value(VRF), VRF_NAME, VRF_NAME).map(|(key, name, _)| (key, name, &[][..])))
        .or_else(|| named(LabelKind::Application, application(), APPLICATION_TEXTS.0, APPLICATION_TEXTS.1));
    Said {
        sampler: fraction.map(|fraction| (key, fraction)),
        init_ms: value(&[160]).and_then(|init| i64::try_from(init).ok()).filter(|init| *init > 0),
        exporter: v4
            .filter(|address| *address != [0; 4])
            .map(Octets16::from_v4)
            .or(v6.filter(|address| !address.is_zero())),
        label,
    }
}

/// Without what fills up a field of fixed length.
fn trimmed(text: &[u8]) -> &[u8] {
    let text = text.split(|octet| *octet == 0).next().unwrap_or_default().trim_ascii();
    &text[..text.len().min(TEXT_OCTETS_MAX)]
}
