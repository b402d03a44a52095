//! `ARRAY<STRUCT<x INT64, y STRING>>[(1, 'a')]`, whose structs get the type each: `[STRUCT<x INT64, y STRING>(1, 'a')]`.

use super::rewrite::Rewriter;
use super::source::SyntaxError;

impl Rewriter<'_> {
    /// The list of structs whose type begins with ARRAY at `i`; the token after it.
    pub(super) fn typed_structs(&mut self, i: usize, end: usize) -> Result<Option<usize>, SyntaxError> {
        let t = self.tokens;
        let angle = t.skip(i + 1, end);
        let word = t.skip(angle + 1, end);
        let open = t.after_types(i, end).filter(|open| t.is_symbol(*open, "["));
        let Some((open, close)) = open.and_then(|open| Some((open, t.partner(open).filter(|c| *c < end)?))) else {
            return Ok(None);
        };
        if !t.is_word(word, "STRUCT") {
            return Ok(None);
        }
        // Without the last of the angles, which is the array's.
        let types = t.trim(word..open);
        let types = t.trim(types.start..types.end.saturating_sub(1));
        self.plain(open..open + 1);
        for (at, item) in t.between_commas(open + 1..close).into_iter().enumerate() {
            if at > 0 {
                self.out.put(", ", t.span(item.start).start);
            }
            let item = t.trim(item);
            let bracket = if t.is_word(item.start, "STRUCT") {
                t.skip(item.start + 1, item.end)
            } else {
                item.start
            };
            if t.is_symbol(bracket, "(") && t.partner(bracket).map(|c| c + 1) == Some(item.end) {
                self.plain(types.clone());
                self.range(bracket..item.end)?;
            } else {
                self.range(item)?;
            }
        }
        self.plain(close..close + 1);
        Ok(Some(close + 1))
    }
}

#[cfg(test)]
mod tests {
    use crate::sql::statement::{Statement, parse};

    #[test]
    fn each_struct_has_the_type_of_the_array() {
        let pairs = [
            (
                "SELECT ARRAY<STRUCT<x INT64, y ARRAY<STRING>>>[(1, ['a']), STRUCT(IF(a, b, c), NULL)]",
                "SELECT [STRUCT<x INT64, y ARRAY<STRING>>(1, ['a']), STRUCT<x INT64, y ARRAY<STRING>>(CASE WHEN a THEN b ELSE c END, NULL)]",
            ),
            ("SELECT ARRAY<STRUCT<x INT64>>[]", "SELECT []"),
            ("SELECT ARRAY<INT64>[1]", "SELECT [1]"),
            ("SELECT ARRAY<STRUCT<x INT64>>[s]", "SELECT [s]"),
        ];
        for (text, expected) in pairs {
            match parse(text, true).unwrap().as_slice() {
                [Statement::Plain(sql)] => assert_eq!(sql.text, expected),
                other => panic!("{other:?}"),
            }
        }
    }
}
