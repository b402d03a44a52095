//! `FROM t TABLESAMPLE SYSTEM (10 PERCENT)`, which DataFusion reads and forgets: each row is kept with that probability.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Query, SetExpr, TableAlias, TableFactor, TableSample, TableSampleKind, TableSampleUnit, Value,
    VisitorMut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

use crate::error::Error;

/// Writes samples as filters.
#[derive(Default)]
pub(crate) struct Samples {
    /// What is wrong with one that cannot be.
    pub(crate) fault: Option<Error>,
}

impl VisitorMut for Samples {
    type Break = ();

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        let (TableFactor::Table { sample, .. } | TableFactor::Derived { sample, .. }) = factor else {
            return ControlFlow::Continue(());
        };
        let Some(TableSampleKind::BeforeTableAlias(sample) | TableSampleKind::AfterTableAlias(sample)) = sample.take()
        else {
            return ControlFlow::Continue(());
        };
        match percent(&sample).and_then(|percent| kept(factor.clone(), percent)) {
            Some(kept) => *factor = kept,
            None => {
                let message = format!(
                    "'{}' cannot be taken here; write TABLESAMPLE SYSTEM (10 PERCENT), with a number from 0 to 100",
                    sample.to_string().trim()
                );
                self.fault = Some(Error::request(message));
            }
        }
        ControlFlow::Continue(())
    }
}

/// How many of a hundred rows a sample has.
fn percent(sample: &TableSample) -> Option<f64> {
    let quantity = sample.quantity.as_ref()?;
    let is_percent = quantity.unit == Some(TableSampleUnit::Percent);
    let more = sample.seed.is_some() || sample.bucket.is_some() || sample.offset.is_some();
    let Expr::Value(value) = &quantity.value else {
        return None;
    };
    let Value::Number(number, _) = &value.value else {
        return None;
    };
    let percent: f64 = number.to_string().parse().ok()?;
    (is_percent && !more && (0.0..=100.0).contains(&percent)).then_some(percent)
}

/// What a row's random number is called.
const DRAWN: &str = "drawn for the sample";

/// `(SELECT * EXCEPT (r) FROM (SELECT *, random() AS r FROM t) WHERE r < 0.1) AS t`. The number is a column, for DataFusion moves a
/// filter that names none below an UNNEST or a GROUP BY, where there are other rows.
fn kept(mut factor: TableFactor, percent: f64) -> Option<TableFactor> {
    let alias = match &mut factor {
        TableFactor::Table { name, alias, .. } => alias.take().or_else(|| {
            let name: &Ident = name.0.last()?.as_ident()?;
            Some(TableAlias {
                explicit: true,
                name: name.clone(),
                columns: vec![],
                at: None,
            })
        }),
        TableFactor::Derived { alias, .. } => alias.take(),
        _ => None,
    };
    let text = format!(
        "SELECT * EXCEPT (\"{DRAWN}\") FROM (SELECT *, random() AS \"{DRAWN}\" FROM t) WHERE \"{DRAWN}\" < {}",
        percent / 100.0
    );
    let mut query: Box<Query> = Parser::new(&GenericDialect {})
        .try_with_sql(&text)
        .and_then(|mut p| p.parse_query())
        .ok()?;
    let TableFactor::Derived { subquery: inner, .. } = relation_of(&mut query)? else {
        return None;
    };
    *relation_of(inner)? = factor;
    Some(TableFactor::Derived {
        lateral: false,
        subquery: query,
        alias,
        sample: None,
    })
}

/// What a query is from.
fn relation_of(query: &mut Query) -> Option<&mut TableFactor> {
    match query.body.as_mut() {
        SetExpr::Select(select) => Some(&mut select.from.first_mut()?.relation),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::DFParser;

    use super::*;
    use crate::sql::respell::select::visit;

    #[test]
    fn samples_are_filters() {
        let pairs = [
            (
                "SELECT * FROM d.t TABLESAMPLE SYSTEM (1 PERCENT) JOIN u ON TRUE",
                "SELECT * FROM (SELECT * EXCEPT (r) FROM (SELECT *, random() AS r FROM d.t) WHERE r < 0.01) AS t JOIN u ON true",
            ),
            (
                "SELECT * FROM t AS x TABLESAMPLE SYSTEM (0.5 PERCENT)",
                "SELECT * FROM (SELECT * EXCEPT (r) FROM (SELECT *, random() AS r FROM t) WHERE r < 0.005) AS x",
            ),
        ];
        for (sql, expected) in pairs {
            let mut statement = DFParser::parse_sql(sql).unwrap().pop_front().unwrap();
            let mut samples = Samples::default();
            visit(&mut statement, &mut samples);
            let drawn = format!("\"{DRAWN}\"");
            assert_eq!(statement.to_string().replace(&drawn, "r"), expected);
            assert!(samples.fault.is_none());
        }
        for sql in [
            "TABLESAMPLE SYSTEM (101 PERCENT)",
            "TABLESAMPLE SYSTEM (10 ROWS)",
            "TABLESAMPLE SYSTEM (x PERCENT)",
        ] {
            let mut statement = DFParser::parse_sql(&format!("SELECT * FROM t {sql}"))
                .unwrap()
                .pop_front()
                .unwrap();
            let mut samples = Samples::default();
            visit(&mut statement, &mut samples);
            let told = samples.fault.unwrap().to_string();
            assert!(told.contains("write TABLESAMPLE SYSTEM (10 PERCENT)"), "{told}");
        }
    }
}
