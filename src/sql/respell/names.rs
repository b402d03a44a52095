//! Names of columns in any case, as BigQuery finds them.
//!
//! DataFusion folds names without quotes to lower case and takes those in quotes as they are, so `fullVisitorId` in a file is
//! found only as `"fullVisitorId"`. Here the words of a statement that are some column's name but for the case are given
//! that column's spelling, before the statement is parsed. All of a statement's words are, its aliases too, so that what it
//! names in one place it finds in another; what a query's result is called is restored at the end.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::arrow::datatypes::{DataType, Fields};
use datafusion::common::{DataFusionError, SchemaError, TableReference};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::{SelectItem, SetExpr, Statement as SqlStatement};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use super::joined::Columns;
use crate::sql::statement::is_reserved;

/// Words after which tables are named, and words that end that.
const BEFORE_TABLES: &[&str] = &["FROM", "JOIN", "INTO", "UPDATE", "TABLE", "VIEW"];
const AFTER_TABLES: &[&str] = &[
    "SELECT", "WHERE", "ON", "USING", "GROUP", "ORDER", "HAVING", "LIMIT", "WINDOW", "QUALIFY", "SET",
];

/// Functions whose arguments have FROM or AS between them.
const WITH_WORDS: &[&str] = &["EXTRACT", "TRIM", "SUBSTRING", "OVERLAY", "CAST", "TRY_CAST"];

/// The names that a statement may mean.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// The spellings of columns and fields, by lower case.
    columns: BTreeMap<String, BTreeSet<String>>,
    /// The columns of the tables, in lower case.
    top: BTreeSet<String>,
    /// The fields of columns that are structs, in lower case.
    fields: BTreeSet<String>,
    /// The columns of each table.
    by_table: Columns,
    /// Names in queries over elements that are no fields of theirs, in lower case.
    outer: BTreeSet<String>,
    /// Tables, in lower case.
    tables: BTreeSet<String>,
}

impl Names {
    /// The columns of the tables that a statement reads. A table that is not there is for the planner to tell.
    pub(crate) async fn of(ctx: &SessionContext, statement: &Statement) -> Self {
        let mut names = Self::default();
        let Ok((tables, queries)) = resolve_table_references(statement, true) else {
            return names;
        };
        for table in tables.into_iter().chain(queries) {
            names.table(ctx, table).await;
        }
        names
    }

    async fn table(&mut self, ctx: &SessionContext, table: TableReference) {
        self.tables.insert(table.table().to_lowercase());
        let folders = [table.schema(), table.catalog()];
        self.tables.extend(folders.into_iter().flatten().map(str::to_lowercase));
        let name = table.table().to_lowercase();
        if let Ok(provider) = ctx.table_provider(table).await {
            let schema = provider.schema();
            let columns = schema.fields().iter().map(|f| f.name().to_lowercase());
            self.by_table.entry(name).or_default().extend(columns);
            self.top.extend(schema.fields().iter().map(|f| f.name().to_lowercase()));
            self.add(schema.fields());
        }
    }

    /// The columns of the tables, in lower case.
    pub(crate) fn top(&self) -> &BTreeSet<String> {
        &self.top
    }

    /// Names in queries over elements that are no fields of theirs, in lower case.
    pub(crate) fn outer(&self) -> &BTreeSet<String> {
        &self.outer
    }

    /// The columns of each table, both in lower case.
    pub(crate) fn by_table(&self) -> &Columns {
        &self.by_table
    }

    /// The fields of columns that are structs, or arrays of them, in lower case.
    pub(crate) fn fields(&self) -> &BTreeSet<String> {
        &self.fields
    }

    /// Adds columns, and the fields of those that are structs.
    pub(crate) fn add(&mut self, fields: &Fields) {
        for field in fields {
            self.insert(field.name());
            let mut inner = field.data_type();
            while let DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) = inner {
                inner = item.data_type();
            }
            if let DataType::Struct(fields) = inner {
                self.fields.extend(fields.iter().map(|f| f.name().to_lowercase()));
                self.add(fields);
            }
        }
    }

    /// Adds a spelling; whether it is new.
    fn insert(&mut self, name: &str) -> bool {
        let spellings = self.columns.entry(name.to_lowercase()).or_default();
        spellings.insert(name.to_string())
    }

    /// Whether an error says that a column is there in another case than the one it was looked for in, and is not known
    /// here yet: one that a function or a subquery makes. Or that a name in a query over elements, which was taken for a
    /// field of theirs, is none: then it is looked for in the query around.
    pub(crate) fn learn(&mut self, error: &DataFusionError) -> bool {
        let DataFusionError::SchemaError(schema, _) = error.find_root() else {
            let message = error.find_root().strip_backtrace();
            let no_field = message
                .split_once("Field ")
                .and_then(|(_, rest)| rest.split_once(" not found in struct"));
            return no_field.is_some_and(|(name, _)| self.outer.insert(name.trim_matches('\'').to_lowercase()));
        };
        let SchemaError::FieldNotFound { field, valid_fields } = schema.as_ref() else {
            return false;
        };
        let mut is_new = false;
        for valid in valid_fields {
            if valid.name != field.name && valid.name.to_lowercase() == field.name.to_lowercase() {
                is_new |= self.insert(&valid.name);
            }
        }
        is_new
    }

    /// The spelling that a word is to have in quotes, if DataFusion would not find it as it is.
    fn spelling(&self, word: &Word) -> Option<&str> {
        let lower = word.value.to_lowercase();
        let spellings = self.columns.get(&lower)?;
        let found_as = if word.quote_style.is_some() {
            &word.value
        } else {
            &lower
        };
        if let Some(exact) = spellings.get(&word.value) {
            return (exact != found_as).then_some(exact.as_str());
        }
        match (spellings.contains(found_as), spellings.len()) {
            (false, 1) => spellings.first().map(String::as_str),
            _ => None,
        }
    }

    /// Gives the words that are columns their spelling; whether any changed.
    pub(crate) fn respell(&self, tokens: &mut [TokenWithSpan]) -> bool {
        let mut changed = false;
        let mut scopes = vec![Scope::default()];
        let places: Vec<usize> = (0..tokens.len())
            .filter(|i| !matches!(tokens[*i].token, Token::Whitespace(_)))
            .collect();
        for at in 0..places.len() {
            let token = |n: usize| places.get(n).map(|i| &tokens[*i].token);
            let before = at.checked_sub(1).and_then(token);
            let after = [token(at + 1), token(at + 2)];
            let spelling = match token(at) {
                Some(Token::LParen) => {
                    scopes.push(Scope {
                        function: before.and_then(|t| is_one_of(t, WITH_WORDS)),
                        ..Scope::default()
                    });
                    None
                }
                Some(Token::RParen) => {
                    if scopes.len() > 1 {
                        scopes.pop();
                    }
                    None
                }
                Some(Token::Word(word)) => {
                    let is_name = scopes
                        .last_mut()
                        .is_some_and(|scope| scope.is_name(word, before, after, &self.tables));
                    self.spelling(word).filter(|_| is_name).map(str::to_string)
                }
                _ => None,
            };
            if let Some(spelling) = spelling {
                tokens[places[at]].token = Token::make_word(&spelling, Some('"'));
                changed = true;
            }
        }
        changed
    }
}

/// The aliases of a query's columns as they are written, from the first and from the last one to an asterisk.
pub(crate) struct Aliases {
    first: Vec<Option<String>>,
    last: Vec<Option<String>>,
    all: bool,
}

impl Aliases {
    /// Those of a statement that is a query.
    pub(crate) fn of(statement: &Statement) -> Option<Self> {
        let Statement::Statement(statement) = statement else {
            return None;
        };
        let SqlStatement::Query(query) = statement.as_ref() else {
            return None;
        };
        let SetExpr::Select(select) = query.body.as_ref() else {
            return None;
        };
        let alias = |item: &SelectItem| match item {
            SelectItem::ExprWithAlias { alias, .. } => Some(Some(alias.value.clone())),
            SelectItem::UnnamedExpr(_) => Some(None),
            _ => None,
        };
        let items = &select.projection;
        let first: Vec<_> = items.iter().map_while(alias).collect();
        let mut last: Vec<_> = items.iter().rev().map_while(alias).collect();
        last.reverse();
        Some(Self {
            all: first.len() == items.len(),
            first,
            last,
        })
    }

    /// The alias of a column.
    fn at(&self, column: usize, count: usize) -> Option<&str> {
        if self.all && self.first.len() != count {
            return None;
        }
        let from_end = || {
            (self.last.len() + column)
                .checked_sub(count)
                .and_then(|i| self.last.get(i))
        };
        self.first.get(column).or_else(from_end)?.as_deref()
    }

    /// A query's plan whose columns are called as they were written, where that differs in the case alone.
    pub(crate) fn restore(&self, plan: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
        let count = plan.schema().fields().len();
        let mut differs = false;
        let columns: Vec<Expr> = (0..count)
            .map(|i| {
                let (qualifier, field) = plan.schema().qualified_field(i);
                let column = Expr::from((qualifier, field));
                match self.at(i, count) {
                    Some(alias) if alias != field.name() && alias.to_lowercase() == field.name().to_lowercase() => {
                        differs = true;
                        column.alias(alias)
                    }
                    _ => column,
                }
            })
            .collect();
        if !differs {
            return Ok(plan);
        }
        LogicalPlanBuilder::from(plan).project(columns)?.build()
    }
}

/// What stands between a pair of brackets.
#[derive(Default)]
struct Scope {
    /// The function before the bracket, if it is one of [`WITH_WORDS`].
    function: Option<&'static str>,
    /// Whether tables are named now.
    in_tables: bool,
    /// Whether a type is named now.
    in_type: bool,
}

impl Scope {
    /// Whether a word can be the name of a column or a field. Words come in order, each once.
    fn is_name(
        &mut self,
        word: &Word,
        before: Option<&Token>,
        after: [Option<&Token>; 2],
        tables: &BTreeSet<String>,
    ) -> bool {
        let is_word =
            |token: Option<&Token>, known: &'static str| token.is_some_and(|t| is_one_of(t, &[known]).is_some());
        let is_quoted = word.quote_style.is_some();
        let starts = self.function.is_none() && !is_word(before, "DISTINCT");
        if !is_quoted {
            let own = Token::Word(word.clone());
            if starts && is_one_of(&own, BEFORE_TABLES).is_some() {
                self.in_tables = true;
            } else if is_one_of(&own, AFTER_TABLES).is_some() {
                self.in_tables = false;
            }
            self.in_type |= matches!(self.function, Some("CAST" | "TRY_CAST")) && word.value.eq_ignore_ascii_case("AS");
            let is_part = self.function == Some("EXTRACT") && matches!(before, Some(Token::LParen));
            let is_literal = matches!(after[0], Some(Token::SingleQuotedString(_)));
            let is_unit = matches!(before, Some(Token::SingleQuotedString(_) | Token::Number(..)));
            let is_order = ["NULLS", "CURRENT", "FETCH"].iter().any(|w| is_word(before, w));
            if is_order || is_reserved(&word.value) || self.in_type || is_part || is_literal || is_unit {
                return false;
            }
        }
        let is_call = matches!(after[0], Some(Token::LParen | Token::RArrow));
        let is_query = is_word(after[0], "AS") && matches!(after[1], Some(Token::LParen));
        let is_qualifier = matches!(after[0], Some(Token::Period)) || self.in_tables || is_query;
        !(is_call || is_qualifier && tables.contains(&word.value.to_lowercase()))
    }
}

/// The one of these words that a token without quotes is.
fn is_one_of(token: &Token, words: &[&'static str]) -> Option<&'static str> {
    let Token::Word(word) = token else { return None };
    let known = words.iter().find(|w| w.eq_ignore_ascii_case(&word.value));
    known.copied().filter(|_| word.quote_style.is_none())
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::Field;
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::tokenizer::Tokenizer;

    use super::*;

    fn respelled(sql: &str) -> String {
        let mut names = Names::default();
        let totals = Fields::from(vec![Field::new("pageViews", DataType::Int64, true)]);
        let column = |name: &str| Field::new(name, DataType::Int64, true);
        names.add(&Fields::from(vec![
            column("userId"),
            column("Date"),
            column("Sales"),
            column("Day"),
            column("plain"),
            column("Both"),
            column("both"),
            Field::new("Totals", DataType::Struct(totals), true),
        ]));
        names.tables.insert("sales".into());
        let mut tokens = Tokenizer::new(&GenericDialect {}, sql)
            .tokenize_with_location()
            .unwrap();
        names.respell(&mut tokens);
        tokens.iter().map(|t| t.token.to_string()).collect()
    }

    #[test]
    fn columns_have_their_own_spelling() {
        let pairs = [
            (
                "SELECT userid, USERID AS UserId, Plain",
                r#"SELECT "userId", "userId" AS "userId", Plain"#,
            ),
            (
                r#"SELECT t."USERID", totals.pageviews"#,
                r#"SELECT t."userId", "Totals"."pageViews""#,
            ),
            (
                "SELECT * EXCEPT (userid) FROM sales",
                r#"SELECT * EXCEPT ("userId") FROM sales"#,
            ),
            // Two columns whose names differ in their case alone are told apart by it.
            ("SELECT both, Both, BOTH", r#"SELECT both, "Both", BOTH"#),
            // What no column can be stays.
            (
                "SELECT date '2020-01-01', Date(x), CAST(x AS date), CAST(date AS date), INTERVAL '1' day",
                r#"SELECT date '2020-01-01', Date(x), CAST(x AS date), CAST("Date" AS date), INTERVAL '1' day"#,
            ),
            (
                "SELECT EXTRACT(day FROM day), sales.a, sales FROM sales, b WHERE sales IS DISTINCT FROM sales",
                r#"SELECT EXTRACT(day FROM "Day"), sales.a, "Sales" FROM sales, b WHERE "Sales" IS DISTINCT FROM "Sales""#,
            ),
            ("SELECT * FROM f('m', userid => 3)", "SELECT * FROM f('m', userid => 3)"),
            (
                "WITH sales AS (SELECT 1) SELECT 'userid'",
                "WITH sales AS (SELECT 1) SELECT 'userid'",
            ),
        ];
        for (sql, expected) in pairs {
            assert_eq!(respelled(sql), expected);
        }
    }
}
