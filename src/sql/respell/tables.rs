//! Tables as BigQuery's scripts name them: with a project and a dataset that need not be here, and in any case.
//!
//! A name that is there is left as it is. One that differs from a table's only in its case is that table. Of any other whose
//! project or dataset is not here, the last two parts and then the last alone are looked for: `bigquery-public-data.ml_datasets.penguins`
//! is table `penguins` of a lake. What is taken so is told once.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider};
use datafusion::common::{DataFusionError, Diagnostic, Span, TableReference};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectName, ObjectType, Query, Select, SelectItem, SelectItemQualifiedWildcardKind,
    Statement as SqlStatement, TableFactor, TableObject, VisitorMut,
};

use super::select::{folded, visit};
use crate::error::{Error, list, nearest};
use crate::session::Session;

/// What tables the names in a statement mean, where that is not plain.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    /// The parts of the table that is meant, by how a name is used and its parts.
    meant: BTreeMap<(Use, Vec<String>), Vec<String>>,
    missing: Vec<Missing>,
}

/// A name that no table was found for.
#[derive(Debug)]
struct Missing {
    /// With its catalog and schema, as the planner's error has it.
    full: String,
    message: String,
    span: Option<Span>,
}

/// How a statement uses a table's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    /// The table is there already.
    Read,
    /// The statement makes it, or takes it away.
    Made,
}

impl Tables {
    /// Looks for the tables that a statement names.
    pub(crate) async fn of(ctx: &SessionContext, statement: &Statement) -> Self {
        let mut seen = Seen::default();
        walk(&mut statement.clone(), &mut |name, usage| seen.add(name, usage));
        let mut queries = Queries::default();
        visit(&mut statement.clone(), &mut queries);
        let here = Catalogs::of(ctx);
        let mut tables = Self::default();
        for ((usage, parts), name) in seen.names {
            if usage == Use::Made {
                tables.mean(usage, &parts, here.place_of(&parts));
                continue;
            }
            if exists(ctx, &parts).await {
                continue;
            }
            let found = match parts.as_slice() {
                [only] if queries.names.contains(only) => None,
                [only] => spelled(queries.names.iter().cloned(), only)
                    .map(|query| vec![query])
                    .or_else(|| here.table(&parts)),
                _ => here.table(&parts),
            };
            match found {
                Some(found) => tables.mean(usage, &parts, found),
                None if parts.len() > 1 => tables.look_elsewhere(ctx, &here, &parts, &name),
                None => {}
            }
        }
        // A name of one part would be the query of WITH that is called so.
        for ((_, parts), table) in &mut tables.meant {
            if let [only] = table.as_slice()
                && parts.len() > 1
                && queries.names.contains(only)
            {
                *table = here.full(table);
            }
        }
        tables
    }

    fn mean(&mut self, usage: Use, parts: &[String], table: Vec<String>) {
        if parts != table {
            self.meant.insert((usage, parts.to_vec()), table);
        }
    }

    /// Looks for a name of several parts by its last ones, if there is no such project or dataset.
    fn look_elsewhere(&mut self, ctx: &SessionContext, here: &Catalogs, parts: &[String], name: &Name) {
        let session = Session::of(ctx);
        let is_place = here.place(parts).is_some_and(|(catalog, schema, _)| {
            // A schema that is only there because a table was made in it hides nothing.
            session.as_ref().is_none_or(|s| !s.is_implied(&catalog, &schema))
        });
        let is_information = parts
            .iter()
            .rev()
            .nth(1)
            .is_some_and(|s| s.eq_ignore_ascii_case("information_schema"));
        if is_information {
            return;
        }
        let mut looked = vec![];
        if !is_place {
            for shorter in 1..parts.len() {
                let last = &parts[shorter..];
                looked.push(last.join("."));
                if let Some(found) = here.table(last) {
                    return self.take(session.as_deref(), name, parts, found);
                }
            }
            if let Some(found) = here.in_other_catalog(parts) {
                return self.take(session.as_deref(), name, parts, found);
            }
        }
        let known = here.tables();
        let short = parts.last().map_or("", String::as_str);
        let looked = match looked.as_slice() {
            [] => String::new(),
            words => format!(", nor {}", list(words, 3)),
        };
        let meant = match nearest(short, known.iter().map(String::as_str)) {
            Some(near) => format!("; did you mean {near}? Or make it"),
            None => "; make it".into(),
        };
        self.missing.push(Missing {
            full: here.full(parts).join("."),
            message: format!(
                "there is no table '{}'{looked}{meant} with CREATE EXTERNAL TABLE {short} STORED AS PARQUET LOCATION '…', or put a file of that name into the lake",
                name.written
            ),
            span: name.span,
        });
    }

    fn take(&mut self, session: Option<&Session>, name: &Name, parts: &[String], found: Vec<String>) {
        if let Some(session) = session {
            session.notice_once(&format!(
                "there is no table '{}' here; {} is taken in its place",
                name.written,
                found.join(".")
            ));
        }
        self.mean(Use::Read, parts, found);
    }

    /// Names the tables that are meant.
    pub(crate) fn apply(&self, statement: &mut Statement) {
        if self.meant.is_empty() {
            return;
        }
        walk(statement, &mut |name, usage| {
            if let Some(parts) = parts_of(name)
                && let Some(table) = self.meant.get(&(usage, parts))
            {
                let span = name.0.last().and_then(|p| p.as_ident()).map(|i| i.span);
                let quoted = table.iter().map(|part| {
                    let mut ident = Ident::with_quote('"', part);
                    ident.span = span.unwrap_or(ident.span);
                    ident
                });
                *name = ObjectName::from(quoted.collect::<Vec<_>>());
            }
        });
        visit(statement, &mut Qualifiers { meant: &self.meant });
    }

    /// What to say where planning found no such table.
    pub(crate) fn explain(&self, error: DataFusionError) -> DataFusionError {
        let told = error.to_string();
        let fault = self
            .missing
            .iter()
            .find(|m| told.contains(&format!("table '{}' not found", m.full)));
        match fault {
            Some(missing) => DataFusionError::from(Error::request(&missing.message))
                .with_diagnostic(Diagnostic::new_error(&missing.message, missing.span)),
            None => error,
        }
    }
}

/// Whether the planner finds a table by this name.
async fn exists(ctx: &SessionContext, parts: &[String]) -> bool {
    let reference = match parts {
        [table] => TableReference::bare(table.as_str()),
        [schema, table] => TableReference::partial(schema.as_str(), table.as_str()),
        [catalog, schema, table] => TableReference::full(catalog.as_str(), schema.as_str(), table.as_str()),
        // For the planner to tell.
        _ => return true,
    };
    ctx.table_provider(reference).await.is_ok()
}

/// The name that a word is, as it is or, if only one is so, in another case.
fn spelled(names: impl IntoIterator<Item = String>, word: &str) -> Option<String> {
    let mut same = vec![];
    for name in names {
        if name == word {
            return Some(name);
        }
        if name.to_lowercase() == word.to_lowercase() {
            same.push(name);
        }
    }
    same.pop().filter(|_| same.is_empty())
}

/// The catalogs of a session, and where names without one are looked for.
struct Catalogs {
    list: Arc<dyn CatalogProviderList>,
    catalog: String,
    schema: String,
}

impl Catalogs {
    fn of(ctx: &SessionContext) -> Self {
        let state = ctx.state_ref();
        let state = state.read();
        let options = &state.config_options().catalog;
        Self {
            list: Arc::clone(state.catalog_list()),
            catalog: options.default_catalog.clone(),
            schema: options.default_schema.clone(),
        }
    }

    /// A name with its catalog and schema.
    fn full(&self, parts: &[String]) -> Vec<String> {
        let defaults = [self.catalog.clone(), self.schema.clone()];
        let own = defaults.len().saturating_sub(parts.len().saturating_sub(1));
        defaults.into_iter().take(own).chain(parts.iter().cloned()).collect()
    }

    fn catalog(&self, name: &str) -> Option<(String, Arc<dyn CatalogProvider>)> {
        let name = spelled(self.list.catalog_names(), name)?;
        let catalog = self.list.catalog(&name)?;
        Some((name, catalog))
    }

    /// The catalog and the schema that a table's name is in, in any case.
    fn place(&self, parts: &[String]) -> Option<(String, String, Arc<dyn SchemaProvider>)> {
        let full = self.full(parts);
        let [catalog, schema, _] = full.as_slice() else {
            return None;
        };
        let (catalog, provider) = self.catalog(catalog)?;
        let schema = spelled(provider.schema_names(), schema)?;
        let provider = provider.schema(&schema)?;
        Some((catalog, schema, provider))
    }

    /// The name of a table, in any case, with as many parts.
    fn table(&self, parts: &[String]) -> Option<Vec<String>> {
        let (catalog, schema, provider) = self.place(parts)?;
        let table = spelled(provider.table_names(), parts.last()?)?;
        let all = [catalog, schema, table];
        Some(all[3usize.checked_sub(parts.len())?..].to_vec())
    }

    /// A name whose project, dataset and table have the spelling of what is there already.
    fn place_of(&self, parts: &[String]) -> Vec<String> {
        if let Some(found) = self.table(parts) {
            return found;
        }
        let mut parts = parts.to_vec();
        let full = self.full(&parts);
        let ([catalog, schema, _], Some(dataset)) = (full.as_slice(), parts.len().checked_sub(2)) else {
            return parts;
        };
        if let Some((name, provider)) = self.catalog(catalog) {
            if let Some(schema) = spelled(provider.schema_names(), schema) {
                parts[dataset] = schema;
            }
            if dataset == 1 {
                parts[0] = name;
            }
        }
        parts
    }

    /// The table that the last two parts name in a catalog that is not the session's, if only one has it.
    fn in_other_catalog(&self, parts: &[String]) -> Option<Vec<String>> {
        let [.., schema, table] = parts else { return None };
        let mut found = self
            .list
            .catalog_names()
            .into_iter()
            .filter(|c| *c != self.catalog)
            .filter_map(|catalog| self.table(&[catalog, schema.clone(), table.clone()]));
        let first = found.next();
        first.filter(|_| found.next().is_none())
    }

    /// The tables that need no more than their name.
    fn tables(&self) -> Vec<String> {
        let schema = self.list.catalog(&self.catalog).and_then(|c| c.schema(&self.schema));
        schema.map(|s| s.table_names()).unwrap_or_default()
    }
}

/// A name as a statement has it.
#[derive(Debug)]
struct Name {
    written: String,
    span: Option<Span>,
}

#[derive(Default)]
struct Seen {
    names: BTreeMap<(Use, Vec<String>), Name>,
}

impl Seen {
    fn add(&mut self, name: &ObjectName, usage: Use) {
        let Some(parts) = parts_of(name) else { return };
        let idents: Vec<&Ident> = name.0.iter().filter_map(|p| p.as_ident()).collect();
        let Some((first, last)) = idents.first().zip(idents.last()) else {
            return;
        };
        let span = Span::try_from_sqlparser_span(first.span.union(&last.span));
        let written: Vec<&str> = idents.iter().map(|i| i.value.as_str()).collect();
        let written = written.join(".");
        self.names.entry((usage, parts)).or_insert(Name { written, span });
    }
}

/// The parts of a name, as DataFusion folds them.
fn parts_of(name: &ObjectName) -> Option<Vec<String>> {
    let parts: Option<Vec<String>> = name.0.iter().map(|p| p.as_ident().map(folded)).collect();
    parts.filter(|p| (1..=3).contains(&p.len()))
}

/// Goes to every name of a table in a statement, and to none of a function.
fn walk(statement: &mut Statement, see: &mut dyn FnMut(&mut ObjectName, Use)) {
    match statement {
        Statement::CopyTo(copy) => {
            if let CopyToSource::Relation(name) = &mut copy.source {
                see(name, Use::Read);
            }
        }
        Statement::CreateExternalTable(create) => see(&mut create.name, Use::Made),
        Statement::Explain(explain) => return walk(&mut explain.statement, see),
        Statement::Statement(_) | Statement::Reset(_) => {}
    }
    visit(statement, &mut Walk { see });
}

struct Walk<'a> {
    see: &'a mut dyn FnMut(&mut ObjectName, Use),
}

impl VisitorMut for Walk<'_> {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, args: None, .. } = factor {
            (self.see)(name, Use::Read);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_statement(&mut self, statement: &mut SqlStatement) -> ControlFlow<()> {
        match statement {
            SqlStatement::CreateTable(create) => (self.see)(&mut create.name, Use::Made),
            SqlStatement::CreateView(create) => (self.see)(&mut create.name, Use::Made),
            SqlStatement::Drop {
                object_type: ObjectType::Table | ObjectType::View,
                names,
                ..
            } => names.iter_mut().for_each(|name| (self.see)(name, Use::Made)),
            SqlStatement::Insert(insert) => {
                if let TableObject::TableName(name) = &mut insert.table {
                    (self.see)(name, Use::Read);
                }
            }
            SqlStatement::ExplainTable { table_name, .. } => (self.see)(table_name, Use::Read),
            SqlStatement::Truncate(truncate) => {
                let targets = truncate.table_names.iter_mut();
                targets.for_each(|target| (self.see)(&mut target.name, Use::Read));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// The names of the queries of WITH.
#[derive(Default)]
struct Queries {
    names: BTreeSet<String>,
}

impl VisitorMut for Queries {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let queries = query.with.iter().flat_map(|with| &with.cte_tables);
        self.names.extend(queries.map(|q| folded(&q.alias.name)));
        ControlFlow::Continue(())
    }
}

/// Names columns by the tables that are meant.
struct Qualifiers<'a> {
    meant: &'a BTreeMap<(Use, Vec<String>), Vec<String>>,
}

impl Qualifiers<'_> {
    /// The qualifier that stands for the first ones of these names, and how many those are.
    fn of(&self, names: &[Ident]) -> Option<(&[String], usize)> {
        let same = |parts: &[String]| {
            parts.len() < names.len()
                && parts
                    .iter()
                    .zip(names)
                    .all(|(p, n)| p.to_lowercase() == n.value.to_lowercase())
        };
        let read = self.meant.iter().filter(|((usage, _), _)| *usage == Use::Read);
        read.map(|((_, parts), table)| (parts, table))
            .find_map(|(parts, table)| {
                let (last, of_table) = (parts.last()?, table.last()?);
                if parts.len() > 1 && same(parts) {
                    return Some((table.as_slice(), parts.len()));
                }
                let is_last = last != of_table && same(std::slice::from_ref(last));
                is_last.then_some((std::slice::from_ref(of_table), 1))
            })
    }

    fn write(&self, names: &mut Vec<Ident>) {
        if let Some((table, count)) = self.of(names) {
            let span = names[0].span;
            let quoted = table.iter().map(|part| {
                let mut ident = Ident::with_quote('"', part);
                ident.span = span;
                ident
            });
            let quoted: Vec<Ident> = quoted.collect();
            names.splice(..count, quoted);
        }
    }
}

impl VisitorMut for Qualifiers<'_> {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for item in &mut select.projection {
            if let SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) = item {
                let idents: Option<Vec<Ident>> = name.0.iter().map(|p| p.as_ident().cloned()).collect();
                if let Some(mut idents) = idents {
                    // A star stands for the column that a qualifier needs.
                    idents.push(Ident::new("*"));
                    self.write(&mut idents);
                    idents.pop();
                    *name = ObjectName::from(idents);
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::CompoundIdentifier(names) = expr {
            self.write(names);
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use datafusion::arrow::util::pretty::pretty_format_batches;
    use datafusion::prelude::SessionConfig;
    use futures::StreamExt;

    use super::*;
    use crate::models::Observer;

    #[derive(Debug, Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Heard {
        fn take(&self) -> Vec<String> {
            std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
        }
    }

    impl Observer for Heard {
        fn notice(&self, notice: &str) {
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(notice.to_string());
        }
    }

    /// A session of BigQuery's dialect with the table `penguins`, of one row.
    async fn lake() -> (SessionContext, Arc<Heard>) {
        let mut config = SessionConfig::new().with_target_partitions(1);
        config
            .options_mut()
            .set("datafusion.sql_parser.dialect", "bigquery")
            .unwrap();
        let ctx = SessionContext::new_with_config(config);
        crate::register_all(&ctx).unwrap();
        let heard = Arc::new(Heard::default());
        crate::observe(&ctx, heard.clone()).unwrap();
        run(
            &ctx,
            "CREATE TABLE penguins AS SELECT 'Adelie' AS species, 3700 AS mass",
        )
        .await
        .unwrap();
        (ctx, heard)
    }

    async fn run(ctx: &SessionContext, script: &str) -> Result<String, String> {
        let mut frames = crate::sql(ctx, script).map_err(|e| e.to_string())?;
        let mut last = String::new();
        while let Some(frame) = frames.next().await {
            let batches = frame
                .map_err(|e| e.to_string())?
                .collect()
                .await
                .map_err(|e| e.to_string())?;
            last = pretty_format_batches(&batches).unwrap().to_string();
        }
        Ok(last)
    }

    #[tokio::test]
    async fn names_of_other_projects_are_found_by_their_last_parts() {
        let (ctx, heard) = lake().await;
        let scripts = [
            "SELECT species FROM `bigquery-public-data.ml_datasets.penguins`",
            "SELECT species FROM bigquery-public-data.ml_datasets.penguins",
            "SELECT penguins.species FROM `bigquery-public-data`.ml_datasets.Penguins AS penguins",
            "SELECT PENGUINS.species FROM ml_datasets.PENGUINS",
            "SELECT ml_datasets.penguins.species FROM ml_datasets.penguins",
            "SELECT p.species FROM penguins AS p JOIN `a.b.penguins` AS q ON p.mass = q.mass",
            "WITH penguins AS (SELECT * FROM `a.b.penguins`) SELECT `Penguins`.* FROM `Penguins`",
            "WITH penguins AS (SELECT 1 AS x), q AS (SELECT penguins.species FROM `a.b.penguins`) SELECT * FROM q, penguins",
            "CREATE TABLE copied AS SELECT * FROM `a.b.penguins`; SELECT species FROM copied",
            "CREATE TABLE more (species STRING); INSERT INTO a.b.more SELECT species FROM a.b.penguins; SELECT * FROM more",
            "SELECT species FROM (SELECT * FROM a.b.penguins WHERE mass IN (SELECT mass FROM a.b.penguins))",
        ];
        for script in scripts {
            let told = run(&ctx, script).await.map_err(|e| format!("{script}: {e}")).unwrap();
            assert!(told.contains("Adelie"), "{script}: {told}");
        }
        let notices = heard.take();
        let first =
            "there is no table 'bigquery-public-data.ml_datasets.penguins' here; penguins is taken in its place";
        assert_eq!(notices.iter().filter(|n| *n == first).count(), 1, "{notices:?}");
        // Where the name as written is there, it is meant.
        run(&ctx, "CREATE TABLE ml_datasets.penguins AS SELECT 'Gentoo' AS species")
            .await
            .unwrap();
        for (name, species) in [
            ("ml_datasets.penguins", "Gentoo"),
            ("`x.ml_datasets.penguins`", "Gentoo"),
            ("penguins", "Adelie"),
        ] {
            let told = run(&ctx, &format!("SELECT species FROM {name}")).await.unwrap();
            assert!(told.contains(species), "{name}: {told}");
        }
        // A dataset that a table made hides nothing, one that was made for itself does.
        let told = run(&ctx, "SELECT * FROM ml_datasets.copied").await.unwrap();
        assert!(told.contains("Adelie"), "{told}");
        run(&ctx, "CREATE SCHEMA ml_datasets").await.unwrap();
        let error = run(&ctx, "SELECT * FROM ml_datasets.copied").await.unwrap_err();
        assert!(
            error.contains("there is no table 'ml_datasets.copied'; did you mean copied?"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_table_that_is_nowhere_is_named_as_it_was_written() {
        let (ctx, _) = lake().await;
        let error = run(&ctx, "SELECT *\nFROM `p.d.Pengins`").await.unwrap_err();
        let expected = "there is no table 'p.d.Pengins', nor 'd.Pengins' and 'Pengins'; did you mean penguins? Or make it with CREATE EXTERNAL TABLE";
        assert!(error.contains(expected), "{error}");
        assert!(error.ends_with("FROM `p.d.Pengins`\n     ^"), "{error}");
        // Queries of WITH and functions are no tables.
        run(&ctx, "WITH q AS (SELECT 1 AS a) SELECT * FROM q, generate_series(1, 2)")
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn tables_are_found_in_any_case() {
        let (ctx, heard) = lake().await;
        run(&ctx, "CREATE TABLE `MyTab` AS SELECT 1 AS a").await.unwrap();
        let scripts = [
            "SELECT a FROM MyTab",
            "SELECT MyTab.a FROM mytab WHERE `mYtab`.a = 1",
            "SELECT `MYTAB`.* FROM `MYTAB`",
            "CREATE OR REPLACE TABLE mytab AS SELECT 1 AS a; SELECT a FROM `MyTab`",
            "CREATE TABLE Ds.T AS SELECT 1 AS a; SELECT a FROM `DS.t`",
            "DROP TABLE MYTAB; CREATE TABLE MyTab AS SELECT 1 AS a; SELECT `MyTab`.a FROM `MyTab`",
        ];
        for script in scripts {
            let told = run(&ctx, script).await.map_err(|e| format!("{script}: {e}")).unwrap();
            assert!(told.contains("| 1 |"), "{script}: {told}");
        }
        assert_eq!(heard.take(), [""; 0]);
    }
}
