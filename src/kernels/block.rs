//! A block: encoded rows, numbers row-major and categories as codes.

/// Encoded rows. Numbers are `row_count × number_count`, row-major; codes are `row_count × code_count`, row-major.
///
/// Code column `j` has `levels[j]` categories: a code below that is one of them (a one-hot 1), the code `levels[j]` itself
/// means "unseen" (all zeros). One-hot is a way of reading a code, never a copy.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Block<T> {
    /// How many rows.
    pub row_count: usize,
    /// How many numbers a row.
    pub number_count: usize,
    /// The numbers.
    pub numbers: Vec<T>,
    /// How many codes a row.
    pub code_count: usize,
    /// The codes.
    pub codes: Vec<u32>,
    /// How many categories each code column has.
    pub levels: Vec<u32>,
}

impl<T> Block<T> {
    /// The numbers of row `row`.
    pub fn row_numbers(&self, row: usize) -> &[T] {
        &self.numbers[row * self.number_count..(row + 1) * self.number_count]
    }

    /// The codes of row `row`.
    pub fn row_codes(&self, row: usize) -> &[u32] {
        &self.codes[row * self.code_count..(row + 1) * self.code_count]
    }

    /// Columns if every code were written out as one-hot: numbers, then each code column's categories.
    pub fn width(&self) -> usize {
        self.number_count + self.levels.iter().map(|l| *l as usize).sum::<usize>()
    }

    /// Where each code column's categories begin among the [`Block::width`] columns.
    pub fn code_offsets(&self) -> Vec<usize> {
        let mut at = self.number_count;
        self.levels
            .iter()
            .map(|l| {
                let begin = at;
                at += *l as usize;
                begin
            })
            .collect()
    }
}
