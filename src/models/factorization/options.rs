//! The options, and the methods that they choose between.

use super::als::Als;
use super::explicit::Explicit;
use crate::error::{Error, Result};
use crate::models::SEED;
use crate::options::{OptionKind, OptionSpec, Options, Value};

/// How many factors and iterations the implicit method has.
const FACTORS: usize = 64;
const ITERATIONS: i64 = 15;
const ALS_L2: f64 = 0.007;
const EASE_L2: f64 = 500.0;
/// BigQuery ML's, for explicit feedback.
const EXPLICIT_ITERATIONS: i64 = 20;
const EXPLICIT_L2: f64 = 1.0;
const MOST_FACTORS: i64 = 1024;

pub(super) static OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "user",
        aliases: &["user_col"],
        kind: OptionKind::Column,
        default: "",
        help: "The column that says who: integers or text.",
    },
    OptionSpec {
        name: "item",
        aliases: &["item_col"],
        kind: OptionKind::Column,
        default: "",
        help: "The column that says what: integers or text.",
    },
    OptionSpec {
        name: "rating",
        aliases: &["rating_col"],
        kind: OptionKind::Column,
        default: "every row counts 1",
        help: "How much. Implicit: ratings of the same user and item are added up; NULL, NaN, infinite and those not above 0 are dropped. \
               Explicit: they are averaged, and any finite number is one.",
    },
    OptionSpec {
        name: "feedback_type",
        aliases: &[],
        kind: OptionKind::Choice(&["implicit", "explicit"]),
        default: "'implicit' ('explicit' in CREATE MODEL)",
        help: "'implicit': ratings say how sure it is that the user wants the item. 'explicit': ratings say how much the user likes it, \
               and are what is predicted.",
    },
    OptionSpec {
        name: "method",
        aliases: &[],
        kind: OptionKind::Choice(&["als", "ease"]),
        default: "'als'",
        help: "'als' learns factors of users and items; 'ease' weights between items, for at most 20,000 of them, from whether a \
               user had an item, not from how much.",
    },
    OptionSpec {
        name: "factors",
        aliases: &["num_factors"],
        kind: OptionKind::Any("a whole number from 1 to 1,024, or 'auto'"),
        default: "64, 'auto' for explicit feedback and in CREATE MODEL",
        help: "How many factors a user and an item have; 'auto' is the logarithm to base 2 of the number of rows, from 2 to 200.",
    },
    OptionSpec {
        name: "iterations",
        aliases: &["max_iterations"],
        kind: OptionKind::Int { min: 1, max: 10_000 },
        default: "15, 20 for explicit feedback and in CREATE MODEL",
        help: "How many times users and items are solved.",
    },
    OptionSpec {
        name: "alpha",
        aliases: &["wals_alpha"],
        kind: OptionKind::Float { min: 0.0, max: 1e12 },
        default: "1 / the mean rating (40 in CREATE MODEL)",
        help: "Implicit feedback: an observed pair has the confidence unobserved_weight + alpha × rating.",
    },
    OptionSpec {
        name: "unobserved_weight",
        aliases: &[],
        kind: OptionKind::Float { min: 0.0, max: 1e12 },
        default: "20 × the share of pairs that are observed, at most 1 (1 in CREATE MODEL)",
        help: "Implicit feedback: the confidence of a pair that was not observed.",
    },
    OptionSpec {
        name: "l2",
        aliases: &["l2_reg"],
        kind: OptionKind::Float { min: 0.0, max: 1e12 },
        default: "0.007 for 'als' (1 in CREATE MODEL), 500 for 'ease', 1 for explicit feedback",
        help: "Regularisation. For 'als' it is multiplied by (pairs of the user or item + unobserved_weight × all it could have) ^ \
               frequency_exponent, for explicit feedback by its number of ratings ^ frequency_exponent.",
    },
    OptionSpec {
        name: "frequency_exponent",
        aliases: &[],
        kind: OptionKind::Float { min: 0.0, max: 2.0 },
        default: "1 (0 in CREATE MODEL); for explicit feedback 0 where l2 is given and 0.5 where it is not",
        help: "How much more the regularisation of frequent users and items is; 0 is the same for all.",
    },
    SEED,
];

/// The options that mean nothing to `ease`.
const ALS_ONLY: [&str; 5] = [
    "factors",
    "iterations",
    "alpha",
    "unobserved_weight",
    "frequency_exponent",
];
/// The options that mean nothing to explicit feedback.
const IMPLICIT_ONLY: [&str; 2] = ["alpha", "unobserved_weight"];

/// BigQuery ML's defaults where the verb has others; see [`applies`].
pub(super) static STATEMENT_DEFAULTS: &[(&str, &str)] = &[
    ("feedback_type", "'explicit'"),
    ("user", "'user'"),
    ("item", "'item'"),
    ("rating", "'rating'"),
    ("factors", "'auto'"),
    ("iterations", "20"),
    ("alpha", "40"),
    ("unobserved_weight", "1"),
    ("l2", "1"),
    ("frequency_exponent", "0"),
];

/// Whether a statement's default makes sense beside what was given: `ease` has hardly an option, and the defaults of explicit feedback
/// are the model's own.
pub(super) fn applies(option: &str, given: &dyn Fn(&str) -> Option<String>) -> bool {
    let says = |option: &str, word: &str| given(option).is_some_and(|w| w.eq_ignore_ascii_case(word));
    match option {
        "user" | "item" | "rating" => true,
        _ if says("method", "ease") => false,
        "feedback_type" => true,
        _ => says("feedback_type", "implicit"),
    }
}

/// The method and its checked options.
pub(super) enum Method {
    Als(Als),
    Ease { l2: f64 },
    Explicit(Explicit),
}

impl Method {
    /// The options as they were given, or their defaults; `seed` is that of the session.
    pub(super) fn read(verb: &str, options: &Options, seed: u64) -> Result<Self> {
        let refuse = |names: &[&str], why: &str| match names.iter().find(|name| options.get(name).is_some()) {
            None => Ok(()),
            Some(name) => Err(Error::request(format!(
                "{verb}: option '{name}' means nothing to {why}"
            ))),
        };
        let explicit = options.text("feedback_type") == Some("explicit");
        if options.text("method") == Some("ease") {
            if explicit {
                return Err(Error::request(format!(
                    "{verb}: method 'ease' learns from implicit feedback only; write feedback_type => 'implicit' or method => 'als'"
                )));
            }
            refuse(&ALS_ONLY, "method 'ease'; leave it out or write method => 'als'")?;
            let l2 = options.float("l2", EASE_L2);
            if l2 <= 0.0 {
                return Err(Error::request(format!(
                    "{verb}: method 'ease' needs an l2 above 0; 500 is the default"
                )));
            }
            return Ok(Method::Ease { l2 });
        }
        let given = |name: &str| options.get(name).and_then(Value::as_f64);
        let factors = read_factors(verb, options)?;
        let seed = u64::try_from(options.int("seed", -1)).unwrap_or(seed);
        if explicit {
            refuse(
                &IMPLICIT_ONLY,
                "explicit feedback; leave it out or write feedback_type => 'implicit'",
            )?;
            let exponent = if given("l2").is_some() { 0.0 } else { 0.5 };
            return Ok(Method::Explicit(Explicit {
                factors: factors.unwrap_or(Factors::Auto),
                iterations: options.int("iterations", EXPLICIT_ITERATIONS) as usize,
                l2: options.float("l2", EXPLICIT_L2),
                frequency_exponent: options.float("frequency_exponent", exponent),
                seed,
            }));
        }
        if given("alpha") == Some(0.0) && given("unobserved_weight") == Some(0.0) {
            return Err(Error::request(format!(
                "{verb}: with alpha and unobserved_weight both 0 no pair has any weight; give one of them above 0"
            )));
        }
        Ok(Method::Als(Als {
            factors: factors.unwrap_or(Factors::Some(FACTORS)),
            iterations: options.int("iterations", ITERATIONS) as usize,
            alpha: given("alpha"),
            l2: options.float("l2", ALS_L2),
            frequency_exponent: options.float("frequency_exponent", 1.0),
            unobserved_weight: given("unobserved_weight"),
            seed,
        }))
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Method::Als(_) => "implicit factorization",
            Method::Ease { .. } => "EASE",
            Method::Explicit(_) => "explicit factorization",
        }
    }

    pub(super) fn passes(&self) -> usize {
        match self {
            Method::Als(als) => als.iterations,
            Method::Ease { .. } => 1,
            Method::Explicit(explicit) => explicit.iterations,
        }
    }
}

/// How many factors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Factors {
    Some(usize),
    /// BigQuery ML's: log2 of the number of rows.
    Auto,
}

impl Factors {
    pub(super) fn count(self, row_count: u64) -> usize {
        match self {
            Factors::Some(count) => count,
            Factors::Auto => ((row_count as f64).log2().round() as usize).clamp(2, 200),
        }
    }
}

fn read_factors(verb: &str, options: &Options) -> Result<Option<Factors>> {
    match options.get("factors") {
        None => Ok(None),
        Some(Value::Text(word)) if word.eq_ignore_ascii_case("auto") => Ok(Some(Factors::Auto)),
        Some(value) => match value.as_f64() {
            Some(count) if count.fract() == 0.0 && (1.0..=MOST_FACTORS as f64).contains(&count) => {
                Ok(Some(Factors::Some(count as usize)))
            }
            _ => Err(Error::request(format!(
                "{verb}: option 'factors' takes a whole number from 1 to 1,024, or 'auto', not {value}"
            ))),
        },
    }
}
