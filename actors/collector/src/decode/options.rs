//! Options records: what an exporter says about itself.
//!
//! Applied: samplers (34, 50, 305/306, 309/310; by 48 or 302, by template 145),
//! systemInitTimeMilliseconds (160), the exporter's address (130, 131).

use benocs_model::flow::builder::Octets16;

use super::layout::{Layout, Placed, Rows, integer, octets};
use super::sampling::{Fraction, Key};

/// What one record says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) sampler: Option<(Key, Fraction)>,
    pub(crate) init_ms: Option<i64>,
    pub(crate) exporter: Option<Octets16>,
}

/// The records of a set, read.
pub(crate) fn read<'a>(layout: &'a Layout, rows: Rows<'a>) -> impl Iterator<Item = Said> + 'a {
    rows.iter().map(|record| read_one(&layout.fields, record))
}

fn read_one(fields: &[Placed], record: &[u8]) -> Said {
    let place = |elements: &[u16]| {
        let one = |element: &u16| fields.iter().find(|field| field.element == *element && field.enterprise == 0);
        elements.iter().find_map(one).map(|field| field.at)
    };
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
    Said {
        sampler: fraction.map(|fraction| (key, fraction)),
        init_ms: value(&[160]).and_then(|init| i64::try_from(init).ok()).filter(|init| *init > 0),
        exporter: v4
            .filter(|address| *address != [0; 4])
            .map(Octets16::from_v4)
            .or(v6.filter(|address| !address.is_zero())),
    }
}
