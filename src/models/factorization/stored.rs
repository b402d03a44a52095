//! A factorization as the store keeps it.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, Float64Array, Int64Array, RecordBatch, UInt32Array,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Float32Type, Float64Type, UInt32Type};
use serde_json::json;

use super::interactions::{IdKind, Ids, Interactions};
use super::model::{FactorizationModel, Factors, RatingColumn, Ratings, Scorer};
use crate::error::Result;
use crate::models::{Artefact, FeatureColumn, Parts};

impl FactorizationModel {
    /// Reads a model back.
    ///
    /// # Errors
    /// Parts that are missing or do not fit each other.
    pub(super) fn from_artefact(artefact: &Artefact) -> Result<Self> {
        let method: String = artefact.setting("method")?;
        let rating = RatingColumn {
            name: artefact.setting("rating")?,
            given: artefact.setting("rated")?,
        };
        let [user, item] = &artefact.features[..] else {
            return Err(artefact.corrupt("it has other columns than a user and an item"));
        };
        let (user_table, item_table) = (artefact.table("users")?, artefact.table("items")?);
        let users = read_ids(artefact, user, user_table, "user")?;
        let items = read_ids(artefact, item, item_table, "item")?;
        let seen = read_interactions(artefact, users.len(), items.len())?;
        let scorer = match method.as_str() {
            "als" | "explicit" => {
                let (user_width, user_factors) = read_vectors(artefact, user_table, "factors")?;
                let (item_width, item_factors) = read_vectors(artefact, item_table, "factors")?;
                if user_width != item_width {
                    return Err(artefact.corrupt("its users and items have different numbers of factors"));
                }
                Scorer::Factors(if method == "als" {
                    Factors::new(user_width, user_factors, item_factors, None)
                } else {
                    let ratings = Ratings {
                        mean: read_mean(artefact)?,
                        user_biases: read_floats(artefact, user_table, "intercept")?,
                    };
                    let item_biases = read_floats(artefact, item_table, "intercept")?;
                    let users = widened(&user_factors, user_width, std::iter::repeat(1.0));
                    let items = widened(&item_factors, item_width, item_biases.into_iter());
                    Factors::new(user_width + 1, users, items, Some(ratings))
                })
            }
            "ease" => {
                let table = artefact.table("similarity")?;
                let (width, weights) = read_vectors(artefact, table, "weights")?;
                if width != items.len() || table.num_rows() != items.len() {
                    return Err(artefact.corrupt("its part 'similarity' does not fit its items"));
                }
                Scorer::Similarity(weights)
            }
            other => return Err(artefact.corrupt(format!("its method '{other}' is none"))),
        };
        Ok(Self::new(users, items, rating, seen, scorer))
    }

    /// The parts from which [`FactorizationModel::from_artefact`] makes the model again.
    ///
    /// # Errors
    /// Arrow refuses.
    pub(super) fn to_parts(&self) -> Result<Parts> {
        let user_popularity = self.seen.offsets.windows(2).map(|o| (o[1] - o[0]) as i64);
        let item_popularity = self.popularity.iter().map(|p| i64::from(*p));
        let mut user_columns = id_columns(&self.users, Int64Array::from_iter_values(user_popularity));
        let mut item_columns = id_columns(&self.items, Int64Array::from_iter_values(item_popularity));
        let mut settings = serde_json::Map::new();
        settings.insert("rating".into(), json!(self.rating.name));
        settings.insert("rated".into(), json!(self.rating.given));
        let mut more = vec![];
        match &self.scorer {
            Scorer::Factors(f) => {
                let method = if f.ratings.is_some() { "explicit" } else { "als" };
                settings.insert("method".into(), json!(method));
                // The last number of each row is the bias, or 1, where there are ratings.
                let width = f.count - usize::from(f.ratings.is_some());
                user_columns.push(("factors", vectors(width, &narrowed(&f.users, f.count, width))?));
                item_columns.push(("factors", vectors(width, &narrowed(&f.items, f.count, width))?));
                if let Some(ratings) = &f.ratings {
                    let item_biases = f.items.chunks_exact(f.count).filter_map(|row| row.last().copied());
                    user_columns.push(("intercept", Arc::new(Float32Array::from(ratings.user_biases.clone()))));
                    item_columns.push(("intercept", Arc::new(Float32Array::from_iter_values(item_biases))));
                    let mean: ArrayRef = Arc::new(Float64Array::from(vec![ratings.mean]));
                    more.push(("ratings".to_string(), RecordBatch::try_from_iter([("mean", mean)])?));
                }
            }
            Scorer::Similarity(weights) => {
                settings.insert("method".into(), json!("ease"));
                let weights = vectors(self.items.len(), weights)?;
                more.push((
                    "similarity".to_string(),
                    RecordBatch::try_from_iter([("weights", weights)])?,
                ));
            }
        }
        let user_of_pair = (0..self.seen.user_count())
            .flat_map(|u| std::iter::repeat_n(u as u32, self.seen.offsets[u + 1] - self.seen.offsets[u]));
        let pairs: [(&str, ArrayRef); 2] = [
            ("user", Arc::new(UInt32Array::from_iter_values(user_of_pair))),
            ("item", Arc::new(UInt32Array::from(self.seen.items.clone()))),
        ];
        let mut tables = vec![
            ("users".to_string(), RecordBatch::try_from_iter(user_columns)?),
            ("items".to_string(), RecordBatch::try_from_iter(item_columns)?),
            ("interactions".to_string(), RecordBatch::try_from_iter(pairs)?),
        ];
        tables.extend(more);
        Ok(Parts { tables, settings })
    }
}

/// The columns of the part "users" or "items" that both methods have.
fn id_columns(ids: &Ids, popularity: Int64Array) -> Vec<(&'static str, ArrayRef)> {
    vec![("id", Arc::clone(&ids.values)), ("popularity", Arc::new(popularity))]
}

/// Row-major vectors of `width` numbers as a column of lists.
fn vectors(width: usize, values: &[f32]) -> Result<ArrayRef> {
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let values = Arc::new(Float32Array::from(values.to_vec()));
    Ok(Arc::new(FixedSizeListArray::try_new(item, width as i32, values, None)?))
}

/// The numbers of a column of [`vectors`], and how many each row has.
fn read_vectors(artefact: &Artefact, table: &RecordBatch, name: &str) -> Result<(usize, Vec<f32>)> {
    let unfit = || artefact.corrupt(format!("its column '{name}' is no column of vectors"));
    let lists = table
        .column_by_name(name)
        .and_then(|c| c.as_fixed_size_list_opt())
        .ok_or_else(unfit)?;
    let width = usize::try_from(lists.value_length()).map_err(|_| unfit())?;
    if width == 0 || lists.null_count() > 0 {
        return Err(unfit());
    }
    let numbers = lists.values().as_primitive_opt::<Float32Type>().ok_or_else(unfit)?;
    if numbers.null_count() > 0 || numbers.len() != lists.len() * width {
        return Err(unfit());
    }
    Ok((width, numbers.values().to_vec()))
}

/// The first `width` of each `count` numbers.
fn narrowed(values: &[f32], count: usize, width: usize) -> Vec<f32> {
    values
        .chunks_exact(count.max(1))
        .flat_map(|row| &row[..width])
        .copied()
        .collect()
}

/// Rows of `width` numbers, each with one of `last` after it.
fn widened(values: &[f32], width: usize, last: impl Iterator<Item = f32>) -> Vec<f32> {
    let rows = values.chunks_exact(width.max(1)).zip(last);
    rows.flat_map(|(row, last)| row.iter().copied().chain([last])).collect()
}

/// A column of numbers without NULLs.
fn read_floats(artefact: &Artefact, table: &RecordBatch, name: &str) -> Result<Vec<f32>> {
    let column = table
        .column_by_name(name)
        .and_then(|c| c.as_primitive_opt::<Float32Type>());
    match column {
        Some(column) if column.null_count() == 0 => Ok(column.values().to_vec()),
        _ => Err(artefact.corrupt(format!("its column '{name}' is no column of numbers"))),
    }
}

fn read_mean(artefact: &Artefact) -> Result<f64> {
    let column = artefact.table("ratings")?.column_by_name("mean");
    match column.and_then(|c| c.as_primitive_opt::<Float64Type>()) {
        Some(mean) if mean.len() == 1 && mean.is_valid(0) => Ok(mean.value(0)),
        _ => Err(artefact.corrupt("its part 'ratings' has no mean")),
    }
}

fn read_ids(artefact: &Artefact, feature: &FeatureColumn, table: &RecordBatch, part: &str) -> Result<Ids> {
    let unfit = || artefact.corrupt(format!("its {part}s are no ascending list of integers or text"));
    // Parquet may give text back in another of its types than it was stored in.
    let data_type: DataType = feature.data_type.parse().map_err(|_| unfit())?;
    let column = table.column_by_name("id").ok_or_else(unfit)?;
    if IdKind::of(&data_type).is_none() || IdKind::of(column.data_type()).is_none() || column.is_empty() {
        return Err(unfit());
    }
    let column = cast(column, &data_type)?;
    Ids::new(&feature.name, &column, part)?.ok_or_else(unfit)
}

fn read_interactions(artefact: &Artefact, user_count: usize, item_count: usize) -> Result<Interactions> {
    let unfit = || artefact.corrupt("its part 'interactions' does not fit its users and items");
    let table = artefact.table("interactions")?;
    let column = |name: &str| -> Result<UInt32Array> {
        let column = table.column_by_name(name).ok_or_else(unfit)?;
        let column = column.as_primitive_opt::<UInt32Type>().ok_or_else(unfit)?;
        if column.null_count() > 0 {
            Err(unfit())
        } else {
            Ok(column.clone())
        }
    };
    let (users, items) = (column("user")?, column("item")?);
    let mut offsets = vec![0usize; user_count + 1];
    let mut last = None;
    for pair in users.values().iter().copied().zip(items.values().iter().copied()) {
        if pair.0 as usize >= user_count || pair.1 as usize >= item_count || last.is_some_and(|last| last >= pair) {
            return Err(unfit());
        }
        offsets[pair.0 as usize + 1] += 1;
        last = Some(pair);
    }
    for user in 0..user_count {
        offsets[user + 1] += offsets[user];
    }
    Ok(Interactions {
        item_count,
        offsets,
        items: items.values().to_vec(),
    })
}
