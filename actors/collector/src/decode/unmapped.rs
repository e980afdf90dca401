//! Elements in records that fill no column: counted by number, so that one can
//! see what an exporter sends and decide to map it.

use benocs_wire::element::{self, Id};
use benocs_wire::ipfix::{Field, REVERSE};
use serde::Serialize;
use smallvec::SmallVec;

use super::layout::Purpose;
use super::mapping::Mapped;
use super::{options, plan};

/// Place of an element in the counts; the last stands for all that found no room.
pub(crate) type Place = u16;
const OTHERS: Place = Place::MAX;

/// Of a template's elements: a few lie with the template.
pub(crate) type Places = SmallVec<[Place; 8]>;

/// Records by element, of one exporter.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unmapped {
    counts: Vec<(Id, u64)>,
    others: u64,
}

/// An element as `status` and `flows` show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnmappedStatus {
    /// As `[[collector.decode.map]]` takes it: `95`, `9/12232`; `others` where there were too many.
    pub element: String,
    /// Where a registry has it.
    pub name: Option<String>,
    /// Records that had it.
    pub records: u64,
}

impl Unmapped {
    /// Where a template's elements are counted.
    pub(crate) fn places(&mut self, ids: &[Id], max: usize) -> Places {
        let max = max.min(usize::from(OTHERS));
        let mut place = |id: &Id| match self.counts.iter().position(|(known, _)| known == id) {
            Some(at) => at as Place,
            None if self.counts.len() < max => {
                self.counts.push((*id, 0));
                (self.counts.len() - 1) as Place
            }
            None => OTHERS,
        };
        ids.iter().map(&mut place).collect()
    }

    /// Where the counts lie: to ask memory for.
    pub(crate) fn near(&self) -> usize {
        self.counts.as_ptr().addr()
    }

    /// Counts a set of records.
    #[inline]
    pub(crate) fn add(&mut self, places: &[Place], records: u64) {
        for place in places {
            match self.counts.get_mut(usize::from(*place)) {
                Some((_, count)) => *count += records,
                None => self.others += records,
            }
        }
    }

    /// Most frequent first.
    pub(crate) fn status(&self) -> Vec<UnmappedStatus> {
        let mut counts: Vec<(Id, u64)> = self.counts.iter().filter(|(_, count)| *count > 0).copied().collect();
        counts.sort_unstable_by_key(|(id, count)| (std::cmp::Reverse(*count), *id));
        let status = |(id, records): (Id, u64)| UnmappedStatus {
            element: id.to_string(),
            name: element::find(id).map(|element| element.to_string()),
            records,
        };
        let others = UnmappedStatus { element: "others".to_owned(), name: None, records: self.others };
        counts.into_iter().map(status).chain((self.others > 0).then_some(others)).collect()
    }
}

/// Which elements of a template nothing is made of, each once.
pub(crate) fn of(fields: impl Iterator<Item = Field>, purpose: Purpose, maps: &[Mapped]) -> Vec<Id> {
    let is_used = |id: &Id| {
        let known = match (purpose, id.enterprise) {
            // 0 is padding, and a scope of the whole system.
            (_, 0) if id.number == 0 => true,
            (Purpose::Options, 0) => options::is_applied(id.number),
            (Purpose::Flows, 0 | REVERSE) => plan::is_known(id.number),
            _ => false,
        };
        known || purpose == Purpose::Flows && maps.iter().any(|map| map.id == *id)
    };
    let ids = fields.map(|field| Id { enterprise: field.enterprise, number: field.element });
    let mut unused: Vec<Id> = ids.filter(|id| !is_used(id)).collect();
    unused.sort_unstable();
    unused.dedup();
    unused
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(enterprise: u32, element: u16) -> Field {
        Field { element, enterprise, length: 4 }
    }

    #[test]
    fn what_fills_a_column_is_not_unmapped() {
        let id = |enterprise, number| Id { enterprise, number };
        let fields =
            [field(0, 1), field(0, 136), field(9, 12_232), field(REVERSE, 2), field(REVERSE, 136), field(0, 136)];
        let unused = of(fields.iter().copied(), Purpose::Flows, &[]);
        assert_eq!(unused, [id(0, 136), id(9, 12_232), id(REVERSE, 136)]);
        let map = Mapped { id: id(9, 12_232), column: benocs_model::flow::Column::ApplicationId };
        assert_eq!(of(fields.iter().copied(), Purpose::Flows, &[map]), [id(0, 136), id(REVERSE, 136)]);
        let options = [field(0, 0), field(0, 82), field(0, 144)];
        assert_eq!(of(options.into_iter(), Purpose::Options, &[]), [id(0, 144)]);
    }

    #[test]
    fn elements_are_bounded_and_what_is_beyond_counts_together() {
        let mut unmapped = Unmapped::default();
        for (enterprise, records) in [(9, 5), (9999, 7), (3, 1), (4, 2), (9, 1)] {
            let places = unmapped.places(&[Id { enterprise, number: 12_232 }], 2);
            unmapped.add(&places, records);
        }
        let status = |element: &str, name: Option<&str>, records| UnmappedStatus {
            element: element.to_owned(),
            name: name.map(str::to_owned),
            records,
        };
        let expected = [
            status("9999/12232", None, 7),
            status("9/12232", Some("applicationCategoryName"), 6),
            status("others", None, 3),
        ];
        assert_eq!(unmapped.status(), expected);
    }
}
