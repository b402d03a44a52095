//! Texts to features: n-grams of tokens, buckets of hashes.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, Int64Array, ListBuilder, StringBuilder};
use datafusion::arrow::datatypes::DataType;

use super::arguments::Arguments;
use super::learned::Learned;
use super::{Constant, FeatureFunction, Planned};
use crate::error::Result;
use crate::features::columns::{Lists, first, list_of, texts};

pub(crate) static NGRAMS: FeatureFunction = FeatureFunction {
    name: "NGRAMS",
    summary: "All runs of so many neighbouring tokens, joined; range is one size or the least and the greatest. NULL tokens are left out.",
    syntax: "ML.NGRAMS(array_of_texts, range [, separator = ' '])",
    example: "SELECT ML.NGRAMS(['a', 'b', 'c'], [2, 3], '#') AS ngrams",
    is_learned: false,
    column_count: 1,
    required_parameters: 1,
    parameters: 2,
    plan: plan_ngrams,
};

pub(crate) static HASH_BUCKETIZE: FeatureFunction = FeatureFunction {
    name: "HASH_BUCKETIZE",
    summary: "The bucket of a text, from 0, by its FarmHash fingerprint modulo the number of buckets; with 0 buckets, the fingerprint itself. \
              NULL stays NULL.",
    syntax: "ML.HASH_BUCKETIZE(s, hash_bucket_size)",
    example: "SELECT f, ML.HASH_BUCKETIZE(f, 3) AS bucket FROM (VALUES ('a'), ('b'), ('c'), ('d')) AS t(f)",
    is_learned: false,
    column_count: 1,
    required_parameters: 1,
    parameters: 1,
    plan: plan_hash,
};

#[derive(Debug)]
struct Ngrams {
    least: usize,
    most: usize,
    separator: String,
}

fn plan_ngrams(arguments: &Arguments<'_>) -> Result<Box<dyn Planned>> {
    arguments.text_lists(0)?;
    let given = arguments.required(0, "range")?;
    let wrong = || {
        arguments.wrong(
            "range",
            given,
            "a whole number from 1, or an array of two, the lower first",
        )
    };
    let sizes = match given {
        Constant::List(_) => arguments.numbers(0, "range")?.unwrap_or_default(),
        one => one.number().into_iter().collect(),
    };
    // Beyond 2^32 tokens no row has n-grams.
    let size = |v: f64| (v.fract() == 0.0 && (1.0..=4_294_967_296.0).contains(&v)).then_some(v as usize);
    let (least, most) = match sizes[..] {
        [one] if !matches!(given, Constant::List(_)) => (size(one), size(one)),
        [least, most] => (size(least), size(most)),
        _ => return Err(wrong()),
    };
    let (Some(least), Some(most)) = (least, most) else {
        return Err(wrong());
    };
    if least > most {
        return Err(wrong());
    }
    let separator = match arguments.parameter(1) {
        None => " ".to_string(),
        Some(Constant::Text(text)) => text.clone(),
        Some(other) => return Err(arguments.wrong("separator", other, "a text")),
    };
    Ok(Box::new(Ngrams { least, most, separator }))
}

impl Planned for Ngrams {
    fn data_type(&self) -> DataType {
        list_of(DataType::Utf8)
    }

    fn apply(&self, columns: &[ArrayRef], _: Option<&Learned>) -> Result<ArrayRef> {
        let column = first(NGRAMS.name, columns)?;
        let lists = Lists::new(column)?;
        let words = texts(&lists.values)?;
        let mut out = ListBuilder::new(StringBuilder::new());
        let mut tokens: Vec<&str> = vec![];
        for row in 0..lists.len() {
            let Some(range) = lists.row(row) else {
                out.append_null();
                continue;
            };
            tokens.clear();
            tokens.extend(range.filter(|i| words.is_valid(*i)).map(|i| words.value(i)));
            for start in 0..tokens.len() {
                let most = self.most.min(tokens.len() - start);
                for size in self.least..=most {
                    if let Some(run) = tokens.get(start..start + size) {
                        out.values().append_value(run.join(&self.separator));
                    }
                }
            }
            out.append(true);
        }
        Ok(Arc::new(out.finish()))
    }
}

#[derive(Debug)]
struct HashBucketize {
    buckets: u64,
}

fn plan_hash(arguments: &Arguments<'_>) -> Result<Box<dyn Planned>> {
    arguments.text_column(0)?;
    let buckets = arguments.integer(0, "hash_bucket_size", 0, 0, i64::MAX)?.unsigned_abs();
    Ok(Box::new(HashBucketize { buckets }))
}

impl HashBucketize {
    fn bucket(&self, text: &str) -> i64 {
        let hash = farmhash::fingerprint64(text.as_bytes());
        // BigQuery takes the fingerprint as unsigned here, though FARM_FINGERPRINT gives it signed.
        hash.checked_rem(self.buckets).unwrap_or(hash).cast_signed()
    }
}

impl Planned for HashBucketize {
    fn data_type(&self) -> DataType {
        DataType::Int64
    }

    fn apply(&self, columns: &[ArrayRef], _: Option<&Learned>) -> Result<ArrayRef> {
        let column = first(HASH_BUCKETIZE.name, columns)?;
        let buckets: Int64Array = texts(column)?.iter().map(|text| text.map(|t| self.bucket(t))).collect();
        Ok(Arc::new(buckets))
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use datafusion::arrow::array::AsArray;

    use super::super::testing::*;
    use super::*;

    fn tokens(rows: &[Option<&[Option<&str>]>]) -> ArrayRef {
        let mut out = ListBuilder::new(StringBuilder::new());
        for row in rows {
            out.append_option(row.map(|row| row.iter().copied()));
        }
        Arc::new(out.finish())
    }

    fn ngrams(row: &[Option<&str>], parameters: &[Constant]) -> Vec<String> {
        let values = run(&NGRAMS, &[tokens(&[Some(row)])], parameters).unwrap();
        let values = values.as_list::<i32>().value(0);
        as_words(&values).into_iter().map(|t| t.unwrap().to_string()).collect()
    }

    #[test]
    fn published_ngrams() {
        let abc = ["a", "b", "c"].map(Some);
        assert_eq!(ngrams(&abc, &[ints([2, 3]), text("#")]), ["a#b", "a#b#c", "b#c"]);
        assert_eq!(ngrams(&abc, &[Constant::Int(2)]), ["a b", "b c"]);
        assert_eq!(ngrams(&abc, &[ints([1, 1])]), ["a", "b", "c"]);
        assert_eq!(ngrams(&abc, &[Constant::Int(4)]), [] as [&str; 0]);
        assert_eq!(ngrams(&[Some("a"), None, Some("c")], &[Constant::Int(2)]), ["a c"]);
        assert_eq!(ngrams(&[], &[Constant::Int(1)]), [] as [&str; 0]);
        let values = run(&NGRAMS, &[tokens(&[None, Some(&abc)])], &[Constant::Int(3), text("")]).unwrap();
        assert!(values.is_null(0));
        assert_eq!(as_words(&values.as_list::<i32>().value(1)), [Some("abc")]);
    }

    #[test]
    fn published_hash_buckets() {
        let column = words([Some("a"), Some("b"), Some("c"), Some("d"), None]);
        let values = run(&HASH_BUCKETIZE, from_ref(&column), &[Constant::Int(3)]).unwrap();
        assert_eq!(as_ints(&values), [Some(0), Some(1), Some(1), Some(2), None]);
        let values = run(&HASH_BUCKETIZE, &[column], &[Constant::Int(0)]).unwrap();
        assert_eq!(
            as_ints(&values)[..2],
            [Some(-5528939962900187677), Some(-6651148003232386794)]
        );
    }

    #[test]
    fn bad_arguments() {
        let lists = [list_of(DataType::Utf8)];
        for wrong in [
            Constant::Int(0),
            ints([3, 2]),
            ints([1]),
            ints([1, 2, 3]),
            text("2"),
            list([1.5, 2.0]),
        ] {
            let error = refusal(&NGRAMS, &lists, &[wrong]);
            assert!(error.contains("range must be"), "{error}");
        }
        let error = refusal(&NGRAMS, &lists, &[Constant::Int(1), Constant::Int(1)]);
        assert!(error.contains("separator must be a text, not 1"), "{error}");
        let error = refusal(&NGRAMS, &[DataType::Utf8], &[Constant::Int(1)]);
        assert!(error.contains("must be an array of texts"), "{error}");
        let error = refusal(&HASH_BUCKETIZE, &[DataType::Utf8], &[Constant::Int(-1)]);
        assert!(
            error.contains("hash_bucket_size must be a whole number of at least 0, not -1"),
            "{error}"
        );
        let error = refusal(&HASH_BUCKETIZE, &[DataType::Float64], &[Constant::Int(1)]);
        assert!(error.contains("must be text"), "{error}");
    }
}
