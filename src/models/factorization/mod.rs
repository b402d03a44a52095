//! Factorization: what users want, learned from what they did or from what they said.
//!
//! Implicit feedback has two methods. `als` gives every user and item a vector of factors whose product is near 1 where the user had
//! the item and near 0 elsewhere, each pair weighted by a confidence (Hu, Koren and Volinsky 2008), with the frequency-scaled
//! regularisation and the weight of unobserved pairs of Rendle, Krichene, Zhang and Koren ("Revisiting the Performance of
//! iALS on Item Recommendation Benchmarks", 2021). The objective, which the training information gives divided by the number of
//! observed pairs:
//!
//! ```text
//! Σ_ui c_ui (p_ui − x_u·y_i)² + λ Σ_u (n_u + α₀·I)^ν ‖x_u‖² + λ Σ_i (n_i + α₀·U)^ν ‖y_i‖²
//! c_ui = α₀ + α·rating_ui and p_ui = 1 for an observed pair; c_ui = α₀ and p_ui = 0 for any other
//! ```
//!
//! with `U` users, `I` items, and `n` the number of pairs of a user or item. `α₀ = 1` and `ν = 0` is the model of 2008, and that of
//! `CREATE MODEL`.
//!
//! `ease` is a closed-form item-item model (Steck 2019) for smaller catalogues; it looks at whether a user had an item, not at
//! how much.
//!
//! Explicit feedback predicts the ratings themselves: see `explicit.rs`.
//!
//! A user without ratings is unknown to a model, an item without any never appears. Scores of pairs with an unknown user or item are NULL
//! for implicit feedback; for explicit feedback they are the mean rating and the bias of whichever is known. In rankings an unknown user
//! gets the items that most users had, or those of the largest biases.

mod als;
mod ease;
mod explicit;
mod interactions;
mod judge;
mod model;
mod options;
mod stored;
mod tables;

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Schema};

use self::interactions::{Feedback, IdKind, value_type};
use self::model::{FactorizationModel, Factors, RatingColumn, Ratings, Scorer};
use self::options::{Method, OPTIONS, STATEMENT_DEFAULTS};
use super::{Artefact, FitContext, Fitted, Model, ModelType, Roles, Rows, TrainingInfo, column_index};
use crate::error::{Error, Result};
use crate::options::{OptionSpec, Options};

const NAME: &str = "matrix_factorization";
const VERB: &str = "RECOMMEND";

/// Factorization as a model type; see the [module](self).
#[derive(Debug, Clone, Copy)]
pub struct Factorization;

impl ModelType for Factorization {
    fn name(&self) -> &'static str {
        NAME
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["als", "implicit"]
    }

    fn verb(&self) -> &'static str {
        VERB
    }

    fn summary(&self) -> &'static str {
        "Learns from who had what, and ranks for a user the items that they do not have yet: confidence-weighted alternating least \
         squares (Hu et al. 2008, Rendle et al. 2021), or EASE (Steck 2019); or, with feedback_type => 'explicit', from how much users \
         like what, to predict that. An unknown user gets the popular items, those that most users had, with the number of those users \
         as score (explicit: those rated best, with their mean-adjusted rating); an item that nobody rated never appears."
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn statement_defaults(&self) -> &'static [(&'static str, &'static str)] {
        STATEMENT_DEFAULTS
    }

    fn statement_default_applies(&self, option: &str, given: &dyn Fn(&str) -> Option<String>) -> bool {
        options::applies(option, given)
    }

    fn roles(&self, schema: &Schema, options: &Options) -> Result<Roles> {
        let method = Method::read(VERB, options, 0)?;
        let user = id_column(schema, options, "user")?;
        let item = id_column(schema, options, "item")?;
        if user == item {
            return Err(Error::request(format!(
                "{VERB}: column '{}' is the user and the item at once; name another column for one of them",
                schema.field(user).name()
            )));
        }
        let rating = match options.text("rating") {
            Some(name) => Some(rating_column(schema, name, user, item)?),
            None if matches!(method, Method::Explicit(_)) => {
                return Err(Error::request(format!(
                    "{VERB}: explicit feedback needs the option 'rating'; write rating => 'a column'"
                )));
            }
            None => None,
        };
        Ok(Roles {
            user: Some(user),
            item: Some(item),
            rating,
            ..Roles::default()
        })
    }

    fn fit(&self, rows: &dyn Rows, roles: &Roles, options: &Options, context: &FitContext<'_>) -> Result<Fitted> {
        let method = Method::read(VERB, options, context.seed)?;
        context
            .observer
            .started(method.name(), rows.row_count(), method.passes());
        let feedback = match &method {
            Method::Explicit(_) => Feedback::Explicit,
            _ => Feedback::Implicit,
        };
        let learned = interactions::read(VERB, feedback, rows, roles, context)?;
        for notice in &learned.notices {
            context.observer.notice(notice);
        }
        let (scorer, passes) = match &method {
            Method::Als(als) => {
                let (factors, passes) = als::fit(als, &learned, context)?;
                (Scorer::Factors(factors), passes)
            }
            Method::Ease { l2 } => {
                let item_count = learned.items.len();
                if item_count > ease::MOST_ITEMS {
                    return Err(Error::data(format!(
                        "{VERB}: method 'ease' takes at most {} items and these rows have {item_count}; use method => 'als'",
                        ease::MOST_ITEMS
                    )));
                }
                let (weights, pass) = ease::fit(*l2, &learned.interactions, context)?;
                (Scorer::Similarity(weights), vec![pass])
            }
            Method::Explicit(explicit) => {
                let solved = explicit::fit(explicit, &learned, context)?;
                let ratings = Ratings {
                    mean: solved.mean,
                    user_biases: solved.user_biases,
                };
                let factors = Factors::new(solved.width, solved.users, solved.items, Some(ratings));
                (Scorer::Factors(factors), solved.passes)
            }
        };
        let rating = RatingColumn {
            name: roles
                .rating
                .map_or("rating".into(), |i| rows.schema().field(i).name().clone()),
            given: roles.rating.is_some(),
        };
        let info = TrainingInfo {
            passes,
            notices: learned.notices,
            row_count: learned.row_count,
            ..TrainingInfo::default()
        };
        let model = FactorizationModel::new(learned.users, learned.items, rating, learned.interactions, scorer);
        Ok(Fitted {
            model: Arc::new(model),
            info,
            row_scores: None,
        })
    }

    fn load(&self, artefact: &Artefact) -> Result<Arc<dyn Model>> {
        Ok(Arc::new(FactorizationModel::from_artefact(artefact)?))
    }
}

/// The column that option `part` names, which must be able to identify something.
fn id_column(schema: &Schema, options: &Options, part: &str) -> Result<usize> {
    let name = options
        .text(part)
        .ok_or_else(|| Error::request(format!("{VERB} needs the option '{part}'; write {part} => 'a column'")))?;
    let index = column_index(VERB, schema, name)?;
    let data_type = schema.field(index).data_type();
    if IdKind::of(data_type).is_none() {
        return Err(Error::request(format!(
            "{VERB}: the {part} column '{name}' is of type {data_type}; cast it to an integer or text, such as CAST({name} AS BIGINT)"
        )));
    }
    Ok(index)
}

fn rating_column(schema: &Schema, name: &str, user: usize, item: usize) -> Result<usize> {
    let index = column_index(VERB, schema, name)?;
    for (other, part) in [(user, "user"), (item, "item")] {
        if index == other {
            return Err(Error::request(format!(
                "{VERB}: column '{name}' is the {part} and the rating at once; name another rating or leave it out"
            )));
        }
    }
    let data_type = schema.field(index).data_type();
    let value = value_type(data_type);
    if !value.is_numeric() && value != DataType::Boolean && value != DataType::Null {
        return Err(Error::request(format!(
            "{VERB}: the rating column '{name}' is of type {data_type}; it must be a number, such as a quantity or a number of visits"
        )));
    }
    Ok(index)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_explicit;
