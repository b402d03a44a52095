//! Who had what: the rows of a query as sorted identifiers and a sparse matrix.

use std::hash::BuildHasher;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, LargeStringArray, RecordBatch, UInt64Array,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, FieldRef, Float64Type, Int64Type, UInt64Type};
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::models::{FitContext, Roles, Rows, field};

/// The code of a value that is no known identifier.
pub(super) const UNKNOWN: u32 = u32::MAX;

/// A rating above this is taken as this (and one below its negative as that): its confidence already outweighs everything else about
/// the pair, and squares of it stay far from the limits of f32.
const LARGEST_RATING: f64 = 1e12;

/// What identifiers are compared as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IdKind {
    Signed,
    Unsigned,
    Text,
}

impl IdKind {
    /// The kind of identifiers in a column of this type, if it can hold any.
    pub(super) fn of(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => IdKind::Signed,
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => IdKind::Unsigned,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => IdKind::Text,
            DataType::Dictionary(_, value) => return Self::of(value),
            _ => return None,
        })
    }

    fn canonical(self) -> DataType {
        match self {
            IdKind::Signed => DataType::Int64,
            IdKind::Unsigned => DataType::UInt64,
            IdKind::Text => DataType::LargeUtf8,
        }
    }

    /// The column as 64-bit integers or text. A value that cannot be one of the kind, such as text that is no number, becomes
    /// NULL.
    fn read(self, column: &ArrayRef, part: &str) -> Result<Values> {
        if IdKind::of(column.data_type()).is_none() && *column.data_type() != DataType::Null {
            return Err(Error::request(format!(
                "a column of type {} cannot identify {part}s; cast it to an integer or text",
                column.data_type()
            )));
        }
        let column = cast(column, &self.canonical())?;
        Ok(match self {
            IdKind::Signed => Values::Signed(column.as_primitive::<Int64Type>().clone()),
            IdKind::Unsigned => Values::Unsigned(column.as_primitive::<UInt64Type>().clone()),
            IdKind::Text => Values::Text(column.as_string::<i64>().clone()),
        })
    }
}

/// The type of a column once its dictionary, if it has one, is unpacked.
pub(super) fn value_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, value) => value.as_ref().clone(),
        other => other.clone(),
    }
}

/// A column of identifiers in one of three forms.
#[derive(Debug, Clone)]
enum Values {
    Signed(Int64Array),
    Unsigned(UInt64Array),
    Text(LargeStringArray),
}

/// One identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key<'a> {
    Number(u64),
    Text(&'a str),
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Values::Signed(v) => v.len(),
            Values::Unsigned(v) => v.len(),
            Values::Text(v) => v.len(),
        }
    }

    /// The identifier of row `row`, unless it is NULL.
    fn key(&self, row: usize) -> Option<Key<'_>> {
        match self {
            // The bits tell integers apart; their order is looked at elsewhere.
            Values::Signed(v) => v.is_valid(row).then(|| Key::Number(v.value(row) as u64)),
            Values::Unsigned(v) => v.is_valid(row).then(|| Key::Number(v.value(row))),
            Values::Text(v) => v.is_valid(row).then(|| Key::Text(v.value(row))),
        }
    }

    /// Whether there is no NULL and each value is above the one before.
    fn ascending(&self) -> bool {
        let ascending = |mut pairs: std::ops::Range<usize>, below: &dyn Fn(usize) -> bool| pairs.all(below);
        let pairs = 1..self.len().max(1);
        match self {
            Values::Signed(v) => v.null_count() == 0 && ascending(pairs, &|i| v.value(i - 1) < v.value(i)),
            Values::Unsigned(v) => v.null_count() == 0 && ascending(pairs, &|i| v.value(i - 1) < v.value(i)),
            Values::Text(v) => v.null_count() == 0 && ascending(pairs, &|i| v.value(i - 1) < v.value(i)),
        }
    }
}

/// All users, or all items, of a model: each distinct value once, ascending; a code is a position among them.
#[derive(Debug)]
pub(super) struct Ids {
    /// The column's name and type (that of its values, if it was a dictionary).
    pub(super) field: FieldRef,
    /// The values in that type.
    pub(super) values: ArrayRef,
    kind: IdKind,
    keys: Values,
    lookup: Lookup,
}

#[derive(Debug)]
enum Lookup {
    Numbers(HashMap<u64, u32>),
    /// Codes by the hash of their text, which is in [`Ids::keys`].
    Texts(DefaultHashBuilder, HashTable<u32>),
}

impl Ids {
    /// Identifiers of these distinct, ascending values; nothing if they are not so.
    ///
    /// # Errors
    /// The values are neither integers nor text.
    pub(super) fn new(name: &str, values: &ArrayRef, part: &str) -> Result<Option<Self>> {
        let data_type = value_type(values.data_type());
        let Some(kind) = IdKind::of(&data_type) else {
            return Err(Error::request(format!(
                "a column of type {data_type} cannot identify {part}s"
            )));
        };
        let values = cast(values, &data_type)?;
        let keys = kind.read(&values, part)?;
        if !keys.ascending() || keys.len() >= UNKNOWN as usize {
            return Ok(None);
        }
        let mut lookup = match &keys {
            Values::Text(_) => Lookup::Texts(DefaultHashBuilder::default(), HashTable::with_capacity(keys.len())),
            _ => Lookup::Numbers(HashMap::with_capacity(keys.len())),
        };
        for code in 0..keys.len() as u32 {
            match (&mut lookup, keys.key(code as usize)) {
                (Lookup::Numbers(codes), Some(Key::Number(v))) => {
                    codes.insert(v, code);
                }
                (Lookup::Texts(hasher, table), Some(Key::Text(v))) => {
                    let again = |c: &u32| hash_of(hasher, &keys, *c);
                    table.insert_unique(hasher.hash_one(v), code, again);
                }
                _ => return Ok(None),
            }
        }
        Ok(Some(Self {
            field: field(name, data_type),
            values,
            kind,
            keys,
            lookup,
        }))
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The code of each value of a column of integers or text; [`UNKNOWN`] for NULL and for what was not among the training
    /// rows.
    ///
    /// # Errors
    /// The column is neither integers nor text.
    pub(super) fn codes(&self, column: &ArrayRef, part: &str) -> Result<Vec<u32>> {
        let values = self.kind.read(column, part)?;
        Ok((0..values.len())
            .map(|row| values.key(row).and_then(|key| self.code(key)).unwrap_or(UNKNOWN))
            .collect())
    }

    fn code(&self, key: Key<'_>) -> Option<u32> {
        match (&self.lookup, key) {
            (Lookup::Numbers(codes), Key::Number(v)) => codes.get(&v).copied(),
            (Lookup::Texts(hasher, table), Key::Text(v)) => table
                .find(hasher.hash_one(v), |code| {
                    self.keys.key(*code as usize) == Some(Key::Text(v))
                })
                .copied(),
            _ => None,
        }
    }
}

fn hash_of(hasher: &DefaultHashBuilder, keys: &Values, code: u32) -> u64 {
    match keys.key(code as usize) {
        Some(Key::Text(v)) => hasher.hash_one(v),
        _ => 0,
    }
}

/// Gives each distinct identifier a number in the order in which they come.
struct Interner {
    hasher: DefaultHashBuilder,
    numbers: HashMap<u64, u32>,
    number_values: Vec<u64>,
    texts: HashTable<u32>,
    text_values: Vec<Box<str>>,
}

impl Interner {
    fn new() -> Self {
        Self {
            hasher: DefaultHashBuilder::default(),
            numbers: HashMap::new(),
            number_values: vec![],
            texts: HashTable::new(),
            text_values: vec![],
        }
    }

    fn intern(&mut self, key: Key<'_>) -> u32 {
        match key {
            Key::Number(v) => *self.numbers.entry(v).or_insert_with(|| {
                self.number_values.push(v);
                (self.number_values.len() - 1) as u32
            }),
            Key::Text(v) => {
                let (hasher, values) = (&self.hasher, &mut self.text_values);
                let hash = hasher.hash_one(v);
                if let Some(code) = self.texts.find(hash, |code| &*values[*code as usize] == v) {
                    return *code;
                }
                let code = values.len() as u32;
                values.push(v.into());
                self.texts
                    .insert_unique(hash, code, |code| hasher.hash_one(&*values[*code as usize]));
                code
            }
        }
    }

    /// The values ascending, in `data_type`, and the rank of each number that was given out.
    fn sorted(&self, kind: IdKind, data_type: &DataType) -> Result<(ArrayRef, Vec<u32>)> {
        let count = self.number_values.len() + self.text_values.len();
        let mut order: Vec<u32> = (0..count as u32).collect();
        let number = |code: &u32| self.number_values[*code as usize];
        let text = |code: &u32| &*self.text_values[*code as usize];
        let values: ArrayRef = match kind {
            IdKind::Signed => {
                order.sort_unstable_by_key(|code| number(code) as i64);
                Arc::new(Int64Array::from_iter_values(
                    order.iter().map(|code| number(code) as i64),
                ))
            }
            IdKind::Unsigned => {
                order.sort_unstable_by_key(number);
                Arc::new(UInt64Array::from_iter_values(order.iter().map(number)))
            }
            IdKind::Text => {
                order.sort_unstable_by(|a, b| text(a).cmp(text(b)));
                Arc::new(LargeStringArray::from_iter_values(order.iter().map(text)))
            }
        };
        let mut ranks = vec![0; count];
        for (rank, code) in order.iter().enumerate() {
            ranks[*code as usize] = rank as u32;
        }
        Ok((cast(&values, data_type)?, ranks))
    }
}

/// A sparse matrix, users × items, each row's items ascending.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Interactions {
    /// How many items.
    pub(super) item_count: usize,
    /// User `u` has entries `offsets[u]..offsets[u + 1]`: users + 1 numbers.
    pub(super) offsets: Vec<usize>,
    /// The item of each entry.
    pub(super) items: Vec<u32>,
}

impl Interactions {
    pub(super) fn user_count(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The items of user `user`, ascending.
    pub(super) fn of(&self, user: usize) -> &[u32] {
        &self.items[self.offsets[user]..self.offsets[user + 1]]
    }

    /// How many users each item has.
    pub(super) fn popularity(&self) -> Vec<u32> {
        let mut counts = vec![0u32; self.item_count];
        for item in &self.items {
            counts[*item as usize] += 1;
        }
        counts
    }

    /// The transpose, and where each of its entries is among these.
    pub(super) fn transposed(&self) -> (Interactions, Vec<usize>) {
        let mut offsets = vec![0usize; self.item_count + 1];
        for item in &self.items {
            offsets[*item as usize + 1] += 1;
        }
        for i in 0..self.item_count {
            offsets[i + 1] += offsets[i];
        }
        let mut next = offsets.clone();
        let (mut users, mut from) = (vec![0u32; self.items.len()], vec![0usize; self.items.len()]);
        for user in 0..self.user_count() {
            for e in self.offsets[user]..self.offsets[user + 1] {
                let at = &mut next[self.items[e] as usize];
                users[*at] = user as u32;
                from[*at] = e;
                *at += 1;
            }
        }
        (
            Interactions {
                item_count: self.user_count(),
                offsets,
                items: users,
            },
            from,
        )
    }
}

/// What the ratings of a pair come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Feedback {
    /// The sum of those above 0.
    Implicit,
    /// The mean of all that are finite.
    Explicit,
}

impl Feedback {
    /// Whether a number is a rating.
    pub(super) fn takes(self, rating: f64) -> bool {
        rating.is_finite() && (rating > 0.0 || self == Feedback::Explicit)
    }

    /// What a rating is called that is none.
    fn rating_name(self) -> &'static str {
        match self {
            Feedback::Implicit => "positive, finite",
            Feedback::Explicit => "finite",
        }
    }

    /// The rating of a pair from all its ratings, ascending.
    fn join(self, pair: &[(u64, f64)]) -> f64 {
        let bounded = pair.iter().map(|(_, r)| r.clamp(-LARGEST_RATING, LARGEST_RATING));
        let rating = match self {
            Feedback::Implicit => bounded.sum::<f64>(),
            Feedback::Explicit => bounded.sum::<f64>() / pair.len() as f64,
        };
        rating.clamp(-LARGEST_RATING, LARGEST_RATING)
    }
}

/// The rows of a query, read.
#[derive(Debug)]
pub(super) struct Learned {
    pub(super) users: Ids,
    pub(super) items: Ids,
    pub(super) interactions: Interactions,
    /// The rating of each entry, as [`Feedback`] joins those of a pair.
    pub(super) ratings: Vec<f32>,
    /// How many rows were used.
    pub(super) row_count: u64,
    /// What was dropped.
    pub(super) notices: Vec<String>,
}

/// Reads all rows. Rows without a user, an item or a rating are dropped and counted; ratings of one pair are joined in ascending order,
/// so that the order of the rows changes nothing.
///
/// # Errors
/// No row is left, too little memory, or cancellation.
pub(super) fn read(
    verb: &str,
    feedback: Feedback,
    rows: &dyn Rows,
    roles: &Roles,
    context: &FitContext<'_>,
) -> Result<Learned> {
    let schema = rows.schema();
    let (Some(user), Some(item)) = (roles.user, roles.item) else {
        return Err(Error::request(format!("{verb} needs a user column and an item column")));
    };
    let (user_field, item_field) = (schema.field(user), schema.field(item));
    let (Some(user_kind), Some(item_kind)) = (IdKind::of(user_field.data_type()), IdKind::of(item_field.data_type()))
    else {
        return Err(Error::request(format!(
            "{verb}: users and items must be integers or text"
        )));
    };
    // 16 bytes a row while they are sorted; then an item, a rating and a place in the transpose, twice.
    context
        .memory
        .take(rows.row_count().saturating_mul(48), "the interactions of the users")?;
    let (mut user_codes, mut item_codes) = (Interner::new(), Interner::new());
    let mut entries: Vec<(u64, f64)> = Vec::with_capacity(rows.row_count());
    let (mut without_id, mut without_rating) = (0u64, 0u64);
    for index in 0..rows.batch_count() {
        context.check_cancelled()?;
        let batch: RecordBatch = rows.batch(index)?;
        let users = user_kind.read(batch.column(user), "user")?;
        let items = item_kind.read(batch.column(item), "item")?;
        let ratings = match roles.rating {
            Some(rating) => Some(numbers(verb, batch.column(rating))?),
            None => None,
        };
        for row in 0..batch.num_rows() {
            let (Some(user), Some(item)) = (users.key(row), items.key(row)) else {
                without_id += 1;
                continue;
            };
            let rating = match &ratings {
                Some(r) if r.is_null(row) => f64::NAN,
                Some(r) => r.value(row),
                None => 1.0,
            };
            if !feedback.takes(rating) {
                without_rating += 1;
                continue;
            }
            let (user, item) = (user_codes.intern(user), item_codes.intern(item));
            entries.push((u64::from(user) << 32 | u64::from(item), rating));
        }
        if user_codes.len() >= UNKNOWN as usize || item_codes.len() >= UNKNOWN as usize {
            return Err(Error::data(format!(
                "{verb} takes at most {UNKNOWN} distinct users and as many items"
            )));
        }
    }
    if entries.is_empty() {
        return Err(Error::data(format!(
            "{verb}: no row has a user ('{}'), an item ('{}') and a {} rating; there is nothing to learn from",
            user_field.name(),
            item_field.name(),
            feedback.rating_name()
        )));
    }
    let mut notices = vec![];
    if without_id > 0 {
        notices.push(format!("{without_id} row(s) with a NULL user or item were dropped"));
    }
    if without_rating > 0 {
        notices.push(format!(
            "{without_rating} row(s) without a {} rating were dropped",
            feedback.rating_name()
        ));
    }
    let (user_values, user_ranks) = user_codes.sorted(user_kind, &value_type(user_field.data_type()))?;
    let (item_values, item_ranks) = item_codes.sorted(item_kind, &value_type(item_field.data_type()))?;
    drop((user_codes, item_codes));
    context.compute.pool.install(|| {
        entries.par_iter_mut().for_each(|(pair, _)| {
            let (user, item) = ((*pair >> 32) as usize, (*pair & u64::from(u32::MAX)) as usize);
            *pair = u64::from(user_ranks[user]) << 32 | u64::from(item_ranks[item]);
        });
        entries.par_sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    });
    let distinct = |values: &ArrayRef, name: &str, part: &str| {
        Ids::new(name, values, part)?.ok_or_else(|| Error::data(format!("{verb}: the {part}s cannot be told apart")))
    };
    let users = distinct(&user_values, user_field.name(), "user")?;
    let items = distinct(&item_values, item_field.name(), "item")?;
    let row_count = entries.len() as u64;
    let (interactions, ratings) = join(feedback, &entries, users.len(), items.len());
    Ok(Learned {
        users,
        items,
        interactions,
        ratings,
        row_count,
        notices,
    })
}

impl Interner {
    fn len(&self) -> usize {
        self.number_values.len() + self.text_values.len()
    }
}

/// Sorted (user · 2³² + item, rating) entries as a matrix, each pair once.
fn join(feedback: Feedback, entries: &[(u64, f64)], user_count: usize, item_count: usize) -> (Interactions, Vec<f32>) {
    let mut offsets = vec![0usize; user_count + 1];
    let (mut items, mut ratings) = (vec![], vec![]);
    for pair in entries.chunk_by(|a, b| a.0 == b.0) {
        items.push(pair[0].0 as u32);
        ratings.push(feedback.join(pair) as f32);
        offsets[(pair[0].0 >> 32) as usize + 1] += 1;
    }
    for user in 0..user_count {
        offsets[user + 1] += offsets[user];
    }
    (
        Interactions {
            item_count,
            offsets,
            items,
        },
        ratings,
    )
}

/// A column as f64.
pub(super) fn numbers(verb: &str, column: &ArrayRef) -> Result<Float64Array> {
    let column = cast(column, &DataType::Float64)
        .map_err(|e| Error::request(format!("{verb}: the rating column is no number")).with_source(e))?;
    Ok(column.as_primitive::<Float64Type>().clone())
}
