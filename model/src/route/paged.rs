//! A vector in pages that a published copy shares until one side writes.
//!
//! Cloning costs one reference count. The first write after a clone copies the
//! list of pages, and of the pages only those that are written.

use std::sync::Arc;

#[derive(Clone, Debug)]
pub(super) struct Paged<T, const N: usize> {
    pages: Arc<Vec<Arc<[T; N]>>>,
    /// What a page is before it is written; all unwritten ones are this one.
    blank: Arc<[T; N]>,
}

impl<T: Clone + Default, const N: usize> Default for Paged<T, N> {
    fn default() -> Self {
        Self { pages: Arc::default(), blank: Arc::new(std::array::from_fn(|_| T::default())) }
    }
}

impl<T: Clone + Default, const N: usize> Paged<T, N> {
    pub(super) fn get(&self, index: usize) -> Option<&T> {
        self.pages.get(index / N).map(|page| &page[index % N])
    }

    /// The element for writing; the vector grows to hold it.
    pub(super) fn slot(&mut self, index: usize) -> &mut T {
        self.grow(index + 1);
        let pages = Arc::make_mut(&mut self.pages);
        &mut Arc::make_mut(&mut pages[index / N])[index % N]
    }

    pub(super) fn set(&mut self, index: usize, value: T) {
        *self.slot(index) = value;
    }

    /// Room for `len` elements, blank until written.
    pub(super) fn grow(&mut self, len: usize) {
        let wanted = len.div_ceil(N);
        if wanted > self.pages.len() {
            let blank = self.blank.clone();
            Arc::make_mut(&mut self.pages).resize(wanted, blank);
        }
    }

    /// Elements that there is room for.
    pub(super) fn len(&self) -> usize {
        self.pages.len() * N
    }

    /// `len` elements that lie in one page.
    pub(super) fn run(&self, start: usize, len: usize) -> &[T] {
        self.pages.get(start / N).map_or(&[], |page| &page[start % N..start % N + len])
    }

    pub(super) fn run_mut(&mut self, start: usize, len: usize) -> &mut [T] {
        self.grow(start + len);
        let pages = Arc::make_mut(&mut self.pages);
        &mut Arc::make_mut(&mut pages[start / N])[start % N..start % N + len]
    }

    /// Pages that were written, with the index of their first element.
    pub(super) fn written(&self) -> impl Iterator<Item = (usize, &[T; N])> {
        self.pages
            .iter()
            .enumerate()
            .filter(|(_, page)| !Arc::ptr_eq(page, &self.blank))
            .map(|(number, page)| (number * N, &**page))
    }

    /// Octets held by written pages.
    pub(super) fn octets(&self) -> usize {
        self.written().count() * N * size_of::<T>() + self.pages.capacity() * size_of::<usize>()
    }
}

impl<T: Copy + Default, const N: usize> Paged<T, N> {
    #[inline]
    pub(super) fn at(&self, index: usize) -> T {
        match self.pages.get(index / N) {
            Some(page) => page[index % N],
            None => T::default(),
        }
    }
}
