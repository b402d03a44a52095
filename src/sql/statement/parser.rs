//! Reads the model statements.

use std::ops::Range;

use super::Statement;
use super::lexer::Kind;
use super::literal::{identifier, string_sql};
use super::model::{AlterModel, CreateModel, DescribeModel, DropModel, ExportModel, ShowModels, text_of};
use super::options::{self, ModelOption, OptionValue};
use super::path::{ModelRef, Path};
use super::rewrite::Rewriter;
use super::script::Variables;
use super::source::{Builder, Span, Sql, SyntaxError, nearest};
use super::tokens::Tokens;

/// Reads one statement.
pub(super) struct Parser<'a> {
    tokens: &'a Tokens<'a>,
    bigquery: bool,
    variables: &'a Variables,
    /// The statement's tokens, with the spaces and comments at its ends.
    whole: Range<usize>,
    /// The statement's tokens, from its first to its last word.
    range: Range<usize>,
    /// The next token that is neither space nor comment.
    at: usize,
}

impl<'a> Parser<'a> {
    /// A parser of the statement in `range`.
    pub(super) fn new(tokens: &'a Tokens<'a>, range: Range<usize>, bigquery: bool, variables: &'a Variables) -> Self {
        let whole = range;
        let range = tokens.trim(whole.clone());
        Self {
            whole,
            tokens,
            bigquery,
            variables,
            at: range.start,
            range,
        }
    }

    /// The statement, if it is one of ours.
    pub(super) fn statement(mut self) -> Result<Option<Statement>, SyntaxError> {
        if self.eat_all(&["EXPLAIN"]) {
            return self.explain();
        }
        if let Some(or_replace) = self.create() {
            return Ok(Some(Statement::CreateModel(self.create_model(or_replace)?)));
        }
        if self.eat_all(&["DROP", "MODEL"]) {
            let (model, if_exists) = self.model_if_exists("DROP MODEL")?;
            self.end("DROP MODEL name")?;
            let span = self.span();
            return Ok(Some(Statement::DropModel(DropModel { model, if_exists, span })));
        }
        if self.eat_all(&["ALTER", "MODEL"]) {
            return Ok(Some(Statement::AlterModel(self.alter_model()?)));
        }
        if self.eat_all(&["EXPORT", "MODEL"]) {
            return Ok(Some(Statement::ExportModel(self.export_model()?)));
        }
        // DataFusion too has SHOW name and DESCRIBE name, where the name may be `models` or `model`.
        if self.eat_all(&["SHOW", "MODELS"]) {
            return Ok(match self.tokens.of(self.at) {
                "." => None,
                _ => Some(Statement::ShowModels(self.show_models()?)),
            });
        }
        if self.eat_all(&["DESCRIBE", "MODEL"]) || self.eat_all(&["DESC", "MODEL"]) {
            let named = !matches!(self.tokens.kind(self.at), None | Some(Kind::Symbol)) && self.at < self.range.end;
            if !named {
                return Ok(None);
            }
            self.check_closed()?;
            let model = self.model("DESCRIBE MODEL")?;
            self.end("DESCRIBE MODEL name")?;
            let span = self.span();
            return Ok(Some(Statement::DescribeModel(DescribeModel { model, span })));
        }
        Ok(None)
    }

    /// `EXPLAIN … CREATE MODEL`: EXPLAIN of the function form.
    fn explain(mut self) -> Result<Option<Statement>, SyntaxError> {
        while self.eat_all(&["ANALYZE"]) || self.eat_all(&["VERBOSE"]) {}
        let (start, word) = (self.tokens.span(self.range.start).start, self.at);
        let Some(or_replace) = self.create() else {
            return Ok(None);
        };
        let created = self.create_model(or_replace)?;
        let mut out = Builder::new(self.tokens.text);
        out.copy(Span::new(start, self.tokens.span(word).start));
        created.write(&mut out, &[]);
        Ok(Some(Statement::Plain(out.finish(self.span()))))
    }

    /// Takes CREATE [OR REPLACE] MODEL; whether OR REPLACE was there.
    fn create(&mut self) -> Option<bool> {
        if self.eat_all(&["CREATE", "OR", "REPLACE", "MODEL"]) {
            return Some(true);
        }
        self.eat_all(&["CREATE", "MODEL"]).then_some(false)
    }

    fn create_model(&mut self, or_replace: bool) -> Result<CreateModel, SyntaxError> {
        let t = self.tokens;
        self.check_closed()?;
        let if_word = self.at;
        let if_not_exists = self.eat_all(&["IF", "NOT", "EXISTS"]);
        if or_replace && if_not_exists {
            return Err(SyntaxError::new(
                Span::new(t.span(if_word).start, self.last_span().end),
                "OR REPLACE and IF NOT EXISTS exclude each other; write one of them",
            ));
        }
        let model = self.model("CREATE MODEL")?;
        if let Some(version) = &model.version {
            return Err(SyntaxError::new(
                model.span,
                format!(
                    "CREATE MODEL makes the next version by itself; write {} without @{version}",
                    model.name
                ),
            ));
        }
        let (mut transform, mut options) = (None, None);
        loop {
            let (clause, span) = (self.at, t.span(self.at));
            if self.eat_all(&["AS"]) {
                break;
            }
            let repeated = |what: &str| {
                let message = format!("{what} is given twice; put all of it in the first one's brackets");
                SyntaxError::new(span, message)
            };
            if self.eat_all(&["TRANSFORM"]) {
                let inner = self.brackets("TRANSFORM", "TRANSFORM (* EXCEPT (a), a + b AS c)")?;
                if transform.is_some() {
                    return Err(repeated("TRANSFORM"));
                }
                transform = Some(self.transform(inner, span)?);
            } else if self.eat_all(&["OPTIONS"]) {
                if options.is_some() {
                    return Err(repeated("OPTIONS"));
                }
                options = Some(self.options()?);
            } else {
                return Err(self.no_clause(clause, &model));
            }
        }
        let query = self.query()?;
        Ok(CreateModel {
            model,
            or_replace,
            if_not_exists,
            transform,
            options: options.unwrap_or_default(),
            query,
            span: self.span(),
        })
    }

    /// What to say of a word that begins no clause of CREATE MODEL.
    fn no_clause(&self, i: usize, model: &ModelRef) -> SyntaxError {
        let t = self.tokens;
        if i >= self.range.end {
            let message = format!(
                "CREATE MODEL {} has no query to learn from; end it with AS SELECT …",
                model.name
            );
            return SyntaxError::new(self.last_span(), message);
        }
        let word = t.of(i);
        if t.is_any_word(i, &["SELECT", "WITH"]) || t.is_symbol(i, "(") {
            return SyntaxError::new(t.span(i), format!("AS is missing before '{word}'; write AS {word} …"));
        }
        if t.is_any_word(i, &["REMOTE", "INPUT", "OUTPUT"]) {
            let message = format!(
                "{word} is of remote and imported models, which cannot be used here; train one with AS SELECT …"
            );
            return SyntaxError::new(t.span(i), message);
        }
        let hint = match nearest(word, &["TRANSFORM", "OPTIONS", "AS"]) {
            Some(known) => format!("did you mean {known}?"),
            None => "write TRANSFORM (…), OPTIONS (…) or AS SELECT …".into(),
        };
        SyntaxError::new(t.span(i), format!("'{word}' begins no clause of CREATE MODEL; {hint}"))
    }

    fn transform(&mut self, inner: Range<usize>, word: Span) -> Result<Sql, SyntaxError> {
        let mut inner = self.tokens.trim(inner);
        if !inner.is_empty() && self.tokens.is_symbol(inner.end - 1, ",") {
            inner = self.tokens.trim(inner.start..inner.end - 1);
        }
        if inner.is_empty() {
            return Err(SyntaxError::new(
                word,
                "TRANSFORM lists no column; write TRANSFORM (*), or leave it out",
            ));
        }
        self.rewritten(inner)
    }

    fn query(&mut self) -> Result<Sql, SyntaxError> {
        let t = self.tokens;
        let mut range = t.trim(self.at..self.range.end);
        while t.is_symbol(range.start, "(") && range.len() > 1 && t.partner(range.start) == Some(range.end - 1) {
            range = t.trim(range.start + 1..range.end - 1);
        }
        if range.is_empty() {
            return Err(SyntaxError::new(
                self.last_span(),
                "the query after AS is empty; write AS SELECT … FROM …",
            ));
        }
        let begins =
            t.is_any_word(range.start, &["SELECT", "WITH", "FROM", "VALUES", "TABLE"]) || t.is_symbol(range.start, "(");
        if !begins {
            let word = t.of(range.start);
            let hint = match nearest(word, &["SELECT", "WITH"]) {
                Some(known) => format!("did you mean {known}?"),
                None => "write AS SELECT …".into(),
            };
            return Err(SyntaxError::new(
                t.span(range.start),
                format!("'{word}' begins no query after AS; {hint}"),
            ));
        }
        let mut rewriter = Rewriter::new(t, self.bigquery, self.variables);
        rewriter.query(range.clone())?;
        Ok(rewriter.out.finish(t.span_of(&range)))
    }

    fn alter_model(&mut self) -> Result<AlterModel, SyntaxError> {
        let (model, if_exists) = self.model_if_exists("ALTER MODEL")?;
        let form = "ALTER MODEL name SET OPTIONS (name = value)";
        if !self.eat_all(&["SET", "OPTIONS"]) {
            return Err(self.expected("SET OPTIONS", form));
        }
        let options = self.options()?;
        self.end(form)?;
        Ok(AlterModel {
            model,
            if_exists,
            options,
            span: self.span(),
        })
    }

    fn export_model(&mut self) -> Result<ExportModel, SyntaxError> {
        self.check_closed()?;
        let form = "EXPORT MODEL name OPTIONS (uri = 'folder')";
        let model = self.model("EXPORT MODEL")?;
        let word = self.tokens.span(self.at);
        if !self.eat_all(&["OPTIONS"]) {
            return Err(self.expected("OPTIONS", form));
        }
        let options = self.options()?;
        self.end(form)?;
        let uri = match text_of(&options, "uri") {
            Some((_, Some(uri))) => uri,
            Some((option, None)) => {
                let message = format!("the option '{}' takes a string; write {form}", option.name);
                return Err(SyntaxError::new(option.value_span, message));
            }
            None => {
                let message = format!("EXPORT MODEL does not say where to; write {form}");
                return Err(SyntaxError::new(word, message));
            }
        };
        Ok(ExportModel {
            model,
            uri,
            options,
            span: self.span(),
        })
    }

    fn show_models(&mut self) -> Result<ShowModels, SyntaxError> {
        let form = "SHOW MODELS LIKE 'churn%'";
        let mut like = None;
        if self.eat_all(&["LIKE"]) {
            let (i, span) = (self.at, self.tokens.span(self.at));
            let text = self.tokens.of(i);
            like = match self.tokens.kind(i) {
                Some(Kind::Text) if i < self.range.end && (self.bigquery || text.starts_with('\'')) => {
                    self.check_closed()?;
                    let sql = if self.bigquery {
                        string_sql(text, span)?
                    } else {
                        text.to_string()
                    };
                    OptionValue::Constant(sql).text()
                }
                Some(Kind::Quoted) if i < self.range.end && text.starts_with('"') => {
                    self.check_closed()?;
                    Some(identifier(text, span)?)
                }
                _ => None,
            };
            if like.is_none() {
                return Err(self.expected("a pattern in quotes", form));
            }
            self.at = self.tokens.skip(i + 1, self.range.end);
        }
        self.end(form)?;
        let span = self.span();
        Ok(ShowModels { like, span })
    }

    /// `[IF EXISTS] model`.
    fn model_if_exists(&mut self, statement: &str) -> Result<(ModelRef, bool), SyntaxError> {
        self.check_closed()?;
        let if_exists = self.eat_all(&["IF", "EXISTS"]);
        Ok((self.model(statement)?, if_exists))
    }

    fn model(&mut self, statement: &str) -> Result<ModelRef, SyntaxError> {
        let t = self.tokens;
        let nameless = |span: Span| {
            let message = format!("{statement} names no model; write {statement} name …");
            SyntaxError::new(span, message)
        };
        // A clause where the name should be.
        let after = t.skip(self.at + 1, self.range.end);
        let clause = (t.is_any_word(self.at, &["OPTIONS", "TRANSFORM"]) && t.is_symbol(after, "("))
            || (t.is_word(self.at, "AS") && (t.is_any_word(after, &["SELECT", "WITH"]) || t.is_symbol(after, "(")))
            || (t.is_word(self.at, "SET") && t.is_word(after, "OPTIONS"));
        if clause || self.at >= self.range.end {
            return Err(nameless(if clause { t.span(self.at) } else { self.last_span() }));
        }
        match Path::read(t, self.at..self.range.end)? {
            Some((path, next)) => {
                self.at = t.skip(next, self.range.end);
                path.model()
            }
            None => Err(nameless(t.span(self.at))),
        }
    }

    fn options(&mut self) -> Result<Vec<ModelOption>, SyntaxError> {
        let inner = self.brackets("OPTIONS", "OPTIONS (name = value, …)")?;
        options::parse(self.tokens, inner.start - 1, self.variables)
    }

    /// Takes brackets; what is between them.
    fn brackets(&mut self, clause: &str, form: &str) -> Result<Range<usize>, SyntaxError> {
        let open = self.at;
        if !self.tokens.is_symbol(open, "(") || open >= self.range.end {
            return Err(SyntaxError::new(
                self.last_span(),
                format!("{clause} takes a list in brackets; write {form}"),
            ));
        }
        let close = self.tokens.close_of(open)?;
        self.at = self.tokens.skip(close + 1, self.range.end);
        Ok(open + 1..close)
    }

    fn rewritten(&self, range: Range<usize>) -> Result<Sql, SyntaxError> {
        Rewriter::new(self.tokens, self.bigquery, self.variables).sql(range)
    }

    /// Takes these words if they are next, or none of them.
    fn eat_all(&mut self, words: &[&str]) -> bool {
        let mut at = self.at;
        for word in words {
            if at >= self.range.end || !self.tokens.is_word(at, word) {
                return false;
            }
            at = self.tokens.skip(at + 1, self.range.end);
        }
        self.at = at;
        true
    }

    fn end(&self, form: &str) -> Result<(), SyntaxError> {
        if self.at >= self.range.end {
            return Ok(());
        }
        let message = format!(
            "'{}' stands after the end of the statement; write {form}",
            self.tokens.of(self.at)
        );
        Err(SyntaxError::new(self.tokens.span(self.at), message))
    }

    fn expected(&self, what: &str, form: &str) -> SyntaxError {
        if self.at >= self.range.end {
            return SyntaxError::new(self.last_span(), format!("{what} is missing here; write {form}"));
        }
        let message = format!("{what} is missing before '{}'; write {form}", self.tokens.of(self.at));
        SyntaxError::new(self.tokens.span(self.at), message)
    }

    fn check_closed(&self) -> Result<(), SyntaxError> {
        self.tokens.check_closed(&self.whole)
    }

    fn span(&self) -> Span {
        self.tokens.span_of(&self.range)
    }

    /// Where the last token before the next one is.
    fn last_span(&self) -> Span {
        let last = self.tokens.before(self.at).filter(|l| *l >= self.range.start);
        self.tokens.span(last.unwrap_or(self.range.start))
    }
}
